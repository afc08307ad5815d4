"""Recounts of the containers in lists.pxd, for the check() of the orders made of them."""

from ..types cimport NONE, uint8_t, uint32_t

from memvirt.errors import InvariantError


cdef object linked_check(str name, const Link *links, const uint8_t *state, uint32_t ids):
    """An id is in a list exactly if it has a state."""
    cdef uint32_t id
    for id in range(ids):
        if (links[id].prev != NONE) != (state[id] != 0):
            raise InvariantError(f"{name}: id {id} has state {state[id]} and prev {links[id].prev}")


cdef object queue_check(str name, Queue *q, const uint8_t *state, uint32_t ids, uint8_t wanted):
    """Every queued id is in its slot once, has all bits of `wanted` in its state, and the counters agree."""
    cdef uint32_t _, slot = q.head, id, live = 0
    if q.used > q.size:
        raise InvariantError(f"{name}: the queue uses {q.used} of {q.size} slots")
    for _ in range(q.used):
        id = q.slots[slot]
        if id != NONE:
            if id >= ids or q.where[id] != slot or state[id] & wanted != wanted:
                raise InvariantError(f"{name}: slot {slot} holds id {id}, which is not queued there")
            live += 1
        slot = slot + 1 if slot + 1 != q.size else 0
    if live != q.live:
        raise InvariantError(f"{name}: the queue counts {q.live} ids and holds {live}")
    for id in range(ids):
        live -= state[id] & wanted == wanted
    if live != 0:
        raise InvariantError(f"{name}: {q.live} ids are queued, but {<uint32_t>(q.live - live)} states say so")


cdef uint32_t links_check(str name, Link *links, uint32_t ids, uint32_t sentinel) except? 0xFFFFFFFE:
    """Both directions of a list agree; returns its length."""
    cdef uint32_t length = 0, node = links[sentinel].next, newer = sentinel
    while node != sentinel:
        if node >= ids or links[node].prev != newer:
            raise InvariantError(f"{name}: node {node} follows {newer}, which it does not name")
        length += 1
        if length > ids:
            raise InvariantError(f"{name}: the list of sentinel {sentinel} never ends")
        newer, node = node, links[node].next
    if links[sentinel].prev != newer:
        raise InvariantError(f"{name}: the oldest node is {newer}, the sentinel names {links[sentinel].prev}")
    return length
