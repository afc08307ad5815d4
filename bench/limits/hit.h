/* Limit loops for the hit path: what translating an access costs when nothing else has to be kept.
 *
 *   flat    one 4-byte entry per page, asked for AHEAD accesses early
 *   radix   four levels of 512 eight-byte entries, as a processor's own tables, walked in stages: each stage reads what
 *           an earlier one asked for, and asks for the next level (the upper two stay in the first cache)
 *   words   flat, and then the 8-byte load or store in the page, asked for a little later
 *
 * All test the permission that the access needs, and end at the first access that lacks it. */
#ifndef LIMITS_HIT_H
#define LIMITS_HIT_H

#include <stdint.h>
#include <stdlib.h>

enum { LIMIT_AHEAD = 32, LIMIT_AHEAD_WORD = 12, LIMIT_BLOCK = 16, LIMIT_FANOUT = 512 };
#define LIMIT_VALID 0x80000000u
#define LIMIT_WRITABLE 0x40000000u
#define LIMIT_FRAME 0x0FFFFFFFu

typedef struct { uint64_t *root; uint64_t *node; size_t used; } LimitRadix;

static inline uint32_t limit_need(uint32_t op)
{
    return op ? LIMIT_VALID | LIMIT_WRITABLE : LIMIT_VALID;
}

static uint64_t limit_flat(const uint32_t *table, const uint32_t *pages, const uint8_t *ops, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t need = limit_need(ops[i]), entry;
        if (i + LIMIT_AHEAD < n)
            __builtin_prefetch(&table[pages[i + LIMIT_AHEAD]]);
        entry = table[pages[i]];
        if ((entry & need) != need)
            return 0;
        sum += entry;
    }
    return sum;
}

static uint64_t limit_words(const uint32_t *table, uint8_t *arena, const uint32_t *pages, const uint8_t *ops, uint32_t n,
                            int ahead)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t page = pages[i], need = limit_need(ops[i]), entry;
        uint64_t *word;
        if (ahead && i + LIMIT_AHEAD < n) {
            uint32_t soon = pages[i + LIMIT_AHEAD_WORD];
            __builtin_prefetch(&table[pages[i + LIMIT_AHEAD]]);
            __builtin_prefetch(arena + (uint64_t)(table[soon] & LIMIT_FRAME) * 4096 + (soon * 2654435761u >> 7 & 511) * 8, 1);
        }
        entry = table[page];
        if ((entry & need) != need)
            return 0;
        word = (uint64_t *)(arena + (uint64_t)(entry & LIMIT_FRAME) * 4096) + (page * 2654435761u >> 7 & 511);
        if (ops[i])
            *word = i | 1;
        else
            sum += *word;
    }
    return sum | 1;
}

static inline uint64_t *limit_node(LimitRadix *radix)
{
    uint64_t *node = radix->node + radix->used;
    radix->used += LIMIT_FANOUT;
    return node;
}

static inline size_t limit_radix_bytes(uint32_t nr_pages)
{
    size_t leaves = nr_pages / LIMIT_FANOUT + 1, nodes = leaves + leaves / LIMIT_FANOUT + 8;
    return nodes * LIMIT_FANOUT * sizeof(uint64_t);
}

/* The same translations as the flat table, in four levels, in limit_radix_bytes() of zeroed memory. */
static void limit_radix_new(LimitRadix *radix, uint64_t *memory, const uint32_t *table, uint32_t nr_pages)
{
    radix->used = 0;
    radix->node = memory;
    radix->root = limit_node(radix);
    for (uint32_t page = 0; page < nr_pages; page++) {
        uint64_t *node = radix->root;
        for (int shift = 27; shift; shift -= 9) {
            uint64_t *slot = &node[page >> shift & 511];
            if (!*slot)
                *slot = (uint64_t)limit_node(radix);
            node = (uint64_t *)*slot;
        }
        node[page & 511] = table[page];
    }
}

/* Blocks of LIMIT_BLOCK accesses, three in flight: while one is served, the last level of the next is on its way, and
 * the level above that of the one after. */
static uint64_t limit_radix(const LimitRadix *radix, const uint32_t *pages, const uint8_t *ops, uint32_t n)
{
    uint64_t *second[LIMIT_BLOCK], *first[2][LIMIT_BLOCK], sum = 0, lacking = 0;
    uint32_t blocks = n / LIMIT_BLOCK;      /* the rest of the trace, less than a block, is left out */
    for (uint32_t b = 0; b < blocks + 2; b++) {
        uint64_t **now = first[b % 2], **next = first[(b + 1) % 2];
        if (b >= 1 && b <= blocks) {        /* block b - 1: its second level has arrived */
            const uint32_t *page = pages + (uint64_t)(b - 1) * LIMIT_BLOCK;
            for (int j = 0; j < LIMIT_BLOCK; j++) {
                next[j] = (uint64_t *)second[j][page[j] >> 9 & 511];
                __builtin_prefetch(&next[j][page[j] & 511]);
            }
        }
        if (b < blocks) {
            const uint32_t *page = pages + (uint64_t)b * LIMIT_BLOCK;
            for (int j = 0; j < LIMIT_BLOCK; j++) {
                second[j] = (uint64_t *)((uint64_t *)radix->root[page[j] >> 27 & 511])[page[j] >> 18 & 511];
                __builtin_prefetch(&second[j][page[j] >> 9 & 511]);
            }
        }
        if (b >= 2) {
            const uint32_t *page = pages + (uint64_t)(b - 2) * LIMIT_BLOCK;
            const uint8_t *op = ops + (uint64_t)(b - 2) * LIMIT_BLOCK;
            for (int j = 0; j < LIMIT_BLOCK; j++) {
                uint64_t need = limit_need(op[j]), entry = now[j][page[j] & 511];
                lacking |= need & ~entry;
                sum += entry;
            }
        }
    }
    return lacking ? 0 : sum;
}

#endif
