"""The guest: the memory manager of one operating system inside a virtual machine.

A guest hands out guest-physical pages (gfn) to virtual pages (vpn) and knows things that no hypervisor can see: which
pages are free, which are page cache that could be read again, which are anonymous. It never sees a host frame. What
it does to page content it asks of a `Machine`, the hardware it believes to run on; a host implements that.

    vpns below cache_border are anonymous: zero at the first touch, evicted to guest swap.
    vpns from it on are page cache: read from a file at the first touch, evicted without I/O while they equal the file,
    written to the file when they do not.

A guest-physical page is in exactly one state:

                 fault                       store to a clean page (asked by resolve)
        FREE ------------> CLEAN or DIRTY      CLEAN ---------> DIRTY
        FREE <------------ evicted, discarded
        FREE <-----------> BALLOON             KERNEL: for ever

CLEAN says that the same bytes lie outside memory, in `_copy` of its vpn: the file, or a guest swap slot. Such a page
is read-only to the hardware until resolve(write=True) makes it DIRTY, so the guest learns of the first store as from
a write-protected page table entry. A slot survives swap-in while more than half of the guest's swap is free (Linux
does the same), so an unchanged page goes out again without I/O.

Where gfns come from. A fault takes what the buddy allocator chooses: the lowest page of its smallest blocks. If too few
are free it reclaims first, at most RECLAIM_BATCH a fault, from page cache and anonymous pages, each in its replacement
order. If nothing is left, the balloon gives pages back (virtio-balloon's deflate-on-oom, 256 pages); else the guest
is out of memory and says EMPTY.

Swappiness says how anonymous pages and page cache share reclaim, in the spirit of Linux's get_scan_count (mm/vmscan.c):
in proportion to pages x weight, anonymous pages weighing `swappiness` and cache 200 - `swappiness`. At 100 both are
equally dear to bring back; at 0 (and without guest swap to write to) page cache goes as long as there is any; at 200
anonymous pages do. The kernel's correction by what each list has cost lately is left out: the rule is open loop.

The balloon takes free pages, then what reclaim yields, and releases each to the machine, never leaving the guest less
than its floor. Its pages form a stack: the last page given up is the first to come back. Free page reporting names
whole free blocks instead and leaves them free: the guest may use them at any time, and reports a block once until
then. A freed page is otherwise never mentioned to the machine, and that is the semantic gap of virtualized memory.

The tables and their invariants are in guest_memory.pyx; here is what decides. Every call that will change something
first makes sure that the tables are its own (a clone shares them until either side changes something), asks the machine
next and changes the tables last, so when the machine fails nothing is half done and a guest fault can be resumed. What
stays are evictions that succeeded on the way (they lose nothing) and the spare() of a page that could not be evicted, so
that the next attempt tries another.
"""

cimport cython

from .guest_memory cimport FILE_ORIGINAL, PAGE_CLEAN, PAGE_DIRTY, GuestMemory, whole
from ..replacement.order cimport Order
from ..types cimport EMPTY, NONE, OK, REFUSED, gfn_t, uint32_t, uint64_t, vpn_t

from memvirt.engine.replacement.registry import ORDERS
from memvirt.errors import InvariantError


cdef int undefined(Machine machine) except -1 nogil:
    with gil:
        raise InvariantError(f"{type(machine).__name__} does not define all requests of a machine")


cdef class Machine:
    """Base of what guests run on: every request fails loudly until a subclass defines it."""

    cdef int clear(self, gfn_t gfn) except -1 nogil:
        return undefined(self)

    cdef int read_file(self, gfn_t gfn, vpn_t vpn) except -1 nogil:
        return undefined(self)

    cdef int read_out(self, gfn_t gfn, uint32_t slot) except -1 nogil:
        return undefined(self)

    cdef int write_in(self, gfn_t gfn, uint32_t slot) except -1 nogil:
        return undefined(self)

    cdef int forget_slot(self, uint32_t slot) except -1 nogil:
        return undefined(self)

    cdef int release(self, gfn_t gfn) except -1 nogil:
        return undefined(self)

    cdef int flush(self, vpn_t vpn) except -1 nogil:
        return undefined(self)

    cdef bint test_and_clear_accessed(self, vpn_t vpn, gfn_t gfn) noexcept nogil:
        return False

    cdef void rehome(self, const vpn_t *vpn_of) noexcept nogil:
        pass


cdef Machine NO_MACHINE = Machine()             # of guests whose VM has ended


