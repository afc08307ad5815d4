from ..types cimport uint8_t, uint32_t, uint64_t

cdef enum Op:
    OP_READ = 0
    OP_WRITE = 1
    OP_FILL = 2                 # the whole page becomes a corpus page
    OP_DISCARD = 3              # the owner needs the page no more

cdef enum:
    PIECE = 1 << 16             # accesses that Vm.access takes over at a time: they stay in this machine's cache


cdef class Batch:
    # Accesses that are the engine's own: nobody else can change them between the check and the use.
    cdef uint32_t *pages        # [n]
    cdef uint8_t *ops           # [n]
    cdef uint32_t *sources      # [n] of fills; nothing without one
    cdef uint32_t n
    cdef uint32_t room          # of pages and ops
    cdef uint32_t source_room   # of sources

    # Whether every access of the whole batch can be one of this VM, for a batch that is then taken in pieces.
    cdef int judge(self, str vm, uint32_t nr_vpns, uint32_t nr_sources, const uint32_t[::1] pages,
                   const uint8_t[::1] ops, const uint32_t[::1] sources) except -1
    # Take over accesses first .. first + n - 1.
    cdef int own(self, str vm, uint32_t nr_vpns, uint32_t nr_sources, const uint32_t[::1] pages,
                 const uint8_t[::1] ops, const uint32_t[::1] sources, uint64_t first, uint64_t n) except -1
    cdef int _make_room(self, uint64_t n, bint with_sources) except -1


cdef int check_lengths(str vm, const uint32_t[::1] pages, const uint8_t[::1] ops, const uint32_t[::1] sources) except -1
