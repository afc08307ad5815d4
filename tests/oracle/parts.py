"""The oracle's nouns: entries, frames, backings, leaves, VMs, free memory, slabs, swap slots, the device."""

from oracle import naive_adaptive
from oracle import naive_orders as naive

ORDERS = {
    "random": naive.NaiveRandom,
    "fifo": naive.Naive,
    "clock": naive.NaiveClock,
    "lru": naive.NaiveLru,
    "twolist": naive.NaiveTwoList,
    "mglru": naive.NaiveMgLru,
    "sieve": naive.NaiveSieve,
    "s3fifo": naive.NaiveS3Fifo,
    "2q": naive.NaiveTwoQ,
    "arc": naive.NaiveArc,
    "lfu": naive.NaiveLfu,
    "slru": naive_adaptive.NaiveSlru,
    "mq": naive_adaptive.NaiveMq,
    "lirs": naive_adaptive.NaiveLirs,
    "clock-pro": naive_adaptive.NaiveClockPro,
    "w-tinylfu": naive_adaptive.NaiveWTinyLfu,
}


def ring(n):
    """Bytes of a ring of n ids: a sixteenth and 16 slots to spare."""
    return 4 * (n + n // 16 + 16)


def links(n, heads):
    """Bytes of lists of n ids in all."""
    return 8 * (n + heads)


ORDER_BYTES = {  # of a host's frames n and the k keys of its records
    "random": lambda n, k: 8 * n,
    "fifo": lambda n, k: 5 * n + ring(n),
    "clock": lambda n, k: 5 * n + ring(n),
    "lru": lambda n, k: links(n, 1),
    "twolist": lambda n, k: links(n, 2) + n + 4 * (k + 1),
    "mglru": lambda n, k: links(n, 4) + n + 4 * (k + 1),
    "sieve": lambda n, k: links(n, 1) + n,
    "s3fifo": lambda n, k: 5 * (n + k + 1) + 2 * ring(n) + ring(min(n * 9 // 10, k)),
    "2q": lambda n, k: links(n, 2) + n + 5 * (k + 1) + ring(min(n // 2, k)),
    "arc": lambda n, k: links(n, 2) + n + 5 * (k + 1) + ring(min(n, k)) + ring(min(2 * n, k)),
    "lfu": lambda n, k: 12 * n + 24 * (n + 1),
    "slru": lambda n, k: links(n, 4) + n,
    "mq": lambda n, k: links(n, 8) + 13 * n + 9 * (k + 1) + ring(min(4 * n, k)),
    "lirs": lambda n, k: links(n + k, 1) + links(n, 1) + n + 5 * (k + 1) + ring(min(2 * n, k)),
    "clock-pro": lambda n, k: links(n + k, 1) + n,
    "w-tinylfu": lambda n, k: links(n, 3) + 9 * n + 4 * len(naive_adaptive.NaiveSketch(n - max(1, n // 100)).counters),
}
PAGE = 4096
LEAF = 512
QUANTUM = 50_000  # VMs take turns at multiples of this
CLUSTER = 32  # pages reclaimed at a time
SWAP_BATCH = 256  # pages written to swap at a time
OK, NO_FRAME, LIMITED = "done", "no_frame", "limited"
READ, WRITE, FILL, DISCARD, LAZY = range(5)
FOREVER = 2**63 - 1


class Refused(Exception):
    """The host has no room for this VM."""


class Entry:
    """Names a Frame (then it is present) or a Backing."""

    def __init__(self, what, writable=False):
        self.what, self.writable, self.accessed = what, writable, False

    @property
    def present(self):
        return isinstance(self.what, Frame)


class Frame:
    """A guest frame."""

    def __init__(self, number, data):
        self.number, self.data = number, data
        self.sites = set()  # (leaf, index)
        self.backing = self.payer = None
        self.stable = self.pinned = self.ordered = self.isolated = False
        self.is_zero_frame = self.lazy = False
        self.place = None  # its number in the order of who pays for it, if that has one
        self.age, self.touched = 0, True


class Backing:
    """A content that is out of memory: in a swap slot, or one word over and over (slot None). Orders know its number."""

    def __init__(self, number, data, slot):
        self.number, self.data, self.slot = number, data, slot
        self.refs, self.frame = 0, None


class Leaf:
    """2 MiB of guest-physical memory. Huge: the entries are implied and there is one accessed mark for them all."""

    def __init__(self, number, region, huge):
        self.number, self.region, self.huge = number, region, huge
        self.entries = [None] * LEAF
        self.holders = []
        self.table = None
        self.huge_accessed = False

    @property
    def live(self):
        return sum(entry is not None for entry in self.entries)

    @property
    def shared(self):
        return len(self.holders) > 1


class Part:
    """Accesses that follow each other in one stream, in order; `due`: not before that time."""

    def __init__(self, pages, ops, sources, work, due):
        self.pages, self.ops, self.sources, self.work, self.due = list(pages), list(ops), sources, work, due
        self.begun = False

    def drop(self, done):
        """So many of them are done."""
        self.pages, self.ops = self.pages[done:], self.ops[done:]
        self.sources = self.sources and self.sources[done:]


def parts(pages, ops, sources=None, work=0, due=None):
    """The parts of a batch: as many as it has due times."""
    length = len(pages) // len(due) if due else len(pages)
    for i, at in enumerate(due or [None]):
        cut = slice(i * length, (i + 1) * length)
        yield Part(pages[cut], ops[cut], sources and sources[cut], work, at)


class Vm:
    """One VM: its leaves by region, and what its translation cache holds."""

    def __init__(self, id, name, pages, tag_base, now):
        self.id, self.name, self.pages, self.tag_base, self.now = id, name, pages, tag_base, now
        self.leaves, self.directory = {}, set()
        self.cached = {}  # page -> [frame, writable]
        self.revoked = set()  # regions whose cached write permission does not count
        self.charged = self.stall = self.sequence = self.reservation = self.domain = self.active = 0
        self.limit, self.hand, self.ages, self.shares = None, 0, [], 1000
        self.order, self.places, self.left = None, [], set()  # of its own pages; numbers that none has; pages that went
        self.busy, self.began, self.asleep_until, self.latencies = 0, None, None, []
        self.alive, self.fixed, self.outcome, self.waits_since = True, [], OK, None
        self.lazy = []  # frames that were given up lazily, in that order


class Memory:
    """Frames by number: the lowest-numbered block of the smallest order that has one, as a buddy allocator gives it."""

    def __init__(self, frames):
        self.free = (1 << frames) - 1
        self.aligned = [sum(1 << i for i in range(0, frames, 1 << order)) for order in range(11)]
        self.used = dict.fromkeys(("guest", "table", "zspage", "fixed", "backing", "swap_cache"), 0)

    @property
    def nr_free(self):
        return self.free.bit_count()

    def huge_blocks(self):
        """Free aligned blocks of 2 MiB, whatever they lie in."""
        whole = self.free
        for k in range(1, 10):
            whole &= (whole >> (1 << (k - 1))) & self.aligned[k]
        return whole.bit_count()

    def take(self, use, order=0):
        """The first frame of a block, or None."""
        whole = [self.free]
        for k in range(1, 11):
            whole.append(whole[-1] & (whole[-1] >> (1 << (k - 1))) & self.aligned[k])
        for k in range(order, 11):
            above = whole[k + 1] if k < 10 else 0
            exactly = whole[k] & ~(above | above << (1 << k))
            if exactly:
                first = (exactly & -exactly).bit_length() - 1
                self.free &= ~(((1 << (1 << order)) - 1) << first)
                self.used[use] += 1 << order
                return first
        return None

    def give(self, use, first, order=0):
        self.free |= ((1 << (1 << order)) - 1) << first
        self.used[use] -= 1 << order


class Slab:
    """Small records, so many to a frame; the number given back last is given out first, new ones lowest first."""

    def __init__(self, memory, use, per_frame):
        self.memory, self.use, self.per_frame = memory, use, per_frame
        self.end, self.numbers, self.most = 0, [], None

    def frames_needed(self, records):
        return max(0, -(-(records - len(self.numbers)) // self.per_frame))

    def reserve(self, records):
        if self.most is not None and self.end - len(self.numbers) + records > self.most:
            return False
        for _ in range(self.frames_needed(records)):
            if self.memory.take(self.use) is None:
                return False
            self.numbers += range(self.end + self.per_frame - 1, self.end - 1, -1)
            self.end += self.per_frame
        return True

    def room(self):
        """Records there may be beside those there are."""
        return self.most - (self.end - len(self.numbers))

    def most_frames(self, records):
        """What it comes to with so many records, and never less than now."""
        return max(self.end, records + self.per_frame - 1) // self.per_frame

    def take(self):
        return self.numbers.pop()

    def give(self, number):
        self.numbers.append(number)


class Slots:
    """Swap slots, one at a time, as Linux 6.18 takes and frees them: lists of clusters, and one cursor."""

    def __init__(self, slots, cluster=LEAF, free_first=False):
        self.slots, self.cluster, self.next, self.taken = slots, cluster, None, set()
        self.free, self.nonfull, self.frag = list(range(-(-slots // cluster))), [], []
        first, second = (self.free, self.nonfull) if free_first else (self.nonfull, self.free)
        self.in_turn = (first, second, self.frag)

    def members(self, cluster):
        return range(cluster * self.cluster, min(self.slots, (cluster + 1) * self.cluster))

    def file(self, cluster, where):
        """To the end of this list, unless it is on it; None: on none."""
        for each in self.in_turn:
            if cluster in each and each is not where:
                each.remove(cluster)
        if where is not None and cluster not in where:
            where.append(cluster)

    def look(self, first):
        """The first free slot from this one on to the end of its cluster."""
        members = self.members(first // self.cluster)
        found = next((slot for slot in members if slot >= first and slot not in self.taken), None)
        self.taken |= set() if found is None else {found}
        full = self.taken.issuperset(members)
        self.file(first // self.cluster, None if full else self.frag)
        self.next = None if found is None or full or found + 1 not in members else found + 1
        return found

    def take_one(self):
        found = None
        if self.next is not None:
            members = self.members(self.next // self.cluster)
            found = self.look(members[0] if self.taken.isdisjoint(members) else self.next)
        if found is None:
            found = self.look(next(each for each in self.in_turn if each).pop(0) * self.cluster)
        return found

    def take(self, n):
        return [self.take_one() for _ in range(min(n, self.slots - len(self.taken)))]

    def give(self, slot):
        self.taken.remove(slot)
        cluster = slot // self.cluster
        self.file(cluster, self.free if self.taken.isdisjoint(self.members(cluster)) else self.nonfull)


class Device:
    """Channels that serve one request at a time; a request goes to the one that is free first."""

    def __init__(self, device):
        self.read_ns, self.write_ns = device.read_latency_ns, device.write_latency_ns
        self.read_page_ns, self.write_page_ns = device.read_page_ns, device.write_page_ns
        self.busy = [0] * device.channels
        names = ("read_requests", "write_requests", "pages_read", "pages_written", "queued_ns")
        self.count = {f"device_{name}": 0 for name in names}

    def serve(self, now, ns):
        channel = self.busy.index(min(self.busy))
        self.count["device_queued_ns"] += max(0, self.busy[channel] - now)
        self.busy[channel] = max(now, self.busy[channel]) + ns
        return self.busy[channel]

    def read(self, now):
        self.count["device_read_requests"] += 1
        self.count["device_pages_read"] += 1
        return self.serve(now, self.read_ns + self.read_page_ns)

    def write(self, now, pages):
        self.count["device_write_requests"] += 1
        self.count["device_pages_written"] += pages
        return self.serve(now, self.write_ns + pages * self.write_page_ns)


def index_words(n):
    """64-bit words of an index over n numbers: a bit for each, a bit for each word of those, up to one word."""
    words = -(-n // 64)
    return words if words <= 1 else words + index_words(words)


def word_of(page):
    return (page * 2654435761 % 2**32 >> 7) & 511


def tag_of(base, sequence):
    return (base + sequence) % 2**31 or 1


def same_filled(data):
    return data == data[:8] * (PAGE // 8)
