# Ghosts: keys of contents that were evicted lately, oldest first, at most `limit` of them. 4 bytes per key and 4.25
# per ghost. A key is in or out; the order of arrival is all that is kept.

from libc.stddef cimport size_t
from libc.stdlib cimport free, malloc

from ..types cimport NONE, uint32_t, uint64_t
from .lists cimport Queue, queue_make, queue_oldest, queue_push, queue_remove


ctypedef struct Ghosts:
    Queue queue
    uint32_t *where                 # per key: its slot in the queue, NONE if it is no ghost
    uint32_t keys
    uint32_t limit

cdef inline bint ghosts_make(Ghosts *g, uint32_t keys, uint64_t limit) noexcept:
    """No ghosts yet. False: no memory."""
    cdef uint32_t key
    g.keys = keys
    g.limit = <uint32_t>min(limit, <uint64_t>keys)
    g.where = <uint32_t *>malloc((<size_t>keys + 1) * sizeof(uint32_t))
    if g.where != NULL:
        for key in range(keys):
            g.where[key] = NONE
    return queue_make(&g.queue, g.where, g.limit)

cdef inline void ghosts_free(Ghosts *g) noexcept:
    free(g.where)
    free(g.queue.slots)

cdef inline bint ghosts_hold(Ghosts *g, uint32_t key) noexcept nogil:
    return key < g.keys and g.where[key] != NONE

cdef inline void ghosts_remove(Ghosts *g, uint32_t key) noexcept nogil:
    queue_remove(&g.queue, key)
    g.where[key] = NONE

cdef inline bint ghosts_recall(Ghosts *g, uint32_t key) noexcept nogil:
    """Whether key is a ghost; it is none afterwards."""
    if not ghosts_hold(g, key):
        return False
    ghosts_remove(g, key)
    return True

cdef inline void ghosts_drop_oldest(Ghosts *g) noexcept nogil:
    if g.queue.live:
        ghosts_remove(g, queue_oldest(&g.queue))

cdef inline void ghosts_add(Ghosts *g, uint32_t key) noexcept nogil:
    """Remember key as the newest, if it names anything and there is room for any; a ghost keeps its place."""
    if key >= g.keys or g.limit == 0 or g.where[key] != NONE:
        return
    if g.queue.live >= g.limit:
        ghosts_drop_oldest(g)
    queue_push(&g.queue, key)


cdef object ghosts_check(str name, Ghosts *g)
