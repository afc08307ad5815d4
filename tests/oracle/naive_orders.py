"""Naive restatements of the replacement orders, for tests: plain lists, oldest first, no cleverness."""

from itertools import count
from math import ceil, log


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
    def __init__(self, capacity):
        super().__init__(capacity)
        self.inactive, self.active, self.accessed, self.referenced = [], [], set(), set()
        self.age, self.shadow = 0, {}

    def insert(self, id, key):
        evicted_at = self.shadow.pop(key, None)
        if evicted_at is not None and self.age - evicted_at <= len(self.active):
            self.active.append(id)
            self.age += 1
        else:
            self.inactive.append(id)

    def touch(self, id):
        self.accessed.add(id)

    def candidate(self):
        while True:
            while len(self.inactive) < len(self.active):
                self.spare(self.active[0])
            id = self.inactive[0] if self.inactive else None
            if id not in self.accessed:
                return id
            again = id in self.referenced
            self.spare(id)
            if again:
                self.active.append(self.inactive.pop())
                self.age += 1
            else:
                self.referenced.add(id)

    def spare(self, id):
        self.forget(id)
        self.inactive.append(id)

    def take(self, id, key):
        if key is not None:
            self.shadow[key] = self.age
        self.age += 1
        self.forget(id)

    def forget(self, id):
        (self.active if id in self.active else self.inactive).remove(id)
        self.accessed.discard(id)
        self.referenced.discard(id)

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


class NaiveSlru(Naive):
    """Segments, lowest first, each oldest first."""

    def __init__(self, capacity, segments=4):
        super().__init__(capacity)
        self.segments, self.share = [[] for _ in range(segments)], capacity // segments

    def insert(self, id, key):
        self.lowest_with_room().append(id)

    def lowest_with_room(self):
        return next((pages for pages in self.segments if len(pages) < self.share), self.segments[0])

    def level(self, id):
        return next(level for level, pages in enumerate(self.segments) if id in pages)

    def touch(self, id):
        level = self.level(id)
        self.segments[level].remove(id)
        level = min(level + 1, len(self.segments) - 1)
        self.segments[level].append(id)
        while level and len(self.segments[level]) > self.share:
            self.segments[level - 1].append(self.segments[level].pop(0))
            level -= 1

    def candidate(self):
        return next((pages[0] for pages in self.segments if pages), None)

    def spare(self, id):
        self.touch(id)

    def forget(self, id):
        self.segments[self.level(id)].remove(id)


class NaiveMq(Naive):
    def __init__(self, capacity, queues=8, lifetime=10_000, ghost_percent=400):
        super().__init__(capacity)
        self.queues, self.lifetime, self.most_ghosts = (
            [[] for _ in range(queues)],
            lifetime,
            capacity * ghost_percent // 100,
        )
        self.refs, self.expires, self.out, self.now = {}, {}, {}, 0

    def enter(self, id, queue):
        self.queues[queue].append(id)
        self.expires[id] = self.now + self.lifetime

    def enter_by_refs(self, id):
        self.enter(id, min(self.refs[id].bit_length() - 1, len(self.queues) - 1))
        self.now += 1
        for level in range(1, len(self.queues)):
            if self.queues[level] and self.expires[self.queues[level][0]] < self.now:
                self.enter(self.queues[level].pop(0), level - 1)

    def insert(self, id, key):
        self.refs[id] = self.out.pop(key, 0) + 1
        self.enter_by_refs(id)

    def touch(self, id):
        self.forget(id)
        self.refs[id] += 1
        self.enter_by_refs(id)

    def candidate(self):
        return next((pages[0] for pages in self.queues if pages), None)

    def spare(self, id):
        own = self.level(id)
        higher = next((k for k in range(own + 1, len(self.queues)) if self.queues[k]), None)
        self.forget(id)
        if higher is not None:
            self.refs[id] = 1 << higher
        self.enter(id, own if higher is None else higher)

    def take(self, id, key):
        if key is not None and self.most_ghosts:
            if key not in self.out and len(self.out) == self.most_ghosts:
                del self.out[next(iter(self.out))]
            self.out[key] = self.refs[id]
        self.forget(id)

    def level(self, id):
        return next(level for level, pages in enumerate(self.queues) if id in pages)

    def forget(self, id):
        self.queues[self.level(id)].remove(id)

    def forget_key(self, key):
        self.out.pop(key, None)


