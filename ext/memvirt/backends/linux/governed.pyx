"""Memory whose every page is put there by hand: userfaultfd in SIGBUS mode, frames that are pages of a file in memory.

A window is the address space of a VM. Each of its pages is in one of three states, and the kernel tells of an access that
a state does not allow before it happens:

    absent      a hole of a file that stays empty       any access is an event (UFFDIO_REGISTER_MODE_MISSING)
    protected   a page of the file of frames            a store is an event (MODE_WP)
    writable    a page of the file of frames            none

A frame is a page of the file of frames, and its number the page's: windows that name the same page share it. So a page
that is merged or cloned is one real frame, and the blocks that the file holds are the frames in use.

In SIGBUS mode an event is a signal of the very thread whose access it was. A replay is one thread that has to ask the
engine at each event and can do nothing until it is answered, so a second thread that reads events from the descriptor
would only add two switches to each. The handler does nothing but jump out of the replay, which says at which access it
stands: everything else is done outside of the handler. The descriptor is open for faults of user mode alone, which any
user may have (Documentation/admin-guide/mm/userfaultfd.rst); so no system call may be given an absent page.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from memvirt.engine.host.vm cimport Vm
from memvirt.engine.mapping.leaf cimport PTE_BACKED, PTE_PRESENT, PTE_WHERE, PTE_WRITABLE, Look

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <setjmp.h>
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/ioctl.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #include "mapping/access.h"

    /* include/uapi/linux/userfaultfd.h: headers of distributions may be older than the kernel. */
    struct mv_uffd_range { uint64_t start, bytes; };
    struct mv_uffd_api { uint64_t api, features, ioctls; };
    struct mv_uffd_register { struct mv_uffd_range range; uint64_t mode, ioctls; };
    struct mv_uffd_protect { struct mv_uffd_range range; uint64_t mode; };
    #define MV_UFFD_API _IOWR(0xAA, 0x3F, struct mv_uffd_api)
    #define MV_UFFD_REGISTER _IOWR(0xAA, 0x00, struct mv_uffd_register)
    #define MV_UFFD_PROTECT _IOWR(0xAA, 0x06, struct mv_uffd_protect)
    enum { MV_UFFD_USER_MODE_ONLY = 1, MV_UFFD_MISSING = 1, MV_UFFD_WP = 2 };

    static int mv_uffd_open(uint64_t features, uint64_t *found)
    {
        struct mv_uffd_api api = { 0xAA, features, 0 };
        int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | MV_UFFD_USER_MODE_ONLY);

        if (fd < 0)
            return -1;
        if (ioctl(fd, MV_UFFD_API, &api) < 0) {
            int reason = errno;
            close(fd);
            errno = reason;
            return -2;
        }
        *found = api.features;
        return fd;
    }

    /* `bytes` of a file from `offset` on at `start`, watched. */
    static int mv_uffd_map(int fd, uint8_t *start, uint64_t bytes, int file, int64_t offset)
    {
        struct mv_uffd_register asked = { { (uintptr_t)start, bytes }, MV_UFFD_MISSING | MV_UFFD_WP, 0 };

        if (mmap(start, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, offset) == MAP_FAILED)
            return -1;
        return ioctl(fd, MV_UFFD_REGISTER, &asked);
    }

    static int mv_uffd_protect(int fd, uint8_t *start, int on)
    {
        struct mv_uffd_protect asked = { { (uintptr_t)start, 4096 }, on ? 1 : 0 };

        return ioctl(fd, MV_UFFD_PROTECT, &asked);
    }

    static uint8_t *mv_reserve(uint64_t bytes)
    {
        void *start = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return start == MAP_FAILED ? NULL : start;
    }

    static __thread struct {
        sigjmp_buf back;
        uint8_t *start, *end;
        int armed;
    } mv_watch;

    static void mv_on_bus(int number, siginfo_t *info, void *context)
    {
        uint8_t *at = info->si_addr;

        (void)context;
        if (mv_watch.armed && at >= mv_watch.start && at < mv_watch.end)
            siglongjmp(mv_watch.back, 1);
        signal(number, SIG_DFL); /* not of our making: it comes again when this returns, and ends the process */
    }

    /*
     * Accesses from `first` on; ops: 0 read, 1 write a tag, 2 fill from the corpus page that sources names, 3 copy the page
     * to its row of `out`. Returns the index of the first one that was an event, n when there was none.
     */
    static uint64_t mv_replay(uint8_t *start, uint64_t bytes, const uint32_t *pages, const uint8_t *ops,
                              const uint32_t *sources, const uint8_t *corpus, uint8_t *out, uint64_t first, uint64_t n,
                              uint32_t tag_base, uint64_t *sequence, uint64_t *loaded)
    {
        volatile uint64_t i = first, next = *sequence + 1, sum = 0;
        struct sigaction ours, before;

        memset(&ours, 0, sizeof ours);
        ours.sa_sigaction = mv_on_bus;
        ours.sa_flags = SA_SIGINFO;
        sigaction(SIGBUS, &ours, &before);
        mv_watch.start = start;
        mv_watch.end = start + bytes;
        if (sigsetjmp(mv_watch.back, 1) == 0) {
            mv_watch.armed = 1;
            for (; i < n; i++) {
                uint8_t *page = start + (uint64_t)pages[i] * 4096;
                volatile uint64_t *word = (volatile uint64_t *)page + mv_word(pages[i]);

                if (ops[i] == 0)
                    sum += *word;
                else if (ops[i] == 1) {
                    *word = mv_tag(tag_base, next);
                    next++;
                } else if (ops[i] == 2)
                    memcpy(page, corpus + (uint64_t)sources[i] * 4096, 4096);
                else
                    memcpy(out + i * 4096, page, 4096);
            }
        }
        mv_watch.armed = 0;
        sigaction(SIGBUS, &before, NULL);
        *sequence = next - 1;
        *loaded += sum;
        return i;
    }
    """
    int mv_uffd_open(uint64_t features, uint64_t *found) nogil
    int mv_uffd_map(int fd, uint8_t *start, uint64_t size, int file, int64_t offset) nogil
    int mv_uffd_protect(int fd, uint8_t *start, int on) nogil
    uint8_t *mv_reserve(uint64_t size) nogil
    uint64_t mv_replay(uint8_t *start, uint64_t size, const uint32_t *pages, const uint8_t *ops, const uint32_t *sources,
                       const uint8_t *corpus, uint8_t *out, uint64_t first, uint64_t n, uint32_t tag_base,
                       uint64_t *sequence, uint64_t *loaded) nogil

