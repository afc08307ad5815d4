from ..types cimport uint32_t, uint64_t

# How scattered free memory is, from a bit per page (set: free; none set past nr_pages) and the free blocks per order.
cdef object describe(uint32_t nr_pages, const uint64_t *words, object blocks)
