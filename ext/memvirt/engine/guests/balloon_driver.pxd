from ..types cimport uint32_t
from .guest cimport Guest


# Move up to `pages` pages toward the guest's balloon_target. OK: all of them, or the target is reached; else why not:
# REFUSED (floor), EMPTY (no page), or what the hardware said. *moved counts in every case.
cdef int balloon_step(Guest guest, uint32_t pages, uint32_t *moved) except -1 nogil
cdef enum:
    MESSAGE_BLOCKS = 32         # named at a time, and to be free above `low` beside; PAGE_REPORTING_CAPACITY of Linux

# Free blocks of 2^report_order pages that were not reported since their last use.
cdef uint32_t unreported(Guest guest) noexcept nogil
# As in Linux, a guest with few free pages is left alone.
cdef bint may_report(Guest guest) noexcept nogil
# Report up to `blocks` of them; nothing of a guest that is left alone. One message, if there are any.
cdef int report(Guest guest, uint32_t blocks, uint32_t *reported) except -1 nogil
