"""What the buddy allocator tells of itself, and the recount that shows it is sound. The allocator proper is Blocks."""

from .blocks cimport NR_ORDERS, Places, WORD_ORDER, maximal
from .fragmentation cimport describe
from ..types cimport uint32_t, uint64_t

from memvirt.engine.memory.fragmentation import pages_in
from memvirt.errors import InvariantError

cdef extern from "memory/word_bits.h" nogil:
    int bits_count(uint64_t word)

cdef extern from "memory/bitset.h" nogil:
    bint places_has(const Places *places, uint32_t number)
    int places_wrong_level(const Places *places)


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

    # -- injection ----------------------------------------------------------------------------------------------------

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
