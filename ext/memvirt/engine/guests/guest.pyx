"""The guest: the memory manager of one operating system inside a virtual machine.

A guest hands out guest-physical pages (gfn) to virtual pages (vpn) and knows things that no hypervisor can see: which
pages are free, which are page cache that could be read again, which are anonymous. It never sees a host frame. What
it does to page content it asks of a `Hardware`, the hardware it believes to run on; a host implements that.

    vpns below cache_border are anonymous: zero at the first touch, evicted to guest swap.
    vpns from it on are page cache: read from a file at the first touch, written to it if they differ when they go.

A guest-physical page is in exactly one state:

                 fault                       store to a clean page (asked by resolve)
        FREE ------------> CLEAN or DIRTY      CLEAN ---------> DIRTY
        FREE <------------ evicted, discarded
        FREE <-----------> BALLOON             KERNEL: for ever

CLEAN says that the same bytes lie outside memory, in `copy` of its vpn: the file, or a guest swap slot. Such a page is
read-only until resolve(write=True) makes it DIRTY: the guest learns of the first store. A slot survives swap-in while more
than half of the guest's swap is free (as in Linux), so an unchanged page goes out again without I/O.

Where gfns come from. A fault takes what the buddy allocator chooses: the lowest page of its smallest blocks. If too few
are free it reclaims first, at most RECLAIM_BATCH a fault, from both kinds, each in its replacement order. If none is left
the balloon gives pages back (virtio-balloon's deflate-on-oom, 256 pages); else the guest is out of memory: EMPTY. Where
memory has partitions an instance's fault takes the lowest free page of its own, and nothing is reclaimed for it.

The tables and their invariants are in guest_memory.pyx; here is what decides. Every call that will change something makes
sure that the tables are its own (ring.pxd), asks the hardware, and changes the tables last. So when the hardware fails, by
an outcome or an exception, nothing is half done and a guest fault can be resumed. What stays are evictions that succeeded
on the way and the spare() of a page that could not be evicted: another is tried next.
"""

cimport cython

from cpython.object cimport PyObject

from memvirt.errors import InvariantError

from .guest_memory cimport FILE_ORIGINAL, GuestMemory, whole
from .hardware cimport Hardware
from .partitions cimport Partitions
from .ring cimport Sharer, join_before, leave_ring, stand_alone
from ..replacement.order cimport Order
from ..types cimport EMPTY, HUGE_ORDER, LEAF_ENTRIES, NONE, OK, gfn_t, uint32_t, uint64_t, vpn_t

from memvirt.engine.replacement.registry import ORDERS

cdef enum:
    NOBODY = 0                  # no guest's number

cdef Hardware NO_HARDWARE = Hardware()          # of guests whose VM has ended
cdef uint64_t guests_made = NOBODY              # each has a number of its own


