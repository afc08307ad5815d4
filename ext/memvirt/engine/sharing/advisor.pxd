from ..simtime cimport Clock
from ..types cimport int64_t, uint32_t


cdef class Advisor:
    cdef Clock clock
    cdef readonly int64_t target_scan_s, max_cpu, max_pages
    cdef int64_t began_ns, began_cpu_ns         # of the pass
    cdef int64_t last_scan_s, change            # of the passes before

    cdef void begin_pass(self) noexcept nogil
    cdef uint32_t advise(self, uint32_t pages_to_scan) noexcept nogil
