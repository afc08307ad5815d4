# The two containers the orders are made of, as plain structs with inline functions.
#
# Queue: ids in order of arrival, in a ring of slots. Removal from the middle leaves a hole (NONE); when the ring is
# full of holes it is compacted, which costs at most 17 moves per earlier removal (in an exact ring, which has no slots
# to spare, as many as there are ids). Sequential in memory: what fifo, clock and their relatives want. 4.25 bytes per
# id queued (exact: 4) and 4 per id.
#
# Links: a circular doubly linked list through an array of (prev, next) pairs, one cache line per node; 8 bytes per
# id. Several lists may share the array, each with a sentinel node of its own. prev is towards the newer end.

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint8_t, uint32_t

cdef enum:
    HEAD_AHEAD = 16                 # places between the prefetch and the use of the state of a queue's oldest
    REPLAY_AHEAD = 24               # requests between the prefetch and the use of a page's state


ctypedef struct Queue:
    # ids from head (oldest) to tail (newest), holes are NONE; behind the ring HEAD_AHEAD more, for clock to read ahead
    uint32_t *slots
    uint32_t *where                 # the slot of an id; valid while the id is queued; not owned
    # In this order: were `used` and `live` neighbours, the compiler would add 1 to both in one go, and that load of 8
    # bytes would wait for the stores of 4 that took 1 off each just before (clock: 150 against 210 M requests/s).
    uint32_t live                   # ids queued
    uint32_t size                   # slots
    uint32_t used                   # slots from head on, holes included
    uint32_t head                   # oldest used slot

