# The guests that use the same tables.
#
# The copy of a guest uses the tables of the guest it was made from until either changes something. Before a change,
# Guest.own parts them: a borrower copies the tables for itself; the guest whose they are lets its oldest borrower copy
# them, and the other borrowers then borrow from that one. It keeps its orders with their ghosts. A copy therefore sees
# the state at the time it was made. Exceptions: under an order whose answer changes when it is asked twice, a second copy
# may get the second answer; and a copy that ends before any change has asked nothing.
#
# Guests that use the same tables form a ring that no Python code walks. So neither a signal nor want of memory can
# interrupt a parting, and the heir depends only on the order in which copies were made.

from cpython.object cimport PyObject
from ..types cimport uint64_t

# A guest's place in the ring: whose tables they are, then who borrows them, oldest first.
cdef struct Sharer:
    Sharer *next
    Sharer *prev                # itself, as next is: no other guest uses these tables
    PyObject *guest
    uint64_t number             # the guest's


cdef inline void stand_alone(Sharer *place) noexcept nogil:
    place.next = place.prev = place


cdef inline void join_before(Sharer *new, Sharer *place) noexcept nogil:
    new.next, new.prev = place, place.prev
    place.prev.next = new
    place.prev = new


cdef inline void leave_ring(Sharer *place) noexcept nogil:
    """The others may be about to go themselves: they are not looked at."""
    place.next.prev, place.prev.next = place.prev, place.next
    stand_alone(place)
