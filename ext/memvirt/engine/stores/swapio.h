/* Moving pages between memory and consecutive slots of a swap area.
 *
 * The kernel may move less than it was asked to, be interrupted, or fail; tests make each happen at a chosen call. An
 * area without a file keeps its slots, then 8 bytes each, in memory; it takes the same way, so that both count and fail
 * alike.
 *
 * Pages that lie together in memory go as one piece: a call of one piece takes half the processor time of one in 256. */
#ifndef MEMVIRT_SWAPIO_H
#define MEMVIRT_SWAPIO_H

#include "swapaio.h"

enum { MV_BATCH = 256 }; /* slots per call: 1 MiB of pages, where larger writes stop being faster */
enum { MV_READ = 0, MV_WRITE = 1 };
enum { MV_SHORT = -1 };

struct mv_area {
    int fd;
    int direct;         /* O_DIRECT: the kernel refuses buffers that are not aligned to a page */
    uint32_t unit;      /* bytes of a slot */
    uint8_t *memory;    /* slots of an area without a file; else NULL */
    uint8_t *bounce;    /* MV_BATCH aligned units for buffers that are not */
    int error;          /* errno of the last transfer that failed */
    uint64_t calls[2];  /* by direction */
    uint64_t skip[2];   /* injected fault: calls that still go well first */
    uint64_t times[2];  /* calls that then fail; 0: no fault is armed */
    int fault[2];       /* errno, or MV_SHORT */
    struct mv_flight flight;
};

/* Count a call for *n slots. 1: the fault armed for it takes its place, *moved says what came of it. It may also halve
 * *n, so that the call moves less than it was to. */
static inline int mv_armed(struct mv_area *area, int way, uint32_t *n, int64_t *moved)
{
    area->calls[way]++;
    if (area->times[way] == 0)
        return 0;
    if (area->skip[way] > 0) {
        area->skip[way]--;
        return 0;
    }
    area->times[way]--;
    if (area->fault[way] != MV_SHORT) {
        *moved = -area->fault[way];
        return 1;
    }
    *moved = area->unit / 2;
    if (*n == 1)
        return 1;
    *n /= 2;
    return 0;
}

/* The pieces of memory that these pages are. Returns how many. */
static inline int mv_gather(uint32_t unit, uint8_t *const *pages, uint32_t n, struct iovec *iov)
{
    int last = -1;
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && pages[i] == pages[i - 1] + unit) {
            iov[last].iov_len += unit;
        } else {
            iov[++last].iov_base = pages[i];
            iov[last].iov_len = unit;
        }
    }
    return last + 1;
}

/* One system call. Bytes moved, or -errno. */
static inline int64_t mv_call(struct mv_area *area, int way, uint8_t *const *pages, uint32_t n, int64_t offset)
{
    struct iovec iov[MV_BATCH];
    int64_t moved = (int64_t)n * area->unit;
    if (area->memory != NULL) {
        for (uint32_t i = 0; i < n; i++) {
            uint8_t *slot = area->memory + offset + (int64_t)i * area->unit;
            memcpy(way == MV_WRITE ? slot : pages[i], way == MV_WRITE ? pages[i] : slot, area->unit);
        }
        return moved;
    }
    const int pieces = mv_gather(area->unit, pages, n, iov);
    moved = way == MV_WRITE ? pwritev(area->fd, iov, pieces, offset) : preadv(area->fd, iov, pieces, offset);
    return moved < 0 ? -errno : moved;
}

/* Begin to write n <= MV_BATCH pages to consecutive slots. Returns 1 if the write has begun: mv_swap_run with the same
 * arguments finishes it; runs are finished in the order in which they were begun. Returns 0 if it has not; then no later
 * call of this batch begins one either. */
static inline int mv_begin(struct mv_area *area, uint8_t *const *pages, uint32_t n, uint32_t slot)
{
    struct mv_flight *flight = &area->flight;
    struct iovec iov[MV_BATCH];
    const int64_t offset = (int64_t)slot * area->unit;
    if (!area->direct || flight->refused || flight->begun == MV_FLIGHT)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        if ((uintptr_t)pages[i] & (area->unit - 1))
            return 0;
    if (!mv_armed(area, MV_WRITE, &n, &flight->moved[flight->begun])
        && !mv_submit(flight, area->fd, iov, mv_gather(area->unit, pages, n, iov), offset))
        flight->moved[flight->begun] = mv_call(area, MV_WRITE, pages, n, offset);
    flight->begun++;
    return 1;
}

/* Until all n slots from `slot` on have moved, or an error. Resumes at whole slots, as O_DIRECT must; two calls in a
 * row that move less than one (a file that ends early, say) are EIO. begun: a write that stands for the first call, if
 * it is one. Returns how many slots moved. */
static inline uint32_t mv_transfer(struct mv_area *area, int way, uint8_t *const *pages, uint32_t n, uint32_t slot,
                                   uint32_t begun)
{
    uint32_t done = 0, stalled = 0;
    while (done < n) {
        uint32_t left = n - done;
        int64_t moved;
        if (way == MV_WRITE && begun < area->flight.begun)
            moved = mv_landed(&area->flight, begun);
        else if (!mv_armed(area, way, &left, &moved))
            moved = mv_call(area, way, pages + done, left, ((int64_t)slot + done) * area->unit);
        begun = MV_FLIGHT;
        if (moved == -EINTR)
            continue;
        if (moved < 0) {
            area->error = (int)-moved;
            break;
        }
        stalled = moved < area->unit ? stalled + 1 : 0;
        if (moved == 0 || stalled == 2) {
            area->error = EIO;
            break;
        }
        done += (uint32_t)(moved / area->unit);
    }
    return done;
}

/* n <= MV_BATCH buffers to or from consecutive slots, by way of the bounce buffer where the kernel wants alignment. */
static inline uint32_t mv_swap_run(struct mv_area *area, int way, uint8_t *const *pages, uint32_t n, uint32_t slot,
                                   uint32_t begun)
{
    uint8_t *at[MV_BATCH];
    for (uint32_t i = 0; i < n; i++) {
        at[i] = pages[i];
        if (area->direct && ((uintptr_t)pages[i] & (area->unit - 1))) {
            at[i] = area->bounce + (size_t)i * area->unit;
            if (way == MV_WRITE)
                memcpy(at[i], pages[i], area->unit);
        }
    }
    const uint32_t done = mv_transfer(area, way, at, n, slot, begun);
    for (uint32_t i = 0; way == MV_READ && i < done; i++)
        if (at[i] != pages[i])
            memcpy(pages[i], at[i], area->unit);
    return done;
}

#endif
