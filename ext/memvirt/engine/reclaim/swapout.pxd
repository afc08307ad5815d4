from ..content.content cimport Content
from ..counters cimport Meter
from ..mapping.backing cimport Backings
from .readahead cimport Readahead
from ..simtime cimport Clock
from ..stores.swapspace cimport SwapSpace
from ..types cimport backing_t, hfn_t, uint8_t, uint32_t

cdef enum:
    SWAP_BATCH = 256            # pages written to swap at a time, where so many are to go: 1 MiB


cdef class SwapOut:
    cdef Content content
    cdef Backings backings
    cdef Readahead readahead
    cdef SwapSpace swap
    cdef Clock clock
    cdef Meter meter
    cdef uint32_t nr_begun                      # of the last batch: pages that got a slot, its first ones
    cdef uint32_t slot[SWAP_BATCH]              # [nr_begun]
    cdef const uint8_t *page[SWAP_BATCH]        # [nr_begun]
    cdef uint8_t done[SWAP_BATCH]               # after `finish`: 1 for each page of the batch that is on swap now

    # Begins to write the pages of so many frames, at most SWAP_BATCH. Returns how many got a slot: the first ones. They
    # stay as they are until `finish`, and nothing else is asked of the swap space.
    cdef uint32_t begin(self, const hfn_t *frames, uint32_t n) except? 0xFFFFFFFF nogil
    # Waits, and gives back the slots of pages that did not arrive.
    cdef int finish(self) except -1 nogil
    # The record has the i-th page of the batch from now on; `check`: the page's checksum.
    cdef void keep(self, uint32_t i, backing_t backing, uint32_t check) noexcept nogil
