"""The tables of a guest: which page is free, mapped, ballooned or the kernel's own, and where copies lie.

This module changes the tables and recounts them; what to change, and when, is decided in guest.pyx. Invariants:

- `_gfn` and `_vpn` are inverse to each other;
- a page is FREE if and only if the buddy allocator has it; BALLOON if and only if it is on the balloon's stack;
- the orders `_anon` and `_cache` hold exactly the mapped pages below and from cache_border on that are not locked;
- a guest swap slot is in use if and only if one anonymous vpn has its copy there; slot numbers from swap_slots on are
  blocks of the file, one for each page cache vpn, and need no allocator;
- a mapped page is CLEAN only if it has a copy; an anonymous one is DIRTY only if it has none;
- a block marked as reported is free.

9 bytes per guest-physical page and 8 per page of address space, beside the buddy allocators and the orders.

A copy of a guest (a clone's) uses the tables of the guest it was made from, its *lender*, until either changes
something. Before a change, `own` parts them: a borrower copies the tables for itself; a lender lets its oldest borrower
copy them, and the other borrowers then borrow from that one. The lender keeps its orders with their ghosts. A copy
therefore sees the state at the time it was made. Exceptions: under an order whose answer changes when it is asked twice,
a second copy may get the second answer; and a copy that ends before any change has asked nothing. A lender whose VM ends
lives on, unchanged, while a guest borrows from it; a borrower that ends leaves the ring.

Guests that share tables form a ring that no Python code walks. So neither a signal nor want of memory can interrupt a
parting, and the heir depends only on the order in which copies were made.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from cpython.object cimport PyObject

from ..memory.buddy cimport Buddy
from ..replacement.order cimport Order
from ..replacement.registry cimport make_order
from ..types cimport EMPTY, MAX_ORDER, NONE, OK, gfn_t, uint8_t, uint32_t, uint64_t, vpn_t

from memvirt.errors import ConfigError, InvariantError


cdef uint32_t whole(str name, value, long long low, long long high) except? 0xFFFFFFFF:
    """value as a number in low .. high. Raises ConfigError."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"guest: {name}={value!r} must be an int in {low} .. {high}")
    return value


