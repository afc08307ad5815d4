from .guest_memory cimport GuestMemory
from ..types cimport gfn_t, uint32_t, vpn_t


cdef class Partitions:
    # Where they lie: numbers alone, and the same for all copies of a guest.
    cdef readonly uint32_t pages                # of each: whole blocks of 2 MiB
    cdef readonly uint32_t number               # how many there are
    cdef readonly gfn_t first                   # page of the first; one follows the other, what is beside them is shared
    cdef readonly vpn_t first_vpn               # of the address space of instances, which ends where the page cache begins
    cdef readonly uint32_t vpns                 # of each instance

    cdef gfn_t at(self, uint32_t number) noexcept nogil                     # the first page of that partition
    cdef gfn_t of(self, vpn_t vpn, GuestMemory memory) noexcept nogil       # ... of vpn's; NONE: it is shared
    cdef uint32_t shared_free(self, GuestMemory memory) noexcept nogil      # free pages that are in none
    # The lowest free page of the partition that begins there; NONE for `first`: one that is in none. OK or EMPTY.
    cdef int take(self, GuestMemory memory, gfn_t first, gfn_t *gfn) except -1 nogil
    cdef bint is_free(self, GuestMemory memory, gfn_t first) noexcept nogil     # all pages of that partition
    cdef int take_all(self, GuestMemory memory, gfn_t first) except -1 nogil    # of a free one: OK or EMPTY
    cdef int give_all(self, GuestMemory memory, gfn_t first) except -1 nogil    # what take_all took is free again
