/* A set of time stamps that says in a few steps how many of its members are older than a given one.

   Members are bits. Stamps are given out in rising order, so the newest member is at the frontier. Counts lie above the
   words of bits in groups of 16: a unit of level 0 is a word, a unit of level k + 1 is a group of level k, and
   before[k][i] is the number of members in the units to the left of i in the group of i.

       older than stamp s  =  before[0][s / 64] + before[1][s / 1024] + ... + the members left of s in its word

   Removing a member takes one off the units to its right in each group: 16 lanes under a mask, for which a compiler has
   vector instructions. Adding one at the frontier sets a bit and nothing else: the counts of a unit are made when the
   frontier enters it. When all stamps are given out, the owner renames its members to their ranks and calls ranks_pack.
   1.53 bits a stamp. */
#ifndef MEMVIRT_RANKS_H
#define MEMVIRT_RANKS_H

#include <stdint.h>
#include <string.h>

#include "memory/word_bits.h"

enum { RANKS_LEVELS = 7, RANKS_GROUP = 16 };    /* 64 * 16^7 stamps: more than 32 bits can name */

typedef struct {
    uint64_t *bits;
    uint32_t *before[RANKS_LEVELS];
    uint32_t nr_units[RANKS_LEVELS];            /* a multiple of the group */
    int levels;
    uint32_t nr_stamps;                         /* a multiple of 64 */
    uint32_t next;                              /* the stamp that is given out next */
    uint32_t members;
} Ranks;

/* Size the set for at least n stamps, 1 <= n <= 2^32 - 64; returns the 64-bit words it needs. */
static inline uint64_t ranks_size(Ranks *ranks, uint32_t n)
{
    uint64_t units = ((uint64_t)n + 63) / 64, words = units;
    ranks->nr_stamps = (uint32_t)(units * 64);
    ranks->next = ranks->members = 0;
    ranks->levels = 0;
    do {
        uint64_t groups = (units + RANKS_GROUP - 1) / RANKS_GROUP;
        ranks->nr_units[ranks->levels++] = (uint32_t)(groups * RANKS_GROUP);
        words += groups * RANKS_GROUP / 2;
        units = groups;
    } while (units > 1);
    return words;
}

/* Let the set use these words, all 0. */
static inline void ranks_lay(Ranks *ranks, uint64_t *words)
{
    ranks->bits = words;
    words += ranks->nr_stamps / 64;
    for (int k = 0; k < ranks->levels; k++) {
        ranks->before[k] = (uint32_t *)words;
        words += ranks->nr_units[k] / 2;
    }
}

/* The frontier enters a word of bits: count what lies to its left in each group of which it is the first to be entered. */
static inline void ranks_enter(Ranks *ranks, uint32_t word)
{
    if (word == 0)
        return;                                 /* all counts of the first units are 0 */
    uint32_t total = (uint32_t)bits_count(ranks->bits[word - 1]), unit = word;
    for (int k = 0; k < ranks->levels; k++) {
        uint32_t *before = ranks->before[k] + unit;
        if (unit % RANKS_GROUP) {
            *before = before[-1] + total;
            return;
        }
        *before = 0;
        total += before[-1];
        unit /= RANKS_GROUP;
    }
}

static inline int ranks_full(const Ranks *ranks) { return ranks->next == ranks->nr_stamps; }

/* Add a member and return its stamp, the newest; the set is not full. */
static inline uint32_t ranks_add(Ranks *ranks)
{
    uint32_t stamp = ranks->next++;
    if (stamp % 64 == 0)
        ranks_enter(ranks, stamp / 64);
    ranks->bits[stamp / 64] |= 1ULL << stamp % 64;
    ranks->members++;
    return stamp;
}

/* Number of members that are older than this one. */
static inline uint32_t ranks_older(const Ranks *ranks, uint32_t stamp)
{
    uint32_t unit = stamp / 64;
    uint32_t older = (uint32_t)bits_count(ranks->bits[unit] & ((1ULL << stamp % 64) - 1));
    for (int k = 0; k < ranks->levels; k++, unit /= RANKS_GROUP)
        older += ranks->before[k][unit];
    return older;
}

static inline void ranks_remove(Ranks *ranks, uint32_t stamp)
{
    uint32_t unit = stamp / 64;
    ranks->bits[unit] &= ~(1ULL << stamp % 64);
    ranks->members--;
    for (int k = 0; k < ranks->levels; k++, unit /= RANKS_GROUP) {
        uint32_t *group = ranks->before[k] + unit / RANKS_GROUP * RANKS_GROUP;
        int32_t place = (int32_t)(unit % RANKS_GROUP);
        for (int32_t i = 0; i < RANKS_GROUP; i++)
            group[i] -= i > place;
    }
}

/* The owner has renamed every member to its rank: make room for new stamps behind them. */
static inline void ranks_pack(Ranks *ranks)
{
    memset(ranks->bits, 0, ranks->nr_stamps / 8);
    for (uint32_t word = 0; (uint64_t)word * 64 < ranks->members; word++) {
        uint32_t rest = ranks->members - word * 64;
        ranks_enter(ranks, word);
        ranks->bits[word] = rest >= 64 ? ~0ULL : (1ULL << rest) - 1;
    }
    ranks->next = ranks->members;
}

#endif
