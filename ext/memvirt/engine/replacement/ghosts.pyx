"""The recount of Ghosts, for the check() of the orders that keep some."""

from ..types cimport NONE, uint32_t

from memvirt.errors import InvariantError


cdef object ghosts_check(str name, Ghosts *g):
    """Queue and tags agree in both directions, within the limit. Raises InvariantError."""
    cdef uint32_t _, slot = g.queue.head, key, live = 0
    for _ in range(g.queue.used):
        key = g.queue.slots[slot]
        if key != NONE:
            live += 1
            if key >= g.keys or g.tags[key] != g.tag or g.queue.where[key] != slot:
                raise InvariantError(f"{name}: ghost slot {slot} holds key {key}, which is not there")
        slot = slot + 1 if slot + 1 != g.queue.size else 0
    for key in range(g.keys):
        live -= g.tags[key] == g.tag
    if live != 0 or g.queue.live > g.limit:
        raise InvariantError(f"{name}: {g.queue.live} ghosts (at most {g.limit}), but not as many keys tagged")
