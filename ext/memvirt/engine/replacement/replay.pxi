# Included by every module of one final order class, which it knows as Self: the calls below are then direct and the
# compiler inlines them, so there is one loop, and one implementation of each order for simulate and for a Host.

cdef uint64_t replay_loop(Self order, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
    cdef uint64_t misses = 0
    cdef size_t i, last = n - 1
    cdef uint32_t page, victim
    for i in range(n):
        order.prefetch(pages[min(i + REPLAY_FAR, last)], pages[min(i + REPLAY_NEAR, last)])
        page = pages[i]
        if order.holds(page):
            order.touch(page)
            continue
        misses += 1
        order.expect(page)
        if order.nr_resident >= order.capacity:
            victim = order.candidate()
            order.take(victim, victim)
        order.insert(page, page)
    return misses
