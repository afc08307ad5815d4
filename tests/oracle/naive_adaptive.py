"""Further orders again in plain Python: segmented, multi-queue, by reuse distance, and with admission."""

from math import ceil, log

from oracle.naive_orders import Naive


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
