from ..simtime cimport Actor
from ..content.content cimport Content
from ..counters cimport Meter
from ..memory.frames cimport Frames
from ..mapping.mapping cimport Mapping
from .swapout cimport SwapOut
from ..types cimport hfn_t, uint32_t
from ..stores.zpool cimport Zpool

cdef enum:
    CLUSTER = 32                # pages reclaimed at a time: Linux's SWAP_CLUSTER_MAX


cdef class Writeback(Actor):
    # The shrinker of one host's zpool.
    cdef Mapping mapping
    cdef Frames frames
    cdef Content content
    cdef Meter meter
    cdef Zpool zpool
    cdef SwapOut swapout                        # None: there is nowhere to write to
    cdef hfn_t bounce[CLUSTER]                  # fixed frames through which writeback decompresses
    cdef uint32_t nr_bounce

    cdef uint32_t write_back(self, uint32_t want, bint spare_loaded) except? 0xFFFFFFFF nogil
    cdef bint _expand(self, uint32_t handle, hfn_t frame) except? True nogil
    # Put the page of an object into a frame, on the time of whoever needs it: OK, or CORRUPT. Checksums are the caller's.
    cdef int load(self, uint32_t handle, hfn_t frame) except -1 nogil
    cdef uint32_t _compact(self) except? 0xFFFFFFFF nogil
