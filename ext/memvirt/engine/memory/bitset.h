/* A set of small numbers (0 .. n - 1) that finds its least or greatest member in a few steps: one bit per number, and above it
   summaries of which bit i says that word i of the level below is not 0. Adding a member that is there costs one load.
   The caller owns the words. */
#ifndef MEMVIRT_PLACES_H
#define MEMVIRT_PLACES_H

#include <stdint.h>

enum { PLACES_LEVELS = 6 };             /* 64^6 numbers: more than 32 bits can name */

typedef struct {
    uint64_t *level[PLACES_LEVELS];     /* level[0]: the members; level[top]: one word */
    uint32_t nr_words[PLACES_LEVELS];
    int top;
} Places;

/* Size the set for n members; returns the words it needs. */
static inline uint64_t places_size(Places *places, uint32_t n)
{
    uint64_t words = 0;
    places->top = -1;
    do {
        n = (uint32_t)(((uint64_t)n + 63) >> 6);
        places->nr_words[++places->top] = n;
        words += n;
    } while (n > 1);
    return words;
}

/* Let the set use these words, all 0; returns the first word past them. */
static inline uint64_t *places_lay(Places *places, uint64_t *words)
{
    for (int k = 0; k <= places->top; k++) {
        places->level[k] = words;
        words += places->nr_words[k];
    }
    return words;
}

static inline int places_has(const Places *places, uint32_t number)
{
    return places->level[0][number >> 6] >> (number & 63) & 1;
}

static inline void places_add(Places *places, uint32_t number)
{
    for (int k = 0; k <= places->top; k++, number >>= 6) {
        uint64_t *word = places->level[k] + (number >> 6), bit = 1ULL << (number & 63);
        if (*word & bit)
            return;
        *word |= bit;
        if (*word != bit)
            return;
    }
}

static inline void places_remove(Places *places, uint32_t number)
{
    for (int k = 0; k <= places->top; k++, number >>= 6) {
        uint64_t *word = places->level[k] + (number >> 6);
        *word &= ~(1ULL << (number & 63));
        if (*word)
            return;
    }
}

/* The least member of a set that has one. */
static inline uint32_t places_least(const Places *places)
{
    uint32_t number = 0;
    for (int k = places->top; k >= 0; k--)
        number = number << 6 | (uint32_t)__builtin_ctzll(places->level[k][number]);
    return number;
}

/* The greatest member of a set that has one. */
static inline uint32_t places_greatest(const Places *places)
{
    uint32_t number = 0;
    for (int k = places->top; k >= 0; k--)
        number = number << 6 | (63 - (uint32_t)__builtin_clzll(places->level[k][number]));
    return number;
}

/* The level, 1 .. top, at which a summary differs from what it sums up; 0 when none does. */
static inline int places_wrong_level(const Places *places)
{
    for (int k = 1; k <= places->top; k++)
        for (uint32_t i = 0; i < places->nr_words[k] * 64ULL; i++) {
            int below = i < places->nr_words[k - 1] && places->level[k - 1][i] != 0;
            if ((int)(places->level[k][i >> 6] >> (i & 63) & 1) != below)
                return k;
        }
    return 0;
}

#endif
