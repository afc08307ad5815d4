"""Faults: name the fault from the entry alone, then one handler each.

    entry                         access    fault
    nothing there                 any       ZERO    a cleared frame (HUGE: a cleared 2 MiB block, where that is wanted);
                                                    ON_WRITE: for a read, the one frame of zeros
    names a backing               any       CACHED  a frame has the bytes already   SAME   recreate   ZPOOL   decompress
                                            SWAP    read
    present, not writable         write     REUSE   nobody else names the frame     COW    copy
    present                       else      NONE    only the translation was missing: a refill

A page that has come back and is nobody else's is writable. Its first write is no fault, and gives up the copy in its slot.
REUSE is what sharing leaves behind: the page was protected for others, of a clone or a merge, that have gone.

A leaf that other VMs hold is copied before the first write below it; that is a step of the fault, not a fault of its own.

A fault is a value, an Access: which page of which VM, read or write, and what the tables say of it. It goes through
steps until its entry serves it. Each step does three things. *Secure*: make sure of every frame and table it needs; this
alone may reclaim. *Classify again* if it did, since it may have changed the very entry: the step ends with AGAIN.
*Commit*: what cannot fail. Bytes that do not come back (a failing read, a checksum that differs) raise StoreError and
leave entry, record and store as they were; the next access tries again.

Latency: the whole fault, waiting included, goes into the histogram of the kind that was named first, in simulated ns.
One fault in WALL_EVERY of a kind is also timed with this machine's clock.
"""

from memvirt.errors import AdmissionError, StoreError

from ..mapping.backing cimport (BACKING_CACHED, BACKING_SAME, BACKING_SWAP, BACKING_ZPOOL,
                                Backing, BackingKind)
from ..counters cimport (CPU_ACCESS, CPU_COPY, CPU_FAULT, CPU_ZERO, FAULT_CACHED, FAULT_COW,
                         FAULT_HUGE, FAULT_NONE, FAULT_REUSE, FAULT_SAME, FAULT_SWAP, FAULT_ZERO, FAULT_ZPOOL,
                         WALL_EVERY, Fault, hist_add)
from ..memory.frames cimport FRAME_CACHE, FRAME_FIXED, FRAME_GUEST, FRAME_PINNED, FRAME_ZERO
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, PTE_WRITABLE, Look
from ..mapping.spaces cimport map_zeros
from .reclaim cimport Reclaim
from ..types cimport (AGAIN, HUGE_ORDER, LEAF_ENTRIES, LEAF_SHIFT, NO_FRAME, NONE, OK, backing_t, gfn_t, hfn_t,
                      int64_t, leaf_t, uint32_t, uint64_t, vmid_t, vpn_t)

cdef extern from "mapping/access.h" nogil:
    uint32_t mv_word(uint32_t vpn)

cdef extern from "walltime.h" nogil:
    long long mv_wall_ns()

cdef enum:
    MAX_STEPS = 64              # a fault takes at most four; more means reclaim takes away what it brings


