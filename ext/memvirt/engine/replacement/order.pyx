"""What every replacement order has in common.

A replacement order answers one question, *which page goes next?*, from what it has been told: a page came in
(insert), was referenced (touch), went out (take), or vanished for another reason (forget). It is passive: it never
evicts by itself and never calls back, so the same object serves a Host, which harvests accessed marks at intervals,
and `memvirt.simulate`, which reports every single reference.

    absent --insert--> resident --take(key)--> absent, key remembered where the order keeps ghosts
                          |  ^
                          |  +-- touch, candidate, spare: stays resident
                          +--forget--> absent, nothing remembered

rename() gives a resident another number and nothing else: place, marks and turn stay what they were. It is what a host
does when compaction moves a page to another frame.

candidate() names the victim after the order's own second chances, in bounded time even if everything is referenced,
and changes nothing that a second call would see: asked twice in a row it gives the same answer. spare() moves any
resident on, as if the order had given it another round; a caller who spares everything gets the first one again, so
the caller counts. take() and forget() accept any resident, not just the candidate.

What an order is told of with touch() a host finds in page tables, where a mark stays until somebody clears it. An order
that wants it cleared without asking for it (Linux does so when it deactivates a page) does that in choose(), which is
candidate() for those who have tables. Who lets pages go several at a time asks goes_on() when it has enough: an order that
looks at pages in batches wants a batch to be finished, and what follows its last page to be done before time passes.

Misuse (inserting a resident, touching an absent id) is a bug of the caller: asserted here, and raised as
InvariantError by the Python face in testing/orders.pyx.
"""

from ..types cimport NONE, int64_t, uint32_t, uint64_t

from memvirt.errors import ConfigError, InvariantError


cdef class Marks:
    """Base of who clears accessed marks for an order."""

    cdef int clear(self, uint32_t id) except -1 nogil:
        with gil:
            raise InvariantError(f"{type(self).__name__} does not define clear(): Marks itself has no tables")


cdef class Order:
    """Base of all orders: `Order(ids, capacity, keys=0, bounded=False, **options)`; subclasses name theirs.

    ids: residents are numbered 0 .. ids - 1; capacity: residents to plan with; keys: contents 0 .. keys - 1 that
    ghosts may name (0: no ghosts are kept); bounded: the caller promises that there are never more residents than
    `capacity`, so that queues can be smaller. draws: whether it takes a seed. Raises ConfigError for a number out of
    range.
    """

    draws = False

    def __cinit__(self, ids, capacity, keys=0, *, bint bounded=False, **options):
        for name, value, low in (("ids", ids, 1), ("capacity", capacity, 1), ("keys", keys, 0)):
            if not isinstance(value, int) or not low <= value <= <uint32_t>LAST_ID:
                raise ConfigError(f"{type(self).__name__}: {name}={value!r} must be an int in {low} .. {<uint32_t>LAST_ID}")
        self.ids = ids
        self.capacity = capacity
        self.keys = keys
        self.nr_resident = 0
        self.most = min(self.ids, self.capacity) if bounded else self.ids

    cdef int expect(self, uint32_t key) except -1 nogil:
        return 0

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        with gil:
            raise self._abstract("insert")

    cdef int touch(self, uint32_t id) except -1 nogil:
        with gil:
            raise self._abstract("touch")

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        with gil:
            raise self._abstract("candidate")

    cdef uint32_t choose(self, Marks marks) except? 0xFFFFFFFE nogil:
        return self.candidate()

    cdef bint goes_on(self, Marks marks) except? True nogil:
        return False

    cdef void pass_time(self, int64_t now) noexcept nogil:
        pass

    cdef int spare(self, uint32_t id) except -1 nogil:
        with gil:
            raise self._abstract("spare")

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        with gil:
            raise self._abstract("forget")

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        with gil:
            raise self._abstract("rename")

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return False

    cdef bint thrashes(self, uint32_t key) noexcept nogil:
        return True

    cdef int copy_from(self, Order other) except -1:
        """By asking who goes in which turn, for orders that have no shorter way."""
        cdef uint64_t _try
        cdef uint32_t id
        for _try in range(4 * <uint64_t>other.nr_resident):
            if self.nr_resident == other.nr_resident:
                break
            id = other.candidate()
            if not self.holds(id):
                self.insert(id, NONE)
            other.spare(id)
        for id in range(self.ids):      # an order may hide residents from spare() for longer than that
            if other.holds(id) and not self.holds(id):
                self.insert(id, NONE)
        return 0

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        with gil:
            raise self._abstract("replay")

    def metadata_bytes(self):
        """What its arrays take; charged to who it works for when it is made."""
        raise self._abstract("metadata_bytes")

    def _abstract(self, method):
        return InvariantError(f"{type(self).__name__} does not define {method}(): Order itself keeps no order")

    cpdef object check(self):
        """Recount everything derived, O(ids + keys); raises InvariantError at the first difference."""
        raise self._abstract("check")
