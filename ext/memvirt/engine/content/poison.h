/* Marks memory that nobody may touch. In sanitizer builds (MEMVIRT_SANITIZE) AddressSanitizer reports the first access
 * to it; elsewhere both calls are nothing. Granules are 8 bytes: a region may start anywhere, but should end at a
 * multiple of 8, or its last bytes stay accessible. Debug builds (MEMVIRT_DEBUG) fill what is freed, too. */
#ifndef MEMVIRT_POISON_H
#define MEMVIRT_POISON_H

#include <stddef.h>

#ifdef MEMVIRT_DEBUG
#define MEMVIRT_FILL_FREED 1
#else
#define MEMVIRT_FILL_FREED 0
#endif

#ifdef MEMVIRT_SANITIZE
#include <sanitizer/asan_interface.h>
#define MEMVIRT_POISONS 1

static inline void memvirt_poison(const void *region, size_t bytes)
{
    __asan_poison_memory_region(region, bytes);
}

static inline void memvirt_unpoison(const void *region, size_t bytes)
{
    __asan_unpoison_memory_region(region, bytes);
}
#else
#define MEMVIRT_POISONS 0

static inline void memvirt_poison(const void *region, size_t bytes)
{
    (void)region;
    (void)bytes;
}

static inline void memvirt_unpoison(const void *region, size_t bytes)
{
    (void)region;
    (void)bytes;
}
#endif

#endif
