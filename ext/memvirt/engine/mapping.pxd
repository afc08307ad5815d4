from .backing cimport Backings
from .clock cimport Clock
from .content cimport Content
from .counters cimport Meter
from .frames cimport Frame, Frames, Slab
from .leaf cimport Leaf, Leaves
from .replacement.order cimport Order
from .swapspace cimport SwapSpace
from .tcache cimport Tcache
from .types cimport (LEAF_ENTRIES, MAX_VMS, NONE, backing_t, gfn_t, hfn_t, leaf_t, site_t, uint8_t, uint32_t,
                     uint64_t, vmid_t)
from .zpool cimport Zpool

# A link of the reverse map of a frame that several entries name.
cdef struct Node:
    site_t site
    uint32_t next

# What the host knows of a VM beside its tables.
cdef struct Account:
    uint32_t charged            # frames this VM pays for
    uint32_t limit              # hard maximum of charged frames; NONE: none
    uint32_t reservation        # once it has consumed them, reclaim leaves this many alone
    uint32_t shares
    uint32_t domain             # pages merge only within a domain
    uint32_t active             # pages found accessed by the last harvest
    uint8_t open

# Walks the sites of a frame.
cdef struct Walk:
    uint32_t node
    site_t site


cdef class Listener:
    # Told when a merged frame stops being one (freed, or written in place by its last owner).
    cdef void unshared(self, hfn_t frame) noexcept nogil


cdef class Mapping:
    cdef readonly Frames frames
    cdef readonly Content content
    cdef readonly Leaves leaves
    cdef readonly Backings backings
    cdef readonly Tcache tcache
    cdef readonly Slab nodes                # Node
    cdef readonly Order order
    cdef readonly Zpool zpool               # may be None
    cdef readonly SwapSpace swap                 # may be None
    cdef bint has_zpool, has_swap
    cdef readonly Meter meter
    cdef Clock clock
    cdef Listener listener
    cdef bint has_listener
    cdef Account account[MAX_VMS]

    # reverse map
    cdef inline Node *node(self, uint32_t id) noexcept nogil:
        return <Node *>self.nodes.at(id)

    cdef inline gfn_t gfn_of(self, site_t site) noexcept nogil:
        return self.leaves.at(site / LEAF_ENTRIES).region * LEAF_ENTRIES + site % LEAF_ENTRIES

    cdef void walk(self, hfn_t frame, Walk *walk) noexcept nogil
    cdef bint next(self, Walk *walk) noexcept nogil
    cdef uint32_t nodes_to_add(self, hfn_t frame) noexcept nogil

    # leaves
    cdef uint32_t frames_to_reach(self, vmid_t vm, gfn_t gfn) noexcept nogil
    cdef uint32_t reach(self, vmid_t vm, gfn_t gfn) except? 0xFFFFFFFF nogil
    cdef uint32_t frames_to_copy_leaf(self, leaf_t leaf) noexcept nogil
    cdef int copy_leaf(self, uint32_t slot) except -1 nogil
    cdef int split(self, leaf_t leaf) except -1 nogil
    cdef int collapse(self, leaf_t leaf) except -1 nogil
    cdef bint collapsible(self, leaf_t leaf) noexcept nogil

    # entries
    cdef int map_new(self, vmid_t vm, uint32_t slot, gfn_t gfn, hfn_t frame, uint32_t key) except -1 nogil
    cdef int map_huge(self, vmid_t vm, uint32_t slot, uint32_t region, hfn_t base) except -1 nogil
    cdef int map_cached(self, leaf_t leaf, uint32_t index, backing_t backing) except -1 nogil
    cdef int map_back(self, vmid_t vm, leaf_t leaf, uint32_t index, hfn_t frame, backing_t backing) except -1 nogil
    cdef int break_cow(self, vmid_t vm, leaf_t leaf, uint32_t index, hfn_t copy) except -1 nogil
    cdef bint sole(self, hfn_t frame) noexcept nogil
    cdef int own(self, leaf_t leaf, uint32_t index) except -1 nogil
    cdef int unmap(self, leaf_t leaf, uint32_t index) except -1 nogil
    cdef void translate(self, vmid_t vm, uint32_t vpn, leaf_t leaf, uint32_t index, bint writable) noexcept nogil
    cdef bint test_and_clear_accessed(self, hfn_t frame) except -1 nogil
    cdef uint32_t harvest_leaf(self, leaf_t leaf) except? 0xFFFFFFFF nogil
    cdef int evict(self, hfn_t frame, backing_t backing) except -1 nogil
    cdef int merge(self, hfn_t duplicate, hfn_t kept) except -1 nogil
    cdef uint32_t nodes_to_merge(self, hfn_t duplicate, hfn_t kept) noexcept nogil
    cdef void write_protect(self, hfn_t frame) noexcept nogil
    cdef int move(self, hfn_t source, hfn_t target) except -1 nogil
    cdef int set_pinned(self, hfn_t frame, bint pinned) except -1 nogil
    cdef int release_backing(self, backing_t backing) except -1 nogil

    # VMs
    cdef int open(self, vmid_t vm, uint32_t nr_vpns, uint32_t nr_gfns) except -1
    cdef int close(self, vmid_t vm) except -1 nogil
    cdef int share_leaf(self, vmid_t parent, vmid_t child, gfn_t gfn) except -1 nogil

    # private
    cdef void _add_site(self, hfn_t frame, site_t site) noexcept nogil
    cdef void _remove_site(self, hfn_t frame, site_t site) noexcept nogil
    cdef void _charge(self, hfn_t frame, vmid_t vm) noexcept nogil
    cdef void _recharge(self, hfn_t frame) noexcept nogil
    cdef void _drop_cached(self, Leaf *leaf, gfn_t gfn) noexcept nogil
    cdef void _protect_cached(self, Leaf *leaf, gfn_t gfn) noexcept nogil
    cdef int _detach(self, hfn_t frame) except -1 nogil
    cdef int _free_frame(self, hfn_t frame) except -1 nogil
    cdef int _order_in(self, hfn_t frame, uint32_t key) except -1 nogil
    cdef bint _maps(self, hfn_t frame, vmid_t vm) noexcept nogil
    cdef void _drop_leaf_cached(self, Leaf *leaf) noexcept nogil
    cdef int _empty(self, leaf_t leaf) except -1 nogil
    cdef void _leave(self, hfn_t frame, vmid_t vm) noexcept nogil
    cdef int _order_out(self, hfn_t frame) except -1 nogil
