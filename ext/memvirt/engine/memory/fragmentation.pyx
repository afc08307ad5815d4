"""How scattered free memory is: Linux's two indices per order, and the runs of adjacent free pages.

Both indices are in thousandths and rounded as Linux rounds them (mm/vmstat.c), so that a figure from here can stand
beside one from /sys/kernel/debug/extfrag:

external    why an allocation of this order would fail. Toward 0 for want of memory, toward 1000 for fragmentation.
            -1000: it would succeed. 0 when there is no free block at all. Slightly below 0 when very little is free.
unusable    the share of free memory in blocks too small for this order. 1000 when nothing is free.

A run may be longer than any block and may straddle alignment: it says what compaction or better placement could gain.
"""

from ..types cimport MAX_ORDER

cdef extern from "memory/word_bits.h" nogil:
    int bits_lowest(uint64_t word)
    int bits_highest(uint64_t word)


def pages_in(blocks, from_order=0):
    """Pages in the free blocks of at least this order; blocks[o] is the number of free blocks of order o."""
    return sum(count << order for order, count in enumerate(blocks) if order >= from_order)


def external_index(blocks, order):
    """Linux's external fragmentation index for an order, from the free blocks per order."""
    if not any(blocks):
        return 0
    if any(blocks[order:]):
        return -1000
    return 1000 - (1000 + pages_in(blocks) * 1000 // (1 << order)) // sum(blocks)


def unusable_index(blocks, order):
    """Linux's unusable free space index for an order, from the free blocks per order."""
    free_pages = pages_in(blocks)
    if free_pages == 0:
        return 1000
    return (free_pages - pages_in(blocks, order)) * 1000 // free_pages


cdef uint32_t count_runs(const uint64_t *words, uint32_t nr_words, uint32_t *classes) noexcept nogil:
    """Count maximal runs of set bits by the power of two of their length; returns the longest."""
    cdef uint64_t bits
    cdef uint32_t word, run = 0, longest = 0
    cdef int left, length
    for word in range(nr_words + 1):            # the word past the end is all taken, and closes the last run
        bits = words[word] if word < nr_words else 0
        left = 64                               # bits of this word still to be read, at the low end of `bits`
        while left:
            length = bits_lowest(~bits) if ~bits else 64
            run += length
            left -= length
            if left == 0:
                break                           # the run goes on in the next word
            bits >>= length
            if run:
                classes[bits_highest(run)] += 1
                longest = max(longest, run)
                run = 0
            length = bits_lowest(bits) if bits else left
            left -= length
            bits = bits >> length if left else 0
    return longest


cdef object describe(uint32_t nr_pages, const uint64_t *words, object blocks):
    """The dict that Buddy.fragmentation() documents."""
    cdef uint32_t[32] classes
    cdef uint32_t longest
    cdef int k
    for k in range(32):
        classes[k] = 0
    longest = count_runs(words, (nr_pages + 63) >> 6, classes)
    orders = range(MAX_ORDER + 1)
    return {
        "nr_pages": nr_pages,
        "nr_free": pages_in(blocks),
        "free_blocks": blocks,
        "external": [external_index(blocks, order) for order in orders],
        "unusable": [unusable_index(blocks, order) for order in orders],
        "free_runs": [classes[k] for k in range(bits_highest(nr_pages) + 1)],
        "largest_free_block": max([1 << order for order in orders if blocks[order]], default=0),
        "largest_free_run": longest,
    }
