# Ghosts: keys of contents that were evicted lately, oldest first, at most `limit` of them. 5 bytes per key and 4.25
# per ghost. Two of them may share the arrays per key, told apart by their tags: a key is a ghost of one at most.

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Queue, queue_make, queue_oldest, queue_push, queue_remove


ctypedef struct Ghosts:
    Queue queue
    uint8_t *tags                   # per key: the tag of the ghosts it belongs to, 0 if it is no ghost; not owned
    uint8_t tag                     # of these ghosts, not 0
    uint32_t keys
    uint32_t limit

cdef inline bint ghosts_make(
    Ghosts *g, uint8_t tag, uint8_t *tags, uint32_t *where, uint32_t keys, uint64_t limit
) noexcept:
    """No ghosts yet; tags: zeros for all keys and one more byte. False: no memory."""
    g.keys = keys
    g.limit = <uint32_t>min(limit, <uint64_t>keys)
    g.tags = tags
    g.tag = tag
    return queue_make(&g.queue, where, g.limit, False) and tags != NULL

cdef inline bint ghosts_hold(Ghosts *g, uint32_t key) noexcept nogil:
    return key < g.keys and g.tags[key] == g.tag

cdef inline void ghosts_remove(Ghosts *g, uint32_t key) noexcept nogil:
    queue_remove(&g.queue, key)
    g.tags[key] = 0

cdef inline bint ghosts_recall(Ghosts *g, uint32_t key) noexcept nogil:
    """True if key is a ghost; it is none afterwards."""
    if not ghosts_hold(g, key):
        return False
    ghosts_remove(g, key)
    return True

cdef inline void ghosts_drop_oldest(Ghosts *g) noexcept nogil:
    if g.queue.live:
        ghosts_remove(g, queue_oldest(&g.queue))

cdef inline void ghosts_add(Ghosts *g, uint32_t key) noexcept nogil:
    """Remember key as the newest, if it names anything and there is room for any; a ghost keeps its place."""
    if key >= g.keys or g.limit == 0 or g.tags[key] != 0:
        return
    if g.queue.live >= g.limit:
        ghosts_drop_oldest(g)
    g.tags[key] = g.tag
    queue_push(&g.queue, key)


cdef object ghosts_check(str name, Ghosts *g)
