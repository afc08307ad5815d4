"""Whoever keeps something by frame, and must hear when a frame is no longer what it was: page sharing does."""


cdef class Listener:
    """Told when a merged frame stops being one, and when a guest frame moves."""

    cdef void unshared(self, hfn_t frame) noexcept nogil:
        pass

    cdef void moved(self, hfn_t source, hfn_t target) noexcept nogil:
        pass