cdef class GuestMemory:
    """All pages free but the kernel's, nothing mapped. Arguments are those of Guest, the only class meant for use."""

    def __cinit__(self, hardware, vpns, pages, *, cache_border=None, swap_slots=0, kernel_pages=0, report_order=None,
                  str replacement="clock", replacement_options=None, seed=0, GuestMemory lender=None, **options):
        self._sharer.next = self._sharer.prev = &self._sharer
        self._sharer.guest = <PyObject *>self
        self.nr_vpns = whole("vpns", vpns, 1, <long long>NONE - 2)
        self.nr_pages = whole("pages", pages, 1, <long long>NONE - 2)
        self.cache_border = whole("cache_border", vpns if cache_border is None else cache_border, 0, vpns)
        self.swap_slots = whole("swap_slots", swap_slots, 0, <long long>FILE_ORIGINAL - (vpns - self.cache_border))
        self.kernel_pages = whole("kernel_pages", kernel_pages, 0, pages - 1)
        self.report_order = NO_REPORTING
        if report_order is not None:
            self.report_order = whole("report_order", report_order, 0, MAX_ORDER)
            self._nr_blocks = self.nr_pages >> self.report_order
        self.replacement = replacement
        self.replacement_options = replacement_options or {}
        self._seed = seed
        if lender is not None:
            self._join(lender if lender._lender is None else lender._lender)
            return
        self._make_tables()
        memset(self._gfn, 0xFF, self.nr_vpns * sizeof(gfn_t))
        memset(self._copy, 0xFF, self.nr_vpns * sizeof(uint32_t))
        memset(self._vpn, 0xFF, self.nr_pages * sizeof(vpn_t))
        memset(self._state, PAGE_KERNEL, self.kernel_pages)
        cdef gfn_t gfn
        for gfn in range(self.kernel_pages):
            self.buddy.take_at(gfn, 0)

    cdef int _make_tables(self) except -1:
        """Tables of its own, of a guest that has all its pages free; those without zeros are not filled yet."""
        self.buddy = Buddy(self.nr_pages)
        self._slots = Buddy(self.swap_slots) if self.swap_slots else None
        self._anon = self._order(self._seed)
        if self.cache_border < self.nr_vpns:
            self._cache = self._order(self._seed ^ 1)
        self._gfn = <gfn_t *>malloc(self.nr_vpns * sizeof(gfn_t))
        self._copy = <uint32_t *>malloc(self.nr_vpns * sizeof(uint32_t))
        self._vpn = <vpn_t *>malloc(self.nr_pages * sizeof(vpn_t))
        self._state = <uint8_t *>calloc(self.nr_pages, 1)
        self._balloon = <gfn_t *>calloc(self.nr_pages, sizeof(gfn_t))
        if self.report_order != NO_REPORTING:
            self._reported = <uint8_t *>calloc(self._nr_blocks + 1, 1)      # + 1: a last block that is not whole
        if (self._gfn == NULL or self._copy == NULL or self._vpn == NULL or self._state == NULL
                or self._balloon == NULL or (self.report_order != NO_REPORTING and self._reported == NULL)):
            raise MemoryError(f"guest: no memory for the tables of {self.nr_vpns} vpns and {self.nr_pages} pages")
        return 0

    cdef Order _order(self, uint64_t seed):
        """An empty order of this guest's kind; the seed is for one that draws."""
        return make_order(self.replacement, self.nr_pages, self.nr_pages, self.nr_vpns, self.replacement_options, seed)

    def __dealloc__(self):
        self._leave()
        if not self._borrowed:
            self._free_tables()

    cdef void _free_tables(self) noexcept:
        free(self._gfn)
        free(self._copy)
        free(self._vpn)
        free(self._state)
        free(self._balloon)
        free(self._reported)
        self._gfn = self._copy = self._vpn = self._balloon = NULL
        self._state = self._reported = NULL

    def metadata_bytes(self):
        """What all this takes."""
        cdef uint64_t total = <uint64_t>self.nr_vpns * (sizeof(gfn_t) + sizeof(uint32_t))
        total += <uint64_t>self.nr_pages * (sizeof(vpn_t) + sizeof(uint8_t) + sizeof(gfn_t))
        total += self._nr_blocks + self.buddy.metadata_bytes
        if self._slots is not None:
            total += self._slots.metadata_bytes
        return total + sum(order.metadata_bytes() for order in (self._anon, self._cache) if order is not None)

    # -- changes -----------------------------------------------------------------------------------------------------

    cdef bint _is_cache(self, vpn_t vpn) noexcept nogil:
        return vpn >= self.cache_border

    cdef uint32_t nr_free_slots(self) noexcept nogil:
        return self._slots.nr_free if self._slots is not None else 0

    cdef int _take(self, gfn_t *gfn) except -1 nogil:
        """The page that the buddy allocator chooses. Its block must be reported again once it is free again."""
        assert not self._lent()
        cdef int outcome = self.buddy.take(0, gfn)
        if outcome == OK and self._reported != NULL:
            self._reported[gfn[0] >> self.report_order] = 0
        return outcome

    cdef int _take_slot(self, uint32_t *slot) except -1 nogil:
        assert not self._lent()
        if self.nr_free_slots() == 0 or self._slots.take(0, slot) != OK:
            return EMPTY
        return OK

    cdef int _map(self, vpn_t vpn, gfn_t gfn, uint32_t copy, bint dirty) except -1 nogil:
        """Map a page that _take gave; the vpn's old copy, if it was a slot and is not `copy`, is free."""
        cdef uint32_t before = self._copy[vpn], key = vpn if before != NONE else NONE
        assert not self._lent() and self._gfn[vpn] == NONE and self._vpn[gfn] == NONE and self._state[gfn] == PAGE_FREE
        if self._is_cache(vpn):
            self._cache.insert(gfn, key)
        else:
            if before != NONE and before != copy:
                self._slots.give(before, 0)
            self.nr_clean_anon += not dirty
            self._anon.insert(gfn, key)
        self._gfn[vpn] = gfn
        self._vpn[gfn] = vpn
        self._copy[vpn] = copy
        self._state[gfn] = PAGE_DIRTY if dirty else PAGE_CLEAN
        return OK

    cdef int lock(self, vpn_t vpn) except -1 nogil:
        """The page is not evicted until it is unlocked or freed: no order has it."""
        cdef gfn_t gfn = self._gfn[vpn]
        assert not self._lent() and gfn != NONE
        if self._state[gfn] & PAGE_LOCKED:
            return OK
        self._out_of_order(vpn, gfn)
        self._state[gfn] |= PAGE_LOCKED
        self.nr_locked += 1
        return OK

    cdef int unlock(self, vpn_t vpn) except -1 nogil:
        """It may be evicted again, and goes as a page that has just come."""
        cdef gfn_t gfn = self._gfn[vpn]
        assert not self._lent()
        if gfn == NONE or not self._state[gfn] & PAGE_LOCKED:
            return OK
        self._state[gfn] &= ~PAGE_LOCKED
        self.nr_locked -= 1
        return self._cache.insert(gfn, NONE) if self._is_cache(vpn) else self._anon.insert(gfn, NONE)

    cdef int unlock_all(self) except -1:
        cdef gfn_t gfn
        for gfn in range(self.nr_pages if self.nr_locked else 0):
            if self._state[gfn] & PAGE_LOCKED:
                self.unlock(self._vpn[gfn])
        return OK

    cdef int _out_of_order(self, vpn_t vpn, gfn_t gfn) except -1 nogil:
        """The order of its kind has this mapped page no more."""
        return self._cache.forget(gfn) if self._is_cache(vpn) else self._anon.forget(gfn)

    cdef int _unmap(self, vpn_t vpn, gfn_t gfn, uint32_t copy) except -1 nogil:
        """The page is evicted: its content lies at `copy`, its page is free."""
        assert not self._lent() and self._gfn[vpn] == gfn and copy != NONE
        if self._is_cache(vpn):
            self._cache.take(gfn, vpn)
        else:
            self.nr_clean_anon -= self._state[gfn] == PAGE_CLEAN
            self._anon.take(gfn, vpn)
        self._copy[vpn] = copy
        self._gfn[vpn] = self._vpn[gfn] = NONE
        self._state[gfn] = PAGE_FREE
        return self.buddy.give(gfn, 0)

    cdef int _set_dirty(self, vpn_t vpn, gfn_t gfn) except -1 nogil:
        """A store to a clean page: a slot would only grow stale, but a block of the file is the file's own."""
        assert not self._lent() and (self._state[gfn] & ~PAGE_LOCKED) == PAGE_CLEAN
        if not self._is_cache(vpn):
            self._slots.give(self._copy[vpn], 0)
            self._copy[vpn] = NONE
            self.nr_clean_anon -= 1
        self._state[gfn] = PAGE_DIRTY | (self._state[gfn] & PAGE_LOCKED)
        return OK

    cdef int _forget(self, vpn_t vpn) except -1 nogil:
        """Give back whatever vpn holds: it is as never touched."""
        cdef gfn_t gfn = self._gfn[vpn]
        assert not self._lent()
        if gfn != NONE:
            if self._state[gfn] & PAGE_LOCKED:
                self.nr_locked -= 1
            else:
                self._out_of_order(vpn, gfn)
            self.nr_clean_anon -= not self._is_cache(vpn) and (self._state[gfn] & ~PAGE_LOCKED) == PAGE_CLEAN
            self._gfn[vpn] = self._vpn[gfn] = NONE
            self._state[gfn] = PAGE_FREE
            self.buddy.give(gfn, 0)
        if self._is_cache(vpn):
            self._cache.forget_key(vpn)
        else:
            self._anon.forget_key(vpn)
            if self._copy[vpn] != NONE:
                self._slots.give(self._copy[vpn], 0)
        self._copy[vpn] = NONE
        return OK

    cdef void _push_balloon(self, gfn_t gfn) noexcept nogil:
        assert not self._lent() and self._state[gfn] == PAGE_FREE
        self._state[gfn] = PAGE_BALLOON
        self._balloon[self.nr_balloon] = gfn
        self.nr_balloon += 1

    cdef uint32_t _pop_balloon(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        """Up to `pages` pages of the balloon become free, last in first out; returns how many."""
        cdef uint32_t _n
        cdef gfn_t gfn
        assert not self._lent()
        pages = min(pages, self.nr_balloon)
        for _n in range(pages):
            self.nr_balloon -= 1
            gfn = self._balloon[self.nr_balloon]
            self._state[gfn] = PAGE_FREE
            self.buddy.give(gfn, 0)
        return pages

    # -- cloning -----------------------------------------------------------------------------------------------------

    cdef void _join(self, GuestMemory lender) noexcept:
        """Be a copy of `lender`, which was made with the same arguments and has tables of its own, by using these."""
        self._sharer.next, self._sharer.prev = &lender._sharer, lender._sharer.prev
        self._sharer.next.prev = self._sharer.prev.next = &self._sharer
        self._use_tables_of(lender)

    cdef void _leave(self) noexcept:
        """Be alone in the ring. The others in it may be about to go themselves: they are not looked at."""
        if self._sharer.next != NULL:           # NULL: not even begun
            self._sharer.next.prev, self._sharer.prev.next = self._sharer.prev, self._sharer.next
            self._sharer.next = self._sharer.prev = &self._sharer

    cdef void _use_tables_of(self, GuestMemory other) noexcept:
        self._lender = other
        self._borrowed = True
        self._gfn, self._copy, self._vpn = other._gfn, other._copy, other._vpn
        self._state, self._balloon, self._reported = other._state, other._balloon, other._reported
        self.buddy, self._slots, self._anon, self._cache = other.buddy, other._slots, other._anon, other._cache
        self._report_hand = other._report_hand
        self.nr_balloon = other.nr_balloon
        self.nr_locked = other.nr_locked
        self.nr_clean_anon = other.nr_clean_anon

    cdef int _part(self) except -1:
        """The copy comes first, as the only step that may fail."""
        cdef GuestMemory heir = self if self._lender is not None else <GuestMemory>self._sharer.next.guest, other
        cdef Sharer *sharer
        heir._copy_tables()
        heir._moved()
        self._leave()
        if heir is self:
            return 0
        sharer = heir._sharer.next
        while sharer != &heir._sharer:
            other = <GuestMemory>sharer.guest
            other._use_tables_of(heir)
            other._moved()
            sharer = sharer.next
        return 0

    cdef void _moved(self) noexcept:
        pass

    cdef int _copy_tables(self) except -1:
        """Tables of its own, equal to the lender's; without memory for them it goes on borrowing."""
        cdef GuestMemory other = self._lender
        self._gfn = self._copy = self._vpn = self._balloon = NULL
        self._state = self._reported = NULL
        try:
            self._make_tables()
            self.buddy.copy_from(other.buddy)
            if self._slots is not None:
                self._slots.copy_from(other._slots)
            self._anon.copy_from(other._anon)
            if self._cache is not None:
                self._cache.copy_from(other._cache)
        except BaseException:
            self._free_tables()
            self._use_tables_of(other)
            raise
        memcpy(self._gfn, other._gfn, self.nr_vpns * sizeof(gfn_t))
        memcpy(self._copy, other._copy, self.nr_vpns * sizeof(uint32_t))
        memcpy(self._vpn, other._vpn, self.nr_pages * sizeof(vpn_t))
        memcpy(self._state, other._state, self.nr_pages)
        memcpy(self._balloon, other._balloon, other.nr_balloon * sizeof(gfn_t))
        if self._reported != NULL:
            memcpy(self._reported, other._reported, self._nr_blocks + 1)
        self._lender = None
        self._borrowed = False
        return 0

    # -- recount -----------------------------------------------------------------------------------------------------

    cpdef object check(self):
        """Recount everything, O(vpns + pages + slots). Raises InvariantError at the first difference."""
        self.buddy.check()
        self._anon.check()
        if self._cache is not None:
            self._cache.check()
        if self._slots is not None:
            self._slots.check()
        self._check_pages()
        self._check_copies()
        self._check_sharers()
        cdef uint64_t page
        for page in range(<uint64_t>self._nr_blocks << max(self.report_order, 0)):
            if self._reported[page >> self.report_order] and not self.buddy.is_free(page):
                raise InvariantError(f"guest: page {page} is in use, its block is marked as reported")

    cdef object _check_pages(self):
        """Every gfn is in one state, and everybody agrees on it."""
        cdef gfn_t gfn
        cdef vpn_t vpn
        cdef bint mapped, cache, locked
        cdef uint32_t all_locked = 0
        balloon = {self._balloon[i] for i in range(self.nr_balloon)}
        if len(balloon) != self.nr_balloon:
            raise InvariantError(f"guest: the balloon counts {self.nr_balloon} pages and holds {len(balloon)}")
        for gfn in range(self.nr_pages):
            vpn = self._vpn[gfn]
            state = self._state[gfn]
            locked = state & PAGE_LOCKED
            state &= ~PAGE_LOCKED
            all_locked += locked
            mapped = state in (PAGE_CLEAN, PAGE_DIRTY)
            cache = mapped and vpn != NONE and self._is_cache(vpn)
            if locked and not mapped:
                raise InvariantError(f"guest: gfn {gfn} has state {state} and is locked")
            if mapped != (vpn != NONE):
                raise InvariantError(f"guest: gfn {gfn} has state {state} and vpn {vpn}")
            if mapped and (vpn >= self.nr_vpns or self._gfn[vpn] != gfn):
                raise InvariantError(f"guest: gfn {gfn} says vpn {vpn}, which says otherwise")
            if (state == PAGE_FREE) != self.buddy.is_free(gfn):
                raise InvariantError(f"guest: gfn {gfn} has state {state}, is_free is {self.buddy.is_free(gfn)}")
            if (state == PAGE_BALLOON) != (gfn in balloon):
                raise InvariantError(f"guest: gfn {gfn} has state {state}, in the balloon: {gfn in balloon}")
            if (state == PAGE_KERNEL) != (gfn < self.kernel_pages):
                raise InvariantError(f"guest: gfn {gfn} has state {state}, the kernel has {self.kernel_pages} pages")
            if self._anon.holds(gfn) != (mapped and not cache and not locked):
                raise InvariantError(f"guest: gfn {gfn} (vpn {vpn}): in the anonymous order, or not, by mistake")
            if self._cache is not None and self._cache.holds(gfn) != (cache and not locked):
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
            gfn, copy = self._gfn[vpn], self._copy[vpn]
            if gfn != NONE and (gfn >= self.nr_pages or self._vpn[gfn] != vpn):
                raise InvariantError(f"guest: vpn {vpn} says gfn {gfn}, which says otherwise")
            dirty = gfn != NONE and (self._state[gfn] & ~PAGE_LOCKED) == PAGE_DIRTY
            if self._is_cache(vpn):
                if copy not in (NONE, FILE_ORIGINAL, self.swap_slots + vpn - self.cache_border):
                    raise InvariantError(f"guest: page cache vpn {vpn} has its copy in slot {copy}")
                if gfn != NONE and copy == NONE:
                    raise InvariantError(f"guest: page cache vpn {vpn} is mapped and was never read")
                continue
            clean += gfn != NONE and not dirty
            if gfn != NONE and dirty != (copy == NONE):
                raise InvariantError(f"guest: vpn {vpn} is mapped, dirty is {dirty}, its copy {copy}")
            if copy != NONE and (copy >= self.swap_slots or self._slots.is_free(copy) or copy in used):
                raise InvariantError(f"guest: vpn {vpn} has its copy in slot {copy}: out of range, free or another's")
            if copy != NONE:
                used.add(copy)
        if clean != self.nr_clean_anon:
            raise InvariantError(f"guest: nr_clean_anon is {self.nr_clean_anon}, recounted {clean}")
        if len(used) + self.nr_free_slots() != self.swap_slots:
            raise InvariantError(f"guest: {len(used)} + {self.nr_free_slots()} free slots are not {self.swap_slots}")

    cdef object _check_sharers(self):
        """One guest of the ring has tables of its own; the others use these, and know of them what it knows."""
        cdef GuestMemory owner = self if self._lender is None else self._lender, other
        cdef Sharer *sharer = owner._sharer.next
        if owner._lender is not None or owner._borrowed or (self is not owner and not self._lent()):
            raise InvariantError("guest: its tables are those of one that has none, or does not know of it")
        while sharer != &owner._sharer:
            other = <GuestMemory>sharer.guest
            if sharer.next.prev != sharer or other._lender is not owner or not other._borrowed:
                raise InvariantError("guest: the ring of those that share its tables is broken")
            if (other._gfn != owner._gfn or other._vpn != owner._vpn or other.buddy is not owner.buddy
                    or other.nr_balloon != owner.nr_balloon or other.nr_clean_anon != owner.nr_clean_anon):
                raise InvariantError("guest: one that borrows its tables uses others")
            sharer = sharer.next
