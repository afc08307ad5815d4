"""The buddy allocator: free memory as power-of-two blocks, for host frames and guest pages alike.

A block of order o is 2^o pages, aligned to its size. Its buddy is the other half of the block of order o + 1. Two free
buddies never stay apart: give() merges them, up to MAX_ORDER. Hence **the set of free pages determines the free
blocks**: a free block is an aligned power-of-two group of free pages that no larger one contains. So there is one
truth, a bit per page, and no lists to keep:

    _free   a bit per page        a word holds blocks of order 0 .. 5 (and 6, when it is all ones)
    _full   a bit per _free word  bit set = that word is all ones; a word holds blocks of order 6 .. 10

Both layers work the same way, since order 6 is to _full what order 0 is to _free. bits_maximal() extracts from a word
the blocks of exactly one order in a few shifts. An uncoalesced pair cannot even be written down.

To find the lowest block of an order without scanning, each order has its *places*: one bit per word of its layer, with
64-ary summaries above. They may be stale in one direction: a marked word may have lost its last block of that order
(merging and taking do not unmark), an unmarked word never has one. The search unmarks what it finds empty, so each mark
pays for one visit at most. _lowest spares marks and searches nearly always: no word below it has a block of the order,
and it needs no mark itself.

All of it takes 0.14 bytes per page, so frees in random order stay in cache where lists through 4 GiB worth of nodes do
not. Bulk calls move whole blocks at once; that gives exactly what single calls give, because singles drain the smallest
block from its low end before they touch another, and because the free blocks follow from the free pages alone.

Kept, and recounted by Buddy.check():
- a bit of _full is set exactly where the word of _free is all ones; no bit beyond nr_pages is set;
- nr_free is the number of set bits; _nr_blocks[o] the number of maximal blocks of order o;
- every word with a block of order o is above _lowest[o] and marked in _places[o], or is _lowest[o];
- a summary bit is set exactly where the word below it is not 0.

The buddy system is Knowlton's (CACM 8(10), 1965).
"""

cimport cython
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from .fragmentation cimport describe
from ..types cimport MAX_ORDER, NONE, NO_FRAME, OK

from memvirt.engine.memory.fragmentation import pages_in
from memvirt.errors import InvariantError

cdef extern from "memory/word_bits.h" nogil:
    int bits_count(uint64_t word)
    int bits_lowest(uint64_t word)
    int bits_highest(uint64_t word)
    bint bits_unlikely(bint condition)
    uint64_t bits_block(int order)

cdef extern from "memory/bitset.h" nogil:
    uint64_t places_size(Places *places, uint32_t n)
    uint64_t *places_lay(Places *places, uint64_t *words)
    bint places_has(const Places *places, uint32_t number)
    int places_wrong_level(const Places *places)
    void places_add(Places *places, uint32_t number)
    void places_remove(Places *places, uint32_t number)
    uint32_t places_least(const Places *places)


cdef inline int shift_of(int order) noexcept nogil:
    """A page's word in the layer that holds blocks of this order is page >> shift."""
    return WORD_ORDER if order < WORD_ORDER else GROUP_ORDER


cdef inline uint32_t words_for(uint64_t bits) noexcept nogil:
    return <uint32_t>((bits + 63) >> 6)