cdef extern from "<sys/mman.h>" nogil:
    int munmap(void *start, size_t size)

cdef enum:
    PAGE = 4096
    # Features, Linux 5.7 and before; the last one 5.19: protection of pages of a file in memory that are not there yet.
    LOOK = 1024                         # accesses that are looked at before they are done
    FEATURES = 1 << 0 | 1 << 5 | 1 << 7 | 1 << 12       # PAGEFAULT_FLAG_WP, MISSING_SHMEM, SIGBUS, WP_HUGETLBFS_SHMEM

STATE_WRITABLE, STATE_PRESENT = <uint32_t>PTE_WRITABLE, <uint32_t>PTE_PRESENT
STATE_BACKED, STATE_WHERE = <uint32_t>PTE_BACKED, <uint32_t>PTE_WHERE


def states(Vm vm not None):
    """What the engine holds of each page of a VM, as bytes of uint32 [pages, 2]. First its entry: STATE_PRESENT with the
    frame, and STATE_WRITABLE if a store needs nobody's leave; STATE_BACKED with the backing record; or 0. Then, of BACKED,
    the kind of record: 1 same-filled, 2 compressed, 3 swap."""
    cdef Look at
    cdef uint32_t gfn, entry, pages = vm.nr_pages
    cdef object found = bytearray(pages * 8)
    cdef uint32_t[:, ::1] rows = memoryview(found).cast("I", (pages, 2)) if pages else None
    vm.require()
    for gfn in range(pages):
        if not vm.mapping.leaves.look(vm.id, gfn, &at):
            continue
        entry = at.entry
        if entry & PTE_PRESENT:
            rows[gfn, 0] = PTE_PRESENT | (entry & PTE_WHERE)
            if entry & PTE_WRITABLE and at.leaf.nr_holders == 1:
                rows[gfn, 0] |= PTE_WRITABLE
        elif entry & PTE_BACKED:
            rows[gfn, 0] = PTE_BACKED | (entry & PTE_WHERE)
            rows[gfn, 1] = vm.mapping.backings.kind(vm.mapping.backings.at(entry & PTE_WHERE))
    return found


