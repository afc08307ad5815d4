# Asks the processor for a cache line that is needed soon. Any address will do; nothing is changed, and nothing can fail.
cdef extern from *:
    """
    #define memvirt_prefetch_read(at) __builtin_prefetch((at), 0)
    #define memvirt_prefetch_write(at) __builtin_prefetch((at), 1)
    """
    void prefetch_read "memvirt_prefetch_read"(const void *at) noexcept nogil
    void prefetch_write "memvirt_prefetch_write"(const void *at) noexcept nogil
