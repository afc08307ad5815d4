/* Limit loops over whole pages: copy, hash and look up, and the copy of one leaf table. */
#ifndef LIMITS_PAGE_H
#define LIMITS_PAGE_H

#include <stdint.h>
#include <string.h>
#include "content/pageops.h"

/* Copy n pages, source and target cold. */
static void limit_copy(uint8_t *target, const uint8_t *source, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        memcpy(target + (uint64_t)i * 4096, source + (uint64_t)i * 4096, 4096);
}

static uint64_t limit_hash(const uint8_t *arena, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += mv_hash(arena + (uint64_t)i * 4096);
    return sum;
}

/* Any 64-bit hash with the signature of XXH3_64bits. */
typedef uint64_t (*LimitHash)(const void *data, size_t bytes);

static uint64_t limit_hash_with(LimitHash hash, const uint8_t *arena, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += hash(arena + (uint64_t)i * 4096, 4096);
    return sum;
}

typedef struct { uint32_t page, tag; } LimitCell;

/* One pass over n pages: hash each, look it up in an empty table, enter it when it is new. The cell is asked for one
 * page before it is read. cell has mask + 1 entries. Returns how many pages were found. */
static uint32_t limit_scan(const uint8_t *arena, const uint32_t *frames, uint32_t n, LimitCell *cell, uint32_t mask)
{
    uint64_t hash = 0;
    uint32_t found = 0;
    memset(cell, 0xFF, ((uint64_t)mask + 1) * sizeof *cell);
    for (uint32_t i = 0; i <= n; i++) {
        uint64_t before = hash;
        if (i < n) {
            hash = mv_hash(arena + (uint64_t)frames[i] * 4096);
            __builtin_prefetch(&cell[hash & mask], 1);
        }
        if (i == 0)
            continue;
        uint32_t at = before & mask, tag = before >> 32, page = frames[i - 1];
        while (cell[at].page != 0xFFFFFFFF) {
            if (cell[at].tag == tag &&
                memcmp(arena + (uint64_t)cell[at].page * 4096, arena + (uint64_t)page * 4096, 4096) == 0)
                break;
            at = (at + 1) & mask;
        }
        if (cell[at].page != 0xFFFFFFFF) {
            found++;
        } else {
            cell[at].page = page;
            cell[at].tag = tag;
        }
    }
    return found;
}

/* What a copied leaf table must at least do where every frame knows who maps it: 512 entries written twice, without write
 * permission; one more reference in the record of each frame named; there the new site, and beside the new entry a link
 * to the site that stood there. A table is a page: 512 entries, then their links. */
typedef struct { uint32_t refs, where, backing, owner; } LimitFrame;

static void limit_leaf_copy(uint32_t *target, uint32_t *source, uint32_t site, LimitFrame *frame)
{
    for (uint32_t i = 0; i < 512; i++) {
        uint32_t entry = source[i] & ~0x40000000u;
        LimitFrame *record = &frame[entry & 0x0FFFFFFFu];
        source[i] = target[i] = entry;
        record->refs++;
        target[512 + i] = record->where;
        record->where = site + i;
    }
}

#endif
