/* This machine's clock, for the sampled wall latencies. */
#ifndef MEMVIRT_WALLTIME_H
#define MEMVIRT_WALLTIME_H

#include <time.h>

static inline long long mv_wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

#endif
