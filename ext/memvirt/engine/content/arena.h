/* The host's memory: one private mapping, aligned to 2 MiB, between inaccessible neighbours, populated before use. */
#ifndef MEMVIRT_ARENA_H
#define MEMVIRT_ARENA_H

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include "poison.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { MV_HUGE = 2 << 20 };

static inline size_t mv_arena_reserved(size_t bytes)
{
    return bytes + MV_HUGE + 2 * 4096;
}

/* Give a mapping back. Whoever gets these addresses next must not find them poisoned: the kernel does not tell. */
static inline void mv_unmap(void *memory, size_t bytes)
{
    mv_unpoison(memory, bytes);
    munmap(memory, bytes);
}

/* Zeroed memory that costs nothing until it is touched, whatever malloc has kept of what was freed; NULL if there is
 * none. Give it back with mv_unmap(). */
static inline void *mv_zeroed_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Reserve the range with a guard page on each side, so that a stray access faults and the kernel keeps the arena as
 * one line of smaps. Returns the reservation, or NULL with errno; *arena is the aligned part, writable. */
static inline void *mv_arena_map(size_t bytes, uint8_t **arena)
{
    void *reserved = mmap(NULL, mv_arena_reserved(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                          -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    *arena = (uint8_t *)(((uintptr_t)reserved + 4096 + MV_HUGE - 1) & ~(uintptr_t)(MV_HUGE - 1));
    if (mprotect(*arena, bytes, PROT_READ | PROT_WRITE) != 0) {
        const int reason = errno;
        munmap(reserved, mv_arena_reserved(bytes));
        errno = reason;
        return NULL;
    }
    return reserved;
}

/* Ask for huge pages where they fit, then have every page present: a first touch costs 1 to 12 us in the host's
 * kernel and would be measured as ours. Returns 0 or errno. */
static inline int mv_arena_populate(uint8_t *arena, size_t bytes)
{
    if (bytes >= MV_HUGE)
        madvise(arena, bytes, MADV_HUGEPAGE); /* advice: smaps tells whether it was taken */
    if (madvise(arena, bytes, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL)
        return errno;
    for (size_t at = 0; at < bytes; at += 4096) /* kernels before 5.14 */
        *(volatile uint8_t *)(arena + at) = 0;
    return 0;
}

#endif
