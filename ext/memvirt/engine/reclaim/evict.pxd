from ..simtime cimport Actor
from ..content.content cimport Content
from ..counters cimport Meter
from ..device cimport Device
from ..memory.frames cimport Frames
from ..mapping.mapping cimport Mapping
from ..replacement.order cimport Order
from .readahead cimport Readahead
from ..sharing.shareindex cimport ShareIndex
from ..stall cimport Stalls
from ..stores.swapspace cimport SwapSpace
from ..types cimport hfn_t, uint32_t, uint64_t
from .writeback cimport Writeback
from ..stores.zpool cimport Zpool

cdef enum:
    SWAP_BATCH = 256            # pages written to swap at a time, where so many are to go: 1 MiB


cdef class Eviction(Actor):
    cdef readonly Mapping mapping
    cdef readonly Frames frames
    cdef readonly Content content
    cdef readonly Device device
    cdef readonly Readahead readahead
    cdef readonly Writeback shrinker            # of the zpool
    cdef Meter meter
    cdef Zpool zpool
    cdef SwapSpace swap
    cdef readonly Stalls stalls
    cdef Order order
    cdef readonly uint32_t compress_limit       # a page that does not compress to this many bytes is not kept compressed
    cdef ShareIndex index                       # asked to share a page before it is written out; None: nobody is
    cdef bint last_chance
    cdef uint64_t evictions                     # grows whenever entries may have changed
    cdef hfn_t batch[SWAP_BATCH]                   # pages isolated for one write to swap
    cdef uint32_t nr_batch

    cdef int _evict(self, hfn_t frame) except -1 nogil
    cdef int _to_zpool(self, hfn_t frame) except -1 nogil
    cdef uint32_t _flush(self) except? 0xFFFFFFFF nogil