cdef inline bint queue_make(Queue *q, uint32_t *where, uint32_t most, bint exact) noexcept:
    """An empty queue for at most `most` ids. Queues whose ids are disjoint share `where`. exact: no room for holes, for
    who hardly ever removes from the middle; full, the ring is then a clock's circle. False: no memory."""
    if exact:
        q.size = most
    else:
        q.size = <uint32_t>(most + most // 16 + 16) if most < 0xF0000000 else <uint32_t>NONE - 1
    q.slots = <uint32_t *>calloc(<size_t>q.size + HEAD_AHEAD, sizeof(uint32_t))
    q.where = where
    q.head = q.used = q.live = 0
    return q.slots != NULL and where != NULL

cdef inline void queue_compact(Queue *q) noexcept nogil:
    """Close all holes, keeping the order."""
    cdef uint32_t source = q.head, target = q.head, _
    for _ in range(q.used):
        if q.slots[source] != NONE:
            q.slots[target] = q.slots[source]
            q.where[q.slots[target]] = target
            target = target + 1 if target + 1 != q.size else 0
        source = source + 1 if source + 1 != q.size else 0
    q.used = q.live

cdef inline void queue_copy(Queue *q, const Queue *other) noexcept nogil:
    """Become a copy of a queue of the same size; the caller copies `where`."""
    memcpy(q.slots, other.slots, <size_t>q.size * sizeof(uint32_t))
    q.head = other.head
    q.used = other.used
    q.live = other.live

cdef inline void queue_drop_hole(Queue *q) noexcept nogil:
    """There is a hole in front of the oldest id: one less."""
    q.head = q.head + 1 if q.head + 1 != q.size else 0
    q.used -= 1

cdef inline uint32_t queue_oldest(Queue *q) noexcept nogil:
    """The oldest id, or NONE. Holes in front of it are dropped on the way."""
    if q.live == 0:
        return NONE
    while q.slots[q.head] == NONE:
        queue_drop_hole(q)
    return q.slots[q.head]

cdef inline void queue_push(Queue *q, uint32_t id) noexcept nogil:
    cdef size_t tail
    if q.used == q.size:
        queue_compact(q)
    tail = <size_t>q.head + q.used
    if tail >= q.size:
        tail -= q.size
    q.slots[tail] = id
    q.where[id] = <uint32_t>tail
    q.used += 1
    q.live += 1

cdef inline void queue_remove(Queue *q, uint32_t id) noexcept nogil:
    q.live -= 1
    if q.slots[q.head] == id:               # the usual case needs no look at `where`
        q.head = q.head + 1 if q.head + 1 != q.size else 0
        q.used -= 1
    else:
        q.slots[q.where[id]] = NONE

cdef inline void queue_rename(Queue *q, uint32_t id, uint32_t new) noexcept nogil:
    """Let new stand where id stands."""
    q.slots[q.where[id]] = new
    q.where[new] = q.where[id]

cdef inline void queue_rotate(Queue *q) noexcept nogil:
    """The oldest id, which queue_oldest has just found at the head, becomes the newest. In a full ring it stays where it
    is: there the head is a clock's hand."""
    cdef uint32_t id = q.slots[q.head]
    q.head = q.head + 1 if q.head + 1 != q.size else 0
    if q.used == q.size:
        return
    q.used -= 1
    q.live -= 1
    queue_push(q, id)


ctypedef struct Link:
    uint32_t prev                   # the next newer node; NONE: the node is in no list
    uint32_t next                   # the next older node

cdef inline Link *links_make(uint32_t ids, uint32_t sentinels) noexcept:
    """Nodes for ids and, numbered from ids on, sentinels of empty lists. NULL: no memory."""
    cdef size_t n = <size_t>ids + sentinels, node
    cdef Link *links = <Link *>malloc(n * sizeof(Link))
    if links != NULL:
        for node in range(n):
            links[node].prev = links[node].next = NONE if node < ids else <uint32_t>node
    return links

cdef inline void links_push(Link *links, uint32_t sentinel, uint32_t id) noexcept nogil:
    """Make id the newest of the sentinel's list."""
    cdef uint32_t newest = links[sentinel].next
    links[id].prev = sentinel
    links[id].next = newest
    links[newest].prev = id
    links[sentinel].next = id

cdef inline void links_cut(Link *links, uint32_t id) noexcept nogil:
    """Take id out of its list without marking it absent: for a push that follows."""
    links[links[id].prev].next = links[id].next
    links[links[id].next].prev = links[id].prev

cdef inline void links_renew(Link *links, uint32_t sentinel, uint32_t id) noexcept nogil:
    """Make an id that is in some list the newest of the sentinel's."""
    links_cut(links, id)
    links_push(links, sentinel, id)

cdef inline void links_remove(Link *links, uint32_t id) noexcept nogil:
    links_cut(links, id)
    links[id].prev = NONE

cdef inline void links_rename(Link *links, uint32_t id, uint32_t new) noexcept nogil:
    """Let new stand where id stands; id is absent."""
    links[new] = links[id]
    links[links[new].prev].next = new
    links[links[new].next].prev = new
    links[id].prev = NONE

cdef inline uint32_t links_oldest(Link *links, uint32_t sentinel) noexcept nogil:
    """The oldest id of the list, or NONE."""
    return links[sentinel].prev if links[sentinel].prev != sentinel else NONE


# Of orders that keep one byte of state for each id, 0 while it is absent: `linked` are those whose residents are in lists.

cdef inline void state_rename(uint8_t *state, uint32_t id, uint32_t new) noexcept nogil:
    state[new] = state[id]
    state[id] = 0

cdef inline void linked_rename(Link *links, uint8_t *state, uint32_t id, uint32_t new) noexcept nogil:
    links_rename(links, id, new)
    state_rename(state, id, new)

cdef inline void linked_remove(Link *links, uint8_t *state, uint32_t id) noexcept nogil:
    links_remove(links, id)
    state[id] = 0

cdef inline void linked_prefetch(const Link *links, const uint8_t *state, uint32_t id) noexcept nogil:
    prefetch_write(&state[id])
    prefetch_write(&links[id])


cdef object linked_check(str name, const Link *links, const uint8_t *state, uint32_t ids)
cdef object queue_check(str name, Queue *q, const uint8_t *state, uint32_t ids, uint8_t wanted)
cdef uint32_t links_check(str name, Link *links, uint32_t ids, uint32_t sentinel) except? 0xFFFFFFFE
