"""The buddy allocator with a face for tests.

Every argument is examined before anything changes: a number out of range is a ValueError, a page that is given though it
is free an InvariantError, and both name the number and the bound.
"""

cimport cython

from ..memory.buddy cimport WORD_ORDER, Buddy, Places
from ..types cimport MAX_ORDER, OK, uint32_t, uint64_t

import numpy as np

from memvirt.errors import InvariantError

cdef extern from "memory/bitset.h" nogil:
    ctypedef struct Level "Places":
        uint64_t *level[6]
        int top
    void places_remove(Places *places, uint32_t number)
    uint32_t places_least(const Places *places)


@cython.final
cdef class BuddyProbe:
    """An allocator. What it offers by itself is offered here, too."""

    cdef readonly Buddy buddy

    def __init__(self, Buddy buddy not None):
        self.buddy = buddy

    def __getattr__(self, name):
        return getattr(self.buddy, name)

    def _require_order(self, order):
        if not 0 <= order <= MAX_ORDER:
            raise ValueError(f"order {order} is out of range: orders are 0 to {MAX_ORDER}")

    def _require_block(self, page, order):
        self._require_order(order)
        if not 0 <= page < self.buddy.nr_pages:
            raise ValueError(f"page {page} is out of range: the pages are 0 to {self.buddy.nr_pages - 1}")
        if page % (1 << order):
            raise ValueError(f"page {page} is not aligned to its order {order} ({1 << order} pages)")
        if page + (1 << order) > self.buddy.nr_pages:
            raise ValueError(f"a block of order {order} at page {page} ends at {page + (1 << order)}, "
                             f"beyond nr_pages {self.buddy.nr_pages}")

    def _require_taken(self, page, order):
        if not self.buddy._untouched(page, order):
            first = next(p for p in range(page, page + (1 << order)) if self.buddy.is_free(p))
            raise InvariantError(f"give of page {page}, order {order}: page {first} is already free "
                                 f"({self.buddy.nr_free} of {self.buddy.nr_pages} are)")

    def take_block(self, order=0):
        """The first page of a block taken, or None when there is none."""
        cdef uint32_t page = 0
        self._require_order(order)
        return page if self.buddy.take(order, &page) == OK else None

    def take_block_at(self, page, order=0):
        """Take this very block: True, or False when part of it is taken already."""
        self._require_block(page, order)
        return self.buddy.take_at(page, order) == OK

    def take_pages(self, n):
        """Up to n single pages, one take after the other, as a uint32 array; a refused one is the last."""
        cdef uint32_t[::1] pages
        cdef uint32_t count = 0
        if n < 0:
            raise ValueError(f"n is {n}: must be 0 or more")
        taken = np.empty(min(n, self.buddy.nr_free), np.uint32)
        if taken.size == 0:
            return taken
        pages = taken
        while count < pages.shape[0] and self.buddy.take(0, &pages[count]) == OK:
            count += 1
        return taken[:count]

    def give_block(self, page, order=0):
        """Free a block. InvariantError if any page of it is free already: a double free, or the wrong order."""
        self._require_block(page, order)
        self._require_taken(page, order)
        self.buddy.give(page, order)

    def give_pages(self, pages):
        """Free single pages, in any order, each once."""
        for page in pages:
            self._require_block(page, 0)
            self._require_taken(page, 0)
        given = np.ascontiguousarray(pages, np.uint32)
        unique, times = np.unique(given, return_counts=True)
        if unique.size != given.size:
            raise InvariantError(f"give_pages: page {unique[times > 1][0]} is given {times[times > 1][0]} times, "
                                 "at most 1 is allowed")
        for page in given:
            self.buddy.give(page, 0)

    def page_is_free(self, page):
        """True if this page is free."""
        self._require_block(page, 0)
        return self.buddy.is_free(page)

    def spoil(self, part, index=0):
        """Falsify one item of what check() recounts."""
        cdef Level *places
        if part == "page":
            self.buddy._free[index >> WORD_ORDER] ^= <uint64_t>1 << (index & 63)
        elif part == "full":
            self.buddy._full[index >> 6] ^= <uint64_t>1 << (index & 63)
        elif part == "nr_free":
            self.buddy.nr_free += 1
        elif part == "nr_blocks":
            self.buddy._nr_blocks[index] += 1
        elif part == "lowest":
            self.buddy._lowest[index] += 1
        elif part == "places":
            places_remove(&self.buddy._places[index], places_least(&self.buddy._places[index]))
        elif part == "summary":
            places = <Level *>&self.buddy._places[index]
            places.level[places.top][0] ^= 1                    # of the topmost level
        else:
            raise ValueError(f"part {part!r} is not known")