class NaiveLirs(Naive):
    """The stack has its bottom first; ("page", id) or ("ghost", key)."""

    def __init__(self, capacity, hir_percent=1):
        super().__init__(capacity)
        self.high = max(1, capacity * hir_percent // 100)
        self.limit = capacity - self.high
        self.stack, self.queue, self.lir, self.left = [], [], set(), []

    def raise_to_top(self, id):
        if ("page", id) in self.stack:
            self.stack.remove(("page", id))
        self.stack.append(("page", id))

    def drop_ghost(self, key):
        self.stack.remove(("ghost", key))
        self.left.remove(key)

    def prune(self):
        while self.stack and not (self.stack[0][0] == "page" and self.stack[0][1] in self.lir):
            kind, what = self.stack[0]
            if kind == "ghost":
                self.drop_ghost(what)
            else:
                self.stack.pop(0)

    def demote(self):
        _, id = self.stack.pop(0)
        self.lir.remove(id)
        self.queue.append(id)
        self.prune()

    def promote(self, id):
        self.raise_to_top(id)
        self.lir.add(id)
        while len(self.lir) > self.limit:
            self.demote()

    def settle(self):
        self.prune()
        while len(self.stack) > 2 * self.capacity and self.left:
            self.drop_ghost(self.left[0])

    def insert(self, id, key):
        recalled = key in self.left
        if recalled:
            self.drop_ghost(key)
        if recalled or len(self.lir) < self.limit:
            self.promote(id)
        else:
            self.queue.append(id)
            self.raise_to_top(id)
        self.settle()

    def touch(self, id):
        if id in self.lir:
            self.raise_to_top(id)
        elif ("page", id) in self.stack:
            self.queue.remove(id)
            self.promote(id)
        else:
            self.raise_to_top(id)
            self.queue.remove(id)
            self.queue.append(id)
        self.settle()

    def candidate(self):
        if self.lir and not self.queue:
            self.demote()
        return self.queue[0] if self.queue else None

    def spare(self, id):
        if id in self.lir:
            self.touch(id)
        else:
            self.queue.remove(id)
            self.promote(id)
            self.settle()

    def take(self, id, key):
        resident = len(self.lir) + len(self.queue)
        if ("page", id) in self.stack and key is not None and key not in self.left:
            if len(self.left) == 2 * self.capacity:
                self.drop_ghost(self.left[0])
            self.stack[self.stack.index(("page", id))] = ("ghost", key)
            self.left.append(key)
        self.forget(id)
        self.limit = min(self.capacity - self.high, max(0, resident - self.high))
        while len(self.lir) > self.limit:
            self.demote()

    def forget(self, id):
        if ("page", id) in self.stack:
            self.stack.remove(("page", id))
        if id in self.lir:
            self.lir.remove(id)
        else:
            self.queue.remove(id)
        self.prune()

    def forget_key(self, key):
        if key in self.left:
            self.drop_ghost(key)


class NaiveClockPro(Naive):
    """The clock has its old end first; ("page", id) or ("ghost", key)."""

    def __init__(self, capacity, cold_percent=1):
        super().__init__(capacity)
        self.target, self.size, self.full = max(1, capacity * cold_percent // 100), capacity, False
        self.clock, self.hot, self.cold, self.testing, self.marked = [], set(), set(), set(), set()

    def ghosts(self):
        return [entry for entry in self.clock if entry[0] == "ghost"]

    def end_test(self, entry):
        kind, what = entry
        if kind == "ghost" or what not in self.marked:
            self.target = max(1, self.target - 1)
        if kind == "ghost":
            self.clock.remove(entry)
        else:
            self.testing.remove(what)

    def in_test(self, entry):
        return entry[0] == "ghost" or entry[1] in self.testing

    def oldest(self, ids):
        return next((what for kind, what in self.clock if kind == "page" and what in ids), None)

    def end_tests_before_hot(self):
        first = self.oldest(self.hot)
        if first is not None:
            for entry in self.clock[: self.clock.index(("page", first))]:
                if self.in_test(entry):
                    self.end_test(entry)

    def run_hot(self, force=False):
        while self.hot and (force or len(self.hot) + self.target > self.size):
            self.end_tests_before_hot()
            id = self.oldest(self.hot)
            if id in self.marked:
                self.marked.remove(id)
            else:
                self.hot.remove(id)
                self.cold.add(id)
                force = False
            self.to_new_end(id)
        self.end_tests_before_hot()

    def to_new_end(self, id):
        self.clock.remove(("page", id))
        self.clock.append(("page", id))

    def heat(self, id):
        for group in (self.cold, self.testing, self.marked):
            group.discard(id)
        self.hot.add(id)

    def insert(self, id, key):
        ghost = ("ghost", key)
        self.clock.append(("page", id))
        if ghost in self.clock:
            self.clock.remove(ghost)
            self.target = min(self.target + 1, self.capacity)
            self.heat(id)
            self.run_hot()
        elif not self.full and len(self.hot) + self.target < self.size:
            self.heat(id)
        else:
            self.cold.add(id)
            self.testing.add(id)

    def touch(self, id):
        self.marked.add(id)

    def candidate(self):
        while self.hot or self.cold:
            id = self.oldest(self.cold)
            if id is None:
                self.run_hot(force=True)
                continue
            if id not in self.marked:
                return id
            self.to_new_end(id)
            self.marked.remove(id)
            if id in self.testing:
                self.target = min(self.target + 1, self.capacity)
                self.heat(id)
                self.run_hot()
            else:
                self.testing.add(id)
        return None

    def spare(self, id):
        was_hot = id in self.hot
        self.to_new_end(id)
        self.heat(id)
        if not was_hot:
            self.run_hot(force=True)

    def take(self, id, key):
        self.full, self.size = True, min(self.capacity, len(self.hot) + len(self.cold))
        if id in self.testing and key is not None and ("ghost", key) not in self.clock:
            self.clock[self.clock.index(("page", id))] = ("ghost", key)
            self.clock.append(("page", id))  # for forget
        self.forget(id)
        while len(self.ghosts()) > self.capacity:
            self.end_test(next(entry for entry in self.clock if self.in_test(entry)))

    def forget(self, id):
        self.clock.remove(("page", id))
        for group in (self.hot, self.cold, self.testing, self.marked):
            group.discard(id)

    def forget_key(self, key):
        if ("ghost", key) in self.clock:
            self.clock.remove(("ghost", key))


def xxh64(key, seed):
    """XXH64 of the key as eight bytes."""
    mask, rotate = 2**64 - 1, lambda word, by: (word << by | word >> (64 - by)) & (2**64 - 1)
    p1, p2, p3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
    hash = (seed + 0x27D4EB2F165667C5 + 8) & mask
    hash ^= rotate(key * p2 & mask, 31) * p1 & mask
    hash = (rotate(hash, 27) * p1 + 0x85EBCA77C2B2AE63) & mask
    hash = (hash ^ hash >> 33) * p2 & mask
    hash = (hash ^ hash >> 29) * p3 & mask
    return hash ^ hash >> 32


class NaiveSketch:
    def __init__(self, keys):
        size = ceil(log(1000) / 0.480453013918201 * keys)
        self.counters = [0] * (size if size >= 10 else 20)

    def places(self, key):
        first, step = (xxh64(key, seed) % 2**32 for seed in (0x12345678, 0x12344321))
        return [(first + i * step) % 2**32 % len(self.counters) for i in range(10)]

    def estimate(self, key):
        return min(self.counters[place] for place in self.places(key))

    def add(self, key, times):
        for place in self.places(key):
            self.counters[place] += times

    def forget(self, key):
        times = self.estimate(key)
        for place in self.places(key):
            self.counters[place] = max(0, self.counters[place] - times)

    def halve(self):
        self.counters = [count // 2 for count in self.counters]


class NaiveWTinyLfu(Naive):
    def __init__(self, capacity, window_percent=1):
        super().__init__(capacity)
        self.share = max(1, capacity * window_percent // 100)
        self.main_size = self.limit = capacity - self.share
        self.window, self.probation, self.protected = [], [], []
        self.sketch, self.key, self.seen, self.hits = NaiveSketch(self.main_size), {}, {}, 0
        self.contest = None  # (the page that goes, the page that is admitted or None)

    def note(self, id):
        if self.key[id] is None:
            self.seen[id] += 1
        else:
            self.sketch.add(self.key[id], 1)

    def frequency(self, id):
        return self.seen[id] if self.key[id] is None else self.sketch.estimate(self.key[id])

    def home(self, id):
        return next(pages for pages in (self.window, self.probation, self.protected) if id in pages)

    def admit(self, id):
        self.window.remove(id)
        full = len(self.probation) >= self.main_size // 5 and len(self.protected) < self.main_size * 4 // 5
        (self.protected if full else self.probation).append(id)

    def climb(self, id):
        self.home(id).remove(id)
        self.protected.append(id)
        if len(self.protected) > self.main_size * 4 // 5:
            self.probation.append(self.protected.pop(0))

    def insert(self, id, key):
        self.key[id], self.seen[id], self.contest = key, 0, None
        self.window.append(id)
        self.note(id)

    def touch(self, id):
        self.contest = None
        if id in self.window:
            self.window.remove(id)
            self.window.append(id)
            return
        self.climb(id)
        self.note(id)
        self.hits += 1
        if self.hits >= 32 * self.main_size:
            self.hits = 0
            self.sketch.halve()
            self.seen = {id: count // 2 for id, count in self.seen.items()}

    def candidate(self):
        self.contest = None
        while len(self.window) > self.share and len(self.probation) + len(self.protected) < self.limit:
            oldest = self.window[0]
            self.admit(oldest)
            self.note(oldest)
        main = self.probation or self.protected
        if not self.window or not main:
            return (self.window or main or [None])[0]
        wins = self.frequency(self.window[0]) > self.frequency(main[0])
        self.contest = (main[0], self.window[0]) if wins else (self.window[0], None)
        return self.contest[0]

    def spare(self, id):
        self.contest = None
        if id in self.window:
            self.admit(id)
        else:
            self.climb(id)

    def take(self, id, key):
        resident = len(self.window) + len(self.probation) + len(self.protected)
        winner = None
        if self.contest and self.contest[0] == id:
            winner = self.contest[1]
            self.note(id if winner is None else winner)
        if key is not None and key != self.key[id]:
            self.sketch.add(key, self.frequency(id))
        self.forget(id)
        if winner is not None:
            self.admit(winner)
        self.limit = min(self.main_size, max(0, resident - self.share))

    def forget(self, id):
        self.contest = None
        self.home(id).remove(id)

    def forget_key(self, key):
        if key is not None:
            self.contest = None
            self.sketch.forget(key)
