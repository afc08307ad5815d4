"""Naive restatements of the replacement orders, for tests: plain lists, oldest first, no cleverness."""

from itertools import count
from math import isqrt


def newest(keys, most):
    return keys[max(0, len(keys) - most) :]


class Naive:
    """First in, first out; what the simple orders have in common."""

    def __init__(self, capacity):
        self.capacity, self.held = capacity, []

    def insert(self, id, key):
        self.held.append(id)

    def touch(self, id):
        pass

    def candidate(self):
        return self.held[0] if self.held else None

    def choose(self, marks):
        """The candidate, for who has page tables: `marks` clears the accessed marks of a page."""
        return self.candidate()

    def goes_on(self, marks):
        """Whether who has enough is to go on, as a batch has begun."""
        return False

    def pass_time(self, now):
        pass

    def spare(self, id):
        self.held.remove(id)
        self.held.append(id)

    def take(self, id, key):
        self.forget(id)

    def forget(self, id):
        self.held.remove(id)

    def forget_key(self, key):
        pass


class NaiveLru(Naive):
    def touch(self, id):
        self.spare(id)


class NaiveClock(Naive):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.marked = set()

    def touch(self, id):
        self.marked.add(id)

    def candidate(self):
        while self.held and self.held[0] in self.marked:
            self.spare(self.held[0])
        return super().candidate()

    def spare(self, id):
        self.marked.discard(id)
        super().spare(id)

    def forget(self, id):
        self.marked.discard(id)
        super().forget(id)


class NaiveSieve(Naive):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.marked, self.hand = set(), None

    def touch(self, id):
        self.marked.add(id)

    def newer(self, id):
        place = self.held.index(id) + 1
        return self.held[place] if place < len(self.held) else None

    def candidate(self):
        while self.held:
            if self.hand is None:
                self.hand = self.held[0]
            if self.hand not in self.marked:
                return self.hand
            self.marked.remove(self.hand)
            self.hand = self.newer(self.hand)
        return None

    def spare(self, id):
        if self.hand == id:
            self.hand = self.newer(id)

    def forget(self, id):
        self.spare(id)
        self.marked.discard(id)
        super().forget(id)


