"""A guest's memory cut into partitions, one for each instance that runs in it: where they lie, and free pages by partition.

    pages              | kernel, page cache, what runs beside | partition 0 | partition 1 | ...  | less than 2 MiB |
    address space      | what runs beside    | instance 0     | instance 1  | ...    | page cache and files       |

An instance is a part of the address space, and has its pages in its partition alone; so when it has ended, and has freed
what it had, its partition is free as a whole, whatever other instances did meanwhile. All else is shared: page cache and
files, which serve all instances, the kernel, and anonymous memory below the first instance. An instance has as much address
space as its partition has pages, unless there is more address space than memory. Then it may want more than its partition
holds, and is out of memory: nothing is reclaimed for it, and it gets no page elsewhere.

One allocator has all free pages, as in other guests, and what it says of a partition is read from its bit per page: the
lowest free page of a partition, the number of free ones that are in none. Both take time with the size of the partition, or
of what is shared, a word for 64 pages.
"""

from ..types cimport EMPTY, HUGE_ORDER, LEAF_ENTRIES, LEAF_SHIFT, NONE, OK, gfn_t, uint32_t, uint64_t, vpn_t
from .guest_memory cimport GuestMemory, whole

from memvirt.errors import ConfigError

cdef extern from "memory/word_bits.h" nogil:
    int bits_count(uint64_t word)
    int bits_lowest(uint64_t word)


cdef class Partitions:
    """As many of `pages` pages as leave `base` pages beside them, and the kernel and the page cache theirs."""

    def __cinit__(self, GuestMemory memory not None, pages, base=0):
        cdef long long whole_pages = memory.nr_pages - memory.nr_pages % LEAF_ENTRIES, anon = memory.cache_border, beside
        self.pages = whole("partition", pages, 1, memory.nr_pages)
        beside = memory.kernel_pages + max(<long long>0, <long long>memory.nr_pages - memory.cache_border)
        beside = max(beside, <long long>whole("base", base, 0, memory.nr_pages))
        if self.pages % LEAF_ENTRIES:
            raise ConfigError(f"guest: partition={pages!r} must be a multiple of {LEAF_ENTRIES} pages")
        if memory.swap_slots:
            raise ConfigError(f"guest: swap_slots={memory.swap_slots}, and pages of partitions are not swapped")
        self.number = max(<long long>0, min(whole_pages - beside, anon)) / self.pages
        if not self.number:
            raise ConfigError(f"guest: partition={pages!r} is more than {beside} of {memory.nr_pages} pages leave")
        self.first = whole_pages - self.number * self.pages
        self.first_vpn = self.first if anon > memory.nr_pages else anon - self.number * self.pages
        self.vpns = (anon - self.first_vpn + self.number - 1) / self.number

    cdef gfn_t at(self, uint32_t number) noexcept nogil:
        return self.first + number * self.pages

    cdef gfn_t of(self, vpn_t vpn, GuestMemory memory) noexcept nogil:
        return NONE if vpn < self.first_vpn or memory.is_cache(vpn) else self.at((vpn - self.first_vpn) / self.vpns)

    cdef uint32_t shared_free(self, GuestMemory memory) noexcept nogil:
        cdef uint32_t end = self.at(self.number)
        return _free_in(memory, 0, self.first) + _free_in(memory, end, memory.nr_pages)

    cdef int take(self, GuestMemory memory, gfn_t first, gfn_t *gfn) except -1 nogil:
        cdef gfn_t found
        if first != NONE:
            found = _lowest_in(memory, first, first + self.pages)
        else:
            found = _lowest_in(memory, 0, self.first)
            if found == NONE:
                found = _lowest_in(memory, self.at(self.number), memory.nr_pages)
        if found == NONE or memory.buddy.take_at(found, 0) != OK:
            return EMPTY
        memory._used(found, 1)
        gfn[0] = found
        return OK

    cdef bint is_free(self, GuestMemory memory, gfn_t first) noexcept nogil:
        cdef uint32_t word
        for word in range(first >> 6, first + self.pages >> 6):
            if ~memory.buddy._free[word]:
                return False
        return True

    cdef int take_all(self, GuestMemory memory, gfn_t first) except -1 nogil:
        cdef uint32_t block
        for block in range(self.pages >> LEAF_SHIFT):
            if memory.buddy.take_at(first + (block << LEAF_SHIFT), HUGE_ORDER) != OK:
                _give(memory, first, block)
                return EMPTY
        memory._used(first, self.pages)
        return OK

    cdef int give_all(self, GuestMemory memory, gfn_t first) except -1 nogil:
        return _give(memory, first, self.pages >> LEAF_SHIFT)


cdef int _give(GuestMemory memory, gfn_t first, uint32_t blocks) except -1 nogil:
    cdef uint32_t block
    for block in range(blocks):
        memory.buddy.give(first + (block << LEAF_SHIFT), HUGE_ORDER)
    return OK


cdef uint64_t _word(GuestMemory memory, gfn_t at, gfn_t end) noexcept nogil:
    """The free pages of the allocator's word that page `at` is in, from `at` on and before `end`."""
    cdef uint64_t word = memory.buddy._free[at >> 6] & (~<uint64_t>0 << (at & 63))
    return word & ~<uint64_t>0 >> (63 - (end - 1 & 63)) if at >> 6 == end - 1 >> 6 else word


cdef gfn_t _lowest_in(GuestMemory memory, gfn_t first, gfn_t end) noexcept nogil:
    """The lowest free page of first .. end - 1, or NONE."""
    cdef gfn_t at = first
    cdef uint64_t word
    while at < end:
        word = _word(memory, at, end)
        if word:
            return (at & ~<gfn_t>63) + bits_lowest(word)
        at = (at | 63) + 1
    return NONE


cdef uint32_t _free_in(GuestMemory memory, gfn_t first, gfn_t end) noexcept nogil:
    cdef uint32_t pages = 0
    cdef gfn_t at = first
    while at < end:
        pages += bits_count(_word(memory, at, end))
        at = (at | 63) + 1
    return pages
