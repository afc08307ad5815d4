"""Which slots of a swap area are taken, and which come next: as Linux 6.18 chooses them (mm/swapfile.c).

Slots are found by cluster (SWAPFILE_CLUSTER, 512 slots with huge-page swap). A cluster is looked through once, from its
first slot to its last, so that pages evicted together lie together where there is room for them. Each cluster is in one
of four states, and those that have room are on a list of that name, first in, first out:

    FREE      no slot is used
    NONFULL   a slot has come back since one was last taken: worth looking through again
    FRAG      taken from last: what is free in it lies where nobody has looked since, and is few
    FULL      on no list

    take: the cluster becomes FRAG, or FULL (relocate_cluster)      give: it becomes NONFULL, or FREE (partial_free_cluster)

The cursor is the slot after the last one taken, if that lies in its cluster and this is not full. A take goes on from
there; in a cluster that has become free, from its beginning. Where nothing is left behind the cursor, the next cluster is
the oldest NONFULL one, else the oldest FREE one, else the oldest FRAG one (cluster_alloc_swap_entry). So the used part of
the area stays small, and pages that are written again fill holes: what went out together comes to lie apart. Where free
clusters are discarded, free ones come first, and so they did on all devices until 6.17 ("mm, swap: prefer nonfull over free
clusters"). A kernel has a cursor for each processor (one for all on a device that rotates); there is one here.

No slot depends on anything but the order of the calls. A take looks at each slot of a cluster once per visit, and every
cluster visited from its beginning has a free slot.

Invariants: the bits set = nr_used = the sum of the clusters' `used`; a cluster is on the list of its state.
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from ..types cimport NONE

from memvirt.errors import InvariantError


cdef class Slots:
    """nr_slots slots, none of them taken, in clusters of cluster_slots. free_first: free clusters come before those that
    are partly used."""

    def __cinit__(self, uint32_t nr_slots, uint32_t cluster_slots, bint free_first=False):
        cdef uint32_t i
        self.nr_slots = nr_slots
        self.cluster_slots = cluster_slots
        self.nr_clusters = (nr_slots - 1) // cluster_slots + 1
        self.free_first = free_first
        self._used = <uint64_t *>calloc((<size_t>nr_slots + 63) // 64, sizeof(uint64_t))
        self._cluster = <Cluster *>calloc(self.nr_clusters, sizeof(Cluster))
        if self._used == NULL or self._cluster == NULL:
            raise MemoryError(f"the map of {nr_slots} swap slots")
        for i in range(NR_CLUSTER_LISTS):
            self._list[i].head = self._list[i].tail = NONE
        self._next = NONE
        for i in range(self.nr_clusters):
            append(self._cluster, &self._list[<int>CLUSTER_FREE], i)

    def __dealloc__(self):
        free(self._used)
        free(self._cluster)

    cdef uint64_t metadata_bytes(self) noexcept nogil:
        return (<uint64_t>self.nr_slots + 63) // 64 * 8 + self.nr_clusters * <uint64_t>sizeof(Cluster)

    cdef int grow(self, uint32_t slots) except -1:
        cdef uint64_t words = (<uint64_t>self.nr_slots + 63) // 64, wanted = (<uint64_t>self.nr_slots + slots + 63) // 64
        cdef uint32_t i, last = self.nr_clusters - 1
        cdef uint32_t clusters = (self.nr_slots + slots - 1) // self.cluster_slots + 1
        cdef void *used = realloc(self._used, wanted * sizeof(uint64_t))
        cdef void *cluster
        if used != NULL:
            self._used = <uint64_t *>used
            cluster = realloc(self._cluster, clusters * sizeof(Cluster))
        if used == NULL or cluster == NULL:
            raise MemoryError(f"the map of {self.nr_slots} swap slots and {slots} more")
        self._cluster = <Cluster *>cluster
        memset(self._used + words, 0, (wanted - words) * sizeof(uint64_t))
        self.nr_slots += slots
        self.nr_clusters = clusters
        if self._cluster[last].state == CLUSTER_FULL and not self._is_full(last):   # it was cut short by the end
            self._file(last, CLUSTER_FRAG)
        for i in range(last + 1, clusters):
            self._cluster[i].used = 0
            self._cluster[i].state = CLUSTER_FREE
            append(self._cluster, &self._list[<int>CLUSTER_FREE], i)
        return 0

    cdef void cut(self, uint32_t least) noexcept nogil:
        cdef uint32_t last = self.nr_clusters - 1
        while last > 0 and self._cluster[last].used == 0 and last * self.cluster_slots >= least:
            remove(self._cluster, &self._list[<int>CLUSTER_FREE], last)
            if self._next != NONE and self._next // self.cluster_slots == last:
                self._next = NONE
            self.nr_clusters = last
            self.nr_slots = last * self.cluster_slots
            last -= 1

    cdef uint32_t cluster_end(self, uint32_t cluster) noexcept nogil:
        return <uint32_t>min(<uint64_t>self.nr_slots, (<uint64_t>cluster + 1) * self.cluster_slots)

    cdef bint at_cluster_end(self) noexcept nogil:
        return self._next == NONE

    cdef bint _is_full(self, uint32_t cluster) noexcept nogil:
        return self._cluster[cluster].used == self.cluster_end(cluster) - cluster * self.cluster_slots

    cdef void _file(self, uint32_t cluster, ClusterState state) noexcept nogil:
        """Put a cluster at the end of the list of a state, unless it is on that."""
        cdef Cluster *entry = &self._cluster[cluster]
        if entry.state == state:
            return
        if entry.state != CLUSTER_FULL:
            remove(self._cluster, &self._list[entry.state], cluster)
        entry.state = state
        if state != CLUSTER_FULL:
            append(self._cluster, &self._list[<int>state], cluster)

    cdef uint32_t _scan(self, uint32_t first, uint32_t n, uint32_t *slots) noexcept nogil:
        """Up to n free slots from `first` to the end of its cluster are taken; 0 if there is none."""
        cdef uint32_t cluster = first // self.cluster_slots, end = self.cluster_end(cluster), got = 0
        while got < n and first < end:
            if not (self._used[first >> 6] >> (first & 63)) & 1:
                self._used[first >> 6] |= <uint64_t>1 << (first & 63)
                slots[got] = first
                got += 1
            first += 1
        self._cluster[cluster].used += got
        self.nr_used += got
        self._next = NONE if got == 0 or first == end or self._is_full(cluster) else first
        self._file(cluster, CLUSTER_FULL if self._is_full(cluster) else CLUSTER_FRAG)
        return got

    cdef uint32_t _next_cluster(self) noexcept nogil:
        """The cluster to look through next. There is one with a free slot."""
        cdef uint32_t cluster = self._list[<int>CLUSTER_FREE if self.free_first else <int>CLUSTER_NONFULL].head
        if cluster == NONE:
            cluster = self._list[<int>CLUSTER_NONFULL if self.free_first else <int>CLUSTER_FREE].head
        return cluster if cluster != NONE else self._list[<int>CLUSTER_FRAG].head

    cdef uint32_t take(self, uint32_t n, uint32_t *slots) noexcept nogil:
        cdef uint32_t got = 0, cluster
        if n == 0 or self.nr_used == self.nr_slots:
            return 0
        if self._next != NONE:
            cluster = self._next // self.cluster_slots
            got = self._scan(self._next if self._cluster[cluster].used else cluster * self.cluster_slots, n, slots)
        if got == 0:
            cluster = self._next_cluster()
            if self._cluster[cluster].state == CLUSTER_FRAG:    # to the end of that list, as who is taken from it
                remove(self._cluster, &self._list[<int>CLUSTER_FRAG], cluster)
                append(self._cluster, &self._list[<int>CLUSTER_FRAG], cluster)
            got = self._scan(cluster * self.cluster_slots, n, slots)
        return got

    cdef uint32_t give(self, uint32_t slot) noexcept nogil:
        cdef uint32_t cluster = slot // self.cluster_slots
        self._used[slot >> 6] &= ~(<uint64_t>1 << (slot & 63))
        self.nr_used -= 1
        self._cluster[cluster].used -= 1
        if self._cluster[cluster].used:
            self._file(cluster, CLUSTER_NONFULL)
            return NONE
        self._file(cluster, CLUSTER_FREE)
        return cluster

    cpdef object check(self):
        """Recount slots and clusters from the bits. Raises InvariantError on the first difference."""
        cdef uint32_t i, slot, used, size, total = 0
        listed = [members(self._cluster, self._list[i]) for i in range(NR_CLUSTER_LISTS)]
        for i in range(self.nr_clusters):
            used = 0
            for slot in range(i * self.cluster_slots, self.cluster_end(i)):
                used += self.in_use(slot)
            total += used
            size = self.cluster_end(i) - i * self.cluster_slots
            if used != self._cluster[i].used:
                raise InvariantError(f"swap cluster {i}: {used} slots in use, {self._cluster[i].used} counted")
            state = self._cluster[i].state
            if (used == 0) != (state == CLUSTER_FREE) or (used == size) != (state == CLUSTER_FULL):
                raise InvariantError(f"swap cluster {i}: state {state} with {used} of {size} in use")
            if [i in each for each in listed] != [state == each for each in range(NR_CLUSTER_LISTS)]:
                raise InvariantError(f"swap cluster {i}: state {state} and its list differ")
        if total != self.nr_used:
            raise InvariantError(f"swap: {total} slots in use, {self.nr_used} counted")


cdef void append(Cluster *cluster, ClusterList *target, uint32_t i) noexcept nogil:
    cluster[i].prev, cluster[i].next = target.tail, NONE
    if target.tail == NONE:
        target.head = i
    else:
        cluster[target.tail].next = i
    target.tail = i


cdef void remove(Cluster *cluster, ClusterList *source, uint32_t i) noexcept nogil:
    if cluster[i].prev == NONE:
        source.head = cluster[i].next
    else:
        cluster[cluster[i].prev].next = cluster[i].next
    if cluster[i].next == NONE:
        source.tail = cluster[i].prev
    else:
        cluster[cluster[i].next].prev = cluster[i].prev


cdef set members(Cluster *cluster, ClusterList source):
    """The clusters on a list; InvariantError if its links disagree or it does not end."""
    cdef uint32_t i = source.head, prev = NONE
    found = set()
    while i != NONE:
        if i in found or cluster[i].prev != prev:
            raise InvariantError(f"swap cluster {i}: its list is broken")
        found.add(i)
        prev, i = i, cluster[i].next
    if source.tail != prev:
        raise InvariantError(f"swap cluster {prev} ends its list, {source.tail} is named as its end")
    return found
