/* Limit loop for thrashing: half of a set resident, a store to a random page each time; a page that is out is
 * decompressed into the frame of a CLOCK victim, which is compressed into a slot of its own. No tables, no pool. */
#ifndef LIMITS_STORE_H
#define LIMITS_STORE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int (*LimitPack)(void *state, const char *page, char *target, int bytes, int room, int acceleration);
typedef int (*LimitUnpack)(const char *block, char *page, int bytes, int room);

typedef struct {
    uint32_t nr_pages, nr_frames, hand;
    uint8_t *arena;         /* [nr_frames] pages */
    uint8_t *slot;          /* [nr_pages] rooms of 4096 bytes */
    uint16_t *length;       /* [nr_pages] compressed length; 4096: stored as it is */
    uint32_t *frame_of;     /* [nr_pages] UINT32_MAX: out */
    uint32_t *page_of;      /* [nr_frames] */
    uint8_t *referenced;    /* [nr_frames] */
    LimitPack pack;
    LimitUnpack unpack;
    void *state;
    uint64_t misses;
} LimitThrash;

static inline void limit_thrash_out(LimitThrash *t, uint32_t page, const uint8_t *bytes)
{
    uint8_t *slot = t->slot + (uint64_t)page * 4096;
    int length = t->pack(t->state, (const char *)bytes, (char *)slot, 4096, 4000, 1);
    if (length <= 0) {
        memcpy(slot, bytes, 4096);
        length = 4096;
    }
    t->length[page] = (uint16_t)length;
    t->frame_of[page] = UINT32_MAX;
}

static inline uint32_t limit_thrash_in(LimitThrash *t, uint32_t page)
{
    while (t->referenced[t->hand]) {
        t->referenced[t->hand] = 0;
        t->hand = t->hand + 1 == t->nr_frames ? 0 : t->hand + 1;
    }
    uint32_t frame = t->hand;
    uint8_t *bytes = t->arena + (uint64_t)frame * 4096, *slot = t->slot + (uint64_t)page * 4096;
    t->hand = t->hand + 1 == t->nr_frames ? 0 : t->hand + 1;
    limit_thrash_out(t, t->page_of[frame], bytes);
    if (t->length[page] == 4096)
        memcpy(bytes, slot, 4096);
    else
        t->unpack((const char *)slot, (char *)bytes, t->length[page], 4096);
    t->frame_of[page] = frame;
    t->page_of[frame] = page;
    t->misses++;
    return frame;
}

static void limit_thrash_run(LimitThrash *t, const uint32_t *pages, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t frame = t->frame_of[pages[i]];
        if (frame == UINT32_MAX)
            frame = limit_thrash_in(t, pages[i]);
        t->referenced[frame] = 1;
        ((uint64_t *)(t->arena + (uint64_t)frame * 4096))[pages[i] * 2654435761u >> 7 & 511] = i | 1;
    }
}

#endif
