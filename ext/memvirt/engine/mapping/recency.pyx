"""Who goes next: of all pages of a host, and of the pages of one VM that has a limit.

The host's order has every guest frame that may go. It knows nothing of VMs, so a VM that must make room among its own
pages could not ask it. Such a VM has an order of its own, of the same kind: as in Linux, where each memory cgroup has its
own lists (struct lruvec). A page that it pays for is in both. What happens to the page is told to both; an accessed mark
in a page table is one, so whoever clears it tells the other.

    no limit, or one that all its pages fit below      no order of its own: nothing is kept, nothing is told
    a limit that it can reach                          from then on, with the pages it has, the coldest first
    no limit any more, or the VM ends                  gone, with what it knew

A page that was given up lazily is in no order, until it is written: it goes before any that an order names (lazylist).

In an order of its own, ids are numbers given out one by one, as many as the VM has pages: a VM pays only for what it maps.
They are kept beside the frame, so that a page that is moved is not renamed. Keys are the VM's page numbers. A page that
goes away while it is out leaves its key behind until another page goes out from there; nothing comes back by it.

The order plans with the limit that it was made for. The host is charged nothing for it: a kernel has one list where this
has two, one of the cgroup instead of one of all.

Invariants: a frame in the host's order is in that of who pays for it, if there is one; nowhere else. A frame in an order is
in no list of lazily freed pages (check).
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from ..memory.frames cimport FRAME_LAZY, FRAME_ORDERED, FRAME_PINNED, FRAME_ZERO, Frame
from ..replacement.registry cimport make_order
from .ages cimport AGES
from .lazylist cimport LazyList
from .leaf cimport PTE_PRESENT, PTE_WHERE, Look
from .rmap cimport Walk

from memvirt.errors import InvariantError


cdef class Recency:
    """The orders of one host; `order` is that of all its pages."""

    def __cinit__(self, Order order not None, Frames frames not None, Leaves leaves not None, ReverseMap rmap not None,
                  Ages ages not None):
        self.order = order
        self.frames = frames
        self.leaves = leaves
        self.rmap = rmap
        self.ages = ages
        self.lazies = LazyList(frames.nr_frames)
        self._kept = {}
        memset(self.own, 0, sizeof(self.own))

    def __dealloc__(self):
        cdef uint32_t vm
        free(self._id_of)
        for vm in range(MAX_VMS):
            self._release(&self.own[vm])

    cdef void set_recipe(self, str name, dict options, object seed):
        """What the orders of VMs are made of: that of which the host's is."""
        self._recipe = (name, options, seed)

    # ---- what happens to a page

    cdef int enter(self, hfn_t frame, uint32_t key, gfn_t gfn) except -1 nogil:
        cdef Frame *record = &self.frames.frame[frame]
        if record.flags & (FRAME_ORDERED | FRAME_PINNED | FRAME_ZERO):
            return 0
        record.flags |= FRAME_ORDERED
        return self.insert(frame, key, gfn)

    cdef int leave(self, hfn_t frame) except -1 nogil:
        cdef Frame *record = &self.frames.frame[frame]
        if record.flags & FRAME_LAZY:
            record.flags &= ~FRAME_LAZY
            self.lazies.remove(frame, record.charge)
            self.lazies.released += 1
        if not record.flags & FRAME_ORDERED:
            return 0
        record.flags &= ~FRAME_ORDERED
        return self.forget(frame)

    cdef int give_up(self, hfn_t frame) except -1 nogil:
        cdef Frame *record = &self.frames.frame[frame]
        assert record.flags & FRAME_ORDERED
        self.lazies.add(frame, record.charge)       # what may fail comes first
        self.leave(frame)
        record.flags |= FRAME_LAZY
        self.lazies.marked += 1
        return 0

    cdef int keep(self, hfn_t frame) except -1 nogil:
        cdef Frame *record = &self.frames.frame[frame]
        if not record.flags & FRAME_LAZY:
            return 0
        record.flags &= ~FRAME_LAZY
        self.lazies.remove(frame, record.charge)
        self.lazies.kept += 1
        return self.enter(frame, NONE, NONE)

    cdef gfn_t page_of(self, hfn_t frame) noexcept nogil:
        cdef vmid_t vm = self.frames.frame[frame].charge
        cdef gfn_t lowest = NONE
        cdef Walk walk
        cdef Look at
        if not self.has_own(vm):
            return NONE
        self.rmap.walk(frame, &walk)
        while True:
            if walk.gfn < lowest and self.leaves.look(vm, walk.gfn, &at) and at.id == walk.id:
                lowest = walk.gfn
            if not self.rmap.next(&walk):
                return lowest

    cdef int take(self, hfn_t frame, uint32_t key, gfn_t gfn) except -1 nogil:
        """The frame goes, and leaves the key behind, in the order of its VM the page."""
        cdef vmid_t vm = self.frames.frame[frame].charge
        cdef Own *own
        cdef uint32_t id
        self.order.take(frame, key)
        if not self.has_own(vm):
            return 0
        own = &self.own[vm]
        id = self._id_of[frame]
        if gfn != NONE:
            if own.left[gfn]:
                (<Order>own.order).forget_key(gfn)
            own.left[gfn] = True
        (<Order>own.order).take(id, gfn)
        self._id_of[frame] = NONE
        own.spare[own.nr_spare] = id
        own.nr_spare += 1
        return 0

    cdef int rename(self, hfn_t frame, hfn_t new) except -1 nogil:
        if self.frames.frame[new].flags & FRAME_LAZY:
            self.lazies.rename(frame, new)
        if not self.frames.frame[new].flags & FRAME_ORDERED:
            return 0
        self.order.rename(frame, new)
        if self.has_own(self.frames.frame[new].charge):
            self._id_of[new] = self._id_of[frame]
            self._id_of[frame] = NONE
            self.own[self.frames.frame[new].charge].frame_of[self._id_of[new]] = new
        return 0

    cdef int join(self, hfn_t frame, gfn_t gfn) except -1 nogil:
        cdef vmid_t vm = self.frames.frame[frame].charge
        cdef Own *own
        cdef uint32_t id
        if not self.has_own(vm):
            return 0
        own = &self.own[vm]
        assert own.nr_spare > 0 and self._id_of[frame] == NONE
        own.nr_spare -= 1
        id = own.spare[own.nr_spare]
        own.frame_of[id] = frame
        self._id_of[frame] = id
        if gfn != NONE:
            own.left[gfn] = False
        return (<Order>own.order).insert(id, gfn)

    cdef int part(self, hfn_t frame) except -1 nogil:
        cdef vmid_t vm = self.frames.frame[frame].charge
        cdef Own *own
        if not self.has_own(vm):
            return 0
        own = &self.own[vm]
        (<Order>own.order).forget(self._id_of[frame])
        own.spare[own.nr_spare] = self._id_of[frame]
        own.nr_spare += 1
        self._id_of[frame] = NONE
        return 0

    cdef int touch_own(self, hfn_t frame) except -1 nogil:
        if not self.has_own(self.frames.frame[frame].charge):
            return 0
        return (<Order>self.own[self.frames.frame[frame].charge].order).touch(self._id_of[frame])

    cdef int spare_own(self, hfn_t frame) except -1 nogil:
        if not self.has_own(self.frames.frame[frame].charge):
            return 0
        return (<Order>self.own[self.frames.frame[frame].charge].order).spare(self._id_of[frame])

    cdef bint thrashes(self, vmid_t vm, gfn_t gfn, uint32_t key) noexcept nogil:
        """The page that comes back for this VM was active. Who has an order of its own knows that of its own pages."""
        if self.has_own(vm):
            return (<Order>self.own[vm].order).thrashes(gfn)
        return self.order.thrashes(key)

    # ---- orders of VMs

    cdef Order order_of(self, vmid_t vm):
        """Its own order, or None."""
        return self._kept.get(vm)

    cdef int begin(self, vmid_t vm, uint32_t nr_pages, uint32_t capacity) except -1:
        """The VM has an order of its own, if it has none yet. What may fail comes first."""
        cdef Own *own = &self.own[vm]
        cdef uint32_t i
        cdef Order order
        if own.order != NULL:
            return 0
        name, options, seed = self._recipe
        order = make_order(name, nr_pages, capacity, nr_pages, options, seed)
        if self._id_of == NULL:
            self._id_of = <uint32_t *>malloc(<size_t>self.frames.nr_frames * sizeof(uint32_t))
            if self._id_of == NULL:
                raise MemoryError("orders of VMs")
            memset(self._id_of, 0xFF, <size_t>self.frames.nr_frames * sizeof(uint32_t))
        own.frame_of = <uint32_t *>malloc(<size_t>nr_pages * sizeof(uint32_t))
        own.spare = <uint32_t *>malloc(<size_t>nr_pages * sizeof(uint32_t))
        own.left = <uint8_t *>calloc(nr_pages, 1)
        if own.frame_of == NULL or own.spare == NULL or own.left == NULL:
            self._release(own)
            raise MemoryError("the order of a VM")
        for i in range(nr_pages):
            own.spare[i] = nr_pages - 1 - i
        own.nr_spare = own.ids = nr_pages
        self._kept[vm] = order
        own.order = <void *>order
        self.nr_own += 1
        return self._take_in(vm, nr_pages)

    cdef int _take_in(self, vmid_t vm, uint32_t nr_pages) except -1:
        """The pages that it has, the coldest first as far as harvests know, those of one age by address."""
        cdef uint32_t of_age[AGES]
        cdef uint32_t age
        cdef gfn_t gfn
        cdef hfn_t frame
        memset(of_age, 0, sizeof(of_age))
        for gfn in range(nr_pages):
            frame = self._frame_at(vm, gfn)
            if frame != NONE:
                of_age[self.ages.idle(frame)] += 1
        for age in range(AGES - 1, -1, -1):
            for gfn in range(nr_pages if of_age[age] else 0):
                frame = self._frame_at(vm, gfn)
                if frame != NONE and self.ages.idle(frame) == age and self._id_of[frame] == NONE:
                    self.join(frame, NONE)
        return 0

    cdef hfn_t _frame_at(self, vmid_t vm, gfn_t gfn) noexcept nogil:
        """The frame at this page, if the VM pays for it and it may go."""
        cdef Look at
        cdef Frame *record
        self.leaves.look(vm, gfn, &at)
        if not at.entry & PTE_PRESENT:
            return NONE
        record = &self.frames.frame[at.entry & PTE_WHERE]
        return at.entry & PTE_WHERE if record.charge == vm and record.flags & FRAME_ORDERED else NONE

    cdef int end(self, vmid_t vm) except -1:
        """The VM has no order of its own any more."""
        cdef Own *own = &self.own[vm]
        cdef uint32_t id
        if own.order == NULL:
            return 0
        for id in range(own.ids):
            if (<Order>own.order).holds(id):
                self._id_of[own.frame_of[id]] = NONE
        self._release(own)
        self.nr_own -= 1
        del self._kept[vm]
        return 0

    cdef void _release(self, Own *own) noexcept:
        free(own.frame_of)
        free(own.spare)
        free(own.left)
        memset(own, 0, sizeof(Own))

    cdef int forget_history(self, vmid_t vm) except -1 nogil:
        """Its memory becomes another: what was out is not what will come back."""
        cdef gfn_t gfn
        if self.has_own(vm):
            for gfn in range(self.own[vm].ids):
                if self.own[vm].left[gfn]:
                    self.own[vm].left[gfn] = False
                    (<Order>self.own[vm].order).forget_key(gfn)
        return 0

    cpdef object check(self):
        """Recount who is in which order. Raises InvariantError."""
        cdef hfn_t frame
        cdef Frame *record
        cdef uint32_t id
        self.order.check()
        self.lazies.check()
        counted = dict.fromkeys(self._kept, 0)
        for frame in range(self.frames.nr_frames if self._id_of != NULL else 0):
            record = &self.frames.frame[frame]
            id = self._id_of[frame]
            if not frame & 0xFFF:                   # a recount may stop anywhere
                PyErr_CheckSignals()
            if not record.flags & FRAME_ORDERED or not self.has_own(record.charge):
                if id != NONE:
                    raise InvariantError(f"frame {frame}: number {id} in the order of a VM that does not pay for it")
                continue
            if (id >= self.own[record.charge].ids or self.own[record.charge].frame_of[id] != frame
                    or not (<Order>self.own[record.charge].order).holds(id)):
                raise InvariantError(f"frame {frame}: not in the order of VM {record.charge}, as number {id}")
            counted[record.charge] += 1
        if len(self._kept) != self.nr_own:
            raise InvariantError(f"{self.nr_own} VMs have orders of their own, {len(self._kept)} are kept")
        for vm, order in self._kept.items():
            order.check()
            if order.nr_resident != counted[vm] or self.own[<vmid_t>vm].ids - self.own[<vmid_t>vm].nr_spare != counted[vm]:
                raise InvariantError(f"VM {vm}: its order has {order.nr_resident} pages, "
                                     f"{self.own[<vmid_t>vm].nr_spare} of {self.own[<vmid_t>vm].ids} ids are spare, "
                                     f"{counted[vm]} frames are in it")
