from ..memory.frames cimport Frames, Slab
from ..types cimport LEAF_ENTRIES, LEAF_SHIFT, MAX_VMS, NONE, gfn_t, hfn_t, leaf_t, uint16_t, uint32_t, vmid_t

# An entry, 32 bits:
#
#   31       30        29         28      27 ............ 0
#   present  writable  accessed   spare   host frame number
#   0        1 = BACKED           spare   backing id
#   0        0                            (all zero: NONE, nothing was ever here)
#
# Dirty needs no bit: a page is clean while its frame names the backing record that it equals (see mapping).
cdef enum:
    PTE_PRESENT = 0x80000000
    PTE_WRITABLE = 0x40000000       # absent entries: PTE_BACKED
    PTE_BACKED = 0x40000000
    PTE_ACCESSED = 0x20000000
    PTE_WHERE = 0x0FFFFFFF          # frame, or backing id
    LEAVES_PER_PAGE = 128           # leaf records in a frame
    SLOTS_PER_PAGE = 256            # directory slots in a frame: 512 MiB of guest-physical memory
    MOST_LEAVES = (1 << 23) - LEAVES_PER_PAGE       # a site, leaf x 512 + index, has 32 bits, and NONE is none
    MOST_DIRECTORY_PAGES = (1 << 24) - 1            # so has a slot, page x 256 + index
    DIRECTORY_SHIFT = 17            # gfn >> 17 = directory page, (gfn >> 9) & 255 = slot in it

# A leaf table: 2 MiB of guest-physical memory, perhaps of several VMs at once. 32 bytes.
cdef struct Leaf:
    uint32_t *entries               # small: 512 entries, then 512 links, in a frame of their own; NULL: huge
    uint32_t huge                   # huge: one entry, the base frame of an aligned 2 MiB block; entries are implied
    uint32_t holders                # head of the chain of slots that hold this leaf
    uint32_t nr_holders             # more than 1: shared, nothing under it is writable
    hfn_t frame                     # small: the frame of the table
    uint32_t region                 # gfn >> 9, the same in every holder
    uint16_t live                   # small: entries that are not NONE
    uint16_t used                   # 1 while the leaf exists (0 in free records)

# A directory slot: one VM's pointer to a leaf, and its link in the leaf's chain of holders.
cdef struct Slot:
    leaf_t leaf                     # NONE: no leaf here
    uint32_t next
    uint32_t prev
    uint32_t vm


# What stands between a VM and one of its pages, as `look` found it. True until a table is made, split, copied or let go.
cdef struct Look:
    uint32_t slot                   # directory slot above the page; NONE: its directory page is absent
    leaf_t id                       # the leaf in that slot; NONE: none
    Leaf *leaf                      # the same; NULL: none
    uint32_t index                  # of the page in its leaf
    uint32_t entry                  # the page's entry, in a huge leaf the implied one; 0 also without a leaf


# One VM's radix directory: root -> directory pages -> slots. Pages appear when something under them is touched.
cdef struct Directory:
    uint32_t *root                  # [nr_roots] directory page id, NONE: absent
    uint32_t nr_roots
    uint32_t nr_pages               # guest-physical pages


cdef class Leaves:
    cdef readonly Frames frames
    cdef readonly Slab records              # Leaf
    cdef readonly Slab pages                # directory pages: SLOTS_PER_PAGE slots each
    cdef readonly uint32_t nr_small, nr_huge
    cdef Directory directory[MAX_VMS]

    cdef int open(self, vmid_t vm, uint32_t nr_pages) except -1
    cdef void close(self, vmid_t vm) noexcept nogil
    cdef uint32_t ensure_slot(self, vmid_t vm, gfn_t gfn) noexcept nogil

    cdef inline Leaf *at(self, leaf_t leaf) noexcept nogil:
        return <Leaf *>self.records.page[leaf / LEAVES_PER_PAGE] + leaf % LEAVES_PER_PAGE

    cdef inline Slot *slot(self, uint32_t slot) noexcept nogil:
        return <Slot *>self.pages.page[slot / SLOTS_PER_PAGE] + slot % SLOTS_PER_PAGE

    cdef inline uint32_t lowest_holder(self, Leaf *leaf) noexcept nogil:
        """The lowest-numbered VM that holds the leaf; NONE: no VM does."""
        cdef uint32_t slot = leaf.holders, lowest = NONE
        while slot != NONE:
            lowest = min(lowest, self.slot(slot).vm)
            slot = self.slot(slot).next
        return lowest

    cdef inline bint held_by(self, Leaf *leaf, vmid_t vm) noexcept nogil:
        cdef uint32_t slot = leaf.holders
        while slot != NONE and self.slot(slot).vm != vm:
            slot = self.slot(slot).next
        return slot != NONE

    cdef leaf_t make_small(self, uint32_t region, hfn_t frame, void *page) noexcept nogil
    cdef leaf_t make_huge(self, uint32_t region, uint32_t entry) noexcept nogil
    cdef void hold(self, leaf_t leaf, uint32_t slot) noexcept nogil
    cdef uint32_t hold_all(self, vmid_t parent, vmid_t child, uint32_t root) noexcept nogil
    cdef uint32_t let_go(self, uint32_t slot) noexcept nogil
    cdef int destroy(self, leaf_t leaf) except -1 nogil
    cdef void move_table(self, hfn_t source, hfn_t target) noexcept nogil
    cdef bint owns_table(self, hfn_t frame) noexcept nogil

    cdef inline uint32_t entry(self, Leaf *leaf, uint32_t index) noexcept nogil:
        """The entry, for a huge leaf the implied one."""
        if leaf.entries != NULL:
            return leaf.entries[index]
        return leaf.huge + index

    cdef inline bint look(self, vmid_t vm, gfn_t gfn, Look *at) noexcept nogil:
        """The one way from a page of a VM to its entry. Returns whether there is a leaf."""
        cdef uint32_t page = self.directory[vm].root[gfn >> DIRECTORY_SHIFT]
        at.slot = NONE if page == NONE else page * SLOTS_PER_PAGE + ((gfn >> LEAF_SHIFT) & (SLOTS_PER_PAGE - 1))
        at.id = NONE if page == NONE else self.slot(at.slot).leaf
        at.leaf = NULL
        at.index = gfn % LEAF_ENTRIES
        at.entry = 0
        if at.id == NONE:
            return False
        at.leaf = self.at(at.id)
        at.entry = self.entry(at.leaf, at.index)
        return True

    cdef inline uint32_t *entry_of(self, vmid_t vm, gfn_t gfn) noexcept nogil:
        """Where the VM's entry for gfn stands; NULL without a leaf, or in a huge one."""
        cdef Look at
        if not self.look(vm, gfn, &at) or at.leaf.entries == NULL:
            return NULL
        return at.leaf.entries + at.index

    cdef inline uint32_t *link(self, uint32_t site) noexcept nogil:
        """Where a site of a small leaf keeps the next site that names the same frame: beside its entry."""
        return self.at(site / LEAF_ENTRIES).entries + LEAF_ENTRIES + site % LEAF_ENTRIES

    cpdef object check(self)
