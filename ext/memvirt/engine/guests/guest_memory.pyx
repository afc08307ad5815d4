"""The tables of a guest: which page is free, mapped, ballooned or the kernel's own, and where copies lie.

This module changes the tables and recounts them. What to change, and when, is decided in guest.pyx; guests that were
cloned use the same tables until one of them changes something. Invariants:

- `gfn` and `vpn` are inverse to each other;
- a page is FREE if and only if the buddy allocator has it; BALLOON if and only if it is on the balloon's stack;
- the orders `anon` and `cache` hold exactly the mapped pages below and from cache_border on that are not locked;
- a guest swap slot is in use if and only if one anonymous vpn has its copy there; slot numbers from swap_slots on are
  blocks of the file, one for each page cache vpn, and need no allocator;
- a mapped page is CLEAN only if it has a copy; an anonymous one is DIRTY only if it has none;
- a block marked as reported is free;
- no page is ISOLATED but in a call that empties 2 MiB.

9 bytes per guest-physical page and 8 per page of address space, beside the buddy allocators and the orders.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from ..memory.buddy cimport Buddy
from ..replacement.order cimport Order
from ..replacement.registry cimport make_order
from ..types cimport EMPTY, HUGE_ORDER, LEAF_ENTRIES, MAX_ORDER, NONE, OK, gfn_t, uint8_t, uint32_t, uint64_t, vpn_t

from memvirt.errors import ConfigError, InvariantError


cdef uint32_t whole(str name, value, long long low, long long high) except? 0xFFFFFFFF:
    """value as a number in low .. high. Raises ConfigError."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"guest: {name}={value!r} must be an int in {low} .. {high}")
    return value


