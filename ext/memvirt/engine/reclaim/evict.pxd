from ..replacement.order cimport Order
from ..sharing.shareindex cimport ShareIndex
from ..stall cimport Stalls
from ..types cimport hfn_t, uint32_t, uint64_t
from .writeback cimport Writeback

cdef enum:
    SWAP_BATCH = 256            # pages written to swap at a time, where so many are to go: 1 MiB


cdef class Eviction(Writeback):
    cdef readonly Stalls stalls
    cdef Order order
    cdef readonly uint32_t compress_limit       # a page that does not compress to this many bytes is not kept compressed
    cdef ShareIndex index                       # asked to share a page before it is written out; None: nobody is
    cdef bint last_chance
    cdef uint64_t evictions                     # grows whenever entries changed: "classify again"
    cdef hfn_t batch[SWAP_BATCH]                   # pages isolated for one write to swap
    cdef uint32_t nr_batch

    cdef int _evict(self, hfn_t frame) except -1 nogil
    cdef int _to_zpool(self, hfn_t frame) except -1 nogil
    cdef uint32_t _flush(self) except? 0xFFFFFFFF nogil
