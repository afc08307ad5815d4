"""Two lists: Linux's active and inactive list, with refault distance (mm/vmscan.c, mm/workingset.c, Linux 6.18).

    fault, far or no history --> inactive --accessed twice--> active
    fault, near history -------------------------------------> active
    inactive, not accessed --> out, leaving a shadow           active --deactivated, mark cleared--> inactive

Accessed marks are looked at when a page reaches the old end of the inactive list: the first one makes the page
*referenced* and sends it around, a second one activates it. A page stays referenced when it is activated and when it is
deactivated: one mark brings it back (folio_check_references). The active list is not asked. Its oldest pages are
deactivated, their marks in the page tables cleared (shrink_active_list calls folio_referenced), so that a mark found on
the inactive list is younger than that. Who has tables passes them to `choose` for this.

Rounds. A call of the kernel's reclaim is a round here. Priority falls from 12 to 0, until 32 pages have gone. In each
as many pages of a list are due as (its size >> priority) * 89 / 508, at 0 all of them. (get_scan_count, in whole
numbers: swappiness 60, nothing on the file lists, and a cost of anonymous pages that has long grown.) They are looked
at in batches of 32, an inactive one and an active one in turn, until 32 have gone in this priority: what went in those
before is not counted (shrink_lruvec). The active one is deactivated if inactive is low (inactive * ratio < active, with
ratio = int_sqrt(10 * GiB) and at least 1), or if refaults have activated pages since the round before began: then the
active pages compete with those that came back, however many they are. After a priority 32 more are deactivated if
inactive is low.

A batch that has begun is looked at to its end, so more than 32 pages may go. Who evicts as the kernel does asks
goes_on() when it has what it wants; in that is also what a round does after its last page. Others (one page at a time)
have rounds that last from fault to fault. Where the kernel kills a process, for there is nothing on the inactive list
and its statistics do not say so, pages are deactivated here.

New pages wait, up to 31 of them, before they are put on the lists: at the latest when reclaim looks at these. They are
on their list here, but until then not counted in its size (folio_add_lru, lru_add_drain).

Refault distance. `age` counts evictions and activations: both move inactive pages one slot towards their end. A shadow
holds the age at eviction, so at the refault

    distance = (age now - age at eviction) & mask

is how many more slots the inactive list would have needed to keep the page. If that is at most what the active pages
hold, the page deserved their memory more than the coldest of them, and it is activated at once. If it had been active
before it went, memory thrashes: that is what the kernel counts as pressure. Linux compares with
all lists that compete; here all pages are of one kind (anonymous, swap available), whose competitor is the active
list alone. The pages of a guest are anonymous memory to its host.

Statistics. Whether inactive is low, what the active pages hold, and whether refaults have activated pages the kernel
reads from counters that are up to 2 s old (mem_cgroup_flush_stats), unless somebody reads memory.stat meanwhile. Option
`stats_ns` is their age, told in time by pass_time(); 0, or an order that is never told the time, decides by exact ones.

9 bytes per id, 4 per key.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free

from ..types cimport NONE, PAGE_SHIFT, int64_t, uint8_t, uint32_t, uint64_t
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check, links_make,
    links_oldest, links_push, links_renew,
)
from .order cimport Marks, Order

from memvirt.errors import InvariantError

cdef enum:
    RESIDENT = 1
    ACTIVE = 2
    ACCESSED = 4                        # the page table entry's mark
    REFERENCED = 8                      # the page's own: one mark was seen and cleared
    WORKINGSET = 16                     # it was active before (PG_workingset)
    AGE_MASK = 0x3FFFFFFF               # leaves room for the two that follow
    WAS_ACTIVE = 0x40000000             # of a shadow: the page had WORKINGSET
    EVICTED = 0x80000000                # of every shadow; 0: there is none. Keys that are never used take no memory
    INACTIVE_LIST = 0
    ACTIVE_LIST = 1
    DEF_PRIORITY = 12
    CLUSTER = 32                        # SWAP_CLUSTER_MAX: pages of a batch, and pages that a round is to evict
    ADD_BATCH = 31                      # PAGEVEC_SIZE: new pages that a processor puts on the lists at once
    SHARE = 89                          # of ALL: swappiness 60, the cost of anonymous pages alone having grown
    ALL = 508


@cython.final
cdef class TwoList(Order):
    """Order `twolist`. stats_ns: how old statistics may be. nr_active, age, nr_refaults, nr_activated, nr_restored,
    nr_deactivated can be read."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, int64_t stats_ns=0):
        self._links = links_make(self.ids, 2)
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._shadow = <uint32_t *>calloc(<size_t>self.keys + 1, sizeof(uint32_t))
        if self._links == NULL or self._state == NULL or self._shadow == NULL:
            raise MemoryError(f"twolist: no memory for {self.ids} ids and {self.keys} keys")
        self._met = NONE
        self._stats_ns = stats_ns
        self._period = -1
        self._over = True

    def __dealloc__(self):
        free(self._links)
        free(self._state)
        free(self._shadow)

    def metadata_bytes(self):
        return (self.ids + <uint64_t>2) * sizeof(Link) + self.ids + (self.keys + <uint64_t>1) * 4

    cdef void pass_time(self, int64_t now) noexcept nogil:
        """Statistics are as they were when their period of `stats_ns` was first seen to have begun."""
        cdef int64_t period
        if self._stats_ns == 0:
            return
        period = now // self._stats_ns
        if period != self._period:
            self._period = -1
            self._flushed = self._statistics()
            self._period = period

    cdef Sizes _statistics(self) noexcept nogil:
        cdef Sizes now
        if self._period >= 0:
            return self._flushed
        now.inactive = self._listed(INACTIVE_LIST)
        now.active = self._listed(ACTIVE_LIST)
        now.activated = self.nr_activated
        return now

    cdef bint _inactive_is_low(self) noexcept nogil:
        cdef Sizes now = self._statistics()
        cdef uint64_t gib = (<uint64_t>now.inactive + now.active) >> (30 - PAGE_SHIFT), ratio = 1
        while gib and (ratio + 1) * (ratio + 1) <= 10 * gib:
            ratio += 1
        return now.inactive * ratio < now.active

    cdef void _grow_older(self) noexcept nogil:
        self.age = (self.age + 1) & AGE_MASK

    cdef void _move(self, uint32_t id, uint32_t list_, uint8_t state) noexcept nogil:
        """To the new end of a list, in a new state."""
        self.nr_active += (state & ACTIVE != 0) - (self._state[id] & ACTIVE != 0)
        self._state[id] = state
        links_renew(self._links, list_, id)

    cdef bint _near(self, uint32_t shadow) noexcept nogil:
        return ((self.age - shadow) & AGE_MASK) <= self._statistics().active

    cdef bint thrashes(self, uint32_t key) noexcept nogil:
        if key >= self.keys or not self._shadow[key] & WAS_ACTIVE:
            return False
        return self._near(self._shadow[key])

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        cdef bint near = False
        cdef uint8_t state = RESIDENT
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if key < self.keys and self._shadow[key]:
            near = self._near(self._shadow[key])
            if near:
                state = RESIDENT | ACTIVE | (WORKINGSET if self._shadow[key] & WAS_ACTIVE else 0)
            self._shadow[key] = 0
            self.nr_refaults += 1
            self.nr_activated += near
            self.nr_restored += state & WORKINGSET != 0
        if near:
            self._grow_older()
            self.nr_active += 1
        self._state[id] = state
        links_push(self._links, self.ids + near, id)
        self.nr_resident += 1
        self._waiting[near] += 1
        if self._waiting[INACTIVE_LIST] + self._waiting[ACTIVE_LIST] == ADD_BATCH:
            self._put_on_lists()
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._state[id] |= ACCESSED
        return 0

    # ---- rounds

    cdef uint32_t _listed(self, uint32_t list_) noexcept nogil:
        cdef uint32_t pages = self.nr_active if list_ == ACTIVE_LIST else self.nr_resident - self.nr_active
        return pages - min(pages, self._waiting[list_])

    cdef void _put_on_lists(self) noexcept nogil:
        self._waiting[INACTIVE_LIST] = self._waiting[ACTIVE_LIST] = 0

    cdef void _begin_priority(self) noexcept nogil:
        cdef uint32_t list_
        if self._priority == 0:         # else where all pages wait nothing would ever be due
            self._put_on_lists()
        for list_ in range(2):
            self._due[list_] = self._listed(list_)
            if self._priority:
                self._due[list_] = <uint32_t>(<uint64_t>(self._due[list_] >> self._priority) * SHARE // ALL)
        self._gone_here = 0
        self._may_deactivate = self._statistics().activated != self._began_before or self._inactive_is_low()

    cdef void _begin_round(self) noexcept nogil:
        self._over = False
        self._began_before = self._began
        self._began = self._statistics().activated
        self._gone = 0
        self._priority = DEF_PRIORITY
        self._begin_priority()

    cdef int _begin_batch(self, Marks marks) except -1 nogil:
        """The next inactive batch of this round, or its end: there is none. At that end there is somebody inactive."""
        while self._gone_here >= CLUSTER or self._due[INACTIVE_LIST] == 0 or self.nr_resident == self.nr_active:
            if self._inactive_is_low():
                self._deactivate(CLUSTER, marks)
            if self._gone >= CLUSTER or self._priority == 0:
                if self.nr_resident == self.nr_active:
                    self._deactivate(CLUSTER, marks)
                self._over = True
                return 0
            self._priority -= 1
            self._begin_priority()
        self._batch = min(self._due[INACTIVE_LIST], <uint32_t>CLUSTER)
        self._due[INACTIVE_LIST] -= self._batch
        self._batch = min(self._batch, self.nr_resident - self.nr_active)
        self._put_on_lists()
        return 0

    cdef int _end_batch(self, Marks marks) except -1 nogil:
        """The active batch that goes with the inactive one that has ended."""
        cdef uint32_t active = min(self._due[ACTIVE_LIST], <uint32_t>CLUSTER)
        self._due[ACTIVE_LIST] -= active
        return self._deactivate(active, marks) if self._may_deactivate and active else 0

    cdef int _deactivate(self, uint32_t pages, Marks marks) except -1 nogil:
        cdef uint32_t id
        self._put_on_lists()
        for _ in range(min(pages, self.nr_active)):
            id = links_oldest(self._links, self.ids + ACTIVE_LIST)
            self._move(id, self.ids + INACTIVE_LIST, RESIDENT | WORKINGSET | self._state[id] & REFERENCED)
            self.nr_deactivated += 1
            if marks is not None:
                marks.clear(id)
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        return self._look(None, False)

    cdef uint32_t choose(self, Marks marks) except? 0xFFFFFFFE nogil:
        return self._look(marks, False)

    cdef bint goes_on(self, Marks marks) except? True nogil:
        return self._look(marks, True) != NONE

    cdef uint32_t _look(self, Marks marks, bint in_round) except? 0xFFFFFFFE nogil:
        """Who goes next; NONE: nobody is left, or, if asked for this round, it is over. Ends: a round down to priority 0
        looks at all inactive pages, and clears every mark it meets."""
        cdef uint32_t id
        while self.nr_resident:
            id = self._met
            if id == NONE:
                if self._batch == 0:
                    if not self._over:
                        self._end_batch(marks)
                    elif in_round:
                        return NONE
                    else:
                        self._begin_round()
                    self._begin_batch(marks)
                    continue
                id = self._meet(marks)
                if id == NONE:
                    continue
            if not self._state[id] & ACCESSED:
                self._count_gone(1 - self._named)
                self._named = True
                return id
            self._count_gone(-self._named)
            self._met = NONE
            self._keep(id)
        return NONE

    cdef uint32_t _meet(self, Marks marks) except? 0xFFFFFFFE nogil:
        """The next page of the batch; NONE: it ends early, others have taken what was there."""
        self._met = links_oldest(self._links, self.ids + INACTIVE_LIST)
        self._named = False
        self._batch = 0 if self._met == NONE else self._batch - 1
        if self._met != NONE and self._state[self._met] & ACCESSED and marks is not None:
            marks.clear(self._met)          # who has told of that may have seen it again
        return self._met

    cdef void _count_gone(self, int more) noexcept nogil:
        """A page counts from when it is named on: who writes pages in batches takes it later. One that turns out to have
        been accessed does not."""
        self._gone += more
        self._gone_here += more

    cdef int _keep(self, uint32_t id) except -1 nogil:
        """An accessed page goes around, or becomes active."""
        cdef uint8_t kept = RESIDENT | REFERENCED | self._state[id] & WORKINGSET
        if self._state[id] & REFERENCED:
            self._move(id, self.ids + ACTIVE_LIST, kept | ACTIVE)
            self._grow_older()
        else:
            self._move(id, self.ids + INACTIVE_LIST, kept)
        return 0

    cdef int spare(self, uint32_t id) except -1 nogil:
        """To the new end of the inactive list, where reclaim puts back what it could not free."""
        assert self.holds(id)
        self._move(id, self.ids + INACTIVE_LIST, RESIDENT | self._state[id] & WORKINGSET)
        if id == self._met:
            self._met = NONE
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        if key < self.keys:
            self._shadow[key] = EVICTED | self.age | (WAS_ACTIVE if self._state[id] & WORKINGSET else 0)
        self._grow_older()
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self.nr_active -= self._state[id] & ACTIVE != 0
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
        if id == self._met:
            self._met = NONE
        return 0

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        if key < self.keys:
            self._shadow[key] = 0
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        linked_rename(self._links, self._state, id, new)
        if id == self._met:
            self._met = new
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        linked_prefetch(self._links, self._state, id)

    cpdef object check(self):
        """Compare both lists, the shadows and the counters with the states. Raises InvariantError."""
        cdef uint32_t id, key, active = 0, inactive = 0
        linked_check("twolist", self._links, self._state, self.ids)
        for id in range(self.ids):
            active += self._state[id] & ACTIVE != 0
            inactive += self._state[id] & (RESIDENT | ACTIVE) == RESIDENT
        listed = (links_check("twolist inactive", self._links, self.ids, self.ids),
                  links_check("twolist active", self._links, self.ids, self.ids + 1))
        if listed != (inactive, active) or active != self.nr_active or active + inactive != self.nr_resident:
            raise InvariantError(f"twolist: states count {inactive} + {active}, lists {listed}, "
                                 f"nr_active {self.nr_active} of {self.nr_resident}")
        for key in range(self.keys):
            if self._shadow[key] and not self._shadow[key] & EVICTED:
                raise InvariantError(f"twolist: key {key} has shadow {self._shadow[key]:#x}, which is of no eviction")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef TwoList Self
include "replay.pxi"