cdef class Faults:
    """Serves the faults of one host. `names`: VM names by id, for messages."""

    def __cinit__(self, Reclaim reclaim not None, int provisioning, dict names not None):
        self.reclaim = reclaim
        self.mapping = reclaim.mapping
        self.charges = self.mapping.charges
        self.tables = self.mapping.tables
        self.frames = self.mapping.frames
        self.leaves = self.mapping.leaves
        self.content = self.mapping.content
        self.device = reclaim.device
        self.clock = self.mapping.clock
        self.meter = self.mapping.meter
        self.ticks = self.meter.wall_tick
        self.provisioning = <Provisioning>provisioning
        self.zero_frame = NONE
        self.names = names

    cdef Fault classify(self, Access *access) noexcept nogil:
        """Name the fault from the entry alone: asked first, and again whenever something may have changed it."""
        cdef Backing *backing
        cdef BackingKind kind
        cdef uint32_t entry
        access.shared = self.leaves.look(access.vm, access.gfn, &access.at) and access.at.leaf.nr_holders > 1
        entry = access.at.entry
        if entry == 0:
            return FAULT_ZERO
        if entry & PTE_PRESENT:
            if not access.write or (entry & PTE_WRITABLE and not access.shared):
                return FAULT_NONE
            return FAULT_REUSE if not access.shared and self.mapping.sole(entry & PTE_WHERE) else FAULT_COW
        backing = self.mapping.backings.at(entry & PTE_WHERE)
        if backing.place & BACKING_CACHED:
            return FAULT_CACHED
        kind = self.mapping.backings.kind(backing)
        if kind == BACKING_SAME:
            return FAULT_SAME
        return FAULT_ZPOOL if kind == BACKING_ZPOOL else FAULT_SWAP

    cdef int resolve(self, vmid_t vm, gfn_t gfn, vpn_t vpn, bint write, bint may_write) except -1 nogil:
        """Serve an access of vpn (at gfn) that the translation cache could not, and cache the translation."""
        cdef Access access
        cdef int outcome
        access.vm = vm
        access.gfn = gfn
        access.vpn = vpn
        access.write = write
        access.has_window = False
        outcome = self._serve(&access)
        if outcome != OK:
            return outcome
        if not self.mapping.tcache.view[vm].writes[vpn >> LEAF_SHIFT]:
            self.mapping.tcache.settle_writes(vm, vpn >> LEAF_SHIFT)
        self.tables.translate(vm, vpn, access.at.id, access.at.index,
                              may_write and access.at.entry & PTE_WRITABLE != 0 and not access.shared
                              and not self.mapping.is_clean(access.at.entry & PTE_WHERE))
        return OK

    cdef int reach(self, vmid_t vm, gfn_t gfn, bint write, hfn_t *frame) except -1 nogil:
        cdef Access access
        cdef int outcome
        access.vm = vm
        access.gfn = access.vpn = gfn
        access.write = write
        access.has_window = False
        outcome = self._serve(&access)
        frame[0] = access.at.entry & PTE_WHERE
        return outcome

    cdef int _serve(self, Access *access) except -1 nogil:
        """Step by step until the entry serves the access."""
        cdef uint32_t steps = 0
        cdef int outcome
        cdef int64_t began = self.clock.now, wall = 0
        cdef uint64_t huge = self.meter.ev.fault_huge
        cdef Fault kind = self.classify(access), first = kind
        if kind == FAULT_NONE:
            self.clock.spend(CPU_ACCESS, self.clock.costs.refill)
            self.meter.ev.tcache_refills += 1
            return self._noted(access)
        if self.ticks[<int>kind] % WALL_EVERY == 0:
            wall = mv_wall_ns()
        self.ticks[<int>kind] += 1
        self.clock.spend(CPU_FAULT, self.clock.costs.fault)
        while kind != FAULT_NONE:
            outcome = self._step(access, kind)
            if outcome == OK:
                break
            steps += 1
            if outcome == AGAIN and steps >= MAX_STEPS:
                self.meter.ev.exhausted_no_frame += 1
                outcome = NO_FRAME
            if outcome != AGAIN:
                return outcome
            kind = self.classify(access)
        if self.meter.ev.fault_huge != huge:    # that a whole block served the first touch is known only now
            first = FAULT_HUGE
        hist_add(&self.meter.sim[<int>first], self.clock.now - began)
        if wall:
            hist_add(&self.meter.wall[<int>first], mv_wall_ns() - wall)
        return self._noted(access)

    cdef int _noted(self, Access *access) except -1 nogil:
        """OK: the entry serves the access. If that is a write, the page is dirty from now on."""
        return self.mapping.dirty(access.at.entry & PTE_WHERE) if access.write else OK

    cdef int _step(self, Access *access, Fault kind) except -1 nogil:
        """One step towards FAULT_NONE."""
        if access.write and access.shared:
            return self._own_leaf(access)
        if kind == FAULT_ZERO:
            return self._zero(access)
        if kind == FAULT_REUSE:
            self.mapping.own(access.at.id, access.at.index)
            self.meter.ev.fault_reuse += 1
            access.at.entry |= PTE_WRITABLE
            return OK
        if kind == FAULT_COW:
            return self._cow(access)
        if kind == FAULT_CACHED:
            return self._map_cached(access, access.at.entry & PTE_WHERE)
        return self._bring_back(access)

    cdef int _own_leaf(self, Access *access) except -1 nogil:
        """A copy of the shared leaf for this VM."""
        cdef int outcome = self.reclaim.secure(access.vm, 0, self.tables.frames_to_copy_leaf(access.at.id))
        if outcome != OK:
            return outcome
        self.clock.spend(CPU_COPY, self.clock.costs.leaf_copy)
        self.tables.copy_leaf(access.at.slot)
        return AGAIN

    cdef void _born(self, hfn_t frame) noexcept nogil:
        """The frame holds a new page: page sharing counts its time to merge from here."""
        if self.index is not None:
            self.index.since_ns[frame] = self.clock.now

    cdef int keep_zeros(self) except -1:
        """Pages that are read before they are written will share one frame, which the host gives now."""
        if self.frames.take(0, FRAME_FIXED, 0, &self.zero_frame) != OK:
            raise AdmissionError("no frame for the zeros of untouched pages")
        self.content.clear(self.zero_frame)
        self.frames.frame[self.zero_frame].refs = 0
        self.frames.frame[self.zero_frame].flags = FRAME_ZERO
        return 0

    cdef int _map_zeros(self, Access *access) except -1 nogil:
        """A read of a page that was never written: the zero frame, read-only (do_anonymous_page)."""
        cdef bint bare = access.at.leaf == NULL
        cdef int outcome = OK
        if bare:
            outcome = self.reclaim.secure(access.vm, 0, self.tables.frames_to_reach(access.vm, access.gfn))
        if outcome != OK:
            return outcome
        map_zeros(self.mapping, self.tables.reach(access.vm, access.gfn) if bare else access.at.id, access.at.index,
                  self.zero_frame)
        self.nr_zero_reads += 1
        access.at.entry = PTE_PRESENT | self.zero_frame
        return AGAIN if bare else OK

    cdef int _zero(self, Access *access) except -1 nogil:
        cdef bint bare = access.at.leaf == NULL
        cdef leaf_t id = access.at.id
        cdef hfn_t frame
        cdef int outcome
        if self.zero_frame != NONE and not access.write:
            return self._map_zeros(access)
        if bare and self.provisioning == THIN_HUGE:
            outcome = self._zero_huge(access.vm, access.gfn)
            if outcome == OK:
                return AGAIN
            self.meter.ev.huge_missed += 1
        outcome = self.reclaim.secure(access.vm, 1, self.tables.frames_to_reach(access.vm, access.gfn) if bare else 0)
        if outcome != OK:
            return outcome
        if bare:
            id = self.tables.reach(access.vm, access.gfn)
        self.frames.claim(0, FRAME_GUEST, &frame)
        self.content.clear_around(frame, mv_word(access.vpn))
        self.content.expect(frame + 1, mv_word(access.vpn + 1))    # VMs fill their memory, and blocks, upwards
        self.clock.spend(CPU_ZERO, self.clock.costs.zero_page)
        self.mapping.map_new(access.vm, id, access.at.index, frame)
        self._born(frame)
        self.meter.ev.fault_zero += 1
        access.at.entry = PTE_PRESENT | PTE_WRITABLE | frame
        return AGAIN if bare else OK

    cdef int _zero_huge(self, vmid_t vm, gfn_t gfn) except -1 nogil:
        """2 MiB at once, if the region lies in the VM and its limit, and a block is free above the high watermark."""
        cdef uint32_t region = gfn >> LEAF_SHIFT, slot, i
        cdef hfn_t base
        cdef uint32_t limit = self.charges.of[vm].limit
        if (region + 1) * LEAF_ENTRIES > self.leaves.directory[vm].nr_pages:
            return NO_FRAME
        if limit != NONE and self.charges.of[vm].charged + LEAF_ENTRIES > limit:
            return NO_FRAME
        if self.leaves.pages.frames_needed(1) + self.leaves.records.frames_needed(1) > 2:
            return NO_FRAME
        if self.frames.take(HUGE_ORDER, FRAME_GUEST, self.frames.high_pages + 2 + self.charges.aside(vm), &base) != OK:
            return NO_FRAME
        self.leaves.pages.make_room(1)
        self.leaves.records.make_room(1)
        slot = self.leaves.ensure_slot(vm, gfn)
        for i in range(LEAF_ENTRIES):
            self.content.clear_around(base + i, mv_word(region * LEAF_ENTRIES + i))
            self._born(base + i)
        self.clock.spend(CPU_ZERO, self.clock.costs.zero_huge)
        self.mapping.map_huge(vm, slot, region, base)
        self.meter.ev.fault_huge += 1
        return OK

    cdef int _cow(self, Access *access) except -1 nogil:
        cdef hfn_t copy
        cdef int outcome = self.reclaim.secure(access.vm, 1, 0)
        if outcome != OK:
            return outcome
        self.frames.claim(0, FRAME_GUEST, &copy)
        if access.at.entry & PTE_WHERE == self.zero_frame:
            self.content.clear_around(copy, mv_word(access.vpn))
            self.clock.spend(CPU_ZERO, self.clock.costs.zero_page)
            self.meter.ev.cow_breaks_shared -= 1        # as break_cow is about to count it: nothing was merged here
        else:
            self.content.copy_around(copy, access.at.entry & PTE_WHERE, mv_word(access.vpn))
            self.clock.spend(CPU_COPY, self.clock.costs.copy_page)
        self.content.expect(copy + 1, mv_word(access.vpn + 1))
        self.mapping.break_cow(access.vm, access.at.id, access.at.index, copy)
        self._born(copy)
        self.meter.ev.fault_cow += 1
        access.at.entry = PTE_PRESENT | PTE_WRITABLE | copy
        return OK

    cdef int _map_cached(self, Access *access, backing_t id) except -1 nogil:
        """The entry's content is out, and a frame has it: map that."""
        cdef hfn_t frame = self.mapping.backings.at(id).link
        cdef bint ahead = self.frames.frame[frame].state == FRAME_CACHE
        cdef int outcome = self.reclaim.secure(access.vm, 1, 0) if ahead else OK    # its first owner will be charged
        if outcome != OK:
            return outcome
        self.mapping.map_cached(access.vm, access.at.id, access.at.index, id)
        self.reclaim.readahead.found(access.vm, access.gfn, ahead)
        if ahead:
            if self.index is not None:
                self.index.arrived(frame)
            self.meter.ev.readahead_hits += 1
        self.meter.ev.fault_cached += 1
        return AGAIN

    cdef int _bring_back(self, Access *access) except -1 nogil:
        """The entry's content is out: get it into a frame, and map that."""
        cdef backing_t id = access.at.entry & PTE_WHERE
        cdef BackingKind kind
        cdef hfn_t frame
        cdef int outcome = self.reclaim.make_room_ahead(access.vm, access.gfn, id, &access.has_window)
        if outcome == OK:
            outcome = self.reclaim.secure(access.vm, 1, 0)
        if outcome != OK:
            return outcome
        kind = self.mapping.backings.kind(self.mapping.backings.at(id))     # writeback may have moved it meanwhile
        self.frames.claim(0, FRAME_GUEST, &frame)
        self._fill_from(id, frame, access)
        self.mapping.map_back(access.vm, access.at.id, access.at.index, frame, id)
        if self.index is not None:
            self.index.arrived(frame)
        if kind == BACKING_SAME:
            self.meter.ev.fault_same += 1
        elif kind == BACKING_ZPOOL:
            self.meter.ev.fault_zpool += 1
        else:
            self.meter.ev.fault_swap += 1
        return AGAIN

    cdef int _fill_from(self, backing_t id, hfn_t frame, Access *access) except -1 nogil:
        """Put the bytes of a backing into a frame, checked; on failure the frame is given back and StoreError raised."""
        cdef Backing *backing = self.mapping.backings.at(id)
        cdef BackingKind kind = self.mapping.backings.kind(backing)
        cdef int64_t began = self.clock.now
        cdef bint counts = not self.reclaim.stalls.as_linux or self.mapping.recency.thrashes(access.vm, access.gfn, id)
        cdef int outcome
        if kind == BACKING_SAME:
            self.content.fill_same(frame, self.mapping.backings.value(backing))
            self.clock.spend(CPU_ZERO, self.clock.costs.zero_page)
            return OK
        if kind == BACKING_ZPOOL:
            outcome = self.reclaim.shrinker.load(self.mapping.backings.where(backing), frame)
        else:
            outcome = self.reclaim.readahead.read(access.vm, access.gfn, id, frame)
        self.reclaim.stalls.note(began, self.clock.now, counts)
        if outcome == OK and self.content.checksum(frame) == backing.check:
            return OK
        self.frames.give(frame, 0)
        if kind == BACKING_SWAP:
            self.meter.ev.swap_read_failed += 1
        with gil:
            self._lost(id, access, "the bytes do not match their checksum" if outcome == OK else
                       f"reading failed (errno {self.mapping.swap.last_errno})" if kind == BACKING_SWAP else
                       "the codec refuses the object")
        return OK

    cdef int _lost(self, backing_t id, Access *access, object why) except -1:
        cdef Backing *backing = self.mapping.backings.at(id)
        cdef uint32_t where = self.mapping.backings.where(backing)
        store = (f"zpool object {where}" if self.mapping.backings.kind(backing) == BACKING_ZPOOL else
                 self.mapping.swap.name_of(where))
        raise StoreError(f"VM '{self.names.get(access.vm, access.vm)}' page {access.gfn}: {store}: {why}; entry and store "
                         f"are unchanged, the next access tries again")

    cdef bint is_pinned(self, uint32_t entry) noexcept nogil:
        return entry & PTE_PRESENT and self.frames.frame[entry & PTE_WHERE].flags & FRAME_PINNED

    cdef bint pinned(self, vmid_t vm, gfn_t gfn) noexcept nogil:
        """True if the VM's page is pinned."""
        cdef Look at
        self.leaves.look(vm, gfn, &at)
        return self.is_pinned(at.entry)

    cdef bint holds(self, vmid_t vm, gfn_t gfn) noexcept nogil:
        """True if the VM's page is anywhere: in memory, or out."""
        cdef Look at
        return self.leaves.look(vm, gfn, &at) and at.entry != 0

    cdef int release(self, vmid_t vm, gfn_t gfn) except -1 nogil:
        """The guest does not need the page: nothing is mapped there afterwards, unless it is pinned: then it stays where
        it is. OK, or NO_FRAME when a shared or huge leaf would have to be copied or split and there is no frame for
        that."""
        cdef Look at
        cdef uint32_t need
        cdef int outcome
        while self.leaves.look(vm, gfn, &at):
            if at.entry == 0 or self.is_pinned(at.entry):
                return OK
            if at.leaf.nr_holders == 1 and at.leaf.entries != NULL:
                return self.mapping.unmap(at.id, at.index)
            need = self.tables.frames_to_copy_leaf(at.id) if at.leaf.nr_holders > 1 else 1
            outcome = self.reclaim.secure(vm, 0, need)
            if outcome == AGAIN:
                continue
            if outcome != OK:
                return outcome
            if at.leaf.nr_holders > 1:
                self.clock.spend(CPU_COPY, self.clock.costs.leaf_copy)
                self.tables.copy_leaf(at.slot)
            else:
                self.tables.split(at.id)
        return OK
