"""Who maps a frame: the set of its sites, leaf x 512 + index.

The first site stands in the frame's record, and each names the next in the link beside its entry: 512 entries of 4 bytes
fill half of a table frame, the links the other half. One more site therefore costs no memory and needs nothing secured,
and it writes only cache lines that the change of the entry writes anyway. `refs` says where a chain ends. A frame under a
huge leaf has one site and no link; a second site splits the leaf first. The zero frame has references, and no sites.

Rejected: families of leaves that remember their common ancestor. They spare a leaf copy the links, but every unmapping
would search the family, and pages merged across VMs would need a chain anyway.

Only Mapping and Tables call what changes anything here.
"""

from ..memory.frames cimport FRAME_ZERO, Frame, Frames
from .leaf cimport Leaf, Leaves


cdef class ReverseMap:
    """frame -> its sites."""

    def __cinit__(self, Frames frames not None, Leaves leaves not None):
        self.frames = frames
        self.leaves = leaves

    cdef void add(self, hfn_t frame, site_t site) noexcept nogil:
        """One more entry names the frame. If it is not the first, its leaf is small."""
        cdef Frame *record = &self.frames.frame[frame]
        if not record.flags & FRAME_ZERO:
            if record.refs:
                self.leaves.link(site)[0] = record.where
            record.where = site
        record.refs += 1

    cdef void remove(self, hfn_t frame, site_t site) noexcept nogil:
        """The frame loses this site; refs may become 0, then the caller frees it."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef uint32_t *link = &record.where
        record.refs -= 1
        if record.refs == 0 or record.flags & FRAME_ZERO:
            return
        while link[0] != site:
            link = self.leaves.link(link[0])
        link[0] = self.leaves.link(site)[0]

    cdef void remove_unheld(self, hfn_t frame) noexcept nogil:
        """The frame loses every site under a leaf that nobody holds, and those entries name nothing: one walk, where a
        walk for each site would take the square of their number for a page that was merged often. Its leaves are small;
        refs may become 0."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef uint32_t *link = &record.where
        cdef uint32_t left = record.refs
        cdef site_t site
        cdef Leaf *leaf
        while left > 0:
            left -= 1
            site = link[0]
            leaf = self.leaves.at(site / LEAF_ENTRIES)
            if leaf.nr_holders:
                link = self.leaves.link(site)
                continue
            link[0] = self.leaves.link(site)[0]
            leaf.entries[site % LEAF_ENTRIES] = 0
            leaf.live -= 1
            record.refs -= 1

    cdef uint64_t mappings(self, hfn_t frame) noexcept nogil:
        """Pages of VMs that the frame holds: entries, each times the holders of its leaf."""
        cdef Walk walk
        cdef uint64_t pages = 0
        if self.frames.frame[frame].flags & FRAME_ZERO:
            return self.frames.frame[frame].refs
        self.walk(frame, &walk)
        while True:
            pages += walk.leaf.nr_holders
            if not self.next(&walk):
                return pages

    cdef bint maps(self, hfn_t frame, vmid_t vm) noexcept nogil:
        """True if this VM still maps the frame."""
        cdef Walk walk
        self.walk(frame, &walk)
        while not self.leaves.held_by(walk.leaf, vm):
            if not self.next(&walk):
                return False
        return True
