from ..clock cimport Clock
from ..shareindex cimport ShareIndex
from ..types cimport int64_t, uint32_t, uint64_t


cdef class Scanner:
    # A page-sharing scanner: looks at pages, a slice at a time, and merges through the share index.
    cdef readonly ShareIndex index
    cdef Clock clock
    cdef readonly uint64_t pages_scanned
    cdef readonly uint64_t full_scans
    cdef public uint32_t pages_to_scan          # a slice, when it runs as an actor
    cdef public int64_t sleep_ns                # pause between slices, simulated
    cdef int64_t now_ns                         # its clock as an actor

    # Look at up to `pages` pages, or up to the end of the pass when `pages` is NONE. Returns pages merged.
    cdef uint32_t scan(self, uint32_t pages) except? 0xFFFFFFFF nogil