cdef class GuestMemory:
    """All pages free but the kernel's, nothing mapped. filled=False: tables are left as they come, for `copied`."""

    def __cinit__(self, vpns, pages, *, cache_border=None, swap_slots=0, kernel_pages=0, report_order=None,
                  str replacement="clock", replacement_options=None, uint64_t seed=0, bint filled=True):
        cdef gfn_t gfn
        self.nr_vpns = whole("vpns", vpns, 1, <long long>NONE - 2)
        self.nr_pages = whole("pages", pages, 1, <long long>NONE - 2)
        self.cache_border = whole("cache_border", vpns if cache_border is None else cache_border, 0, vpns)
        self.swap_slots = whole("swap_slots", swap_slots, 0, <long long>FILE_ORIGINAL - (vpns - self.cache_border))
        self.kernel_pages = whole("kernel_pages", kernel_pages, 0, pages - 1)
        self.report_order = NO_REPORTING
        if report_order is not None:
            self.report_order = whole("report_order", report_order, 0, MAX_ORDER)
            self.nr_blocks = self.nr_pages >> self.report_order
        self.replacement = replacement
        self.replacement_options = replacement_options or {}
        self._make_tables(seed)
        if filled:
            memset(self.gfn, 0xFF, self.nr_vpns * sizeof(gfn_t))
            memset(self.copy, 0xFF, self.nr_vpns * sizeof(uint32_t))
            memset(self.vpn, 0xFF, self.nr_pages * sizeof(vpn_t))
            memset(self.state, PAGE_KERNEL, self.kernel_pages)
            for gfn in range(self.kernel_pages):
                self.buddy.take_at(gfn, 0)

    cdef int _make_tables(self, uint64_t seed) except -1:
        self.buddy = Buddy(self.nr_pages)
        self.slots = Buddy(self.swap_slots) if self.swap_slots else None
        self.anon = self._order(seed)
        if self.cache_border < self.nr_vpns:
            self.cache = self._order(seed ^ 1)
        self.gfn = <gfn_t *>malloc(self.nr_vpns * sizeof(gfn_t))
        self.copy = <uint32_t *>malloc(self.nr_vpns * sizeof(uint32_t))
        self.vpn = <vpn_t *>malloc(self.nr_pages * sizeof(vpn_t))
        self.state = <uint8_t *>calloc(self.nr_pages, 1)
        self.balloon = <gfn_t *>calloc(self.nr_pages, sizeof(gfn_t))
        if self.report_order != NO_REPORTING:
            self.reported = <uint8_t *>calloc(self.nr_blocks + 1, 1)        # + 1: a last block that is not whole
        if (self.gfn == NULL or self.copy == NULL or self.vpn == NULL or self.state == NULL
                or self.balloon == NULL or (self.report_order != NO_REPORTING and self.reported == NULL)):
            raise MemoryError(f"guest: no memory for the tables of {self.nr_vpns} vpns and {self.nr_pages} pages")
        return 0

    cdef Order _order(self, uint64_t seed):
        """An empty order of this guest's kind; the seed is for one that draws."""
        return make_order(self.replacement, self.nr_pages, self.nr_pages, self.nr_vpns, self.replacement_options, seed)

    def __dealloc__(self):
        free(self.gfn)
        free(self.copy)
        free(self.vpn)
        free(self.state)
        free(self.balloon)
        free(self.reported)

    def metadata_bytes(self):
        """What all this takes."""
        cdef uint64_t total = <uint64_t>self.nr_vpns * (sizeof(gfn_t) + sizeof(uint32_t))
        total += <uint64_t>self.nr_pages * (sizeof(vpn_t) + sizeof(uint8_t) + sizeof(gfn_t))
        total += self.nr_blocks + self.buddy.metadata_bytes
        if self.slots is not None:
            total += self.slots.metadata_bytes
        return total + sum(order.metadata_bytes() for order in (self.anon, self.cache) if order is not None)

    # -- changes -----------------------------------------------------------------------------------------------------

    cdef bint is_cache(self, vpn_t vpn) noexcept nogil:
        return vpn >= self.cache_border

    cdef uint32_t nr_free_slots(self) noexcept nogil:
        return self.slots.nr_free if self.slots is not None else 0

    cdef int take(self, gfn_t *gfn) except -1 nogil:
        """The page that the buddy allocator chooses. Its block must be reported again once it is free again."""
        cdef int outcome = self.buddy.take(0, gfn)
        if outcome == OK:
            self._used(gfn[0], 1)
        return outcome

    cdef int take_block(self, gfn_t *first) except -1 nogil:
        """The 2 MiB that the buddy allocator chooses."""
        cdef int outcome = self.buddy.take(HUGE_ORDER, first)
        if outcome == OK:
            self._used(first[0], LEAF_ENTRIES)
        return outcome

    cdef void _used(self, gfn_t first, uint32_t pages) noexcept nogil:
        """These pages are free no more: the blocks that they are in are not as they were reported."""
        cdef uint32_t block
        if self.reported == NULL:
            return
        for block in range(first >> self.report_order, (first + pages - 1 >> self.report_order) + 1):
            self.nr_reported -= self.reported[block]
            self.reported[block] = 0

    cdef void mark_reported(self, gfn_t gfn) noexcept nogil:
        self.nr_reported += not self.reported[gfn >> self.report_order]
        self.reported[gfn >> self.report_order] = 1

    cdef int isolate(self, gfn_t first) except -1 nogil:
        cdef gfn_t gfn
        for gfn in range(first, first + LEAF_ENTRIES):
            if self.state[gfn] != PAGE_FREE:
                continue
            if self.buddy.take_at(gfn, 0) != OK:
                return EMPTY
            self._used(gfn, 1)
            self.state[gfn] = PAGE_ISOLATED
        return OK

    cdef int put_back(self, gfn_t first) except -1 nogil:
        cdef gfn_t gfn
        for gfn in range(first, first + LEAF_ENTRIES):
            if self.state[gfn] == PAGE_ISOLATED:
                self.state[gfn] = PAGE_FREE
                self.buddy.give(gfn, 0)
        return OK

    cdef int move(self, vpn_t vpn, gfn_t source, gfn_t target) except -1 nogil:
        """Its place among the others, its copy and its state are what they were."""
        assert self.gfn[vpn] == source and self.state[target] == PAGE_FREE and not self.state[source] & PAGE_LOCKED
        self.gfn[vpn] = target
        self.vpn[target] = vpn
        self.vpn[source] = NONE
        self.state[target] = self.state[source]
        self.state[source] = PAGE_ISOLATED
        return self.cache.rename(source, target) if self.is_cache(vpn) else self.anon.rename(source, target)

    cdef int take_slot(self, uint32_t *slot) except -1 nogil:
        if self.nr_free_slots() == 0 or self.slots.take(0, slot) != OK:
            return EMPTY
        return OK

    cdef int map(self, vpn_t vpn, gfn_t gfn, uint32_t copy, bint dirty) except -1 nogil:
        """Map a page that take gave; the vpn's old copy, if it was a slot and is not `copy`, is free."""
        cdef uint32_t before = self.copy[vpn], key = vpn if before != NONE else NONE
        assert self.gfn[vpn] == NONE and self.vpn[gfn] == NONE and self.state[gfn] == PAGE_FREE
        if self.is_cache(vpn):
            self.cache.insert(gfn, key)
        else:
            if before != NONE and before != copy:
                self.slots.give(before, 0)
            self.nr_clean_anon += not dirty
            self.anon.insert(gfn, key)
        self.gfn[vpn] = gfn
        self.vpn[gfn] = vpn
        self.copy[vpn] = copy
        self.state[gfn] = PAGE_DIRTY if dirty else PAGE_CLEAN
        return OK

    cdef int lock(self, vpn_t vpn) except -1 nogil:
        """The page is not evicted until it is unlocked or freed: no order has it."""
        cdef gfn_t gfn = self.gfn[vpn]
        assert gfn != NONE
        if self.state[gfn] & PAGE_LOCKED:
            return OK
        self._out_of_order(vpn, gfn)
        self.state[gfn] |= PAGE_LOCKED
        self.nr_locked += 1
        return OK

    cdef int unlock(self, vpn_t vpn) except -1 nogil:
        """It may be evicted again, and goes as a page that has just come."""
        cdef gfn_t gfn = self.gfn[vpn]
        if gfn == NONE or not self.state[gfn] & PAGE_LOCKED:
            return OK
        self.state[gfn] &= ~PAGE_LOCKED
        self.nr_locked -= 1
        return self.cache.insert(gfn, NONE) if self.is_cache(vpn) else self.anon.insert(gfn, NONE)

    cdef int unlock_all(self) except -1:
        cdef gfn_t gfn
        for gfn in range(self.nr_pages if self.nr_locked else 0):
            if self.state[gfn] & PAGE_LOCKED:
                self.unlock(self.vpn[gfn])
        return OK

    cdef int _out_of_order(self, vpn_t vpn, gfn_t gfn) except -1 nogil:
        """The order of its kind has this mapped page no more."""
        return self.cache.forget(gfn) if self.is_cache(vpn) else self.anon.forget(gfn)

    cdef int unmap(self, vpn_t vpn, gfn_t gfn, uint32_t copy) except -1 nogil:
        """The page is evicted: its content lies at `copy`, its page is free."""
        assert self.gfn[vpn] == gfn and copy != NONE
        if self.is_cache(vpn):
            self.cache.take(gfn, vpn)
        else:
            self.nr_clean_anon -= self.state[gfn] == PAGE_CLEAN
            self.anon.take(gfn, vpn)
        self.copy[vpn] = copy
        self.gfn[vpn] = self.vpn[gfn] = NONE
        self.state[gfn] = PAGE_FREE
        return self.buddy.give(gfn, 0)

    cdef int set_dirty(self, vpn_t vpn, gfn_t gfn) except -1 nogil:
        """A store to a clean page: a slot would only grow stale, but a block of the file is the file's own."""
        assert (self.state[gfn] & ~PAGE_LOCKED) == PAGE_CLEAN
        if not self.is_cache(vpn):
            self.slots.give(self.copy[vpn], 0)
            self.copy[vpn] = NONE
            self.nr_clean_anon -= 1
        self.state[gfn] = PAGE_DIRTY | (self.state[gfn] & PAGE_LOCKED)
        return OK

    cdef int forget(self, vpn_t vpn) except -1 nogil:
        """Give back whatever vpn holds: it is as never touched."""
        cdef gfn_t gfn = self.gfn[vpn]
        if gfn != NONE:
            if self.state[gfn] & PAGE_LOCKED:
                self.nr_locked -= 1
            else:
                self._out_of_order(vpn, gfn)
            self.nr_clean_anon -= not self.is_cache(vpn) and (self.state[gfn] & ~PAGE_LOCKED) == PAGE_CLEAN
            self.gfn[vpn] = self.vpn[gfn] = NONE
            self.state[gfn] = PAGE_FREE
            self.buddy.give(gfn, 0)
        if self.is_cache(vpn):
            self.cache.forget_key(vpn)
        else:
            self.anon.forget_key(vpn)
            if self.copy[vpn] != NONE:
                self.slots.give(self.copy[vpn], 0)
        self.copy[vpn] = NONE
        return OK

    cdef void push_balloon(self, gfn_t gfn) noexcept nogil:
        assert self.state[gfn] in (PAGE_FREE, PAGE_ISOLATED)
        self.state[gfn] = PAGE_BALLOON
        self.balloon[self.nr_balloon] = gfn
        self.nr_balloon += 1

    cdef uint32_t pop_balloon(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        """Up to `pages` pages of the balloon become free, last in first out; returns how many."""
        cdef uint32_t _n
        cdef gfn_t gfn
        pages = min(pages, self.nr_balloon)
        for _n in range(pages):
            self.nr_balloon -= 1
            gfn = self.balloon[self.nr_balloon]
            self.state[gfn] = PAGE_FREE
            self.buddy.give(gfn, 0)
        return pages

    # -- copies ------------------------------------------------------------------------------------------------------

    cdef GuestMemory copied(self, uint64_t seed):
        """Equal tables; the orders are in the same state without their ghosts, and draw by that seed."""
        cdef GuestMemory twin = GuestMemory(
            self.nr_vpns, self.nr_pages, cache_border=self.cache_border, swap_slots=self.swap_slots,
            kernel_pages=self.kernel_pages, report_order=None if self.report_order < 0 else self.report_order,
            replacement=self.replacement, replacement_options=self.replacement_options, seed=seed, filled=False)
        twin.buddy.copy_from(self.buddy)
        if twin.slots is not None:
            twin.slots.copy_from(self.slots)
        twin.anon.copy_from(self.anon)
        if twin.cache is not None:
            twin.cache.copy_from(self.cache)
        memcpy(twin.gfn, self.gfn, self.nr_vpns * sizeof(gfn_t))
        memcpy(twin.copy, self.copy, self.nr_vpns * sizeof(uint32_t))
        memcpy(twin.vpn, self.vpn, self.nr_pages * sizeof(vpn_t))
        memcpy(twin.state, self.state, self.nr_pages)
        memcpy(twin.balloon, self.balloon, self.nr_balloon * sizeof(gfn_t))
        if twin.reported != NULL:
            memcpy(twin.reported, self.reported, self.nr_blocks + 1)
        twin.report_hand = self.report_hand
        twin.nr_reported = self.nr_reported
        twin.nr_balloon = self.nr_balloon
        twin.nr_locked = self.nr_locked
        twin.nr_clean_anon = self.nr_clean_anon
        return twin

    # -- recount -----------------------------------------------------------------------------------------------------

    cpdef object check(self):
        """Recount everything, O(vpns + pages + slots). Raises InvariantError at the first difference."""
        self.buddy.check()
        self.anon.check()
        if self.cache is not None:
            self.cache.check()
        if self.slots is not None:
            self.slots.check()
        self._check_pages()
        self._check_copies()
        cdef uint64_t page
        cdef uint32_t reported = 0
        for page in range(<uint64_t>self.nr_blocks << max(self.report_order, 0)):
            if self.reported[page >> self.report_order] and not self.buddy.is_free(page):
                raise InvariantError(f"guest: page {page} is in use, its block is marked as reported")
        for page in range(self.nr_blocks):
            reported += self.reported[page]
        if reported != self.nr_reported:
            raise InvariantError(f"guest: {self.nr_reported} blocks are reported, recount {reported}")

    cdef object _check_pages(self):
        """Every gfn is in one state, and everybody agrees on it."""
        cdef gfn_t gfn
        cdef vpn_t vpn
        cdef bint mapped, cache, locked
        cdef uint32_t all_locked = 0
        balloon = {self.balloon[i] for i in range(self.nr_balloon)}
        if len(balloon) != self.nr_balloon:
            raise InvariantError(f"guest: the balloon counts {self.nr_balloon} pages and holds {len(balloon)}")
        for gfn in range(self.nr_pages):
            PyErr_CheckSignals()                    # a recount may stop anywhere
            vpn = self.vpn[gfn]
            state = self.state[gfn]
            locked = state & PAGE_LOCKED
            state &= ~PAGE_LOCKED
            all_locked += locked
            mapped = state in (PAGE_CLEAN, PAGE_DIRTY)
            if state not in (PAGE_FREE, PAGE_CLEAN, PAGE_DIRTY, PAGE_BALLOON, PAGE_KERNEL):
                raise InvariantError(f"guest: gfn {gfn} has state {state}, which no page has between calls")
            cache = mapped and vpn != NONE and self.is_cache(vpn)
            if locked and not mapped:
                raise InvariantError(f"guest: gfn {gfn} has state {state} and is locked")
            if mapped != (vpn != NONE):
                raise InvariantError(f"guest: gfn {gfn} has state {state} and vpn {vpn}")
            if mapped and (vpn >= self.nr_vpns or self.gfn[vpn] != gfn):
                raise InvariantError(f"guest: gfn {gfn} says vpn {vpn}, which says otherwise")
            if (state == PAGE_FREE) != self.buddy.is_free(gfn):
                raise InvariantError(f"guest: gfn {gfn} has state {state}, is_free is {self.buddy.is_free(gfn)}")
            if (state == PAGE_BALLOON) != (gfn in balloon):
                raise InvariantError(f"guest: gfn {gfn} has state {state}, in the balloon: {gfn in balloon}")
            if (state == PAGE_KERNEL) != (gfn < self.kernel_pages):
                raise InvariantError(f"guest: gfn {gfn} has state {state}, the kernel has {self.kernel_pages} pages")
            if self.anon.holds(gfn) != (mapped and not cache and not locked):
                raise InvariantError(f"guest: gfn {gfn} (vpn {vpn}): in the anonymous order, or not, by mistake")
            if self.cache is not None and self.cache.holds(gfn) != (cache and not locked):
                raise InvariantError(f"guest: gfn {gfn} (vpn {vpn}): in the page cache order, or not, by mistake")
        if all_locked != self.nr_locked:
            raise InvariantError(f"guest: nr_locked is {self.nr_locked}, recounted {all_locked}")

    cdef object _check_copies(self):
        """Every vpn has a page, a copy, both or neither, as the page's state says; slots in use are named once."""
        cdef vpn_t vpn
        cdef uint32_t copy, clean = 0
        cdef bint dirty
        used = set()
        for vpn in range(self.nr_vpns):
            PyErr_CheckSignals()
            gfn, copy = self.gfn[vpn], self.copy[vpn]
            if gfn != NONE and (gfn >= self.nr_pages or self.vpn[gfn] != vpn):
                raise InvariantError(f"guest: vpn {vpn} says gfn {gfn}, which says otherwise")
            dirty = gfn != NONE and (self.state[gfn] & ~PAGE_LOCKED) == PAGE_DIRTY
            if self.is_cache(vpn):
                if copy not in (NONE, FILE_ORIGINAL, self.swap_slots + vpn - self.cache_border):
                    raise InvariantError(f"guest: page cache vpn {vpn} has its copy in slot {copy}")
                if gfn != NONE and copy == NONE:
                    raise InvariantError(f"guest: page cache vpn {vpn} is mapped and was never read")
                continue
            clean += gfn != NONE and not dirty
            if gfn != NONE and dirty != (copy == NONE):
                raise InvariantError(f"guest: vpn {vpn} is mapped, dirty is {dirty}, its copy {copy}")
            if copy != NONE and (copy >= self.swap_slots or self.slots.is_free(copy) or copy in used):
                raise InvariantError(f"guest: vpn {vpn} has its copy in slot {copy}: out of range, free or another's")
            if copy != NONE:
                used.add(copy)
        if clean != self.nr_clean_anon:
            raise InvariantError(f"guest: nr_clean_anon is {self.nr_clean_anon}, recounted {clean}")
        if len(used) + self.nr_free_slots() != self.swap_slots:
            raise InvariantError(f"guest: {len(used)} + {self.nr_free_slots()} free slots are not {self.swap_slots}")