@cython.final
cdef class Guest(GuestMemory):
    """A guest with `vpns` pages of address space and `pages` pages of guest-physical memory.

    cache_border: first vpn of the page cache (default: no page cache). report_order: block size for free page
    reporting (default: off). seed: of the draws of a random replacement. All numbers but the seed are pages, swap_slots
    included. Raises ConfigError for numbers out of range.
    """

    def __cinit__(self, Machine machine not None, vpns, pages, *, cache_border=None, swap_slots=0, kernel_pages=0,
                  low_pages=0, high_pages=0, balloon_floor=0, oom_deflate_pages=256, report_order=None,
                  replacement="clock", replacement_options=None, seed=0, swappiness=0, lender=None):
        self.high_pages = whole("high_pages", high_pages, 0, <long long>self.nr_pages - self.kernel_pages - 1)
        self.low_pages = whole("low_pages", low_pages, 0, self.high_pages)
        self.balloon_floor = whole("balloon_floor", balloon_floor, 0, self.nr_pages)
        self.oom_deflate_pages = whole("oom_deflate_pages", oom_deflate_pages, 0, <long long>NONE - 1)
        self.swappiness = whole("swappiness", swappiness, 0, 200)
        self._machine = machine

    # -- faults ------------------------------------------------------------------------------------------------------

    cdef int resolve(self, vpn_t vpn, bint write, Translation *out) except -1 nogil:
        """Translate vpn for a load or a store; see guest.pxd for the outcomes."""
        assert vpn < self.nr_vpns
        cdef int outcome = OK
        cdef gfn_t gfn = self._gfn[vpn]
        out.event = GUEST_MAPPED
        if gfn == NONE or write and self._state[gfn] == PAGE_CLEAN:
            self.own()
        if gfn == NONE:
            outcome = self._fault(vpn, write, out)
        elif write and self._state[gfn] == PAGE_CLEAN:
            outcome = self._make_dirty(vpn, gfn)
        if outcome != OK:
            self.count.guest_faults_failed += 1
            return outcome
        out.gfn = self._gfn[vpn]
        out.writable = self.may_write(out.gfn)
        return OK

    cdef int _fault(self, vpn_t vpn, bint write, Translation *out) except -1 nogil:
        """Secure a page, fill it, and only then map it."""
        cdef gfn_t gfn = NONE
        cdef uint32_t before = self._copy[vpn], copy = before
        cdef int outcome = self._secure(&gfn)
        if outcome != OK:
            return outcome
        outcome = self._bring(vpn, gfn, write, &copy)
        if outcome != OK:
            self.buddy.give(gfn, 0)
            return outcome
        self._map(vpn, gfn, copy, copy == NONE or write)
        self.count.guest_faults += 1
        if self._is_cache(vpn):
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
        cdef int outcome
        if self._is_cache(vpn):
            if slot != NONE and slot != FILE_ORIGINAL:
                return self._machine.write_in(gfn, slot)
            copy[0] = FILE_ORIGINAL
            return self._machine.read_file(gfn, vpn)
        if slot == NONE:
            return self._machine.clear(gfn)
        outcome = self._machine.write_in(gfn, slot)
        if outcome == OK and (write or <uint64_t>self.nr_free_slots() * 2 < self.swap_slots):
            copy[0] = NONE
            return self._machine.forget_slot(slot)
        return outcome

    cdef int _make_dirty(self, vpn_t vpn, gfn_t gfn) except -1 nogil:
        """The first store to a clean page: its slot, if it has one, goes."""
        cdef int outcome = OK
        if not self._is_cache(vpn):
            outcome = self._machine.forget_slot(self._copy[vpn])
        if outcome == OK:
            self._set_dirty(vpn, gfn)
        return outcome

    cdef int _secure(self, gfn_t *gfn) except -1 nogil:
        """A free page, after reclaim if few are left. OK, EMPTY or what the machine said."""
        cdef int outcome = OK, _evicted
        cdef uint32_t given
        if self.buddy.nr_free <= self.low_pages:
            for _evicted in range(RECLAIM_BATCH):
                outcome = self._evict_one()
                if outcome != OK or self.buddy.nr_free > self.high_pages:
                    break
        if self.buddy.nr_free == 0:
            if outcome != EMPTY:
                return outcome
            given = self._deflate(self.oom_deflate_pages)
            self.count.oom_deflated += given
            if given == 0:
                self.count.oom += 1
                return EMPTY
        return self._take(gfn)

    cdef int discard(self, vpn_t vpn) except -1 nogil:
        """Free vpn, in memory and in swap. OK, or what the machine said with nothing changed."""
        assert vpn < self.nr_vpns
        cdef uint32_t copy = self._copy[vpn]
        cdef int outcome = OK
        if self._gfn[vpn] == NONE and copy == NONE:
            return OK
        self.own()
        if self._gfn[vpn] != NONE:
            outcome = self._machine.flush(vpn)
        if outcome == OK and copy != NONE and copy != FILE_ORIGINAL:
            outcome = self._machine.forget_slot(copy)
        if outcome == OK:
            self._forget(vpn)
            self.count.discarded += 1
        return outcome

    # -- reclaim -----------------------------------------------------------------------------------------------------

    cdef int _evict_one(self) except -1 nogil:
        """Free one mapped page, of the kind whose turn it is. OK, EMPTY or what the machine said."""
        cdef int outcome
        if self._cache is None or self._cache.nr_resident == 0:
            return self._evict_anon()
        if self._anon_is_due():
            outcome = self._evict_anon()
            if outcome != EMPTY:
                return outcome
        return self._evict(self._cache, self._victim(self._cache))

    cdef bint _anon_is_due(self) noexcept nogil:
        """Pages x weight, as a fraction that is carried from one eviction to the next."""
        cdef uint64_t anon = <uint64_t>self._anon.nr_resident * self.swappiness
        cdef uint64_t cache = <uint64_t>self._cache.nr_resident * (200 - self.swappiness)
        if anon == 0 or not (self.nr_free_slots() or self.nr_clean_anon):
            return False
        self._anon_share += <uint32_t>((anon << 16) / (anon + cache))
        if self._anon_share < 1 << 16:
            return False
        self._anon_share -= 1 << 16
        return True

    cdef int _evict_anon(self) except -1 nogil:
        cdef int outcome = EMPTY
        cdef uint64_t tries = 2 * <uint64_t>self._anon.nr_resident
        # Without a free slot only a clean page can go, and it pays to look for one only if there is one.
        while outcome == EMPTY and tries and (self.nr_free_slots() or self.nr_clean_anon):
            outcome = self._evict(self._anon, self._victim(self._anon))
            tries -= 1
        if outcome == EMPTY and self._anon.nr_resident:
            self.count.evict_failed_slot += 1
        return outcome

    cdef gfn_t _victim(self, Order order) except? 0xFFFFFFFE nogil:
        """Who goes next in an order that is not empty, once every accessed mark on the way has counted as a touch."""
        cdef uint64_t tries = 2 * <uint64_t>order.nr_resident
        cdef gfn_t gfn = order.candidate()
        while tries and self._machine.test_and_clear_accessed(self._vpn[gfn], gfn):
            order.touch(gfn)
            gfn = order.candidate()
            tries -= 1
        return gfn

    cdef int _evict(self, Order order, gfn_t gfn) except -1 nogil:
        """Write the page out if it is dirty, then free it. OK, EMPTY (no guest swap slot) or what the machine said."""
        cdef vpn_t vpn = self._vpn[gfn]
        cdef uint32_t slot = self._copy[vpn]
        cdef bint dirty = self._state[gfn] == PAGE_DIRTY, cache = self._is_cache(vpn)
        cdef int outcome = OK
        if dirty and cache:
            slot = self.swap_slots + (vpn - self.cache_border)
        elif dirty:
            outcome = self._take_slot(&slot)
        if outcome != OK:
            order.spare(gfn)
            return outcome
        outcome = self._machine.flush(vpn)
        if outcome == OK and dirty:
            outcome = self._machine.read_out(gfn, slot)
        if outcome != OK:
            if dirty and not cache:
                self._slots.give(slot, 0)
            order.spare(gfn)
            self.count.evict_failed_machine += 1
            return outcome
        self._unmap(vpn, gfn, slot)
        self.count.cache_written += cache and dirty
        self.count.cache_dropped += cache and not dirty
        self.count.guest_swap_out += not cache and dirty
        self.count.guest_swap_dropped += not cache and not dirty
        return OK

    # -- balloon and free page reporting -----------------------------------------------------------------------------

    def set_target(self, pages):
        """What balloon steps work toward. Raises ConfigError if it is not in 0 .. nr_pages."""
        self.balloon_target = whole("balloon_target", pages, 0, self.nr_pages)

    cdef int balloon_step(self, uint32_t pages, uint32_t *moved) except -1 nogil:
        """Inflate or deflate by up to `pages` pages toward balloon_target; see guest.pxd for the outcomes."""
        cdef uint32_t room = self.nr_pages - self.balloon_floor, wanted
        cdef int outcome
        moved[0] = 0
        self.own()
        if self.nr_balloon >= self.balloon_target:
            moved[0] = self._deflate(min(pages, self.nr_balloon - self.balloon_target))
            return OK
        wanted = min(pages, self.balloon_target - self.nr_balloon)
        while moved[0] < wanted and self.nr_balloon < room:
            outcome = self._inflate_one()
            if outcome != OK:
                self.count.balloon_refused_pages += outcome == EMPTY
                self.count.balloon_refused_machine += outcome != EMPTY
                return outcome
            moved[0] += 1
        if moved[0] < wanted:
            self.count.balloon_refused_floor += 1
            return REFUSED
        return OK

    cdef int _inflate_one(self) except -1 nogil:
        """Give up one page above the low watermark, reclaiming one if need be."""
        cdef gfn_t gfn = NONE
        cdef int outcome = OK
        if self.buddy.nr_free <= self.low_pages:
            outcome = self._evict_one()
        if outcome == OK:
            outcome = self._take(&gfn)
        if outcome != OK:
            return outcome
        outcome = self._machine.release(gfn)
        if outcome != OK:
            self.buddy.give(gfn, 0)
            return outcome
        self._push_balloon(gfn)
        self.count.ballooned += 1
        return OK

    cdef uint32_t _deflate(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        cdef uint32_t given = self._pop_balloon(pages)
        self.count.deflated += given
        return given

    cdef int report(self, uint32_t blocks, uint32_t *reported) except -1 nogil:
        """Free page reporting; as in Linux, a guest with few free pages is left alone."""
        cdef uint32_t _block
        cdef int outcome
        reported[0] = 0
        if self._nr_blocks == 0 or (self.buddy.nr_free
                                    <= self.low_pages + (<uint64_t>REPORT_BATCH << self.report_order)):
            return OK
        self.own()
        for _block in range(self._nr_blocks):
            if reported[0] == blocks:
                break
            if (not self._reported[self._report_hand]
                    and self.buddy.take_at(self._report_hand << self.report_order, self.report_order) == OK):
                outcome = self._release_block(self._report_hand)
                if outcome != OK:
                    self.count.report_failed += 1
                    return outcome
                reported[0] += 1
            self._report_hand = self._report_hand + 1 if self._report_hand + 1 < self._nr_blocks else 0
        return OK

    cdef int _release_block(self, uint32_t block) except -1 nogil:
        """Release a block that was taken for it, and free it again. Half a block released is no loss: it was free."""
        cdef gfn_t first = block << self.report_order, gfn
        cdef int outcome = OK
        for gfn in range(first, first + (<uint32_t>1 << self.report_order)):
            outcome = self._machine.release(gfn)
            if outcome != OK:
                break
        self.buddy.give(first, self.report_order)
        if outcome == OK:
            self._reported[block] = 1
            self.count.reported += <uint64_t>1 << self.report_order
        return outcome

    # -- cloning and counters ----------------------------------------------------------------------------------------

    cpdef Guest copy_for(self, Machine machine, uint64_t seed):
        """The same guest on another machine, whose pages and slots the caller has copied; its counters start at 0.

        It uses the tables of this one until either changes something. When they part, asking the replacement orders who
        goes in which turn makes them go round once: pages referenced since the last round lose that mark in parent and
        copy alike. The copy's orders start without ghosts.
        """
        cdef Guest twin = Guest(
            machine, self.nr_vpns, self.nr_pages, cache_border=self.cache_border, swap_slots=self.swap_slots,
            kernel_pages=self.kernel_pages, low_pages=self.low_pages, high_pages=self.high_pages,
            balloon_floor=self.balloon_floor, oom_deflate_pages=self.oom_deflate_pages,
            report_order=None if self.report_order < 0 else self.report_order, replacement=self.replacement,
            replacement_options=self.replacement_options, seed=seed, swappiness=self.swappiness, lender=self)
        if ORDERS[self.replacement].draws:      # asking it draws, and what it draws next depends on when it was asked
            twin.own()
        twin._anon_share = self._anon_share
        twin.balloon_target = self.balloon_target
        return twin

    cdef void _moved(self) noexcept:
        self._machine.rehome(self._vpn)

    cdef void end(self) noexcept:
        """Drop the machine and leave the ring: a stale reference keeps no disk alive, and later partings copy nothing for
        this guest."""
        if self._lender is not None:
            self._leave()
        self._machine = NO_MACHINE

    def counters(self):
        """Exact event counts since the guest was made: {name: count}."""
        return dict(self.count)
