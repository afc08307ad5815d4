"""The stable tree of ksm: merged frames in the order of their bytes.

Merged frames cannot change, so the order can be trusted and a page is found by comparing it with one frame per level.
A frame has at most `max_page_sharing` users, as what walks its reverse map walks all of them; further equal pages get
another frame. Nodes of equal content are chained, and the first of a chain stands in the tree.

The order of a chain is the kernel's. A new node comes first. A search takes the node with the most users of those that
have some and have room for one more, of equals the one that comes first; and if that will still have room afterwards, it
moves to the front. (The kernel looks for it in every search only with stable_node_chains_prune_millisecs at 0, else once
in that time, and takes the first with room in between. It also moves nodes of chains that a search merely passes on its
way down, which depends on the shape of its tree and is left out.)

Different salts never meet: the salt is compared before the bytes.

Where this differs from mm/ksm.c: a node disappears the moment its frame does (there: when the scanner next comes by),
and a chain has no record of its own.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from memvirt.errors import InvariantError

from ..simtime cimport Clock
from ..counters cimport CPU_SCAN
from ..memory.frames cimport FRAME_FIXED, FRAME_STABLE, Frames, Slab, pages_of
from ..types cimport NONE, PAGE_SIZE, hfn_t, int64_t, uint32_t, uint64_t
from .treap cimport RECORD_BYTES, Treap


cdef class StableTree:

    def __cinit__(self, Frames frames not None, Clock clock not None, uint32_t max_page_sharing):
        self.frames = frames
        self.content = frames.content
        self.clock = clock
        self.max_page_sharing = max_page_sharing
        self.nodes = Slab(frames, RECORD_BYTES, FRAME_FIXED)
        self.tree = Treap(self.nodes)
        self.node_of = <uint32_t *>malloc(frames.nr_frames * sizeof(uint32_t))
        if self.node_of == NULL:
            raise MemoryError("stable nodes")
        memset(self.node_of, 0xFF, frames.nr_frames * sizeof(uint32_t))

    def __dealloc__(self):
        free(self.node_of)

    cdef int order(self, hfn_t a, uint32_t a_salt, hfn_t b, uint32_t b_salt) noexcept nogil:
        """Negative, 0 or positive as a sorts before, equals or sorts after b; costs what had to be read."""
        cdef uint32_t read
        cdef int result
        if a_salt != b_salt:
            return -1 if a_salt < b_salt else 1
        result = self.content.compare_reading(a, b, &read)
        self.clock.spend(CPU_SCAN, self.clock.costs.compare_page * read / PAGE_SIZE)
        return result

    cdef uint32_t search(self, hfn_t frame, uint32_t salt) noexcept nogil:
        """The fullest node with this content that has room for one more user, or NONE."""
        cdef uint32_t id = self.tree.root, found = NONE
        cdef int order
        while id != NONE:
            order = self.order(frame, salt, self.node(id).frame, self.node(id).salt)
            if order == 0:
                break
            id = self.node(id).left if order < 0 else self.node(id).right
        if id != NONE:
            found = self._fullest(id)
            if found != NONE and found != id and self.node(found).nr_users + 1 < self.max_page_sharing:
                self.node(self.node(found).left).next = self.node(found).next
                if self.node(found).next != NONE:
                    self.node(self.node(found).next).left = self.node(found).left
                self._to_front(found, id)
        return found

    cdef uint32_t _fullest(self, uint32_t head) noexcept nogil:
        """Of a chain, the first node with most users of those that may have one more. A node that has none is about to
        lose its frame."""
        cdef uint32_t id = head, found = NONE, most = 0
        while id != NONE and most + 1 < self.max_page_sharing:
            if most < self.node(id).nr_users < self.max_page_sharing:
                found = id
                most = self.node(id).nr_users
            id = self.node(id).next
        return found

    cdef void _to_front(self, uint32_t id, uint32_t head) noexcept nogil:
        """A node that is in no chain becomes the first of this one."""
        self.tree.replace(head, id)
        self.node(id).next = head
        self.node(head).left = id
        self.node(head).right = head

    cdef uint32_t add(self, hfn_t frame, uint32_t salt) noexcept nogil:
        """A node without users for a frame just merged; room has been reserved."""
        cdef uint32_t id = self.nodes.claim(), below = self.tree.root, parent = NONE
        cdef Node *node = self.node(id)
        cdef Node *head
        cdef int order = 0
        node.frame = frame
        node.users = NONE
        node.nr_users = 0
        node.next = NONE
        node.salt = salt
        self.node_of[frame] = id
        while below != NONE:
            head = self.node(below)
            order = self.order(node.frame, node.salt, head.frame, head.salt)
            if order == 0:
                self.nr_chains += head.next == NONE
                self.nr_duplicates += 2 if head.next == NONE else 1
                self._to_front(id, below)
                return id
            parent = below
            below = head.left if order < 0 else head.right
        self.tree.insert(id, parent, order < 0)
        return id

    cdef void remove(self, uint32_t id) noexcept nogil:
        """The node's frame is merged no more; its users have left."""
        cdef Node *node = self.node(id)
        cdef uint32_t heir = node.next, before = node.left
        cdef bint alone
        self.node_of[node.frame] = NONE
        if self.is_duplicate(id):
            self.node(before).next = heir
            if heir != NONE:
                self.node(heir).left = before
            alone = heir == NONE and not self.is_duplicate(before)
        elif heir != NONE:
            self.tree.replace(id, heir)     # with the rest of the chain behind it
            alone = self.node(heir).next == NONE
        else:
            self.tree.remove(id)
            alone = False
        if alone:
            self.nr_chains -= 1
            self.nr_duplicates -= 2
        elif self.is_duplicate(id) or heir != NONE:
            self.nr_duplicates -= 1
        self.nodes.give(id)

    def metadata_bytes(self):
        return self.frames.nr_frames * sizeof(uint32_t)

    def metadata_frames(self):
        return self.nodes.nr_pages

    def most_frames(self):
        """With a node for each frame of the host."""
        return pages_of(self.frames.nr_frames * <uint64_t>RECORD_BYTES)

    def check(self):
        """InvariantError unless order, chains and counts are as they should be and every node's frame is merged."""
        cdef int64_t now = self.clock.now, scanned_ns = self.clock.cpu_ns[<int>CPU_SCAN]
        try:
            self._check_order()
        finally:                                # who checks is no scanner, and takes no time
            self.clock.now, self.clock.cpu_ns[<int>CPU_SCAN] = now, scanned_ns

    def _check_order(self):
        cdef uint32_t id, count = 0, chains = 0, duplicates = 0, length, before = NONE, at
        self.tree.check()
        self.nodes.check()
        id = self.tree.first()
        while id != NONE:
            if before != NONE and self.order(self.node(before).frame, self.node(before).salt,
                                             self.node(id).frame, self.node(id).salt) >= 0:
                raise InvariantError(f"stable tree: node {before} does not sort before node {id}")
            PyErr_CheckSignals()                    # a recount may stop anywhere
            length = 0
            at = id
            while at != NONE:
                if self.node_of[self.node(at).frame] != at:
                    raise InvariantError(f"stable node {at}: frame {self.node(at).frame} does not name it")
                if not self.frames.frame[self.node(at).frame].flags & FRAME_STABLE:
                    raise InvariantError(f"stable node {at}: frame {self.node(at).frame} is not merged")
                if self.content.compare(self.node(at).frame, self.node(id).frame) != 0:
                    raise InvariantError(f"stable node {at}: differs from the head of its chain, {id}")
                length += 1
                at = self.node(at).next
            count += length
            chains += length > 1
            duplicates += length if length > 1 else 0
            before = id
            id = self.tree.next(id)
        if (count, chains, duplicates) != (self.nodes.nr_used, self.nr_chains, self.nr_duplicates):
            raise InvariantError(f"stable nodes, chains, duplicates: {self.nodes.nr_used}, {self.nr_chains}, "
                                 f"{self.nr_duplicates}; recount {count}, {chains}, {duplicates}")
