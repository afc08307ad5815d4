from ..device cimport Device
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

cdef enum ClusterState:
    CLUSTER_FREE = 0            # no slot used: on the free list
    CLUSTER_CURRENT = 1         # slots are being taken from it
    CLUSTER_PARTIAL = 2         # some slots used: on the partial list
    CLUSTER_FULL = 3            # all slots used: on no list

# A run of slots that is filled in order, so that pages evicted together lie together.
cdef struct Cluster:
    uint32_t used               # slots in use
    uint32_t prev               # FREE, PARTIAL: neighbours on the list, NONE at its ends
    uint32_t next
    uint8_t state

cdef struct ClusterList:
    uint32_t head               # taken from here
    uint32_t tail               # added here


cdef class Swap(SwapSpace):
    cdef readonly str path                      # None: a temporary file without a name, or memory
    cdef readonly uint32_t cluster_slots, nr_clusters
    cdef readonly bint discard
    cdef readonly Device device                 # serves it in simulated time; None until attached
    cdef mv_area _area
    cdef uint64_t *_used                        # a bit per slot
    cdef Cluster *_cluster                      # [nr_clusters]
    cdef ClusterList _free, _partial
    cdef uint32_t _current                      # the CURRENT cluster, or NONE
    cdef uint32_t _next                         # first slot of it not yet looked at
    cdef char *_remove                          # the file to remove at the end, or NULL
    cdef int _process                           # that made it: a forked one has the name, and does not remove it

    cdef uint32_t run(self, uint32_t n, const uint32_t *slots) noexcept nogil
    cdef uint32_t move(self, int way, uint32_t n, const uint32_t *slots, uint8_t **pages,
                       uint8_t *done) except? 0xFFFFFFFF nogil
    cdef uint32_t cluster_end(self, uint32_t cluster) noexcept nogil
    cdef bint at_cluster_end(self) noexcept nogil
    cdef void next_cluster(self) noexcept nogil
    cdef void file_cluster(self, uint32_t cluster) noexcept nogil
    cdef void punch(self, uint32_t cluster) noexcept nogil
    cdef uint32_t take_in_cluster(self, uint32_t n, uint32_t *slots) noexcept nogil
