from ..content.content cimport Content
from ..counters cimport Meter
from ..mapping.mapping cimport Mapping
from ..mapping.recency cimport Recency
from ..memory.frames cimport Frames
from ..sharing.shareindex cimport ShareIndex
from ..simtime cimport Clock
from ..stores.zpool cimport Zpool
from .swapout cimport SWAP_BATCH, SwapOut
from ..types cimport backing_t, hfn_t, uint32_t, uint64_t
from .writeback cimport Writeback


cdef class Eviction:
    cdef Mapping mapping
    cdef Frames frames
    cdef Content content
    cdef Recency recency
    cdef Clock clock
    cdef Meter meter
    cdef Zpool zpool                            # None: pages are not compressed
    cdef SwapOut swapout                        # None: there is no swap
    cdef Writeback shrinker                     # woken when the pool is full
    cdef bint zeros_only                        # of pages of one word, only those of zeros go as a value
    cdef ShareIndex last_chance                 # asked to share a page before it is written out; None: nobody is
    cdef uint64_t changes                       # grows whenever entries may have changed
    cdef hfn_t batch[SWAP_BATCH]                # pages isolated for one write to swap
    cdef uint32_t nr_batch

    # Lets one page go. Returns how many went: none if it stays (spared, counted) or waits in the batch for swap; several
    # if with it the batch is complete, as for a caller who wants no more than `wanted` of them.
    cdef uint32_t evict(self, hfn_t frame, uint32_t wanted) except? 0xFFFFFFFF nogil
    # Writes the batch to swap; pages that did not arrive are like any other again. Returns how many went.
    cdef uint32_t flush(self) except? 0xFFFFFFFF nogil
    # What a call that was ended by an error has left in the batch is like any other page again.
    cdef void put_back(self) noexcept nogil

    # True if the page goes as a value, which takes neither room nor I/O.
    cdef bint is_value(self, hfn_t frame, uint64_t *value) noexcept nogil
    cdef int _let_go(self, hfn_t frame) except -1 nogil
    cdef int _to_zpool(self, hfn_t frame) except -1 nogil
    cdef int _gone(self, hfn_t frame, backing_t backing, uint64_t *how) except -1 nogil
