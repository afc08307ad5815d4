from ..types cimport gfn_t, uint32_t, vpn_t


cdef class Hardware:
    # What a guest may ask of the hardware below it. Each answers with an Outcome, but never EMPTY, which a guest says
    # of itself. What is not OK has lost nothing; the guest undoes its own part and hands the outcome to its caller.
    # Slots 0 .. swap_slots - 1 are guest swap; from swap_slots on they are blocks of the file behind the page cache.
    cdef int clear(self, gfn_t gfn) except -1 nogil                     # write zeros over the page
    cdef int read_file(self, gfn_t gfn, vpn_t vpn) except -1 nogil      # fill it with vpn's page of the original file
    cdef int read_out(self, gfn_t gfn, uint32_t slot) except -1 nogil   # page -> slot
    cdef int write_in(self, gfn_t gfn, uint32_t slot) except -1 nogil   # slot -> page; the slot keeps its content
    cdef int forget_slot(self, uint32_t slot) except -1 nogil           # its content is needed no more
    cdef int release(self, gfn_t gfn) except -1 nogil                   # the host may drop the page: content is lost
    cdef int begin_report(self) except -1 nogil                         # what is released until the end is one message
    cdef uint32_t end_report(self) noexcept nogil                       # frames that came free by it
    cdef int flush(self, vpn_t vpn) except -1 nogil                     # drop the cached translation of vpn
    cdef bint test_and_clear_accessed(self, vpn_t vpn, gfn_t gfn) noexcept nogil
    cdef void rehome(self, const vpn_t *vpn_of) noexcept nogil          # the guest's reverse map lies there from now on
