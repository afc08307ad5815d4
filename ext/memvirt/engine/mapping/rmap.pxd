from ..memory.frames cimport Frames
from ..types cimport LEAF_ENTRIES, gfn_t, hfn_t, leaf_t, site_t, uint32_t, uint64_t, vmid_t
from .leaf cimport Leaf, Leaves

# Goes through the sites of a frame. It stands at one of them.
cdef struct Walk:
    site_t site
    leaf_t id                   # the site's leaf
    Leaf *leaf                  # the same
    uint32_t index              # the entry in it
    gfn_t gfn                   # the page, the same in every VM that holds the leaf
    uint32_t left               # sites still to come


cdef class ReverseMap:
    cdef Frames frames
    cdef Leaves leaves
    cdef site_t **before        # [nr_before][LEAF_ENTRIES] of a leaf's sites in indexed chains; NULL: none is in one
    cdef leaf_t nr_before

    cdef inline void walk(self, hfn_t frame, Walk *walk) noexcept nogil:
        """The one way from a frame to what maps it: start at the first site. The frame is mapped."""
        walk.left = self.frames.frame[frame].refs - 1
        self._stand_at(walk, self.frames.frame[frame].where)

    cdef inline bint next(self, Walk *walk) noexcept nogil:
        """Go on to the next site; False: there is none."""
        if walk.left == 0:
            return False
        walk.left -= 1
        self._stand_at(walk, self.leaves.link(walk.site)[0])
        return True

    cdef inline void _stand_at(self, Walk *walk, site_t site) noexcept nogil:
        walk.site = site
        walk.id = site / LEAF_ENTRIES
        walk.leaf = self.leaves.at(walk.id)
        walk.index = site % LEAF_ENTRIES
        walk.gfn = walk.leaf.region * LEAF_ENTRIES + walk.index

    cdef void add(self, hfn_t frame, site_t site) noexcept nogil
    cdef void precede(self, hfn_t frame, site_t site) noexcept nogil
    cdef site_t remove(self, hfn_t frame, site_t site) noexcept nogil
    cdef void remove_unheld(self, hfn_t frame) noexcept nogil
    cdef uint64_t mappings(self, hfn_t frame) noexcept nogil
    cdef bint maps(self, hfn_t frame, vmid_t vm, site_t near=*) noexcept nogil
    cdef site_t _before(self, hfn_t frame, site_t site) noexcept nogil
    cdef void _index(self, hfn_t frame) noexcept nogil
    cdef bint _table(self, leaf_t leaf) noexcept nogil
