cimport cython

from .blocks cimport Blocks


@cython.final
cdef class Buddy(Blocks):
    # The buddy allocator as everyone uses it: take, take_at, take_bulk, give, give_bulk, is_free, free_blocks and
    # nr_free are those of Blocks (see blocks.pxd); here they get their recount.
    cpdef object check(self)

    cdef object _check_order(self, int order)
