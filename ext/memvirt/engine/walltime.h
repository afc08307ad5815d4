/* This machine's clock, for the sampled wall latencies, and one that costs next to nothing but only moves every few ms. */
#ifndef MEMVIRT_WALLTIME_H
#define MEMVIRT_WALLTIME_H

#include <time.h>

static inline long long memvirt_wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline long long memvirt_coarse_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

#endif
