"""A trace through one order: what `memvirt.simulate` runs on. The loop itself is replay.pxi, compiled into each order."""

from libc.stddef cimport size_t

from .order cimport Order
from ..types cimport uint32_t, uint64_t

from memvirt.errors import InvariantError


def replay_order(Order order not None, const uint32_t[::1] pages not None, *, bint checked=False, bint more=False):
    """Misses of demand paging through an empty order, ids and keys being the pages; the GIL is released.

    more=True: through an order that earlier requests have passed. Raises InvariantError for another order in use, or a
    page that is not below order.ids and order.keys; with checked=True the caller has seen to the latter.
    """
    cdef uint64_t misses
    cdef uint32_t highest = 0
    cdef size_t n = pages.shape[0], i
    if order.nr_resident and not more:
        raise InvariantError(f"replay needs an empty order, this one has {order.nr_resident} residents")
    if n == 0:
        return 0
    if not checked:
        for i in range(n):
            highest = max(highest, pages[i])
        if highest >= order.ids or order.keys and highest >= order.keys:
            raise InvariantError(f"page {highest} is not below ids={order.ids} and keys={order.keys}")
    with nogil:
        misses = order.replay(&pages[0], n)
    return misses