@cython.final
cdef class Buddy:
    """Pages 0 .. nr_pages - 1, all free at the start. nr_pages need not be a power of two."""

    def __cinit__(self, nr_pages):
        if not 1 <= nr_pages < <uint32_t>NONE:
            raise ValueError(f"nr_pages is {nr_pages}: must be from 1 to {<uint32_t>NONE - 1}")
        self.nr_pages = nr_pages
        self._nr_words = words_for(self.nr_pages)
        self._nr_groups = words_for(self._nr_words)
        self._allocate()
        cdef uint32_t page = 0
        cdef int order
        while page < self.nr_pages:
            order = min(MAX_ORDER, bits_highest(self.nr_pages - page))
            self.give(page, order)
            page += <uint32_t>1 << order

    @cython.final
    cdef int _allocate(self) except -1:
        """Lay all bitmaps out in one zeroed allocation."""
        cdef uint64_t words = <uint64_t>self._nr_words + self._nr_groups
        cdef uint64_t *rest
        cdef int order
        for order in range(NR_ORDERS):
            words += places_size(&self._places[order], self._nr_words if order < WORD_ORDER else self._nr_groups)
        self.metadata_bytes = words * sizeof(uint64_t)
        self._storage = <uint64_t *>calloc(words, sizeof(uint64_t))
        if self._storage is NULL:
            raise MemoryError(f"no memory for the bitmaps of {self.nr_pages} pages ({self.metadata_bytes} bytes)")
        self._free = self._storage
        self._full = self._free + self._nr_words
        rest = self._full + self._nr_groups
        for order in range(NR_ORDERS):
            rest = places_lay(&self._places[order], rest)
        assert rest == self._storage + words
        return 0

    def __dealloc__(self):
        free(self._storage)

    @cython.final
    cdef void copy_from(self, Buddy other) noexcept nogil:
        assert self.nr_pages == other.nr_pages
        memcpy(self._storage, other._storage, self.metadata_bytes)
        memcpy(self._nr_blocks, other._nr_blocks, sizeof(self._nr_blocks))
        memcpy(self._lowest, other._lowest, sizeof(self._lowest))
        self.nr_free = other.nr_free

    # -- places ------------------------------------------------------------------------------------------------------

    @cython.final
    cdef inline void _note(self, int order, uint32_t word) noexcept nogil:
        """A block of this order appeared in this word of its layer."""
        cdef uint32_t other = self._lowest[order]
        if word == other:
            return
        if word < other:
            self._lowest[order] = word
            word = other
        places_add(&self._places[order], word)

    @cython.final
    cdef inline uint64_t _find(self, int order, uint32_t *word) noexcept nogil:
        """The lowest word that holds a block of this order, and its blocks. There must be one (_nr_blocks says so)."""
        cdef Places *places = &self._places[order]
        cdef uint64_t *layer = self._free if order < WORD_ORDER else self._full
        cdef uint32_t at = self._lowest[order]
        cdef uint64_t blocks = maximal(layer[at], order)
        while not blocks:
            at = places_least(places)
            blocks = maximal(layer[at], order)
            if not blocks:
                places_remove(places, at)
            self._lowest[order] = at
        word[0] = at
        return blocks

    # -- take --------------------------------------------------------------------------------------------------------

    @cython.final
    cdef inline bint refuses(self) noexcept nogil:
        if not bits_unlikely(self._fail_after != 0):
            return False
        self._fail_after -= 1
        return self._fail_after == 0

    cdef int take(self, int order, uint32_t *page) except -1 nogil:
        """Take an aligned block of 2^order pages: OK and its first page, or NO_FRAME."""
        if self.refuses():
            return NO_FRAME
        return self.claim(order, page)

    @cython.final
    cdef int claim(self, int order, uint32_t *page) except -1 nogil:
        assert 0 <= order <= MAX_ORDER
        cdef int block_order = order
        cdef int half
        cdef uint32_t word
        cdef uint64_t blocks
        if order == 0 and self._nr_blocks[0]:
            word = self._lowest[0]
            blocks = bits_maximal(self._free[word], 0, WORD_ORDER)
            if blocks:                              # no split, nothing to search: the most common take by far
                page[0] = word << WORD_ORDER | <uint32_t>bits_lowest(blocks)
                self._free[word] ^= blocks & (0 - blocks)
                self._nr_blocks[0] -= 1
                self.nr_free -= 1
                return OK
        while self._nr_blocks[block_order] == 0:
            block_order += 1
            if block_order > MAX_ORDER:
                return NO_FRAME
        blocks = self._find(block_order, &word)
        if block_order < WORD_ORDER:
            page[0] = word << WORD_ORDER | <uint32_t>bits_lowest(blocks)
        else:
            page[0] = word << GROUP_ORDER | <uint32_t>bits_lowest(blocks) << WORD_ORDER
        for half in range(order, block_order):      # the upper halves: the first blocks of orders that had none,
            self._nr_blocks[half] = 1               # so _lowest may move without a look at the marks
            self._lowest[half] = page[0] >> shift_of(half)
        self._clear(page[0], block_order, order)
        return OK

    @cython.final
    cdef inline void _clear(self, uint32_t page, int block_order, int order) noexcept nogil:
        """Take the block (page, order) out of the free block of block_order that contains it."""
        cdef uint32_t word = page >> WORD_ORDER
        self._nr_blocks[block_order] -= 1
        self.nr_free -= <uint32_t>1 << order
        if order >= WORD_ORDER:
            memset(self._free + word, 0, sizeof(uint64_t) << (order - WORD_ORDER))
            self._full[word >> 6] &= ~(bits_block(order - WORD_ORDER) << (word & 63))
            return
        self._free[word] &= ~(bits_block(order) << (page & 63))
        if block_order >= WORD_ORDER:
            self._full[word >> 6] &= ~(<uint64_t>1 << (word & 63))

    @cython.final
    cdef bint _whole(self, uint32_t page, int order) noexcept nogil:
        """True if every page of this block is free."""
        cdef uint32_t word = page >> WORD_ORDER
        cdef uint64_t block
        if order < WORD_ORDER:
            block = bits_block(order) << (page & 63)
            return self._free[word] & block == block
        block = bits_block(order - WORD_ORDER) << (word & 63)
        return self._full[word >> 6] & block == block

    @cython.final
    cdef bint _untouched(self, uint32_t page, int order) noexcept nogil:
        """True if no page of this block is free, as give() requires."""
        cdef uint32_t word = page >> WORD_ORDER
        cdef uint32_t i
        if order < WORD_ORDER:
            return self._free[word] & bits_block(order) << (page & 63) == 0
        for i in range(<uint32_t>1 << (order - WORD_ORDER)):
            if self._free[word + i]:
                return False
        return True

    @cython.final
    cdef bint _inside(self, uint32_t page, int order) noexcept nogil:
        return <uint64_t>page + (<uint64_t>1 << order) <= self.nr_pages

    cdef int take_at(self, uint32_t page, int order) except -1 nogil:
        """Take this very block if all of it is free: OK, or NO_FRAME."""
        assert 0 <= order <= MAX_ORDER
        assert page & ((1 << order) - 1) == 0
        assert self._inside(page, order)
        cdef int half, block_order = order
        if self.refuses():
            return NO_FRAME
        if not self._whole(page, order):
            return NO_FRAME
        while block_order < MAX_ORDER and self._parent_whole(page, block_order):
            block_order += 1
        for half in range(order, block_order):
            self._nr_blocks[half] += 1
            self._note(half, page >> shift_of(half))
        self._clear(page, block_order, order)
        return OK

    @cython.final
    cdef bint _parent_whole(self, uint32_t page, int order) noexcept nogil:
        cdef uint32_t parent = page & ~((<uint32_t>2 << order) - 1)
        return self._inside(parent, order + 1) and self._whole(parent, order + 1)

    # -- give --------------------------------------------------------------------------------------------------------

    cdef int give(self, uint32_t page, int order) except -1 nogil:
        """Free a block, none of whose pages is free, and merge it with its buddies. Always OK."""
        assert 0 <= order <= MAX_ORDER
        assert page & ((1 << order) - 1) == 0
        assert self._inside(page, order)
        assert self._untouched(page, order)
        cdef uint32_t word = page >> WORD_ORDER
        cdef uint64_t bits
        self.nr_free += <uint32_t>1 << order
        if order < WORD_ORDER:
            bits = self._free[word] | bits_block(order) << (page & 63)
            self._free[word] = bits
            order = self._merge(bits, page & 63, order, WORD_ORDER, 0)
            if order < WORD_ORDER:
                self._nr_blocks[order] += 1
                self._note(order, word)
                return OK
        else:
            memset(self._free + word, 0xFF, sizeof(uint64_t) << (order - WORD_ORDER))
        bits = self._full[word >> 6] | bits_block(order - WORD_ORDER) << (word & 63)
        self._full[word >> 6] = bits
        order = WORD_ORDER + self._merge(bits, word & 63, order - WORD_ORDER, MAX_ORDER - WORD_ORDER, WORD_ORDER)
        self._nr_blocks[order] += 1
        self._note(order, word >> 6)
        return OK

    @cython.final
    cdef inline int _merge(self, uint64_t bits, int at, int order, int top, int base) noexcept nogil:
        """Merge the block at bit `at` of one layer's word with its free buddies; the order it ends at."""
        cdef uint64_t block
        while order < top:
            block = bits_block(order)
            if (bits >> (at ^ 1 << order)) & block != block:
                break
            self._nr_blocks[base + order] -= 1
            at &= ~(1 << order)
            order += 1
        return order

    # -- questions ---------------------------------------------------------------------------------------------------

    cdef bint is_free(self, uint32_t page) noexcept nogil:
        return self._free[page >> WORD_ORDER] >> (page & 63) & 1

    cdef uint32_t free_blocks(self, int order) noexcept nogil:
        """Free blocks of exactly this order."""
        return self._nr_blocks[order]

    # -- what it tells of itself, and the recount ------------------------------------------------------

    def free_counts(self):
        """Free blocks per order, 0 .. MAX_ORDER."""
        return [self._nr_blocks[order] for order in range(NR_ORDERS)]

    def fragmentation(self):
        """The scatter of free memory, as a dict of plain integers and lists.

        nr_pages, nr_free   pages in all; pages free
        free_blocks         free blocks of exactly each order
        external            Linux's external fragmentation index per order, in thousandths
        unusable            Linux's unusable free space index per order, in thousandths
        free_runs           maximal runs of adjacent free pages: item k counts lengths 2^k <= pages < 2^(k+1)
        largest_free_block  pages; 0 when nothing is free
        largest_free_run    pages
        """
        return describe(self.nr_pages, self._free, self.free_counts())

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

        For tests that force every rollback. A request is whatever may be told that there is nothing: take, take_at, and on
        a host the question that secures the frames of an operation (Frames.can_take). What claims secured frames is not
        asked again and cannot be refused.
        """
        if n < 0:
            raise ValueError(f"n is {n}: must be 0 or more")
        before = self._fail_after
        self._fail_after = n
        return before
