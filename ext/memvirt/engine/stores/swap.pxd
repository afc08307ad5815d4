from ..device cimport Device
from .slots cimport Slots
from .swapspace cimport SwapSpace
from ..types cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "stores/swapio.h" nogil:
    struct mv_flight:
        unsigned long ring
        int refused
        uint32_t begun
    struct mv_area:
        int fd
        int direct
        uint32_t unit
        uint8_t *memory
        uint8_t *bounce
        int error
        uint64_t calls[2]
        uint64_t skip[2]
        uint64_t times[2]
        int fault[2]
        mv_flight flight


cdef class Swap(SwapSpace):
    cdef readonly str path                      # None: a temporary file without a name, or memory
    cdef readonly Slots slots                   # which are taken
    cdef readonly bint discard
    cdef readonly Device device                 # serves it in simulated time; None until attached
    cdef mv_area _area
    cdef char *_remove                          # the file to remove at the end, or NULL
    cdef int _process                           # that made it: a forked one has the name, and does not remove it

    cdef uint32_t run(self, uint32_t n, const uint32_t *slots) noexcept nogil
    cdef uint32_t move(self, int way, uint32_t n, const uint32_t *slots, uint8_t **pages,
                       uint8_t *done) except? 0xFFFFFFFF nogil
    cdef void punch(self, uint32_t cluster) noexcept nogil
    cdef uint32_t take_in_cluster(self, uint32_t n, uint32_t *slots) noexcept nogil
    # More slots, no more than MAX_SLOTS in all, with room in the file. Raises as the constructor does, and nothing has
    # changed.
    cdef int grow(self, uint32_t slots) except -1
    # Slots beyond `least` that nobody uses go, with their room in the file, as far as they end it.
    cdef void cut(self, uint32_t least) noexcept
    # True if the next take begins another cluster.
    cdef bint at_cluster_end(self) noexcept nogil