class NaiveRandom(Naive):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.chosen, self.seed = None, 0

    def draw(self, n):
        mask = 2**64 - 1
        self.seed = (self.seed + 0x9E3779B97F4A7C15) & mask
        z = ((self.seed ^ self.seed >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        return ((z ^ z >> 31) >> 32) * n >> 32

    def candidate(self):
        if self.held and self.chosen is None:
            self.chosen = self.held[self.draw(len(self.held))]
        return self.chosen

    def spare(self, id):
        if len(self.held) > 1:
            place, other = self.held.index(id), self.draw(len(self.held) - 1)
            self.chosen = self.held[other + (other >= place)]

    def forget(self, id):
        self.held[self.held.index(id)] = self.held[-1]
        self.held.pop()
        if self.chosen == id:
            self.chosen = None


class NaiveLfu(Naive):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.refs, self.since, self.clock = {}, {}, count()

    def set(self, id, refs):
        self.refs[id], self.since[id] = refs, next(self.clock)

    def insert(self, id, key):
        super().insert(id, key)
        self.set(id, 1)

    def touch(self, id):
        self.set(id, self.refs[id] + 1)

    def candidate(self):
        return min(self.held, key=lambda id: (self.refs[id], self.since[id]), default=None)

    def spare(self, id):
        own = self.refs[id]
        self.set(id, min((self.refs[other] for other in self.held if self.refs[other] > own), default=own))


class NaiveS3Fifo(Naive):
    def __init__(self, capacity, paper=False):
        super().__init__(capacity)
        self.small, self.main, self.ghosts, self.refs = [], [], [], {}
        self.small_size, self.main_size = max(1, capacity // 10), capacity - capacity // 10
        self.paper, self.evicted, self.victim = paper, False, None

    def insert(self, id, key):
        recalled = key in self.ghosts
        self.forget_key(key)
        overflow = not self.paper and not self.evicted and len(self.small) >= self.small_size
        (self.main if recalled or overflow else self.small).append(id)
        self.refs[id] = 0

    def touch(self, id):
        self.refs[id] = min(3, self.refs[id] + 1)

    def home(self, id):
        return self.small if id in self.small else self.main

    def candidate(self):
        stands = self.victim is not None and self.refs[self.victim] < (2 if self.victim in self.small else 1)
        if not stands:
            self.victim = self.from_small() if len(self.main) <= self.main_size else None
            self.victim = self.from_main() if self.victim is None else self.victim
            self.victim = self.from_small() if self.victim is None else self.victim
        return self.victim

    def from_small(self):
        while self.small and self.refs[self.small[0]] >= 2:
            self.main.append(self.small.pop(0))
            self.refs[self.main[-1]] = 0
            if self.paper and len(self.main) > self.main_size:
                return None
        return self.small[0] if self.small else None

    def from_main(self):
        while self.main and self.refs[self.main[0]]:
            self.main.append(self.main.pop(0))
            self.refs[self.main[-1]] -= 1
        return self.main[0] if self.main else None

    def spare(self, id):
        home = self.home(id)
        home.remove(id)
        home.append(id)
        self.refs[id], self.victim = 0, None

    def take(self, id, key):
        self.evicted = True
        if id in self.small and key is not None and key not in self.ghosts:
            self.ghosts = newest([*self.ghosts, key], self.capacity * 9 // 10)
        self.forget(id)

    def forget(self, id):
        self.home(id).remove(id)
        self.victim = None if self.victim == id else self.victim

    def forget_key(self, key):
        self.ghosts = [ghost for ghost in self.ghosts if ghost != key]


class NaiveTwoQ(Naive):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.a1in, self.am, self.a1out = [], [], []

    def insert(self, id, key):
        (self.am if key in self.a1out else self.a1in).append(id)
        self.forget_key(key)

    def home(self, id):
        return self.a1in if id in self.a1in else self.am

    def touch(self, id):
        if id in self.am:
            self.spare(id)

    def candidate(self):
        source = self.a1in if len(self.a1in) > self.capacity // 4 or not self.am else self.am
        return source[0] if source else None

    def spare(self, id):
        home = self.home(id)
        home.remove(id)
        home.append(id)

    def take(self, id, key):
        if id in self.a1in and key is not None and key not in self.a1out:
            self.a1out = newest([*self.a1out, key], self.capacity // 2)
        self.forget(id)

    def forget(self, id):
        self.home(id).remove(id)

    def forget_key(self, key):
        self.a1out = [ghost for ghost in self.a1out if ghost != key]


class NaiveArc(Naive):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.t1, self.t2, self.b1, self.b2, self.p = [], [], [], [], 0.0

    def insert(self, id, key):
        if key in self.b1:
            self.p = min(self.p + max(len(self.b2) / len(self.b1), 1), self.capacity)
        elif key in self.b2:
            self.p = max(self.p - max(len(self.b1) / len(self.b2), 1), 0)
        (self.t2 if key in self.b1 + self.b2 else self.t1).append(id)
        self.forget_key(key)

    def home(self, id):
        return self.t1 if id in self.t1 else self.t2

    def touch(self, id):
        self.forget(id)
        self.t2.append(id)

    def candidate(self):
        full = len(self.t1) >= self.capacity and not self.b1
        source = self.t1 if full or not self.t2 or len(self.t1) > self.p else self.t2
        return source[0] if source else None

    def spare(self, id):
        home = self.home(id)
        home.remove(id)
        home.append(id)

    def take(self, id, key):
        once, ghost = id in self.t1, key is not None
        if len(self.t1) + len(self.b1) >= self.capacity:
            ghost = ghost and (bool(self.b1) or not once)
            self.b1 = self.b1[1:]
        elif len(self.t1 + self.t2 + self.b1 + self.b2) >= 2 * self.capacity:
            self.b2 = self.b2[1:]
        if ghost and key not in self.b1 + self.b2:
            if once:
                self.b1 = newest([*self.b1, key], self.capacity)
            else:
                self.b2 = newest([*self.b2, key], 2 * self.capacity)
        self.forget(id)

    def forget(self, id):
        self.home(id).remove(id)

    def forget_key(self, key):
        self.b1 = [ghost for ghost in self.b1 if ghost != key]
        self.b2 = [ghost for ghost in self.b2 if ghost != key]


class NaiveTwoList(Naive):
    """The loops of mm/vmscan.c, nested as they are there, and held where a page is found that may go."""

    def __init__(self, capacity, stats_ns=0):
        super().__init__(capacity)
        self.inactive, self.active, self.accessed, self.referenced = [], [], set(), set()
        self.age, self.shadow, self.refaults, self.gone, self.gone_here = 0, {}, 0, 0, 0
        self.waiting = []  # new pages that lists do not count yet, and what list each is on
        self.marks, self.met, self.reclaim, self.over = None, None, self.calls(), True
        self.stats_ns, self.period, self.flushed = stats_ns, None, None
        self.were_active, self.restored = set(), 0  # PG_workingset; refaults of such pages that were near

    def pass_time(self, now):
        if self.stats_ns and now // self.stats_ns != self.period:
            self.flushed, self.period = (*self.sizes(), self.refaults), now // self.stats_ns

    def sizes(self):
        return tuple(max(0, len(pages) - self.waiting.count(i)) for i, pages in enumerate((self.inactive, self.active)))

    def statistics(self):
        return self.flushed or (*self.sizes(), self.refaults)

    def inactive_is_low(self):
        inactive, active, _ = self.statistics()
        return inactive * max(1, isqrt(10 * (inactive + active >> 18))) < active

    def calls(self):
        """Call after call of try_to_free_pages: True for each page that may go, False at the end of a call."""
        before = last = 0
        while True:
            before, last = last, self.statistics()[2]
            self.gone = 0
            for priority in reversed(range(13)):
                yield from self.shrink_lruvec(priority, before)
                if self.gone >= 32:
                    break
            if not self.inactive:  # the kernel is out of memory
                self.shrink_active(32)
            yield False

    def shrink_lruvec(self, priority, before):
        if priority == 0:
            self.waiting = []
        may_deactivate = self.statistics()[2] != before or self.inactive_is_low()
        due, active_due = (size if priority == 0 else (size >> priority) * 89 // 508 for size in self.sizes())
        self.gone_here = 0
        while due and self.inactive and self.gone_here < 32:
            yield from self.shrink_inactive(min(due, 32, len(self.inactive)))
            due -= min(due, 32)
            if may_deactivate and active_due:
                self.shrink_active(min(active_due, 32))
            active_due -= min(active_due, 32)
        if self.inactive_is_low():
            self.shrink_active(32)

    def shrink_inactive(self, pages):
        self.waiting = []
        for _ in range(pages):
            if not self.inactive:
                break
            id = self.inactive[0]
            if id in self.accessed and self.marks:
                self.marks(id)
            self.met = id
            if named := id not in self.accessed:
                self.count_gone(1)
                yield True
            if self.met == id:  # it is there still, and accessed
                self.count_gone(-named)
                again = id in self.referenced
                self.spare(id)
                self.referenced.add(id)
                if again:
                    self.active.append(self.inactive.pop())
                    self.age += 1

    def count_gone(self, pages):
        self.gone += pages
        self.gone_here += pages

    def shrink_active(self, pages):
        self.waiting = []
        for id in self.active[:pages]:
            referenced = id in self.referenced
            self.spare(id)
            if referenced:
                self.referenced.add(id)
            self.were_active.add(id)
            if self.marks:
                self.marks(id)

    def insert(self, id, key):
        evicted_at, was_active = self.shadow.pop(key, (None, False))
        if evicted_at is not None and self.age - evicted_at <= self.statistics()[1]:
            self.active.append(id)
            self.age += 1
            self.refaults += 1
            self.restored += was_active
            if was_active:
                self.were_active.add(id)
        else:
            self.inactive.append(id)
        self.waiting = [*self.waiting, int(id in self.active)] if len(self.waiting) < 30 else []

    def thrashes(self, key):
        evicted_at, was_active = self.shadow.get(key, (None, False))
        return was_active and self.age - evicted_at <= self.statistics()[1]

    def touch(self, id):
        self.accessed.add(id)

    def candidate(self):
        return self.choose(None)

    def choose(self, marks):
        self.marks = marks
        if not self.inactive and not self.active:
            return None
        while self.met is None or self.met in self.accessed:
            self.over = not next(self.reclaim)
        return self.met

    def goes_on(self, marks):
        self.marks = marks
        while (self.inactive or self.active) and (self.met is None or self.met in self.accessed):
            if self.over:
                return False
            self.over = not next(self.reclaim)
        return bool(self.inactive or self.active)

    def spare(self, id):
        was_active = id in self.were_active
        self.forget(id)
        self.inactive.append(id)
        if was_active:
            self.were_active.add(id)

    def take(self, id, key):
        if key is not None:
            self.shadow[key] = self.age, id in self.were_active
        self.age += 1
        self.forget(id)

    def forget(self, id):
        (self.active if id in self.active else self.inactive).remove(id)
        self.were_active.discard(id)
        self.accessed.discard(id)
        self.referenced.discard(id)
        if self.met == id:
            self.met = None

    def forget_key(self, key):
        self.shadow.pop(key, None)


class NaiveMgLru(Naive):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.oldest, self.youngest, self.lists, self.gen, self.accessed = 0, 2, {0: [], 1: [], 2: []}, {}, set()

    def insert(self, id, key):
        self.lists[self.youngest].append(id)
        self.gen[id] = self.youngest

    def touch(self, id):
        self.accessed.add(id)

    def walk(self):
        self.youngest += 1
        self.lists[self.youngest] = []
        self.gen.update(dict.fromkeys(self.accessed, self.youngest))
        self.accessed.clear()

    def move(self, id, gen):
        self.forget(id)
        self.lists[gen].append(id)
        self.gen[id] = gen

    def candidate(self):
        while self.gen:
            if self.youngest - self.oldest < 2:
                self.walk()
            if not self.lists[self.oldest]:
                self.oldest += 1
                continue
            id = self.lists[self.oldest][0]
            if id not in self.accessed and self.gen[id] == self.oldest:
                return id
            self.move(id, self.youngest if id in self.accessed else self.gen[id])
        return None

    def spare(self, id):
        self.move(id, self.oldest + 1)

    def forget(self, id):
        next(pages for pages in self.lists.values() if id in pages).remove(id)
        self.accessed.discard(id)
        del self.gen[id]
