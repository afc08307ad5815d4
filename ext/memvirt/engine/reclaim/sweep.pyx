"""The sweep of one VM's pages by address: how its coldest go, and how it loses pages that no order names.

A decider that asks for a VM's coldest pages goes by their ages. A hand sweeps the VM's pages; those with an accessed mark
are given another round, and of the others those go that have reached the age that leaves enough of them (see `ages`).
That costs at most two rounds over the VM, however large the host. What the VM has given up lazily goes before.

By shares (`by_shares`): pages go of whoever pays least for a frame, S / P for S shares and P frames, until somebody else
does (min-funding revocation: Waldspurger, OSDI 2002, 5.1), and none below its reservation. A snapshot has its VM's shares.
Of that VM those go which the hand comes to and finds not accessed: the order has no part in it.

An order with several queues may name pages of one alone, and they may all be reserved, or such that have nowhere to go.
Then it is asked no more (`unnamed`): what was read ahead goes, and the VMs that may lose pages do, the lowest first.
"""

from libc.string cimport memset

from ..counters cimport CPU_RECLAIM
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Look
from ..memory.frames cimport FRAME_CACHE, FRAME_ISOLATED, FRAME_ORDERED, Frame
from ..types cimport LEAF_ENTRIES, MAX_VMS, NONE, uint8_t, uint64_t
from .writeback cimport CLUSTER

cdef enum:
    ASKED = 64                  # frames whose marks a round through a VM's pages remembers to have asked for


cdef class Sweep:
    """Sweeps the pages of one host's VMs."""

    def __cinit__(self, Mapping mapping not None, Eviction eviction not None, LazyFree lazyfree not None):
        self.mapping = mapping
        self.charges = mapping.charges
        self.clock = mapping.clock
        self.eviction = eviction
        self.lazyfree = lazyfree

    cdef uint32_t work(self, vmid_t vm, uint32_t want, uint32_t min_age, uint32_t keep,
                       bint used_too) except? 0xFFFFFFFF nogil:
        """Evict about `want` of the pages that this VM pays for, those idle for at least min_age harvests, from where
        its hand stands, but leave it `keep`. Returns how many went; ends after two rounds. `used_too`: whatever can go
        does, used or not, in one round."""
        cdef uint32_t nr_pages = self.mapping.leaves.directory[vm].nr_pages, gone, step
        cdef uint64_t left = (1 if used_too else 2) * <uint64_t>nr_pages
        cdef gfn_t gfn = self.hand[vm] if self.hand[vm] < nr_pages else 0
        cdef hfn_t frame
        cdef hfn_t asked[ASKED]
        memset(asked, 0xFF, sizeof(asked))
        self.eviction.put_back()
        gone = self.lazyfree.of_vm(vm, want, keep)
        while gone < want and left > 0 and self.charges.may_lose(vm, keep) and not self.clock.interrupt.asked():
            frame = self._page_of(vm, gfn, &step)
            step = min(step, nr_pages - gfn)
            left -= min(left, <uint64_t>step)
            gfn = gfn + step if gfn + step < nr_pages else 0
            if frame == NONE:
                continue
            self.mapping.meter.ev.reclaim_scanned += 1
            self.clock.spend(CPU_RECLAIM, self.clock.costs.reclaim_visit)
            if used_too or self._idle(frame, min_age, &asked[frame % ASKED]):
                gone += self.eviction.evict(frame, want - gone)
        gone += self.eviction.flush()
        self.hand[vm] = gfn
        return gone

    cdef uint32_t by_shares(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """Evict about `want` pages, a batch at a time of the VM that pays least for a frame. Returns how many went."""
        cdef uint32_t gone = 0, freed, vm
        cdef uint8_t passed[MAX_VMS]
        memset(passed, 0, sizeof(passed))
        while gone < want and not self.clock.interrupt.asked():
            vm = self.charges.pays_least(passed)
            if vm == NONE:
                break
            freed = self.work(<vmid_t>vm, min(want - gone, <uint32_t>CLUSTER), 0, self.charges.of[vm].reservation, False)
            passed[vm] = freed == 0
            gone += freed
        return gone

    cdef uint32_t unnamed(self, uint32_t want, bint used_too) except? 0xFFFFFFFF nogil:
        cdef uint32_t vm, gone = 0
        cdef hfn_t frame
        for frame in range(self.mapping.frames.nr_frames):
            if gone >= want or self.mapping.frames.nr_state[<int>FRAME_CACHE] == 0:
                break
            if self.mapping.frames.frame[frame].state == FRAME_CACHE:
                gone += self.eviction.evict(frame, want - gone)
        for vm in range(MAX_VMS):
            if gone >= want:
                break
            if self.charges.of[vm].open:
                gone += self.work(<vmid_t>vm, want - gone, 0, self.charges.of[vm].reservation, used_too)
        return gone

    cdef hfn_t _page_of(self, vmid_t vm, gfn_t gfn, uint32_t *step) noexcept nogil:
        """The frame at this page if the VM pays for it and it may go, or NONE; *step: pages to the next worth asking."""
        cdef Look at
        cdef Frame *record
        step[0] = 1
        if not self.mapping.leaves.look(vm, gfn, &at):
            step[0] = LEAF_ENTRIES - at.index
        if not at.entry & PTE_PRESENT:
            return NONE
        record = &self.mapping.frames.frame[at.entry & PTE_WHERE]
        if record.charge != vm or (record.flags & (FRAME_ORDERED | FRAME_ISOLATED)) != FRAME_ORDERED:
            return NONE
        return at.entry & PTE_WHERE

    cdef bint _idle(self, hfn_t frame, uint32_t min_age, hfn_t *asked) except? True nogil:
        """Not accessed since it was last asked, and for long enough. `asked`: a frame that has been asked in this call,
        which no VM can access meanwhile; a page that is merged often is met at each of its sites, and has them all walked
        once."""
        if asked[0] == frame:
            return self.mapping.ages.idle(frame) >= min_age
        asked[0] = frame
        if self.mapping.tables.test_and_clear_accessed(frame):
            self.mapping.meter.ev.reclaim_spared_accessed += 1
            self.mapping.recency.touch(frame)
            return False
        return self.mapping.ages.idle(frame) >= min_age
