from ..content.content cimport Content
from ..counters cimport Meter
from ..memory.frames cimport FRAME_LAZY, Frames
from ..simtime cimport Clock
from ..stores.swapspace cimport SwapSpace
from ..stores.zpool cimport Zpool
from ..types cimport NONE, backing_t, gfn_t, hfn_t, leaf_t, site_t, uint32_t, vmid_t
from .ages cimport Ages
from .backing cimport Backing, Backings
from .charges cimport Charges
from .leaf cimport Leaves
from .listener cimport Listener
from .recency cimport Recency
from .rmap cimport ReverseMap
from .tables cimport Tables
from .tcache cimport Tcache


cdef class Mapping:
    cdef readonly Frames frames
    cdef readonly Content content
    cdef readonly Leaves leaves
    cdef readonly Backings backings
    cdef readonly Tcache tcache
    cdef readonly Recency recency               # in which order pages go
    cdef readonly Zpool zpool                   # may be None
    cdef readonly SwapSpace swap                # may be None
    cdef readonly Meter meter
    cdef Clock clock
    cdef readonly Ages ages
    cdef readonly ReverseMap rmap               # frame -> its sites
    cdef readonly Charges charges               # frame -> its payer
    cdef readonly Tables tables                 # leaf tables as a whole
    cdef Listener listener                      # or None
    cdef bint copy_merged                       # a merged frame is copied even for its last entry, as Linux does

    cdef int set_pinned(self, hfn_t frame, bint pinned) except -1 nogil
    cdef int _uncache(self, backing_t backing, hfn_t frame) except -1 nogil
    cdef int release_backing(self, backing_t backing) except -1 nogil
    cdef int _detach(self, hfn_t frame) except -1 nogil
    cdef void _unmerge(self, hfn_t frame) noexcept nogil
    cdef int free_frame(self, hfn_t frame) except -1 nogil
    cdef int map_new(self, vmid_t vm, leaf_t leaf, uint32_t index, hfn_t frame) except -1 nogil
    cdef int map_huge(self, vmid_t vm, uint32_t slot, uint32_t region, hfn_t base) except -1 nogil
    cdef int map_cached(self, vmid_t vm, leaf_t leaf, uint32_t index, backing_t backing) except -1 nogil
    cdef int cache_ahead(self, hfn_t frame, backing_t backing) except -1 nogil
    cdef int drop_ahead(self, hfn_t frame) except -1 nogil
    cdef int map_back(self, vmid_t vm, leaf_t leaf, uint32_t index, hfn_t frame, backing_t backing) except -1 nogil
    # True if the record of a page that has come back stays: others name it, or it is a clean copy.
    cdef bint _keeps_copy(self, Backing *backing) noexcept nogil
    cdef bint sole(self, hfn_t frame) noexcept nogil
    cdef int own(self, leaf_t leaf, uint32_t index) except -1 nogil

    cdef inline bint is_clean(self, hfn_t frame) noexcept nogil:
        """True if its first write has to be seen: it still equals its backing record, or its page was given up lazily."""
        return self.frames.frame[frame].backing != NONE or self.frames.frame[frame].flags & FRAME_LAZY

    cdef inline int dirty(self, hfn_t frame) except -1 nogil:
        """A writable page is written: what it was a clean copy of goes, if no other entry names it; given up, it is not."""
        if not self.is_clean(frame):
            return 0
        self.recency.keep(frame)
        return self._detach(frame)

    cdef int break_cow(self, vmid_t vm, leaf_t leaf, uint32_t index, hfn_t copy) except -1 nogil
    cdef int lost_sites(self, hfn_t frame, site_t near=*) except -1 nogil
    cdef int unmap(self, leaf_t leaf, uint32_t index) except -1 nogil
    cdef int evict(self, hfn_t frame, backing_t backing) except -1 nogil
    cdef void write_protect(self, hfn_t frame) noexcept nogil
    cdef int merge(self, hfn_t duplicate, hfn_t kept) except -1 nogil
    cdef int move(self, hfn_t source, hfn_t target) except -1 nogil
