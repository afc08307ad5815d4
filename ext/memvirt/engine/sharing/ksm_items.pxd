from ..mapping.mapping cimport Mapping
from ..memory.frames cimport Slab
from ..types cimport MAX_VMS, gfn_t, uint8_t, uint16_t, uint32_t, uint64_t, vmid_t

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


cdef class Items:
    cdef Mapping mapping
    cdef Slab chunks                            # of ITEMS_PER_CHUNK items
    cdef uint32_t *root[MAX_VMS]                # [nr_root] chunk of each 128 guest pages, NONE: none yet
    cdef uint32_t nr_root[MAX_VMS]
    cdef readonly uint64_t nr                   # items there are

    cdef inline Item *at(self, uint32_t id) noexcept nogil:
        return <Item *>(self.chunks.page[id >> CHUNK_SHIFT] + (id & (ITEMS_PER_CHUNK - 1)) * sizeof(Item))

    # The item of a guest page, made if there is none; NONE when there is no frame for it.
    cdef uint32_t of_page(self, vmid_t vm, gfn_t gfn) except? 0xFFFFFFFE nogil
    # The item of the first page at or after *gfn and before `end` that has one; *gfn is then the page after it. NONE: none.
    cdef uint32_t next(self, vmid_t vm, gfn_t *gfn, gfn_t end) noexcept nogil
    # The item, which is in no tree, goes.
    cdef void drop(self, uint32_t id) noexcept nogil
    # The VM ends; it has no items any more.
    cdef void close(self, vmid_t vm) noexcept nogil
    cdef int _grow_root(self, vmid_t vm) except -1
