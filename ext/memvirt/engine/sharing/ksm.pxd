from ..memory.frames cimport Slab
from ..types cimport MAX_VMS, gfn_t, hfn_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, vmid_t
from .advisor cimport Advisor
from .scanner cimport Scanner
from .stable cimport StableTree
from .treap cimport Treap

cdef enum ItemState:
    ITEM_ABSENT = 0             # not an item: no page was there when last looked at
    ITEM_NEITHER = 1            # in neither tree: new, changing, skipped, or put off (counted as volatile)
    ITEM_UNSTABLE = 2           # in the unstable tree of pass `pass_` (which may be over)
    ITEM_STABLE = 3             # one of the users of stable node `node`

cdef enum:
    ITEMS_PER_CHUNK = 128       # neighbouring guest pages whose items share a frame
    CHUNK_SHIFT = 7

# What is known of one guest page of one VM; Linux's rmap_item. 32 bytes, begins with a Link.
cdef struct Item:
    uint32_t left               # UNSTABLE: links in the tree; STABLE: previous and next user of the node
    uint32_t right
    uint32_t parent
    uint32_t checksum           # of the page when last looked at
    uint32_t node               # STABLE
    gfn_t gfn
    vmid_t vm
    uint8_t state
    uint8_t pass_               # UNSTABLE: low bits of the number of the pass it was inserted in
    uint8_t age                 # looks without a merge, for smart_scan; stays at 255
    uint8_t skips               # looks still to be skipped
    uint16_t unused


cdef class KsmScanner(Scanner):
    cdef readonly StableTree stable
    cdef readonly Treap unstable
    cdef Slab chunks                            # of ITEMS_PER_CHUNK items
    cdef uint32_t *root[MAX_VMS]                # [nr_root] chunk of each 128 guest pages, NONE: none yet
    cdef uint32_t nr_root[MAX_VMS]
    cdef uint32_t at_vm                         # where the pass is: the VM and the guest page looked at next
    cdef gfn_t at_gfn
    cdef bint in_pass
    cdef readonly bint smart_scan
    cdef readonly uint64_t rmap_items           # items there are
    cdef uint64_t nr_shared                     # stable nodes with users
    cdef uint64_t nr_sharing                    # further users
    cdef readonly uint64_t pages_unshared
    cdef readonly uint64_t pages_skipped
    cdef uint64_t no_item                       # pages not looked at for want of a frame for their items
    cdef readonly Advisor advisor               # chooses pages_to_scan; None: it stays as it was set

    cdef inline Item *item(self, uint32_t id) noexcept nogil:
        return <Item *>(self.chunks.page[id >> CHUNK_SHIFT] + (id & (ITEMS_PER_CHUNK - 1)) * sizeof(Item))

    cdef bint _next_page(self, hfn_t *frame, uint32_t *id) except? True nogil
    cdef uint32_t _item_of(self, vmid_t vm, gfn_t gfn) except? 0xFFFFFFFE nogil
    cdef int _grow_root(self, vmid_t vm) except -1
    cdef void _forget(self, vmid_t vm, gfn_t first, gfn_t end) noexcept nogil
    cdef void _remove(self, uint32_t id) noexcept nogil
    cdef void _append(self, uint32_t id, uint32_t node) noexcept nogil
    cdef bint _skip(self, Item *item) noexcept nogil
    cdef bint _look(self, hfn_t frame, uint32_t id) except? True nogil
    cdef bint _search(self, hfn_t frame, uint32_t id) except? True nogil
    cdef bint _search_unstable(self, hfn_t frame, uint32_t id) except? True nogil
    cdef bint _merge_two(self, hfn_t frame, uint32_t id, hfn_t other, uint32_t other_id) except? True nogil
    cdef void _begin_pass(self) noexcept nogil
    cdef void _end_pass(self) noexcept nogil
