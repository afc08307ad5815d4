cimport cython

from ..types cimport MAX_ORDER, uint32_t, uint64_t

cdef enum:
    NR_ORDERS = 11              # MAX_ORDER + 1
    WORD_ORDER = 6              # a block of this order is one word of the page bitmap
    GROUP_ORDER = 12            # 64 words: what one word of the full-word bitmap covers

cdef extern from "memory/bitset.h" nogil:
    ctypedef struct Places:
        pass

cdef extern from "memory/word_bits.h" nogil:
    uint64_t bits_maximal(uint64_t word, int order, int top)


cdef inline uint64_t maximal(uint64_t word, int order) noexcept nogil:
    """Starts, in a word of its layer, of the free blocks of exactly this order."""
    if order < WORD_ORDER:
        return bits_maximal(word, order, WORD_ORDER)
    return bits_maximal(word, order - WORD_ORDER, MAX_ORDER - WORD_ORDER)


@cython.final
cdef class Buddy:
    # Free memory of pages 0 .. nr_pages - 1 as power-of-two blocks, order 0 .. MAX_ORDER.
    # Deterministic: the smallest order that has a free block, in it the lowest-numbered block; a split keeps the
    # lower half. Freed blocks coalesce fully.
    cdef readonly uint32_t nr_pages
    cdef readonly uint32_t nr_free              # pages in free blocks
    cdef uint32_t _nr_words, _nr_groups         # words of _free, words of _full
    cdef uint64_t *_free                        # bit p: page p is free. All else is derived from this
    cdef uint64_t *_full                        # bit w: word w of _free is all ones
    cdef uint64_t *_storage                     # what the two above and the places live in
    cdef readonly uint64_t metadata_bytes       # and its size
    cdef uint32_t _nr_blocks[NR_ORDERS]         # free blocks of exactly this order
    cdef uint32_t _lowest[NR_ORDERS]            # no word below this one holds a free block of this order
    cdef Places _places[NR_ORDERS]              # a word that holds one is marked here or is _lowest
    cdef uint64_t _fail_after                   # the n-th can_take from now is refused; 0: none

    cdef int take(self, int order, uint32_t *page) except -1 nogil
    # The same for pages that were asked for before: fail_after() has no say. NO_FRAME only where there is no block.
    cdef int claim(self, int order, uint32_t *page) except -1 nogil
    # Count a question; True when it is the one that fail_after() wants refused.
    cdef bint refuses(self) noexcept nogil
    # Targeted: the block must be free; splits what contains it. OK or NO_FRAME.
    cdef int take_at(self, uint32_t page, int order) except -1 nogil
    cdef int give(self, uint32_t page, int order) except -1 nogil
    # Become a copy of other, which has as many pages; fail_after() is not copied.
    cdef void copy_from(self, Buddy other) noexcept nogil
    cdef bint is_free(self, uint32_t page) noexcept nogil
    cdef uint32_t free_blocks(self, int order) noexcept nogil

    cdef bint _whole(self, uint32_t page, int order) noexcept nogil
    cdef bint _untouched(self, uint32_t page, int order) noexcept nogil
    cdef bint _inside(self, uint32_t page, int order) noexcept nogil
    cdef bint _parent_whole(self, uint32_t page, int order) noexcept nogil
    cdef int _merge(self, uint64_t bits, int at, int order, int top, int base) noexcept nogil
    cdef int _allocate(self) except -1
    cdef void _note(self, int order, uint32_t word) noexcept nogil
    cdef uint64_t _find(self, int order, uint32_t *word) noexcept nogil
    cdef void _clear(self, uint32_t page, int block_order, int order) noexcept nogil
    cdef object _check_order(self, int order)
    cpdef object check(self)
