"""What Python may do with the buddy allocator, and the recount that shows it is sound.

The allocator proper is Blocks. At this border every argument is examined before anything changes: a number out of
range is a ValueError, a page that is given though it is free an InvariantError, and both name the number and the bound.
"""

from .blocks cimport NR_ORDERS, Places, WORD_ORDER, maximal
from .fragmentation cimport describe
from ..types cimport MAX_ORDER, OK, uint32_t, uint64_t

import numpy as np

from memvirt.engine.memory.fragmentation import pages_in
from memvirt.errors import InvariantError

cdef extern from "memory/word_bits.h" nogil:
    int bits_count(uint64_t word)

cdef extern from "memory/bitset.h" nogil:
    bint places_has(const Places *places, uint32_t number)
    void places_remove(Places *places, uint32_t number)
    uint32_t places_least(const Places *places)
    int places_wrong_level(const Places *places)
    void places_spoil(Places *places)


cdef class Buddy(Blocks):
    """Pages 0 .. nr_pages - 1 in power-of-two blocks, all free at the start. nr_pages need not be a power of two."""

    def free_counts(self):
        """Free blocks per order, 0 .. MAX_ORDER."""
        return [self._nr_blocks[order] for order in range(NR_ORDERS)]

    def fragmentation(self):
        """How scattered free memory is, as a dict of plain integers and lists.

        nr_pages, nr_free   pages in all; pages free
        free_blocks         free blocks of exactly each order
        external            Linux's external fragmentation index per order, in thousandths
        unusable            Linux's unusable free space index per order, in thousandths
        free_runs           maximal runs of adjacent free pages: item k counts lengths 2^k <= pages < 2^(k+1)
        largest_free_block  pages; 0 when nothing is free
        largest_free_run    pages
        """
        return describe(self.nr_pages, self._free, self.free_counts())

    # -- the recount -------------------------------------------------------------------------------------------------

    cpdef object check(self):
        """Recount everything from the bit per page; InvariantError on the first difference. O(nr_pages / 64)."""
        cdef uint32_t word
        cdef uint64_t nr_free = 0
        cdef bint full
        if self.nr_pages & 63 and self._free[self._nr_words - 1] >> (self.nr_pages & 63):
            raise InvariantError(f"a page at or beyond nr_pages {self.nr_pages} is marked free")
        for word in range(self._nr_groups << 6):
            full = word < self._nr_words and not ~self._free[word]
            if (self._full[word >> 6] >> (word & 63) & 1) != full:
                raise InvariantError(f"_full says {not full} for word {word} (pages from {word << WORD_ORDER})")
            nr_free += bits_count(self._free[word]) if word < self._nr_words else 0
        if nr_free != self.nr_free:
            raise InvariantError(f"nr_free is {self.nr_free}, {nr_free} pages are free")
        blocks = self.free_counts()
        if pages_in(blocks) != nr_free:
            raise InvariantError(f"free blocks per order {blocks} do not sum to nr_free {nr_free}")
        for order in range(NR_ORDERS):
            self._check_order(order)

    cdef object _check_order(self, int order):
        """Recount the blocks of one order, and see that every one can be found."""
        cdef Places *places = &self._places[order]
        cdef uint64_t *layer = self._free if order < WORD_ORDER else self._full
        cdef uint32_t nr_words = self._nr_words if order < WORD_ORDER else self._nr_groups
        cdef uint32_t word, nr_blocks = 0
        cdef uint64_t blocks
        cdef int level
        for word in range(nr_words):
            blocks = maximal(layer[word], order)
            nr_blocks += bits_count(blocks)
            if blocks and word < self._lowest[order]:
                raise InvariantError(f"order {order}: a free block in word {word}, below the lowest, "
                                     f"{self._lowest[order]}")
            if blocks and word != self._lowest[order] and not places_has(places, word):
                raise InvariantError(f"order {order}: word {word} has a free block and no mark")
        if nr_blocks != self._nr_blocks[order]:
            raise InvariantError(f"order {order}: {self._nr_blocks[order]} free blocks counted, {nr_blocks} found")
        level = places_wrong_level(places)
        if level:
            raise InvariantError(f"order {order}: level {level} of the summaries differs from the level below")

    # -- the Python border: every argument is examined, nothing changes on an error ----------------------------------

    def _require_order(self, order):
        if not 0 <= order <= MAX_ORDER:
            raise ValueError(f"order {order} is out of range: orders are 0 to {MAX_ORDER}")

    def _require_block(self, page, order):
        self._require_order(order)
        if not 0 <= page < self.nr_pages:
            raise ValueError(f"page {page} is out of range: the pages are 0 to {self.nr_pages - 1}")
        if page % (1 << order):
            raise ValueError(f"page {page} is not aligned to its order {order} ({1 << order} pages)")
        if page + (1 << order) > self.nr_pages:
            raise ValueError(f"a block of order {order} at page {page} ends at {page + (1 << order)}, "
                             f"beyond nr_pages {self.nr_pages}")

    def _require_taken(self, page, order):
        if not self._untouched(page, order):
            first = next(p for p in range(page, page + (1 << order)) if self.is_free(p))
            raise InvariantError(f"give of page {page}, order {order}: page {first} is already free "
                                 f"({self.nr_free} of {self.nr_pages} are)")

    def take_block(self, order=0):
        """The first page of a block taken, or None when there is none."""
        cdef uint32_t page = 0
        self._require_order(order)
        return page if self.take(order, &page) == OK else None

    def take_block_at(self, page, order=0):
        """Take this very block: True, or False when part of it is taken already."""
        self._require_block(page, order)
        return self.take_at(page, order) == OK

    def take_pages(self, n):
        """Up to n single pages as a uint32 array."""
        cdef uint32_t[::1] pages
        cdef uint32_t count
        if n < 0:
            raise ValueError(f"n is {n}: must be 0 or more")
        taken = np.empty(min(n, self.nr_free), np.uint32)
        if taken.size == 0:
            return taken
        pages = taken
        count = taken.size
        with nogil:
            count = self.take_bulk(count, &pages[0])
        return taken[:count]

    def give_block(self, page, order=0):
        """Free a block. InvariantError if any page of it is free already: a double free, or the wrong order."""
        self._require_block(page, order)
        self._require_taken(page, order)
        self.give(page, order)

    def give_pages(self, pages):
        """Free single pages, in any order, each once."""
        cdef const uint32_t[::1] numbers
        for page in pages:
            self._require_block(page, 0)
            self._require_taken(page, 0)
        given = np.ascontiguousarray(pages, np.uint32)
        unique, times = np.unique(given, return_counts=True)
        if unique.size != given.size:
            raise InvariantError(f"give_pages: page {unique[times > 1][0]} is given {times[times > 1][0]} times, "
                                 "at most 1 is allowed")
        if given.size:
            numbers = given
            self.give_bulk(given.size, &numbers[0])

    def page_is_free(self, page):
        """Is this page free?"""
        self._require_block(page, 0)
        return self.is_free(page)

    def fail_after(self, n):
        """Refuse the nth request from now (1: the very next), once, as if nothing were free. 0 calls it off. Returns
        how many requests an earlier call still had to go, 0 when that refusal has happened.

        For tests that force every rollback. A request is whatever may be told that there is nothing: take, take_at and
        each page of take_bulk (a refused take_bulk ends there), and on a host the question that secures the frames of
        an operation (Frames.can_take). What claims secured frames is not asked again and cannot be refused.
        """
        if n < 0:
            raise ValueError(f"n is {n}: must be 0 or more")
        before = self._fail_after
        self._fail_after = n
        return before

    def spoil(self, part, index=0):
        """For tests of check() only: falsify one item of what it recounts."""
        if part == "page":
            self._free[index >> WORD_ORDER] ^= <uint64_t>1 << (index & 63)
        elif part == "full":
            self._full[index >> 6] ^= <uint64_t>1 << (index & 63)
        elif part == "nr_free":
            self.nr_free += 1
        elif part == "nr_blocks":
            self._nr_blocks[index] += 1
        elif part == "lowest":
            self._lowest[index] += 1
        elif part == "places":
            places_remove(&self._places[index], places_least(&self._places[index]))
        elif part == "summary":
            places_spoil(&self._places[index])
        else:
            raise ValueError(f"part {part!r} is not known")
