from ..types cimport uint8_t, uint32_t, uint64_t

cdef enum ClusterState:
    CLUSTER_FREE = 0            # no slot used
    CLUSTER_NONFULL = 1         # some used, and one of them came back last
    CLUSTER_FRAG = 2            # some used, and one of them was taken last
    NR_CLUSTER_LISTS = 3
    CLUSTER_FULL = 3            # all slots used: on no list

# A run of slots that is filled in order, so that pages evicted together lie together.
cdef struct Cluster:
    uint32_t used               # slots in use
    uint32_t prev               # neighbours on the list of its state, NONE at its ends
    uint32_t next
    uint8_t state

cdef struct ClusterList:
    uint32_t head               # taken from here
    uint32_t tail               # added here


cdef class Slots:
    cdef readonly uint32_t nr_slots, nr_used
    cdef readonly uint32_t cluster_slots, nr_clusters
    cdef uint64_t *_used                        # a bit per slot
    cdef Cluster *_cluster                      # [nr_clusters]
    cdef readonly bint free_first               # what is free comes before what is partly used
    cdef ClusterList _list[NR_CLUSTER_LISTS]    # by state
    cdef uint32_t _next                         # the cursor: slot where the next take goes on; NONE: another cluster

    cdef inline bint in_use(self, uint32_t slot) noexcept nogil:
        return slot < self.nr_slots and (self._used[slot >> 6] >> (slot & 63)) & 1

    # Up to n slots of one cluster; 0 only when all are taken.
    cdef uint32_t take(self, uint32_t n, uint32_t *slots) noexcept nogil
    # A slot that is in use is free again. Returns its cluster if that has become FREE by it, else NONE.
    cdef uint32_t give(self, uint32_t slot) noexcept nogil
    # One past the last slot of a cluster.
    cdef uint32_t cluster_end(self, uint32_t cluster) noexcept nogil
    # True if the next take begins another cluster.
    cdef bint at_cluster_end(self) noexcept nogil
    # More slots behind those that there are. MemoryError, and nothing has changed.
    cdef int grow(self, uint32_t slots) except -1
    # Fewer: whole clusters go from the end, as long as none of their slots is in use and `least` remain.
    cdef void cut(self, uint32_t least) noexcept nogil
    cdef uint64_t metadata_bytes(self) noexcept nogil
    cdef bint _is_full(self, uint32_t cluster) noexcept nogil
    cdef void _file(self, uint32_t cluster, ClusterState state) noexcept nogil
    cdef uint32_t _scan(self, uint32_t first, uint32_t n, uint32_t *slots) noexcept nogil
    cdef uint32_t _next_cluster(self) noexcept nogil
    cpdef object check(self)