cdef class Watch:
    """A userfaultfd. OSError where this user or this kernel may have none; its errno is 95 (EOPNOTSUPP) for a kernel that
    lacks a feature."""

    cdef readonly int fd

    def __cinit__(self):
        cdef uint64_t found = 0
        self.fd = -1
        self.fd = mv_uffd_open(FEATURES, &found)
        if self.fd == -2 or (self.fd >= 0 and (found & FEATURES) != FEATURES):
            if self.fd >= 0:
                os.close(self.fd)
            self.fd = -1
            raise OSError(95, "userfaultfd lacks SIGBUS mode or protection of files in memory")
        if self.fd < 0:
            raise OSError(errno, f"userfaultfd: {os.strerror(errno)}")

    def close(self):
        """No window is watched any more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


cdef class Window:
    """The address space of a VM of so many pages, all absent. `frames`: the file of frames, which is the caller's."""

    cdef Watch _watch
    cdef uint8_t *_start
    cdef int _frames
    cdef int _empty                     # the file that stays empty
    cdef readonly size_t pages
    cdef readonly uint64_t sequence     # access writes so far
    cdef readonly uint32_t tag_base
    cdef readonly uint64_t loaded       # what the loads saw, summed

    def __cinit__(self, Watch watch not None, size_t pages, int frames, uint32_t tag_base=0, uint64_t sequence=0):
        if not 0 < pages < (1 << 32):
            raise ValueError(f"{pages} pages")
        self._empty = -1
        self._watch, self._frames = watch, frames
        self.pages, self.tag_base, self.sequence = pages, tag_base, sequence
        self._empty = os.memfd_create("memvirt-absent", os.MFD_CLOEXEC)
        os.ftruncate(self._empty, pages * PAGE)
        self._start = mv_reserve(pages * PAGE)
        if self._start == NULL or mv_uffd_map(watch.fd, self._start, pages * PAGE, self._empty, 0) < 0:
            raise OSError(errno, f"a window: {os.strerror(errno)}")

    def __dealloc__(self):
        if self._start != NULL:
            munmap(self._start, self.pages * PAGE)
        if self._empty >= 0:
            os.close(self._empty)

    def place(self, uint32_t page, int64_t frame, bint writable):
        """The page is this frame from now on; -1: absent."""
        self._within(page)
        cdef uint8_t *at = self._start + <size_t>page * PAGE
        cdef int file = self._empty if frame < 0 else self._frames
        if mv_uffd_map(self._watch.fd, at, PAGE, file, (page if frame < 0 else frame) * PAGE) < 0:
            raise OSError(errno, f"page {page}: {os.strerror(errno)}")
        if frame >= 0 and not writable:
            self.protect(page, True)

    def protect(self, uint32_t page, bint on):
        """A store to the page is an event from now on, or is none any more."""
        self._within(page)
        if mv_uffd_protect(self._watch.fd, self._start + <size_t>page * PAGE, on) < 0:
            raise OSError(errno, f"page {page}: {os.strerror(errno)}")

    def replay(self, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None,
               const uint32_t[::1] sources=None, const uint8_t[:, ::1] corpus=None, uint8_t[:, ::1] out=None,
               uint64_t first=0):
        """Accesses from number `first` on, until one is an event: its number, or how many there are. ops: 0 read, 1 write,
        2 fill with row `sources` of the corpus, 3 copy the page to its row of `out`."""
        cdef uint64_t i, n = pages.shape[0], last, rows = 0 if corpus is None else corpus.shape[0]
        if <uint64_t>ops.shape[0] != n or (sources is not None and <uint64_t>sources.shape[0] != n):
            raise ValueError(f"{n} pages, {ops.shape[0]} ops")
        if (rows and corpus.shape[1] != PAGE) or (
                out is not None and (<uint64_t>out.shape[0] != n or out.shape[1] != PAGE)):
            raise ValueError("rows that are no pages")
        if first >= n:
            return n
        cdef const uint32_t *source = NULL
        cdef const uint8_t *row = NULL
        cdef uint8_t *target = NULL
        if sources is not None:
            source = &sources[0]
        if rows:
            row = &corpus[0, 0]
        if out is not None:
            target = &out[0, 0]
        while first < n:
            last = min(n, first + LOOK)
            for i in range(first, last):
                if pages[i] >= self.pages or ops[i] > 3 or (ops[i] == 3 and out is None) or (
                        ops[i] == 2 and (sources is None or sources[i] >= rows)):
                    raise ValueError(f"access {i}: page {pages[i]}, op {ops[i]}")
            with nogil:
                first = mv_replay(self._start, self.pages * PAGE, &pages[0], &ops[0], source, row, target, first, last,
                                  self.tag_base, &self.sequence, &self.loaded)
            if first < last:
                return first
        return n

    cdef int _within(self, uint32_t page) except -1:
        if page >= self.pages:
            raise ValueError(f"page {page} of {self.pages}")
        return 0
