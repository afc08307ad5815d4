/*
 * Accesses taken over from their caller: copied 64 at a time, and it is the copy that is looked at. Whatever happens to
 * the caller's arrays afterwards, what is served is what was found good.
 */
#ifndef MEMVIRT_BATCH_H
#define MEMVIRT_BATCH_H

#include <stdint.h>
#include <string.h>

#define MEMVIRT_BLOCK 64

/* Copy n page numbers; the index of the first that is not below the limit, or n. */
static inline uint64_t memvirt_own_pages(uint32_t *to, const uint32_t *from, uint64_t n, uint32_t limit)
{
    uint64_t i = 0;

    for (; i + MEMVIRT_BLOCK <= n; i += MEMVIRT_BLOCK) {
        uint32_t beyond = 0;

        memcpy(to + i, from + i, MEMVIRT_BLOCK * sizeof(*to));
        for (int j = 0; j < MEMVIRT_BLOCK; j++)
            beyond |= to[i + j] >= limit;
        if (beyond)
            break;
    }
    for (; i < n; i++) {
        to[i] = from[i];
        if (to[i] >= limit)
            break;
    }
    return i;
}

/* Copy n op codes; the index of the first above `last`, or n. *found: whether `wanted` is among them. */
static inline uint64_t memvirt_own_ops(uint8_t *to, const uint8_t *from, uint64_t n, uint8_t last, uint8_t wanted,
                                       int *found)
{
    uint64_t i = 0;
    uint8_t seen = 0;

    for (; i + MEMVIRT_BLOCK <= n; i += MEMVIRT_BLOCK) {
        uint8_t beyond = 0;

        memcpy(to + i, from + i, MEMVIRT_BLOCK);
        for (int j = 0; j < MEMVIRT_BLOCK; j++) {
            beyond |= to[i + j] > last;
            seen |= to[i + j] == wanted;
        }
        if (beyond)
            break;
    }
    for (; i < n; i++) {
        to[i] = from[i];
        if (to[i] > last)
            break;
        seen |= to[i] == wanted;
    }
    *found = seen;
    return i;
}

#endif
