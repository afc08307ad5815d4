"""A balanced ordered tree whose order only its user knows: a treap over records that lie in a slab.

The user walks down from `root`, comparing as it sees fit, and inserts below the record where the walk ended. Balance
comes from priorities (Seidel and Aragon, 1996): the tree is a heap by priority, and a record's priority is a fixed mix
of its id, so that equal histories give equal trees on any machine. Removing needs no comparison: in the unstable tree
of ksm the content of a page may have changed since it was inserted, and only its place in the tree is still known.

Invariants (checked by the user, who knows the order): parent and child links agree, no child has a higher priority.
"""

from cpython.exc cimport PyErr_CheckSignals

from memvirt.errors import InvariantError

from ..memory.frames cimport Slab
from ..types cimport NONE, uint32_t


cdef inline uint32_t priority(uint32_t id) noexcept nogil:
    """A fixed mix of the bits of an id (the finaliser of MurmurHash3): a bijection, so that there are no ties."""
    id = (id ^ (id >> 16)) * <uint32_t>0x85EBCA6B
    id = (id ^ (id >> 13)) * <uint32_t>0xC2B2AE35
    return id ^ (id >> 16)


cdef class Treap:
    """Over records of a slab whose pages hold 128 of them; ids count through all pages."""

    def __cinit__(self, Slab slab not None):
        self.slab = slab
        self.root = NONE

    cdef void clear(self) noexcept nogil:
        """Forget all records at once; their links are stale from now on."""
        self.root = NONE
        self.nr = 0

    cdef void insert(self, uint32_t id, uint32_t parent, bint left) noexcept nogil:
        """As the left or right child of `parent`, which has none there (NONE: the tree is empty)."""
        cdef Link *link = self.link(id)
        link.left = NONE
        link.right = NONE
        link.parent = parent
        self.nr += 1
        if parent == NONE:
            self.root = id
        elif left:
            self.link(parent).left = id
        else:
            self.link(parent).right = id
        while link.parent != NONE and priority(id) > priority(link.parent):
            self._rotate_up(id)

    cdef void remove(self, uint32_t id) noexcept nogil:
        """Rotate the record down until it has no child, then cut it off."""
        cdef Link *link = self.link(id)
        while link.left != NONE or link.right != NONE:
            if link.right == NONE or (link.left != NONE and priority(link.left) > priority(link.right)):
                self._rotate_up(link.left)
            else:
                self._rotate_up(link.right)
        if link.parent == NONE:
            self.root = NONE
        elif self.link(link.parent).left == id:
            self.link(link.parent).left = NONE
        else:
            self.link(link.parent).right = NONE
        self.nr -= 1

    cdef void replace(self, uint32_t old, uint32_t new) noexcept nogil:
        """A record that is in no tree takes the place of one that is equal to it, and rises or sinks from there."""
        cdef Link *link = self.link(new)
        cdef uint32_t child
        link[0] = self.link(old)[0]
        if link.parent == NONE:
            self.root = new
        elif self.link(link.parent).left == old:
            self.link(link.parent).left = new
        else:
            self.link(link.parent).right = new
        if link.left != NONE:
            self.link(link.left).parent = new
        if link.right != NONE:
            self.link(link.right).parent = new
        while link.parent != NONE and priority(new) > priority(link.parent):
            self._rotate_up(new)
        while True:
            child = link.left
            if child == NONE or (link.right != NONE and priority(link.right) > priority(child)):
                child = link.right
            if child == NONE or priority(child) < priority(new):
                return
            self._rotate_up(child)

    cdef void _rotate_up(self, uint32_t id) noexcept nogil:
        """The record and its parent change places; the order from left to right stays."""
        cdef Link *link = self.link(id)
        cdef uint32_t above = link.parent, inner
        cdef Link *parent = self.link(above)
        cdef uint32_t top = parent.parent
        if parent.left == id:
            inner = link.right
            parent.left = inner
            link.right = above
        else:
            inner = link.left
            parent.right = inner
            link.left = above
        if inner != NONE:
            self.link(inner).parent = above
        parent.parent = id
        link.parent = top
        if top == NONE:
            self.root = id
        elif self.link(top).left == above:
            self.link(top).left = id
        else:
            self.link(top).right = id

    cdef uint32_t first(self) noexcept nogil:
        """The leftmost record, or NONE."""
        cdef uint32_t id = self.root
        while id != NONE and self.link(id).left != NONE:
            id = self.link(id).left
        return id

    cdef uint32_t next(self, uint32_t id) noexcept nogil:
        """The record to the right of this one, or NONE."""
        cdef uint32_t below
        if self.link(id).right != NONE:
            id = self.link(id).right
            while self.link(id).left != NONE:
                id = self.link(id).left
            return id
        below = id
        id = self.link(id).parent
        while id != NONE and self.link(id).right == below:
            below = id
            id = self.link(id).parent
        return id

    def check(self):
        """InvariantError unless links agree, priorities fall from the root down, and the count is right."""
        cdef uint32_t id = self.first(), count = 0, child
        while id != NONE:
            count += 1
            if not count & 0xFFF:                   # a recount may stop anywhere
                PyErr_CheckSignals()
            if count > self.nr:
                raise InvariantError(f"tree: more than its {self.nr} records are linked")
            for child in (self.link(id).left, self.link(id).right):
                if child != NONE and (self.link(child).parent != id or priority(child) > priority(id)):
                    raise InvariantError(f"tree: record {child} below {id}: parent {self.link(child).parent}, "
                                         f"priorities {priority(child)} and {priority(id)}")
            id = self.next(id)
        if count != self.nr:
            raise InvariantError(f"tree: {self.nr} records, {count} linked")
