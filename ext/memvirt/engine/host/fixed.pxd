from ..memory.frames cimport Frames
from ..reclaim.reclaim cimport Reclaim
from ..replacement.order cimport Order
from ..sharing.scanner cimport Scanner
from ..stores.swapspace cimport SwapSpace
from ..types cimport int64_t, uint32_t, uint64_t


# Frames for so many bytes.
cdef uint64_t frames_of(uint64_t bytes) noexcept
# Bytes of a host's tables.
cdef uint64_t bytes_of_host(Frames frames, Order order, SwapSpace swap, bint readahead) except? 0
# Bytes of a VM's tables, without its guest's; one that never runs (a snapshot) has no translations.
cdef uint64_t bytes_of_vm(uint32_t nr_pages, uint32_t nr_vpns, bint runs, Scanner scanner) except? 0
# Frames that a guest's tables take at least.
cdef uint64_t frames_of_guest(uint32_t nr_pages, uint32_t nr_vpns) noexcept
# [(frame, order)] for that many bytes; AdmissionError if memory does not suffice. reclaim: None while a host is made.
cdef list take_fixed(Frames frames, Reclaim reclaim, int64_t now, uint64_t bytes, object what)
cdef int give_fixed(Frames frames, list taken) except -1
