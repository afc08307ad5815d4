"""Leaf tables and the directory above them: the second-stage page table, gfn -> frame or backing.

A leaf covers 2 MiB of guest-physical memory. *Small*: 512 entries in a table frame, whose other half has a link beside
each entry for the reverse map. *Huge*: one entry that names an aligned block of 512 frames. Above it stands one VM's
directory, a radix of fan-out 256 and then a root array, as in an EPT: memory follows what is touched.

A leaf may be held by several VMs: cloning adds the clone's directory slot to the leaf's chain of holders and copies no
entry. The slots themselves are the links of that chain, so adding and removing a holder is O(1) and needs no memory.
While a leaf has more than one holder nothing under it is writable, whatever its entries say: write permission is the
AND of all levels.

This module keeps structure only. What entries mean, and that reverse map, references and cached translations agree with
them, is `mapping`'s business.

Invariants (check): slot.leaf = L  <=>  slot is in L's chain; nr_holders = length of the chain; all holders' slots stand
for the same region; `live` = entries that are not NONE.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from memvirt.errors import InvariantError

from ..memory.frames cimport FRAME_TABLE, Frames, Slab
from ..prefetch cimport prefetch_write
from ..types cimport LEAF_ENTRIES, LEAF_SHIFT, MAX_VMS, NONE, PAGE_SIZE, gfn_t, hfn_t, leaf_t, uint32_t, uint64_t, vmid_t

cdef enum:
    AHEAD = 16                  # slots between asking for a leaf record and using it


cdef class Leaves:
    """All leaf tables of a host."""

    def __cinit__(self, Frames frames not None):
        self.frames = frames
        self.records = Slab(frames, sizeof(Leaf), FRAME_TABLE, MOST_LEAVES)
        self.pages = Slab(frames, PAGE_SIZE, FRAME_TABLE, MOST_DIRECTORY_PAGES)
        memset(self.directory, 0, sizeof(self.directory))

    def __dealloc__(self):
        cdef int vm
        for vm in range(MAX_VMS):
            free(self.directory[vm].root)

    cdef int open(self, vmid_t vm, uint32_t nr_pages) except -1:
        """An empty directory over nr_pages guest-physical pages."""
        cdef Directory *directory = &self.directory[vm]
        directory.nr_pages = nr_pages
        directory.nr_roots = (nr_pages + (1 << DIRECTORY_SHIFT) - 1) >> DIRECTORY_SHIFT
        directory.root = <uint32_t *>calloc(directory.nr_roots, sizeof(uint32_t))
        if directory.root == NULL:
            raise MemoryError("directory root")
        memset(directory.root, 0xFF, directory.nr_roots * sizeof(uint32_t))
        return 0

    cdef void close(self, vmid_t vm) noexcept nogil:
        """Give back the directory; no slot may hold a leaf any more."""
        cdef Directory *directory = &self.directory[vm]
        cdef uint32_t i
        for i in range(directory.nr_roots):
            if directory.root[i] != NONE:
                self.pages.give(directory.root[i])
        free(directory.root)
        memset(directory, 0, sizeof(Directory))

    cdef uint32_t ensure_slot(self, vmid_t vm, gfn_t gfn) noexcept nogil:
        """The slot above gfn; its directory page must be there or have been reserved in `pages`."""
        cdef uint32_t *root = &self.directory[vm].root[gfn >> DIRECTORY_SHIFT]
        cdef uint32_t i
        cdef Slot *slot
        if root[0] == NONE:
            root[0] = self.pages.claim()
            for i in range(SLOTS_PER_PAGE):
                slot = self.slot(root[0] * SLOTS_PER_PAGE + i)
                slot.leaf = NONE
                slot.next = NONE
                slot.prev = NONE
                slot.vm = vm
        return root[0] * SLOTS_PER_PAGE + ((gfn >> LEAF_SHIFT) & (SLOTS_PER_PAGE - 1))

    cdef leaf_t make_small(self, uint32_t region, hfn_t frame, void *page) noexcept nogil:
        """A leaf over a cleared table page; its record must have been reserved. Frame.where names the leaf."""
        cdef leaf_t id = self.records.claim()
        cdef Leaf *leaf = self.at(id)
        leaf.entries = <uint32_t *>page
        leaf.frame = frame
        leaf.region = region
        leaf.holders = NONE
        leaf.used = 1
        self.frames.frame[frame].where = id
        self.nr_small += 1
        return id

    cdef leaf_t make_huge(self, uint32_t region, uint32_t entry) noexcept nogil:
        cdef leaf_t id = self.records.claim()
        cdef Leaf *leaf = self.at(id)
        leaf.huge = entry
        leaf.frame = NONE
        leaf.region = region
        leaf.holders = NONE
        leaf.live = LEAF_ENTRIES
        leaf.used = 1
        self.nr_huge += 1
        return id

    cdef void hold(self, leaf_t id, uint32_t slot_id) noexcept nogil:
        """The slot's VM becomes a holder of the leaf."""
        cdef Leaf *leaf = self.at(id)
        cdef Slot *slot = self.slot(slot_id)
        slot.leaf = id
        slot.prev = NONE
        slot.next = leaf.holders
        if leaf.holders != NONE:
            self.slot(leaf.holders).prev = slot_id
        leaf.holders = slot_id
        leaf.nr_holders += 1

    cdef uint32_t hold_all(self, vmid_t parent, vmid_t child, uint32_t root) noexcept nogil:
        """The child, which has nothing below this directory root, becomes a holder of every leaf that the parent has
        there; its page must be there or have been reserved. Returns how many leaves these are.

        What `hold` does, with the slots at hand; a clone is as fast as this. The records are asked for ahead.
        """
        cdef uint32_t first = self.ensure_slot(child, root << DIRECTORY_SHIFT), i, leaves = 0
        cdef Slot *theirs = self.slot(self.directory[parent].root[root] * SLOTS_PER_PAGE)
        cdef Slot *ours = self.slot(first)
        cdef Leaf *leaf
        for i in range(SLOTS_PER_PAGE):
            if i + AHEAD < SLOTS_PER_PAGE and theirs[i + AHEAD].leaf != NONE:
                prefetch_write(self.at(theirs[i + AHEAD].leaf))
            if theirs[i].leaf == NONE:
                continue
            leaf = self.at(theirs[i].leaf)
            ours[i].leaf = theirs[i].leaf
            ours[i].next = leaf.holders
            self.slot(leaf.holders).prev = first + i
            leaf.holders = first + i
            leaf.nr_holders += 1
            leaves += 1
        return leaves

    cdef uint32_t let_go(self, uint32_t slot_id) noexcept nogil:
        """The slot's VM is a holder no more; returns how many are left."""
        cdef Slot *slot = self.slot(slot_id)
        cdef Leaf *leaf = self.at(slot.leaf)
        if slot.prev != NONE:
            self.slot(slot.prev).next = slot.next
        else:
            leaf.holders = slot.next
        if slot.next != NONE:
            self.slot(slot.next).prev = slot.prev
        slot.leaf = NONE
        slot.next = NONE
        slot.prev = NONE
        leaf.nr_holders -= 1
        return leaf.nr_holders

    cdef int destroy(self, leaf_t id) except -1 nogil:
        """Give back a leaf that nobody holds and that maps nothing."""
        cdef Leaf *leaf = self.at(id)
        assert leaf.nr_holders == 0
        if leaf.entries != NULL:
            self.nr_small -= 1
            self.frames.give_page(leaf.frame, leaf.entries)
        else:
            self.nr_huge -= 1
        self.records.give(id)
        return 0

    cdef void move_table(self, hfn_t source, hfn_t target) noexcept nogil:
        """Host compaction gives the table in frame `source` the frame `target`."""
        cdef Leaf *leaf = self.at(self.frames.frame[source].where)
        leaf.entries = <uint32_t *>self.frames.move_page(leaf.entries, target)
        self.frames.frame[target].where = self.frames.frame[source].where
        leaf.frame = target

    cdef bint owns_table(self, hfn_t frame) noexcept nogil:
        """True if this FRAME_TABLE frame is a leaf's table, and no page of a slab."""
        cdef uint32_t id = self.frames.frame[frame].where
        return id < self.records.end() and self.at(id).used and self.at(id).frame == frame

    cpdef object check(self):
        free_records = self.records.check()
        free_pages = self.pages.check()
        cdef uint32_t id, i, length, slot_id, live
        cdef Leaf *leaf
        cdef Slot *slot
        cdef uint64_t held = 0, pointing = 0
        small = huge = 0
        for id in range(self.records.end()):
            if id in free_records:
                continue
            PyErr_CheckSignals()                    # a recount may stop anywhere
            leaf = self.at(id)
            small += leaf.entries != NULL
            huge += leaf.entries == NULL
            length = 0
            slot_id = leaf.holders
            while slot_id != NONE:
                slot = self.slot(slot_id)
                if slot.leaf != id:
                    raise InvariantError(f"leaf {id}: slot {slot_id} in its chain points to leaf {slot.leaf}")
                length += 1
                if length > leaf.nr_holders:
                    break
                slot_id = slot.next
            if length != leaf.nr_holders or length == 0:
                raise InvariantError(f"leaf {id}: {leaf.nr_holders} holders, chain of {length}")
            held += length
            live = 0
            for i in range(LEAF_ENTRIES):
                live += self.entry(leaf, i) != 0
            if live != leaf.live:
                raise InvariantError(f"leaf {id}: live {leaf.live}, recount {live}")
        if (small, huge) != (self.nr_small, self.nr_huge):
            raise InvariantError(f"leaves: {self.nr_small} small {self.nr_huge} huge, recount {small} and {huge}")
        for id in range(self.pages.end()):
            if id in free_pages:
                continue
            for i in range(SLOTS_PER_PAGE):
                pointing += self.slot(id * SLOTS_PER_PAGE + i).leaf != NONE
        if pointing != held:
            raise InvariantError(f"leaves: {pointing} directory slots point to leaves, chains hold {held}")
