"""The Python face of the orders that tests drive them with: it checks every argument.

The orders themselves only assert their preconditions, because they run once per page; Probe raises instead.
"""

cimport cython

from ..types cimport NONE, int64_t, uint32_t
from ..replacement.order cimport Marks, Order

from memvirt.errors import InvariantError


@cython.final
cdef class Told(Marks):
    """Tables in Python: `clear` is called with the id of each page whose mark goes, and says whether it was set."""

    cdef object tell

    def __cinit__(self, tell not None):
        self.tell = tell

    cdef int clear(self, uint32_t id) except -1 nogil:
        with gil:
            return bool(self.tell(id))


@cython.final
cdef class Probe:
    """Drives one order from Python. Ids and keys are ints; key None means no history.

    Every method raises InvariantError for an id or key out of range, an insert of a resident, or anything else of an
    id that is not resident.
    """

    cdef readonly Order order

    def __cinit__(self, Order order not None):
        self.order = order

    cdef uint32_t _id(self, id, bint resident) except? 0xFFFFFFFE:
        if not isinstance(id, int) or not 0 <= id < self.order.ids:
            raise InvariantError(f"id {id!r} is not an int in 0 .. {self.order.ids - 1}")
        if self.order.holds(id) != resident:
            raise InvariantError(f"id {id} is {'not resident' if resident else 'resident already'}")
        return id

    cdef uint32_t _key(self, key) except? 0xFFFFFFFE:
        if key is None:
            return NONE
        if not isinstance(key, int) or not 0 <= key < self.order.keys:
            raise InvariantError(f"key {key!r} is neither None nor an int in 0 .. {self.order.keys - 1}")
        return key

    def expect(self, key):
        """Announce the key that comes in next, before asking for a candidate."""
        self.order.expect(self._key(key))

    def insert(self, id, key=None):
        """Id became resident with the content that key names."""
        if self.order.nr_resident >= self.order.most:
            raise InvariantError(f"there are {self.order.nr_resident} residents, the most that were promised")
        self.order.insert(self._id(id, False), self._key(key))

    def touch(self, id):
        """Id was referenced."""
        self.order.touch(self._id(id, True))

    def candidate(self):
        """Who should go next, or None when nobody is resident."""
        cdef uint32_t id = self.order.candidate()
        return None if id == NONE else id

    def choose(self, clear):
        """The candidate, of an order that may clear marks in tables on the way; see Told."""
        cdef uint32_t id = self.order.choose(Told(clear))
        return None if id == NONE else id

    def goes_on(self, clear):
        """Whether who has enough asks for more, of an order that may clear marks in tables on the way."""
        return self.order.goes_on(Told(clear))

    def pass_time(self, int64_t now):
        """It is `now`, in ns."""
        self.order.pass_time(now)

    def spare(self, id):
        """Id may not go now."""
        self.order.spare(self._id(id, True))

    def take(self, id, key=None):
        """Id is evicted; its content lives on as key."""
        self.order.take(self._id(id, True), self._key(key))

    def forget(self, id):
        """Id left for another reason than eviction."""
        self.order.forget(self._id(id, True))

    def rename(self, id, new):
        """The page of id is called new from now on."""
        self.order.rename(self._id(id, True), self._id(new, False))

    def copy_from(self, Probe other not None, *, bint by_asking=False):
        """Get other's residents, into an order that has none; by_asking: as orders do that have no shorter way."""
        if type(self.order) is not type(other.order) or self.order.ids != other.order.ids or self.order.nr_resident:
            raise InvariantError(f"a copy of {other.order.ids} ids needs an empty order of its class and size")
        if by_asking:
            Order.copy_from(self.order, other.order)
        else:
            self.order.copy_from(other.order)

    def forget_key(self, key):
        """The content that key names will never come back."""
        self.order.forget_key(self._key(key))

    def thrashes(self, key):
        """True if the page that comes back as key was active, and will be."""
        return self.order.thrashes(self._key(key))

    def holds(self, id):
        """True if id is resident."""
        return 0 <= id < self.order.ids and self.order.holds(id)

    def check(self):
        """The order's own recount; raises InvariantError."""
        self.order.check()

    def miscount(self):
        """Count one resident too many, for tests of check()."""
        self.order.nr_resident += 1
