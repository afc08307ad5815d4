/* How often keys were seen, roughly: a counting Bloom filter of ten counters a key (Fan, Cao, Almeida and Broder,
   SIGCOMM 1998). A key's estimate is the least of its counters: never below the truth until they are halved, and above
   it only where others share all ten.

   Size, hash and increments are those of libcachesim's filter for an error of one in a thousand, so that its estimates
   are equal: XXH64 of the key as eight bytes with two seeds, as published in the xxHash specification. */
#ifndef MEMVIRT_SKETCH_H
#define MEMVIRT_SKETCH_H

#include <limits.h>
#include <stdint.h>

enum { SKETCH_HASHES = 10, SKETCH_SEED_A = 0x12345678, SKETCH_SEED_B = 0x12344321 };

typedef struct {
    uint32_t *counters;
    uint32_t nr_counters;
} Sketch;

/* Counters for as many keys: ln(1000) / ln(2)^2 each, rounded up, and at least two for each hash. */
static inline uint32_t sketch_size(uint32_t keys)
{
    double counters = 6.907755278982137 / 0.480453013918201 * keys;
    if (counters >= INT_MAX)
        return INT_MAX;
    uint32_t whole = (uint32_t)counters;
    whole += whole < counters;
    return whole < SKETCH_HASHES ? 2 * SKETCH_HASHES : whole;
}

static inline uint64_t sketch_rotate(uint64_t word, int by) { return word << by | word >> (64 - by); }

/* XXH64 of eight bytes. */
static inline uint64_t sketch_hash(uint64_t key, uint64_t seed)
{
    const uint64_t p1 = 0x9E3779B185EBCA87, p2 = 0xC2B2AE3D27D4EB4F, p3 = 0x165667B19E3779F9, p4 = 0x85EBCA77C2B2AE63,
                   p5 = 0x27D4EB2F165667C5;
    uint64_t hash = seed + p5 + 8;
    hash ^= sketch_rotate(key * p2, 31) * p1;
    hash = sketch_rotate(hash, 27) * p1 + p4;
    hash = (hash ^ hash >> 33) * p2;
    hash = (hash ^ hash >> 29) * p3;
    return hash ^ hash >> 32;
}

static inline uint32_t sketch_estimate(const Sketch *sketch, uint32_t key)
{
    uint32_t place = (uint32_t)sketch_hash(key, SKETCH_SEED_A), step = (uint32_t)sketch_hash(key, SKETCH_SEED_B);
    uint32_t least = UINT32_MAX;
    for (int i = 0; i < SKETCH_HASHES; i++, place += step) {
        uint32_t count = sketch->counters[place % sketch->nr_counters];
        least = count < least ? count : least;
    }
    return least;
}

/* The key was seen `times` more. */
static inline void sketch_add(Sketch *sketch, uint32_t key, uint32_t times)
{
    uint32_t place = (uint32_t)sketch_hash(key, SKETCH_SEED_A), step = (uint32_t)sketch_hash(key, SKETCH_SEED_B);
    for (int i = 0; i < SKETCH_HASHES; i++, place += step) {
        uint32_t *counter = sketch->counters + place % sketch->nr_counters;
        *counter = times > UINT32_MAX - *counter ? UINT32_MAX : *counter + times;
    }
}

/* The key was never seen: what it is thought to have been seen is taken off its counters. */
static inline void sketch_forget(Sketch *sketch, uint32_t key)
{
    uint32_t place = (uint32_t)sketch_hash(key, SKETCH_SEED_A), step = (uint32_t)sketch_hash(key, SKETCH_SEED_B);
    uint32_t times = sketch_estimate(sketch, key);
    for (int i = 0; i < SKETCH_HASHES; i++, place += step) {
        uint32_t *counter = sketch->counters + place % sketch->nr_counters;
        *counter -= *counter < times ? *counter : times;
    }
}

/* All counts are halved. */
static inline void sketch_age(Sketch *sketch)
{
    for (uint32_t i = 0; i < sketch->nr_counters; i++)
        sketch->counters[i] >>= 1;
}

#endif
