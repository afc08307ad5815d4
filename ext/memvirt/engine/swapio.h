/* Moving pages between memory and consecutive slots of a swap area.
 *
 * The kernel may move less than it was asked to, be interrupted, or fail; tests make each happen at a chosen call. An
 * area without a file keeps its slots, then 8 bytes each, in memory; it takes the same way, so that both count and fail
 * alike. */
#ifndef MEMVIRT_SWAPIO_H
#define MEMVIRT_SWAPIO_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

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
};

/* One system call, or the fault armed for it. Bytes moved, or -1 with errno. */
static inline int64_t mv_call(struct mv_area *area, int way, const struct iovec *iov, int n, int64_t offset)
{
    area->calls[way]++;
    if (area->times[way] != 0) {
        if (area->skip[way] > 0) {
            area->skip[way]--;
        } else {
            area->times[way]--;
            if (area->fault[way] != MV_SHORT) {
                errno = area->fault[way];
                return -1;
            }
            if (n == 1)
                return area->unit / 2;
            n /= 2;
        }
    }
    if (area->memory == NULL)
        return way == MV_WRITE ? pwritev(area->fd, iov, n, offset) : preadv(area->fd, iov, n, offset);
    for (int i = 0; i < n; i++) {
        uint8_t *slot = area->memory + offset + (int64_t)i * area->unit;
        memcpy(way == MV_WRITE ? slot : iov[i].iov_base, way == MV_WRITE ? iov[i].iov_base : slot, area->unit);
    }
    return (int64_t)n * area->unit;
}

/* Until all n slots from `slot` on have moved, or an error. Resumes at whole slots, as O_DIRECT must; two calls in a
 * row that move less than one (a file that ends early, say) are EIO. Returns how many slots moved. */
static inline uint32_t mv_transfer(struct mv_area *area, int way, const struct iovec *iov, uint32_t n, uint32_t slot)
{
    uint32_t done = 0, stalled = 0;
    while (done < n) {
        const int64_t moved = mv_call(area, way, iov + done, (int)(n - done), ((int64_t)slot + done) * area->unit);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved < 0) {
            area->error = errno;
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
static inline uint32_t mv_swap_run(struct mv_area *area, int way, uint8_t *const *pages, uint32_t n, uint32_t slot)
{
    struct iovec iov[MV_BATCH];
    for (uint32_t i = 0; i < n; i++) {
        iov[i].iov_len = area->unit;
        iov[i].iov_base = pages[i];
        if (area->direct && ((uintptr_t)pages[i] & (area->unit - 1))) {
            iov[i].iov_base = area->bounce + (size_t)i * area->unit;
            if (way == MV_WRITE)
                memcpy(iov[i].iov_base, pages[i], area->unit);
        }
    }
    const uint32_t done = mv_transfer(area, way, iov, n, slot);
    for (uint32_t i = 0; way == MV_READ && i < done; i++)
        if (iov[i].iov_base != (void *)pages[i])
            memcpy(pages[i], iov[i].iov_base, area->unit);
    return done;
}

#endif
