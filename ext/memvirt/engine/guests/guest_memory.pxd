cimport cython
from libc.string cimport memmove

from ..memory.buddy cimport Buddy
from ..replacement.order cimport Order
from ..types cimport gfn_t, uint8_t, uint32_t, uint64_t, vpn_t

cdef enum PageState:            # of a guest-physical page; every gfn is in exactly one
    PAGE_FREE = 0               # in the guest's buddy allocator; its content means nothing to the guest
    PAGE_CLEAN = 1              # mapped, and equal to its copy outside memory: read-only until the guest is asked
    PAGE_DIRTY = 2              # mapped, the only place that holds this content
    PAGE_BALLOON = 3            # given up: in the balloon
    PAGE_KERNEL = 4             # the guest kernel's own: never mapped, reclaimed or given up
    PAGE_ISOLATED = 5           # taken aside while its block is emptied; in no table, and only until that call is over
    PAGE_LOCKED = 0x80          # beside CLEAN or DIRTY: the guest does not evict it (mlock)

cdef enum:
    FILE_ORIGINAL = 0xFFFFFFFE  # a copy of the page: the original file, as Hardware.read_file gives it
    NO_REPORTING = -1


cdef class GuestMemory:
    # Which page is whose: the tables of a guest and the only code that changes them. No step here can half-fail.
    cdef readonly uint32_t nr_vpns              # address space, in pages
    cdef readonly uint32_t nr_pages             # guest-physical pages
    cdef readonly uint32_t cache_border         # vpns from here on are page cache; nr_vpns: there is none
    cdef readonly uint32_t swap_slots           # slots from here on are blocks of the file
    cdef readonly uint32_t kernel_pages         # gfns 0 .. kernel_pages - 1
    cdef readonly int report_order              # the block size that is reported; NO_REPORTING: off
    cdef readonly str replacement
    cdef readonly dict replacement_options

    cdef readonly Buddy buddy                   # free guest pages
    cdef Buddy slots                            # free guest swap slots; None without swap
    cdef Order anon                             # mapped anonymous pages; ids are gfns, keys vpns
    cdef Order cache                            # mapped page cache pages, likewise; None without page cache
    cdef gfn_t *gfn                             # [nr_vpns] the page table; NONE: unmapped
    cdef uint32_t *copy                         # [nr_vpns] where a copy lies: NONE, FILE_ORIGINAL or a slot
    cdef vpn_t *vpn                             # [nr_pages] reverse; NONE unless mapped
    cdef uint8_t *state                         # [nr_pages] PageState
    cdef gfn_t *balloon                         # [nr_pages] a stack: the first nr_balloon are the balloon
    cdef uint8_t *reported                      # [nr_blocks] 1: reported and not used since; NULL: reporting is off
    cdef uint32_t nr_blocks                     # whole blocks of report_order
    cdef readonly uint32_t nr_reported          # of them: marked so
    cdef uint32_t report_hand                   # block that is examined next
    cdef readonly uint32_t nr_balloon
    cdef readonly uint32_t nr_locked            # pages that are not evicted
    cdef readonly uint32_t nr_clean_anon        # clean anonymous pages: they can be evicted without a new slot
    cdef uint64_t owner                         # the number of the guest that they were made for

    cdef bint is_cache(self, vpn_t vpn) noexcept nogil
    cdef int take(self, gfn_t *gfn) except -1 nogil                     # a page of the buddy's choice: OK or NO_FRAME
    cdef int take_block(self, gfn_t *first) except -1 nogil             # 2 MiB of the buddy's choice: OK or NO_FRAME
    cdef void _used(self, gfn_t first, uint32_t pages) noexcept nogil
    cdef void mark_reported(self, gfn_t gfn) noexcept nogil             # the block of gfn, all of which is free
    cdef int isolate(self, gfn_t first) except -1 nogil                 # the free pages of 2 MiB: OK or EMPTY
    cdef int put_back(self, gfn_t first) except -1 nogil                # what is isolated of them is free again
    # The page of vpn is at `target` from now on, which take gave; `source` is isolated.
    cdef int move(self, vpn_t vpn, gfn_t source, gfn_t target) except -1 nogil
    cdef int map(self, vpn_t vpn, gfn_t gfn, uint32_t copy, bint dirty) except -1 nogil
    cdef int unmap(self, vpn_t vpn, gfn_t gfn, uint32_t copy) except -1 nogil   # copy: where it lies now
    cdef int set_dirty(self, vpn_t vpn, gfn_t gfn) except -1 nogil
    cdef int forget(self, vpn_t vpn) except -1 nogil                    # unmapped, and as never touched
    cdef int lock(self, vpn_t vpn) except -1 nogil                      # of a mapped page
    cdef int unlock(self, vpn_t vpn) except -1 nogil
    cdef int unlock_all(self) except -1
    cdef int _out_of_order(self, vpn_t vpn, gfn_t gfn) except -1 nogil
    cdef int take_slot(self, uint32_t *slot) except -1 nogil            # OK or EMPTY
    cdef uint32_t nr_free_slots(self) noexcept nogil
    cdef void push_balloon(self, gfn_t gfn) noexcept nogil              # a page that take gave, or isolate
    cdef uint32_t pop_balloon(self, uint32_t pages) except? 0xFFFFFFFF nogil

    # What lies together on the balloon's stack in ascending order, from `first` on, is its last: the next that comes back.
    @cython.final
    cdef inline void lift(self, gfn_t first, uint32_t pages) noexcept nogil:
        cdef uint32_t at = 0
        while self.balloon[at] != first:
            at += pages                         # whoever lifts gives as many at a time
        memmove(self.balloon + at, self.balloon + at + pages, (self.nr_balloon - at - pages) * sizeof(gfn_t))
        for at in range(pages):
            self.balloon[self.nr_balloon - pages + at] = first + at

    cdef Order _order(self, uint64_t seed)
    cdef int _make_tables(self, uint64_t seed) except -1
    cdef GuestMemory copied(self, uint64_t seed)
    cdef object _check_pages(self)
    cdef object _check_copies(self)
    cpdef object check(self)


cdef uint32_t whole(str name, value, long long low, long long high) except? 0xFFFFFFFF
