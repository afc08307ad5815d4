from ..types cimport hfn_t


cdef class Listener:
    # Told when a merged frame stops being one (freed, or written in place by its last owner).
    cdef void unshared(self, hfn_t frame) noexcept nogil
    # Told when a guest frame's bytes and entries have moved to another frame; `source` is about to be free.
    cdef void moved(self, hfn_t source, hfn_t target) noexcept nogil
