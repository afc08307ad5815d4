from ..simtime cimport Clock
from ..content.content cimport Content
from ..memory.frames cimport Frames, Slab
from ..types cimport hfn_t, uint32_t, uint64_t
from .treap cimport Treap

# A merged frame and its users. 32 bytes, begins with a Link. Nodes with the same content (because one frame may have
# only that many users) form a chain: its head stands in the tree, the others are its duplicates.
cdef struct Node:
    uint32_t left               # head: links in the tree; others: the node before it in the chain
    uint32_t right              # not the head: its own id, which marks it as such
    uint32_t parent
    hfn_t frame
    uint32_t users              # first item of its list, NONE: none
    uint32_t nr_users
    uint32_t next               # next node of the chain, NONE: none
    uint32_t salt


cdef class StableTree:
    cdef Frames frames
    cdef Content content
    cdef Clock clock
    cdef readonly Treap tree
    cdef Slab nodes
    cdef uint32_t *node_of      # [nr_frames] stable node of a merged frame, NONE: none
    cdef readonly uint32_t max_page_sharing
    cdef readonly uint64_t nr_chains            # contents with more than one node
    cdef readonly uint64_t nr_duplicates        # nodes of these

    cdef inline Node *node(self, uint32_t id) noexcept nogil:
        return <Node *>self.nodes.at(id)

    cdef inline bint is_duplicate(self, uint32_t id) noexcept nogil:
        return self.node(id).right == id

    cdef int order(self, hfn_t a, uint32_t a_salt, hfn_t b, uint32_t b_salt) noexcept nogil
    cdef uint32_t search(self, hfn_t frame, uint32_t salt) noexcept nogil
    cdef uint32_t add(self, hfn_t frame, uint32_t salt) noexcept nogil
    cdef void remove(self, uint32_t id) noexcept nogil
    cdef uint32_t _fullest(self, uint32_t head) noexcept nogil
    cdef void _to_front(self, uint32_t id, uint32_t head) noexcept nogil
