"""A batch of accesses, owned by the engine from the check to the use.

Arrays that come from outside may change while the engine works: another thread writes to them while the lock is not
held, a generator fills one scratch array again and again, two VMs' generators share one. A page number that was good
when it was looked at and is another when it is used reads somebody else's memory. So the engine copies first, and checks
the copy. (Copying costs nothing measurable: the check has to read every access anyhow.)

A batch may say how time passes between its accesses. *Work* is what the VM computes after each: that time passes, and no
processor time is booked to the host. *Due times* cut the batch into parts of equal length, requests that arrive from
outside: the VM sleeps until a part is due, and where it is behind the part begins late.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from memvirt.errors import ConfigError

cdef extern from "host/batch.h" nogil:
    uint64_t mv_own_pages(uint32_t *to, const uint32_t *source, uint64_t n, uint32_t limit)
    uint64_t mv_own_ops(uint8_t *to, const uint8_t *source, uint64_t n, uint8_t last, uint8_t wanted, int *found)

cdef enum:
    MOST = (1 << 31) - 1

cdef int64_t LONGEST_NS = (<int64_t>1) << 60    # some 36 years
cdef int64_t MOST_WORK_NS = 1000000000000       # 1000 s: that of a batch stays within 64 bits


cdef class Batch:
    """Empty at first; its room is kept from one batch to the next."""

    def __dealloc__(self):
        free(self.pages)
        free(self.ops)
        free(self.sources)
        free(self.due_ns)

    cdef int _make_room(self, uint64_t n, bint with_sources) except -1:
        if n > self.room:
            self.room = 0
            self.pages = <uint32_t *>grown(self.pages, n * sizeof(uint32_t))
            self.ops = <uint8_t *>grown(self.ops, n)
            self.room = <uint32_t>n
        if with_sources and n > self.source_room:
            self.source_room = 0
            self.sources = <uint32_t *>grown(self.sources, n * sizeof(uint32_t))
            self.source_room = <uint32_t>n
        return 0

    cdef int judge(self, str vm, uint32_t nr_vpns, uint32_t nr_sources, const uint32_t[::1] pages,
                   const uint8_t[::1] ops, const uint32_t[::1] sources) except -1:
        cdef uint64_t n = pages.shape[0], first
        check_lengths(vm, pages, ops, sources)
        for first in range(0, n, PIECE):
            self.own(vm, nr_vpns, nr_sources, pages, ops, sources, first, min(n - first, <uint64_t>PIECE))
        return 0

    cdef int own(self, str vm, uint32_t nr_vpns, uint32_t nr_sources, const uint32_t[::1] pages,
                 const uint8_t[::1] ops, const uint32_t[::1] sources, uint64_t first, uint64_t n) except -1:
        cdef uint64_t i
        cdef int fills = 0
        self._own_pages(vm, nr_vpns, pages, first, n)
        i = mv_own_ops(self.ops, &ops[first], n, OP_LAZY, OP_FILL, &fills)
        if i < n:
            raise ConfigError(f"VM '{vm}': access {first + i} has op {self.ops[i]}; 0 read, 1 write, 2 fill, 3 discard, "
                              f"4 discard lazily")
        if fills:
            self._own_sources(vm, nr_sources, sources, first, n)
        self.n = <uint32_t>n
        return 0

    cdef int own_reads(self, str vm, uint32_t nr_vpns, const uint32_t[::1] pages) except -1:
        cdef uint64_t n = pages.shape[0]
        if n > MOST:
            raise ConfigError(f"VM '{vm}': {n} pages to read; at most 2^31 - 1 go at once")
        self.n = 0
        if n:
            self._own_pages(vm, nr_vpns, pages, 0, n)
            memset(self.ops, OP_READ, n)
            self.n = <uint32_t>n
        return 0

    cdef int _own_pages(self, str vm, uint32_t nr_vpns, const uint32_t[::1] pages, uint64_t first, uint64_t n) except -1:
        cdef uint64_t i
        self.n = self.nr_parts = 0
        self.work_ns = 0
        self._make_room(n, False)
        i = mv_own_pages(self.pages, &pages[first], n, nr_vpns)
        if i < n:
            raise ConfigError(f"VM '{vm}': access {first + i} names page {self.pages[i]}, beyond its {nr_vpns} pages")
        return 0

    def _own_sources(self, str vm, uint32_t nr_sources, const uint32_t[::1] sources, uint64_t first, uint64_t n):
        cdef uint64_t i
        if sources is not None:
            self._make_room(n, True)
        for i in range(n):
            if sources is not None:
                self.sources[i] = sources[first + i]
            if self.ops[i] == OP_FILL and (sources is None or self.sources[i] >= nr_sources):
                raise ConfigError(f"VM '{vm}': access {first + i} fills from corpus source "
                                  f"{None if sources is None else self.sources[i]}; there are {nr_sources}")

    cdef int time(self, str vm, int64_t work_ns, const int64_t[::1] due_ns) except -1:
        cdef uint32_t n = self.n, parts = 0 if due_ns is None else <uint32_t>due_ns.shape[0]
        self.n = 0                          # a batch that is refused holds nothing that could be served
        if not 0 <= work_ns <= MOST_WORK_NS:
            raise ConfigError(f"VM '{vm}': work of {work_ns} ns after each access; 0 to {MOST_WORK_NS} is the range")
        if due_ns is not None:
            self._own_due(vm, n, parts, due_ns)
            self.nr_parts = parts
        self.work_ns = work_ns
        self.n = n
        return 0

    cdef int _own_due(self, str vm, uint32_t n, uint32_t parts, const int64_t[::1] due_ns) except -1:
        cdef uint32_t i
        if parts == 0 or n % parts:
            raise ConfigError(f"VM '{vm}': {n} accesses cannot be due at {parts} times: parts are of one length")
        if parts > self.due_room:
            self.due_room = 0
            self.due_ns = <int64_t *>grown(self.due_ns, <uint64_t>parts * sizeof(int64_t))
            self.due_room = parts
        for i in range(parts):
            self.due_ns[i] = due_ns[i]
            if not (self.due_ns[i - 1] if i else 0) <= self.due_ns[i] <= LONGEST_NS:
                raise ConfigError(f"VM '{vm}': part {i} is due at {self.due_ns[i]} ns; times are 0 to {LONGEST_NS} and do "
                                  f"not go back")
        return 0


cdef int check_lengths(str vm, const uint32_t[::1] pages, const uint8_t[::1] ops, const uint32_t[::1] sources) except -1:
    """ConfigError unless the arrays are of one length, which one call can serve."""
    cdef uint64_t n
    if pages is None or ops is None:
        raise ConfigError(f"VM '{vm}': page numbers and ops are needed, one of each for every access")
    n = pages.shape[0]
    if <uint64_t>ops.shape[0] != n or (sources is not None and <uint64_t>sources.shape[0] != n):
        raise ConfigError(f"VM '{vm}': {n} pages but {ops.shape[0]} ops"
                          + ("" if sources is None else f" and {sources.shape[0]} sources"))
    if n > MOST:
        raise ConfigError(f"VM '{vm}': a batch of {n} accesses; at most 2^31 - 1 go at once")
    return 0


cdef void *grown(void *table, size_t bytes) except NULL:
    cdef void *memory = realloc(table, bytes)
    if memory == NULL:
        raise MemoryError(f"{bytes} bytes of accesses")
    return memory
