from .types cimport int64_t, uint32_t, uint64_t

cdef enum:
    MAX_CHANNELS = 64


cdef class Device:
    # The queue in front of swap, in simulated time: `channels` servers, each request takes latency + bytes / bandwidth.
    cdef readonly str name
    cdef readonly int64_t read_latency_ns, write_latency_ns
    cdef readonly int64_t read_page_ns, write_page_ns      # transfer time of one 4 KiB page
    cdef readonly int channels
    cdef int64_t _busy_until[MAX_CHANNELS]
    cdef readonly uint64_t nr_reads, nr_writes, pages_read, pages_written, queued_ns

    # Submit one request of `pages` consecutive pages at `now`; returns when it completes.
    cdef int64_t read(self, int64_t now, uint32_t pages) noexcept nogil
    cdef int64_t write(self, int64_t now, uint32_t pages) noexcept nogil
    cdef int64_t serve(self, int64_t now, int64_t duration) noexcept nogil
    cpdef object check(self)
