"""Which slots of a swap area are taken, and which come next.

Slots are found by cluster, as Linux's swap allocator does (SWAPFILE_CLUSTER, 512 slots with huge-page swap): a cluster
is filled from its first slot to its last, so that pages evicted together are written, and read again, by one call.
Each cluster is in one of four states:

    FREE ──► CURRENT ──► PARTIAL ◄──► FULL        the CURRENT one is left at its end: FULL, or PARTIAL or FREE if
      ▲                    │           │          slots were given back behind the cursor meanwhile
      └────────────────────┴───────────┘          the last slot given back: FREE

The next one is the head of the free list; without any, the head of the partial list. Both are first in, first out: no
slot depends on anything but the order of the calls. A take looks at each slot of a cluster once per visit, and every
cluster visited has a free slot, so the cost per slot is constant.

Invariants: the bits set = nr_used = the sum of the clusters' `used`; exactly the FREE clusters are on the free list and
the PARTIAL ones on the partial list; at most one is CURRENT.
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from ..types cimport NONE

from memvirt.errors import InvariantError


cdef class Slots:
    """nr_slots slots, none of them taken, in clusters of cluster_slots."""

    def __cinit__(self, uint32_t nr_slots, uint32_t cluster_slots):
        cdef uint32_t i
        self.nr_slots = nr_slots
        self.cluster_slots = cluster_slots
        self.nr_clusters = (nr_slots - 1) // cluster_slots + 1
        self._used = <uint64_t *>calloc((<size_t>nr_slots + 63) // 64, sizeof(uint64_t))
        self._cluster = <Cluster *>calloc(self.nr_clusters, sizeof(Cluster))
        if self._used == NULL or self._cluster == NULL:
            raise MemoryError(f"the map of {nr_slots} swap slots")
        self._free.head = self._free.tail = self._partial.head = self._partial.tail = self._current = NONE
        for i in range(self.nr_clusters):
            append(self._cluster, &self._free, i)

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
        if self._cluster[last].state == CLUSTER_FULL:   # it may have been cut short by the end
            self.file_cluster(last)
        for i in range(last + 1, clusters):
            self._cluster[i].used = 0
            self.file_cluster(i)
        return 0

    cdef void cut(self, uint32_t least) noexcept nogil:
        cdef uint32_t last = self.nr_clusters - 1
        while last > 0 and self._cluster[last].used == 0 and last * self.cluster_slots >= least:
            if self._cluster[last].state == CLUSTER_CURRENT:
                self._current = NONE
            else:
                remove(self._cluster, &self._free, last)
            self.nr_clusters = last
            self.nr_slots = last * self.cluster_slots
            last -= 1

    cdef uint32_t cluster_end(self, uint32_t cluster) noexcept nogil:
        return <uint32_t>min(<uint64_t>self.nr_slots, (<uint64_t>cluster + 1) * self.cluster_slots)

    cdef bint at_cluster_end(self) noexcept nogil:
        return self._current == NONE or self._next == self.cluster_end(self._current)

    cdef void file_cluster(self, uint32_t cluster) noexcept nogil:
        """Put a cluster that is on no list where its count says."""
        cdef Cluster *entry = &self._cluster[cluster]
        if entry.used == 0:
            entry.state = CLUSTER_FREE
            append(self._cluster, &self._free, cluster)
        elif entry.used < self.cluster_end(cluster) - cluster * self.cluster_slots:
            entry.state = CLUSTER_PARTIAL
            append(self._cluster, &self._partial, cluster)
        else:
            entry.state = CLUSTER_FULL

    cdef uint32_t next_cluster(self) noexcept nogil:
        """Leave the current cluster for the next that has a free slot. There must be one. Returns the one that was left if
        it is free, else NONE."""
        cdef ClusterList *source
        cdef uint32_t left = self._current
        if left != NONE:
            self.file_cluster(left)
        source = &self._free if self._free.head != NONE else &self._partial
        self._current = source.head
        assert self._current != NONE
        remove(self._cluster, source, self._current)
        self._cluster[self._current].state = CLUSTER_CURRENT
        self._next = self._current * self.cluster_slots
        return left if left != NONE and self._cluster[left].used == 0 else NONE

    cdef uint32_t take(self, uint32_t n, uint32_t *slots, uint32_t *freed) noexcept nogil:
        cdef uint32_t got = 0, end
        freed[0] = NONE
        while got == 0 and self.nr_used < self.nr_slots:
            if self.at_cluster_end():
                freed[0] = self.next_cluster()
            end = self.cluster_end(self._current)
            while got < n and self._next < end:
                if not (self._used[self._next >> 6] >> (self._next & 63)) & 1:
                    self._used[self._next >> 6] |= <uint64_t>1 << (self._next & 63)
                    slots[got] = self._next
                    got += 1
                self._next += 1
            self._cluster[self._current].used += got
            self.nr_used += got
        return got

    cdef uint32_t give(self, uint32_t slot) noexcept nogil:
        cdef uint32_t cluster = slot // self.cluster_slots
        cdef Cluster *entry
        entry = &self._cluster[cluster]
        self._used[slot >> 6] &= ~(<uint64_t>1 << (slot & 63))
        self.nr_used -= 1
        entry.used -= 1
        if entry.state == CLUSTER_CURRENT:
            return NONE
        if entry.state == CLUSTER_PARTIAL:
            if entry.used > 0:
                return NONE
            remove(self._cluster, &self._partial, cluster)
        self.file_cluster(cluster)
        return cluster if entry.used == 0 else NONE

    cpdef object check(self):
        """Recount slots and clusters from the bits. Raises InvariantError on the first difference."""
        cdef uint32_t i, slot, used, size, total = 0
        on_free, on_partial = members(self._cluster, self._free), members(self._cluster, self._partial)
        for i in range(self.nr_clusters):
            used = 0
            for slot in range(i * self.cluster_slots, self.cluster_end(i)):
                used += self.in_use(slot)
            total += used
            size = self.cluster_end(i) - i * self.cluster_slots
            if used != self._cluster[i].used:
                raise InvariantError(f"swap cluster {i}: {used} slots in use, {self._cluster[i].used} counted")
            if self._cluster[i].state == CLUSTER_CURRENT:
                expected = CLUSTER_CURRENT if i == self._current else None
            else:
                expected = CLUSTER_FREE if used == 0 else CLUSTER_FULL if used == size else CLUSTER_PARTIAL
            if self._cluster[i].state != expected:
                raise InvariantError(f"swap cluster {i}: state {self._cluster[i].state} with {used} of {size} in use")
            if (i in on_free) != (expected == CLUSTER_FREE) or (i in on_partial) != (expected == CLUSTER_PARTIAL):
                raise InvariantError(f"swap cluster {i}: state {expected} and its list differ")
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