@cython.final
cdef class Guest:
    """A guest with `vpns` pages of address space and `pages` pages of guest-physical memory.

    cache_border: first vpn of the page cache (default: none). report_order: of the free blocks that are reported (default:
    none), after report_delay_ns. elastic: see there; partition, base: of squeezy, see Partitions. seed: of the draws of a
    random replacement. All else is pages. parent: whose tables it uses until one of the two changes something.
    """

    def __cinit__(self, Hardware hardware not None, vpns, pages, *, low_pages=0, high_pages=0, balloon_floor=0,
                  oom_deflate_pages=256, swappiness=0, report_delay_ns=2_000_000_000, str elastic=None, partition=0, base=0,
                  str driver="beside", uint64_t seed=0, Guest parent=None, **tables):
        global guests_made
        guests_made += 1
        self._ring.number = guests_made
        self._seed = seed
        self.hardware = hardware
        stand_alone(&self._ring)
        self._ring.guest = <PyObject *>self
        self.elastic = elastic
        self.driver = driver
        self.on_vcpu = driver == "vcpu"
        self.unit = 1 if elastic in (None, "balloon") else LEAF_ENTRIES
        self.installs = elastic == "hyperalloc"
        self.reports = tables.get("report_order") is not None if parent is None else parent.reports
        self.hand = NONE
        if self.installs:
            tables["report_order"] = HUGE_ORDER             # its marks say which blocks the host has taken
        if parent is None:
            self.memory = GuestMemory(vpns, pages, seed=seed, **tables)
            self.memory.owner = self._ring.number
        else:
            self._join(parent)
        if elastic == "squeezy":
            self.parts = Partitions(self.memory, partition, base) if parent is None else parent.parts
            self.unit = self.partition = self.parts.pages
            self.partitions = self.parts.number
        self.high_pages = whole("high_pages", high_pages, 0, <long long>pages - self.memory.kernel_pages - 1)
        self.low_pages = whole("low_pages", low_pages, 0, self.high_pages)
        self.balloon_floor = whole("balloon_floor", balloon_floor, 0, pages)
        self.oom_deflate_pages = whole("oom_deflate_pages", oom_deflate_pages, 0, <long long>NONE - 1)
        if elastic in ("virtio-mem", "hyperalloc", "squeezy"):         # what the host has taken a guest cannot take back
            self.oom_deflate_pages = 0
        self.swappiness = whole("swappiness", swappiness, 0, 200)
        self.report_delay_ns = report_delay_ns

    def __dealloc__(self):
        if self._ring.next != NULL:             # NULL: not even begun
            leave_ring(&self._ring)

    def metadata_bytes(self):
        return self.memory.metadata_bytes()             # those that it would have alone

    def check(self):
        """Recount everything, O(vpns + pages + slots). Raises InvariantError at the first difference."""
        cdef Sharer *sharer = &self._ring
        cdef Guest other
        self.memory.check()
        while sharer.next != &self._ring:
            if sharer.next.prev != sharer:
                raise InvariantError("guest: the ring of those that share its tables is broken")
            sharer = sharer.next
            other = <Guest>sharer.guest
            if other.memory is not self.memory:
                raise InvariantError("guest: one that shares its tables uses others")

    # -- faults ------------------------------------------------------------------------------------------------------

    cdef int resolve(self, vpn_t vpn, bint write, Translation *out) except -1 nogil:
        """Translate vpn for a load or a store; see guest.pxd for the outcomes."""
        assert vpn < self.memory.nr_vpns
        cdef int outcome = OK
        cdef gfn_t gfn = self.memory.gfn[vpn]
        out.event = GUEST_MAPPED
        if gfn == NONE:
            self.own()
            self.count.guest_faults_failed += 1     # until it has not, neither by an outcome nor by an exception
            outcome = self._fault(vpn, write, out)
            self.count.guest_faults_failed -= outcome == OK
        elif write and self.is_clean(gfn):
            self.own()
            outcome = self._make_dirty(vpn, gfn)
            self.count.guest_faults_failed += outcome != OK
        if outcome != OK:
            return outcome
        out.gfn = self.memory.gfn[vpn]
        out.writable = self.may_write(out.gfn)
        return OK

    cdef int _fault(self, vpn_t vpn, bint write, Translation *out) except -1 nogil:
        """Secure a page, fill it, and only then map it."""
        cdef gfn_t gfn = NONE
        cdef uint32_t before = self.memory.copy[vpn], copy = before
        cdef int outcome = self._take_page(vpn, &gfn)
        if outcome != OK:
            return outcome
        outcome = HARDWARE_ERRED
        try:
            outcome = self._bring(vpn, gfn, write, &copy)
        finally:
            if outcome != OK:
                self.memory.buddy.give(gfn, 0)
        if outcome != OK:
            return outcome
        self.memory.map(vpn, gfn, copy, copy == NONE or write)
        self.count.guest_faults += 1
        if self.memory.is_cache(vpn):
            out.event = GUEST_NEW_CACHE
            self.count.cache_read += before == NONE
            self.count.cache_reread += before != NONE
        elif before == NONE:
            out.event = GUEST_NEW_ZERO
            self.count.guest_zeroed += 1
        else:
            out.event = GUEST_SWAPPED_IN
            self.count.guest_swap_in += 1
        return OK

    cdef int _bring(self, vpn_t vpn, gfn_t gfn, bint write, uint32_t *copy) except -1 nogil:
        """Fill gfn with what vpn holds. *copy becomes where a copy lies afterwards."""
        cdef uint32_t slot = copy[0]
        if self.memory.is_cache(vpn):
            if slot != NONE and slot != FILE_ORIGINAL:
                return self.hardware.write_in(gfn, slot)
            copy[0] = FILE_ORIGINAL
            return self.hardware.read_file(gfn, vpn)
        if slot == NONE:
            return self.hardware.clear(gfn)
        cdef int outcome = self.hardware.write_in(gfn, slot)
        if outcome == OK and (write or <uint64_t>self.memory.nr_free_slots() * 2 < self.memory.swap_slots):
            copy[0] = NONE
            return self.hardware.forget_slot(slot)
        return outcome

    cdef int _make_dirty(self, vpn_t vpn, gfn_t gfn) except -1 nogil:
        """The first store to a clean page: its slot, if it has one, goes."""
        cdef int outcome = OK
        if not self.memory.is_cache(vpn):
            outcome = self.hardware.forget_slot(self.memory.copy[vpn])
        if outcome == OK:
            self.memory.set_dirty(vpn, gfn)
        return outcome

    cdef int _take_page(self, vpn_t vpn, gfn_t *gfn) except -1 nogil:
        """A free page, after reclaim if few are left. OK, EMPTY or what the hardware said."""
        cdef int outcome = OK, _evicted
        cdef gfn_t first = NONE if self.parts is None else self.parts.of(vpn, self.memory)
        if first != NONE:
            self.begin_in(first)
            outcome = self.parts.take(self.memory, first, gfn)
            self.count.oom += outcome != OK
            return outcome
        if self.nr_free() <= self.low_pages:
            for _evicted in range(RECLAIM_BATCH):
                outcome = self.evict_one()
                if outcome != OK or self.nr_free() > self.high_pages:
                    break
        if self.nr_free() == 0:
            if outcome != EMPTY:
                return outcome
            if self.deflate_for_oom() == 0:
                self.count.oom += 1
                return EMPTY
        return self._take_free(gfn)

    cdef int _take_free(self, gfn_t *gfn) except -1 nogil:
        """If the host has taken the 2 MiB that it is of, those get frames first."""
        cdef uint32_t before = self.memory.nr_reported
        cdef int outcome = self.memory.take(gfn) if self.parts is None else self.parts.take(self.memory, NONE, gfn)
        if outcome != OK or not self.installs or self.memory.nr_reported == before:
            return outcome
        outcome = HARDWARE_ERRED
        try:
            outcome = self.hardware.install(gfn[0] - gfn[0] % LEAF_ENTRIES)
        finally:
            if outcome != OK:
                self.memory.buddy.give(gfn[0], 0)
                self.memory.mark_reported(gfn[0])
        self.giving.installed += outcome == OK
        return outcome

    cdef int discard(self, vpn_t vpn) except -1 nogil:
        """Free vpn, in memory and in swap. OK, or what the hardware said with nothing changed."""
        assert vpn < self.memory.nr_vpns
        cdef uint32_t copy = self.memory.copy[vpn]
        cdef int outcome = OK
        if self.memory.gfn[vpn] == NONE and copy == NONE:
            return OK
        self.own()
        if self.memory.gfn[vpn] != NONE:
            outcome = self.hardware.flush(vpn)
        if outcome == OK and copy != NONE and copy != FILE_ORIGINAL:
            outcome = self.hardware.forget_slot(copy)
        if outcome == OK:
            self.memory.forget(vpn)
            self.count.discarded += 1
        return outcome

    # -- reclaim -----------------------------------------------------------------------------------------------------

    cdef int evict_one(self) except -1 nogil:
        """Free one mapped page, of the kind whose turn it is. OK, EMPTY or what the hardware said."""
        cdef int outcome
        if self.memory.cache is None or self.memory.cache.nr_resident == 0:
            return self._evict_anon()
        if self._anon_is_due():
            outcome = self._evict_anon()
            if outcome != EMPTY:
                return outcome
        return self._evict(self.memory.cache, self._victim(self.memory.cache))

    cdef bint _anon_is_due(self) noexcept nogil:
        """Pages x weight, as a fraction that is carried from one eviction to the next."""
        cdef uint64_t anon = <uint64_t>self.memory.anon.nr_resident * self.swappiness
        cdef uint64_t cache = <uint64_t>self.memory.cache.nr_resident * (200 - self.swappiness)
        if anon == 0 or not (self.memory.nr_free_slots() or self.memory.nr_clean_anon):
            return False
        self._anon_share += <uint32_t>((anon << 16) / (anon + cache))
        if self._anon_share < 1 << 16:
            return False
        self._anon_share -= 1 << 16
        return True

    cdef int _evict_anon(self) except -1 nogil:
        cdef int outcome = EMPTY
        cdef uint64_t tries = 2 * <uint64_t>self.memory.anon.nr_resident
        # Without a free slot only a clean page can go, and it pays to look for one only if there is one.
        while outcome == EMPTY and tries and (self.memory.nr_free_slots() or self.memory.nr_clean_anon):
            outcome = self._evict(self.memory.anon, self._victim(self.memory.anon))
            tries -= 1
        if outcome == EMPTY and self.memory.anon.nr_resident:
            self.count.evict_failed_slot += 1
        return outcome

    cdef gfn_t _victim(self, Order order) except? 0xFFFFFFFE nogil:
        """Who goes next in an order that is not empty, once every accessed mark on the way has counted as a touch."""
        cdef uint64_t tries = 2 * <uint64_t>order.nr_resident
        cdef gfn_t gfn = order.choose(self)
        while tries and self.clear(gfn):
            order.touch(gfn)
            gfn = order.choose(self)
            tries -= 1
        return gfn

    cdef int clear(self, uint32_t id) except -1 nogil:
        return self.hardware.test_and_clear_accessed(self.memory.vpn[id], id)

    cdef int _evict(self, Order order, gfn_t gfn) except -1 nogil:
        """Write the page out if it is dirty, then free it. OK, EMPTY (no guest swap slot) or what the hardware said."""
        cdef vpn_t vpn = self.memory.vpn[gfn]
        cdef uint32_t slot = self.memory.copy[vpn]
        cdef bint dirty = self.may_write(gfn), cache = self.memory.is_cache(vpn)
        cdef int outcome = OK
        if dirty and cache:
            slot = self.memory.swap_slots + (vpn - self.memory.cache_border)
        elif dirty:
            outcome = self.memory.take_slot(&slot)
        if outcome != OK:
            order.spare(gfn)
            return outcome
        outcome = HARDWARE_ERRED
        try:
            outcome = self.hardware.flush(vpn)
            if outcome == OK and dirty:
                outcome = HARDWARE_ERRED
                outcome = self.hardware.read_out(gfn, slot)
        finally:
            if outcome != OK:
                if dirty and not cache:
                    self.memory.slots.give(slot, 0)
                order.spare(gfn)
                self.count.evict_failed_machine += 1
        if outcome != OK:
            return outcome
        self.memory.unmap(vpn, gfn, slot)
        self.count.cache_written += cache and dirty
        self.count.cache_dropped += cache and not dirty
        self.count.guest_swap_out += not cache and dirty
        self.count.guest_swap_dropped += not cache and not dirty
        return OK

    # -- the balloon: see balloon_driver -----------------------------------------------------------------------------

    def set_target(self, pages):
        """What balloon steps work toward. Raises ConfigError if it is not in 0 .. nr_pages."""
        self.balloon_target = self.in_units(whole("balloon_target", pages, 0, self.memory.nr_pages))

    # -- cloning and counters ----------------------------------------------------------------------------------------

    cpdef Guest copy_for(self, Hardware hardware, uint64_t seed):
        """The same guest on other hardware, whose pages and slots the caller has copied; its counters start at 0.

        It uses these tables until either changes something. When they part the orders go round once: pages used since the
        last round lose that mark in parent and copy alike. The copy's orders have no ghosts."""
        cdef Guest twin = Guest(
            hardware, self.memory.nr_vpns, self.memory.nr_pages, low_pages=self.low_pages, high_pages=self.high_pages,
            balloon_floor=self.balloon_floor, oom_deflate_pages=self.oom_deflate_pages, swappiness=self.swappiness,
            report_delay_ns=self.report_delay_ns, elastic=self.elastic, driver=self.driver, seed=seed, parent=self)
        if ORDERS[self.memory.replacement].draws or self.memory.nr_locked:  # to ask it is to draw; locked is so here alone
            twin.own()
            twin.memory.unlock_all()
        twin._anon_share = self._anon_share
        twin.balloon_target = self.balloon_target
        return twin

    cdef void _join(self, Guest parent) noexcept:
        """Use the parent's tables, as the youngest of those that do. Its place is before the one whose they are."""
        cdef Sharer *place = &parent._ring
        self.memory = parent.memory
        while place.number != self.memory.owner and place.next != &parent._ring:
            place = place.next
        join_before(&self._ring, place)

    cdef int _part(self) except -1:
        """The copy comes first, as the only step that may fail."""
        cdef Guest heir = self if self.memory.owner != self._ring.number else <Guest>self._ring.next.guest, other
        cdef GuestMemory tables = heir.memory.copied(heir._seed)
        cdef Sharer *sharer
        tables.owner = heir._ring.number
        heir._use(tables)
        leave_ring(&self._ring)
        if heir is self:
            return 0
        sharer = heir._ring.next
        while sharer != &heir._ring:
            other = <Guest>sharer.guest
            other._use(tables)
            sharer = sharer.next
        return 0

    cdef void _use(self, GuestMemory tables) noexcept:
        self.memory = tables
        self.hardware.rehome(tables.vpn)

    cdef void end(self) noexcept:
        """Keep no disk alive. Its tables are nobody's: whoever uses them copies before a change."""
        leave_ring(&self._ring)
        if self.memory.owner == self._ring.number:
            self.memory.owner = NOBODY
        self.hardware = NO_HARDWARE

    def counters(self):                                  # {name: count} since it was made
        more = {} if self.parts is None else {"plugged_on_demand": self.plugged_on_demand}
        if self.on_vcpu:
            more["driver_ns"] = self.driver_ns
        return {**self.count, **more} if self.elastic is None else {**self.count, **self.giving, **more}
