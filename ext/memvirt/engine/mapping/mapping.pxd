from .backing cimport Backing
from .tables cimport Tables
from ..types cimport backing_t, hfn_t, leaf_t, uint32_t, vmid_t


cdef class Listener:
    # Told when a merged frame stops being one (freed, or written in place by its last owner).
    cdef void unshared(self, hfn_t frame) noexcept nogil
    # Told when a guest frame's bytes and entries have moved to another frame; `source` is about to be free.
    cdef void moved(self, hfn_t source, hfn_t target) noexcept nogil


cdef class Mapping(Tables):
    cdef Listener listener      # or None
    cdef bint copy_merged       # a merged frame is copied even for the last entry that names it, as Linux does

    cdef int release_backing(self, backing_t backing) except -1 nogil
    cdef int _detach(self, hfn_t frame) except -1 nogil
    cdef void _unmerge(self, hfn_t frame) noexcept nogil
    cdef int _free_frame(self, hfn_t frame) except -1 nogil
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
    cdef int break_cow(self, vmid_t vm, leaf_t leaf, uint32_t index, hfn_t copy) except -1 nogil
    cdef int _lost_sites(self, hfn_t frame) except -1 nogil
    cdef int unmap(self, leaf_t leaf, uint32_t index) except -1 nogil
    cdef int evict(self, hfn_t frame, backing_t backing) except -1 nogil
    cdef void write_protect(self, hfn_t frame) noexcept nogil
    cdef int merge(self, hfn_t duplicate, hfn_t kept) except -1 nogil
    cdef int move(self, hfn_t source, hfn_t target) except -1 nogil
    cdef int open(self, vmid_t vm, uint32_t nr_vpns, uint32_t nr_gfns) except -1
    cdef int close(self, vmid_t vm) except -1 nogil
    cdef int clear(self, vmid_t vm) except -1 nogil
    cdef int _empty_all(self, vmid_t vm) except -1 nogil
    cdef int _let_go(self, vmid_t vm, uint32_t slot, bint last) except -1 nogil
    cdef int _empty(self, leaf_t leaf) except -1 nogil
