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

from ..types cimport MAX_ORDER, NONE, NO_FRAME, OK

cdef extern from "memory/word_bits.h" nogil:
    int bits_lowest(uint64_t word)
    int bits_highest(uint64_t word)
    void bits_prefetch(const void *address)
    bint bits_unlikely(bint condition)
    uint64_t bits_block(int order)

cdef extern from "memory/bitset.h" nogil:
    uint64_t places_size(Places *places, uint32_t n)
    uint64_t *places_lay(Places *places, uint64_t *words)
    void places_add(Places *places, uint32_t number)
    void places_remove(Places *places, uint32_t number)
    uint32_t places_least(const Places *places)

cdef enum:
    PREFETCH_AHEAD = 16         # entries of a batch between a prefetch and its use


cdef inline int shift_of(int order) noexcept nogil:
    """A page's word in the layer that holds blocks of this order is page >> shift."""
    return WORD_ORDER if order < WORD_ORDER else GROUP_ORDER


cdef inline uint32_t words_for(uint64_t bits) noexcept nogil:
    return <uint32_t>((bits + 63) >> 6)


cdef class Blocks:
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
    cdef void copy_from(self, Blocks other) noexcept nogil:
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

    cdef uint32_t take_bulk(self, uint32_t n, uint32_t *pages) except? 0xFFFFFFFF nogil:
        """Up to n single pages, the same ones in the same order as n calls of take(0); returns how many.

        Single pages come from the low end of the lowest block of the smallest order. So one call takes as much of that
        block as is wanted: all of it, or a part in falling powers of two, each at the low end of the rest.
        """
        cdef uint32_t done = 0, page = 0, i
        cdef int order
        if bits_unlikely(self._fail_after != 0):
            while done < n and self.take(0, pages + done) == OK:
                done += 1
            return done
        n = min(n, self.nr_free)
        while done < n:
            order = 0
            while self._nr_blocks[order] == 0:
                order += 1
            order = min(order, bits_highest(n - done))
            self.take(order, &page)
            for i in range(<uint32_t>1 << order):
                pages[done + i] = page + i
            done += <uint32_t>1 << order
        return done

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

    cdef int give_bulk(self, uint32_t n, const uint32_t *pages) except -1 nogil:
        """Free n single pages in any order. Rising runs go as the aligned blocks they consist of."""
        cdef uint32_t done = 0, run, page
        cdef int order
        while done < n:
            page = pages[done]
            run = 1
            while done + run < n and pages[done + run] == page + run:
                run += 1
            done += run
            if done + PREFETCH_AHEAD < n:
                bits_prefetch(self._free + (pages[done + PREFETCH_AHEAD] >> WORD_ORDER))
            while run:
                order = min(MAX_ORDER, bits_highest(run))
                if page:
                    order = min(order, bits_lowest(page))
                self.give(page, order)
                page += <uint32_t>1 << order
                run -= <uint32_t>1 << order
        return OK

    # -- questions ---------------------------------------------------------------------------------------------------

    cdef bint is_free(self, uint32_t page) noexcept nogil:
        return self._free[page >> WORD_ORDER] >> (page & 63) & 1

    cdef uint32_t free_blocks(self, int order) noexcept nogil:
        """Free blocks of exactly this order."""
        return self._nr_blocks[order]
