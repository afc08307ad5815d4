"""ksm's scan-time advisor (mm/ksm.c), in the kernel's integer arithmetic: after each pass it chooses how many pages are
looked at between two sleeps, so that a pass takes the target time within the limits of processor time. Its clock is
simulated."""

from ..simtime cimport Clock
from ..counters cimport CPU_SCAN
from ..types cimport int64_t, uint32_t

cdef enum:
    EWMA_WEIGHT = 30            # the kernel's constants
    ADVISOR_MIN_CPU = 10

cdef int64_t SECOND_NS = 1_000_000_000


cdef class Advisor:

    def __init__(self, Clock clock not None, int64_t target_ns, int64_t max_cpu, int64_t max_pages):
        self.clock = clock
        self.target_scan_s = target_ns / SECOND_NS
        self.max_cpu = max_cpu
        self.max_pages = max_pages

    cdef void begin_pass(self) noexcept nogil:
        self.began_ns = self.clock.now
        self.began_cpu_ns = self.clock.cpu_ns[<int>CPU_SCAN]

    cdef uint32_t advise(self, uint32_t pages_to_scan) noexcept nogil:
        """The pass is over: the next pages_to_scan."""
        cdef int64_t scan_s = max(<int64_t>1, (self.clock.now - self.began_ns) / SECOND_NS)
        cdef int64_t cpu_ms = (self.clock.cpu_ns[<int>CPU_SCAN] - self.began_cpu_ns) / 1_000_000
        cdef int64_t cpu_percent = max(<int64_t>1, cpu_ms * 100 / (scan_s * 1000))
        cdef int64_t last_s = self.last_scan_s if self.last_scan_s else scan_s
        cdef int64_t factor = max(<int64_t>1, self.target_scan_s * 100 / scan_s)
        cdef int64_t change = max(<int64_t>1, scan_s * 100 / last_s)
        cdef int64_t pages = pages_to_scan, per_percent = max(<int64_t>1, pages / cpu_percent)
        change = ((100 - EWMA_WEIGHT) * self.change + EWMA_WEIGHT * change) / 100
        pages = pages * 100 / factor
        pages = pages * change / 100
        pages = min(pages, per_percent * self.max_cpu)
        pages = max(pages, per_percent * ADVISOR_MIN_CPU)
        self.change = change
        self.last_scan_s = scan_s
        return <uint32_t>min(pages, self.max_pages)
