/* Writes that go on by themselves: Linux's native AIO, by its system calls.
 *
 * Swap-out has work left that needs the pages but not the result of the write. It begins the write, does that work, and
 * then asks for the result. Where swap is fragmented and a batch goes to many places, the disk has all its writes at once (a page
 * each, on a virtual disk: 45 us one after the other, 6 this way).
 *
 * The kernel lets go of a write only past the page cache (into it, submitting is copying), and may not offer this at all:
 * no such call, a filter that forbids it, fs.aio-max-nr reached, a child of fork, which may not use its parent's ring.
 * Then no write is begun any more, and transfers are plain calls. Not io_uring, which more filters forbid (Docker's,
 * since 2023), nor a thread, which would have to be woken for each write, stopped, and started again after fork. */
#ifndef MEMVIRT_SWAPAIO_H
#define MEMVIRT_SWAPAIO_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/aio_abi.h>

enum { MV_FLIGHT = 256 }; /* writes under way at once: as many as a batch can have */
#define MV_AWAY INT64_MIN

struct mv_flight {
    aio_context_t ring;       /* 0: none */
    int refused;              /* errno of a kernel that will not do this; 0: it has not said so */
    uint32_t begun;           /* writes begun whose outcome nobody has asked for */
    int64_t moved[MV_FLIGHT]; /* of these: bytes, -errno, or MV_AWAY while the kernel has it */
};

/* The next write, from then on the kernel's: 1; 0: it was not begun. iov may go at once, what it points to may not. */
static inline int mv_submit(struct mv_flight *flight, int fd, const struct iovec *iov, int n, int64_t offset)
{
    struct iocb control, *list[1] = {&control};
    if (flight->ring == 0 && syscall(SYS_io_setup, (long)MV_FLIGHT, &flight->ring) < 0) {
        flight->ring = 0;
        flight->refused = errno;
        return 0;
    }
    memset(&control, 0, sizeof control);
    control.aio_data = flight->begun;
    control.aio_lio_opcode = IOCB_CMD_PWRITEV;
    control.aio_fildes = (uint32_t)fd;
    control.aio_buf = (uintptr_t)iov;
    control.aio_nbytes = (uint64_t)n;
    control.aio_offset = offset;
    if (syscall(SYS_io_submit, flight->ring, 1L, list) != 1) {
        flight->refused = errno;
        return 0;
    }
    flight->moved[flight->begun] = MV_AWAY;
    return 1;
}

static inline void mv_flight_close(struct mv_flight *flight)
{
    if (flight->ring)
        syscall(SYS_io_destroy, flight->ring); /* waits for what is under way */
    flight->ring = 0;
}

/* What came of this write: bytes or -errno. Waits for it. */
static inline int64_t mv_landed(struct mv_flight *flight, uint32_t which)
{
    struct io_event event[MV_FLIGHT];
    while (flight->moved[which] == MV_AWAY) {
        const long n = syscall(SYS_io_getevents, flight->ring, 1L, (long)MV_FLIGHT, event, NULL);
        for (long i = 0; i < n; i++)
            flight->moved[event[i].data] = event[i].res;
        if (n < 0 && errno != EINTR) { /* a filter that forbids this call only: nobody may wait for ever */
            flight->refused = errno;
            mv_flight_close(flight);
            for (uint32_t i = 0; i < flight->begun; i++)
                if (flight->moved[i] == MV_AWAY)
                    flight->moved[i] = -EINTR; /* whatever became of it, a call writes it again */
        }
    }
    return flight->moved[which];
}

#endif
