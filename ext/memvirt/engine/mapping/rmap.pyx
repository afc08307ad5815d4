"""Who maps a frame: the set of its sites, leaf x 512 + index.

The first site stands in the frame's record, and each names the next in the link beside its entry: 512 entries of 4 bytes
fill half of a table frame, the links the other half. One more site therefore costs no memory and needs nothing secured,
and it writes only cache lines that the change of the entry writes anyway. `refs` says where a chain ends. A frame under a
huge leaf has one site and no link; a second site splits the leaf first. The zero frame has references, and no sites.

A site that goes has to be found from the front. In a chain of a page that was merged a million times that takes a
millisecond, so a chain is *indexed* once a search in it has been long (FRAME_INDEXED): from then on every site but the
first knows the one before it, in a table of 2 KiB beside its leaf (`before`), the last link says NONE, and a site goes
in O(1). Each indexing of n sites is paid for by the n that were added since the last. These tables are this program's, to
be quick about what the model says costs the same for any chain; they are on this machine's heap and no frames of the host.
What still walks a whole chain: `mappings`, `maps` for a VM that is not there, and who pays for a frame next.

Rejected: families of leaves that remember their common ancestor. They spare a leaf copy the links, but every unmapping
would search the family, and pages merged across VMs would need a chain anyway. Links both ways in the leaf: half a frame
more for each, for the few whose chains are long.

Invariant, if a frame is indexed: it has two sites or more, before[site] is right for each but the first, and the last
site's link is NONE. What other frames' sites have in `before` means nothing.

Only Mapping and Tables call what changes anything here.
"""

from libc.stdlib cimport free, malloc, realloc

from ..memory.frames cimport FRAME_INDEXED, FRAME_ZERO, Frame, Frames
from ..types cimport LEAF_ENTRIES, NONE
from .leaf cimport Leaf, Leaves

cdef enum:
    LONG = 64                   # sites passed by a search, after which the chain is indexed


cdef class ReverseMap:
    """frame -> its sites."""

    def __cinit__(self, Frames frames not None, Leaves leaves not None):
        self.frames = frames
        self.leaves = leaves

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.nr_before):
            free(self.before[i])
        free(self.before)

    cdef void add(self, hfn_t frame, site_t site) noexcept nogil:
        """One more entry names the frame. If it is not the first, its leaf is small."""
        cdef Frame *record = &self.frames.frame[frame]
        if not record.flags & FRAME_ZERO:
            if record.refs:
                self.leaves.link(site)[0] = record.where
                if record.flags & FRAME_INDEXED:
                    self.precede(frame, site)
            record.where = site
        record.refs += 1

    cdef void precede(self, hfn_t frame, site_t site) noexcept nogil:
        """The site is about to become the first of an indexed frame's chain."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef site_t second = record.where
        if self._table(second / LEAF_ENTRIES):
            self.before[second / LEAF_ENTRIES][second % LEAF_ENTRIES] = site
        else:
            record.flags &= ~FRAME_INDEXED

    cdef site_t remove(self, hfn_t frame, site_t site) noexcept nogil:
        """The frame loses this site; refs may become 0, then the caller frees it. Returns one that was beside it in the
        chain; NONE: there is none."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef site_t near, after
        if record.refs == 1 or record.flags & FRAME_ZERO:
            record.refs -= 1
            return NONE
        if record.where == site:
            near = record.where = self.leaves.link(site)[0]
        else:
            near = self._before(frame, site)
            after = self.leaves.link(near)[0] = self.leaves.link(site)[0]
            if record.flags & FRAME_INDEXED and after != NONE:
                self.before[after / LEAF_ENTRIES][after % LEAF_ENTRIES] = near
        record.refs -= 1
        if record.refs == 1:
            record.flags &= ~FRAME_INDEXED
        return near

    cdef site_t _before(self, hfn_t frame, site_t site) noexcept nogil:
        """The site before this one, which is not the first."""
        cdef site_t before = self.frames.frame[frame].where
        cdef uint32_t passed = 0
        while not self.frames.frame[frame].flags & FRAME_INDEXED:
            if self.leaves.link(before)[0] == site:
                return before
            before = self.leaves.link(before)[0]
            passed += 1
            if passed == LONG:
                self._index(frame)
        return self.before[site / LEAF_ENTRIES][site % LEAF_ENTRIES]

    cdef void _index(self, hfn_t frame) noexcept nogil:
        """Let each site of the chain know the one before it. Without memory for that it stays as it is."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef site_t site = record.where, after
        cdef uint32_t _i
        for _i in range(record.refs - 1):
            after = self.leaves.link(site)[0]
            if not self._table(after / LEAF_ENTRIES):
                return
            self.before[after / LEAF_ENTRIES][after % LEAF_ENTRIES] = site
            site = after
        self.leaves.link(site)[0] = NONE
        record.flags |= FRAME_INDEXED

    cdef bint _table(self, leaf_t leaf) noexcept nogil:
        """True if the leaf has a table of what is before its sites; one is made if there is memory."""
        cdef uint32_t nr = self.leaves.records.end()
        cdef site_t **grown
        if leaf >= self.nr_before:
            grown = <site_t **>realloc(self.before, nr * sizeof(site_t *))
            if grown == NULL:
                return False
            self.before = grown
            while self.nr_before < nr:
                self.before[self.nr_before] = NULL
                self.nr_before += 1
        if self.before[leaf] == NULL:
            self.before[leaf] = <site_t *>malloc(LEAF_ENTRIES * sizeof(site_t))
        return self.before[leaf] != NULL

    cdef void remove_unheld(self, hfn_t frame) noexcept nogil:
        """The frame, which is not indexed, loses every site under a leaf that nobody holds, and those entries name nothing:
        one walk, where a walk for each site would take the square of their number for a page that was merged often. Its
        leaves are small; refs may become 0."""
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

    cdef bint maps(self, hfn_t frame, vmid_t vm, site_t near=0xFFFFFFFF) noexcept nogil:
        """True if this VM still maps the frame. `near`: a site of the frame that may well be its."""
        cdef Walk walk
        if near != NONE and self.leaves.held_by(self.leaves.at(near / LEAF_ENTRIES), vm):
            return True
        self.walk(frame, &walk)
        while not self.leaves.held_by(walk.leaf, vm):
            if not self.next(&walk):
                return False
        return True
