from ..types cimport uint32_t
from .elastic cimport Elastic
from .guest cimport Guest


cdef class PageBalloon(Elastic):
    pass


cdef enum:
    MESSAGE_BLOCKS = 32         # named at a time, and to be free above `low` beside; PAGE_REPORTING_CAPACITY of Linux

# Free blocks of 2^report_order pages that were not reported since their last use.
cdef uint32_t unreported(Guest guest) noexcept nogil
# As in Linux, a guest with few free pages is left alone.
cdef bint may_report(Guest guest) noexcept nogil
# Report up to `blocks` of them; nothing of a guest that is left alone. One message, if there are any.
cdef int report(Guest guest, uint32_t blocks, uint32_t *reported) except -1 nogil
