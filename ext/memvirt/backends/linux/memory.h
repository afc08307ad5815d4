/* Accesses to a process's own memory, and the faults that the kernel counted for the thread that made them. */
#ifndef MEMVIRT_BACKENDS_MEMORY_H
#define MEMVIRT_BACKENDS_MEMORY_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "mapping/access.h"

#define MEMVIRT_HUGE_BYTES ((size_t)2 << 20)

struct mv_spent {
    int64_t minor, major, ns;
};

static inline int64_t mv_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/*
 * Address space aligned to 2 MiB, nothing touched; fd < 0: anonymous. NULL: errno says why. It lies in room that stays
 * inaccessible, so that no neighbour can become one mapping with it.
 */
static uint8_t *mv_map(size_t bytes, int fd, int shared, void **room_of)
{
    int flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);
    uint8_t *room, *start;

    room = mmap(NULL, bytes + 2 * MEMVIRT_HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (room == MAP_FAILED)
        return NULL;
    start = (uint8_t *)(((uintptr_t)room + MEMVIRT_HUGE_BYTES - 1) & ~(MEMVIRT_HUGE_BYTES - 1));
    if (mmap(start, bytes, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
        munmap(room, bytes + 2 * MEMVIRT_HUGE_BYTES);
        return NULL;
    }
    *room_of = room;
    return start;
}

static void mv_unmap_room(void *room, size_t bytes)
{
    munmap(room, bytes + 2 * MEMVIRT_HUGE_BYTES);
}

/*
 * Carry out n accesses; ops: 0 read, 1 write a tag, 2 fill from the corpus page that sources names. Which word, and which
 * tag, is the engine's rule. Not inlined: what it needs of the stack was touched by the call before, with n = 0.
 */
MEMVIRT_APART static uint64_t mv_drive(uint8_t *start, const uint32_t *pages, const uint8_t *ops, const uint32_t *sources,
                                       const uint8_t *corpus, uint64_t n, uint32_t tag_base, uint64_t *sequence,
                                       struct mv_spent *spent)
{
    struct rusage before, after;
    uint64_t loaded = 0;
    int64_t began = mv_clock_ns();

    getrusage(RUSAGE_THREAD, &before);
    for (uint64_t i = 0; i < n; i++) {
        uint8_t *page = start + (size_t)pages[i] * 4096;
        volatile uint64_t *word = (volatile uint64_t *)page + mv_word(pages[i]);

        if (ops[i] == 0)
            loaded += *word;
        else if (ops[i] == 1)
            *word = mv_tag(tag_base, ++*sequence);
        else
            memcpy(page, corpus + (size_t)sources[i] * 4096, 4096);
    }
    getrusage(RUSAGE_THREAD, &after);
    spent->ns = mv_clock_ns() - began;
    spent->minor = after.ru_minflt - before.ru_minflt;
    spent->major = after.ru_majflt - before.ru_majflt;
    return loaded;
}

#endif
