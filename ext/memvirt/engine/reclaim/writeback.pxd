from ..simtime cimport Clock
from ..content.content cimport Content
from ..counters cimport Meter
from ..device cimport Device
from ..memory.frames cimport Frames
from ..mapping.mapping cimport Mapping
from .readahead cimport Readahead
from ..stores.swapspace cimport SwapSpace
from ..types cimport hfn_t, int64_t, uint32_t
from ..stores.zpool cimport Zpool

cdef enum:
    CLUSTER = 32                # pages reclaimed at a time: Linux's SWAP_CLUSTER_MAX


cdef class Writeback:
    cdef readonly Mapping mapping
    cdef readonly Frames frames
    cdef readonly Content content
    cdef readonly Device device
    cdef readonly Readahead readahead
    cdef Clock clock
    cdef Meter meter
    cdef Zpool zpool
    cdef SwapSpace swap
    cdef bint shrinking                         # the pool's shrinker is working
    cdef int64_t shrinker_ns                    # its clock
    cdef hfn_t bounce[CLUSTER]                  # fixed frames through which writeback decompresses
    cdef uint32_t nr_bounce

    cdef void wake_shrinker(self) noexcept nogil
    cdef int shrink_pool(self, int64_t now) except -1 nogil
    cdef uint32_t write_back(self, uint32_t want, bint spare_loaded) except? 0xFFFFFFFF nogil
    cdef uint32_t _compact(self) except? 0xFFFFFFFF nogil
