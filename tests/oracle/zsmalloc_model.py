"""Linux's zsmalloc and zswap's limit in plain Python: the oracle of the compressed pool. Lists, no cleverness."""

PAGE = 4096
GROUPS = 12


def chain_length(size, longest, rule):
    """Frames per zspage: min() and max() keep the first of equals, as the kernel's strict comparisons do."""
    lengths = range(1, longest + 1)
    if rule == "used":
        return max(lengths, key=lambda n: (n * PAGE - n * PAGE % size) * 100 // (n * PAGE))
    if bin(size).count("1") == 1:
        return 1
    return min(lengths, key=lambda n: n * PAGE % size)


def classes_of(longest, rule):
    """{requested size: (slot size, frames, objects)}, merged from the largest size down."""
    merged, larger = {}, None
    for size in range(PAGE, 16, -16):
        frames = chain_length(size, longest, rule)
        shape = (frames, frames * PAGE // size)
        if larger is None or larger[1:] != shape:
            larger = (size, *shape)
        merged[size] = larger
    return merged


class Zspage:
    def __init__(self, shape):
        self.shape = shape
        self.slots = [None] * shape[2]
        self.free = list(range(shape[2]))  # next slot first
        self.group = 0

    @property
    def used(self):
        return self.shape[2] - len(self.free)


class Model:
    """`header` bytes in front of each object: 0 for memvirt, 8 for zsmalloc itself."""

    def __init__(self, limit, accept_percent=90, longest=8, rule="waste", header=0):
        self.classes = classes_of(longest, rule)
        self.lists = {shape: [[] for _ in range(GROUPS)] for shape in self.classes.values()}
        self.where, self.length, self.payload = {}, {}, {}
        self.ages = []
        self.limit, self.accept = limit, limit * accept_percent // 100
        self.header = header
        self.full = False
        self.frames = 0
        self.moved = 0

    def shape(self, length):
        size = min(PAGE, length + self.header)
        return self.classes[max(32, -(-size // 16) * 16)]

    def regroup(self, zspage):
        used, objects = zspage.used, zspage.shape[2]
        group = 0 if used == 0 else 11 if used == objects else 100 * used // objects // 10 + 1
        if group != zspage.group or zspage not in self.lists[zspage.shape][zspage.group]:
            for members in self.lists[zspage.shape]:
                if zspage in members:
                    members.remove(zspage)
            self.lists[zspage.shape][group].insert(0, zspage)
            zspage.group = group

    def declines(self):
        if self.frames >= self.limit:
            self.full = True
        elif self.frames <= self.accept:
            self.full = False
        return self.full

    def roomiest(self, shape):
        return next((members[0] for members in self.lists[shape][10::-1] if members), None)

    def frames_needed(self, length):
        return 0 if self.roomiest(self.shape(length)) else self.shape(length)[1]

    def put(self, owner, payload, length):
        shape = self.shape(length)
        zspage = self.roomiest(shape)
        if zspage is None:
            zspage = Zspage(shape)
            self.frames += shape[1]
        self.place(owner, zspage)
        self.length[owner], self.payload[owner] = length, payload
        self.ages.append(owner)

    def place(self, owner, zspage):
        slot = zspage.free.pop(0)
        zspage.slots[slot] = owner
        self.where[owner] = (zspage, slot)
        self.regroup(zspage)

    def leave(self, zspage, slot):
        zspage.slots[slot] = None
        zspage.free.insert(0, slot)
        if zspage.used:
            self.regroup(zspage)
            return 0
        self.lists[zspage.shape][zspage.group].remove(zspage)
        self.frames -= zspage.shape[1]
        return zspage.shape[1]

    def drop(self, owner):
        self.leave(*self.where.pop(owner))
        del self.length[owner], self.payload[owner]
        self.ages.remove(owner)

    def compact(self):
        return sum(self.compact_class(shape) for shape in sorted(self.lists, reverse=True))

    def compact_class(self, shape):
        gained, target = 0, None
        while self.free_slots(shape) >= shape[2]:
            target = target or self.roomiest(shape)
            source = next(zspage for members in self.lists[shape][1:11] for zspage in members if zspage is not target)
            for slot, owner in enumerate(list(source.slots)):
                if owner is not None and target.free:
                    self.place(owner, target)
                    gained += self.leave(source, slot)
                    self.moved += 1
            target = target if target.free else None
        return gained

    def free_slots(self, shape):
        return sum(len(zspage.free) for members in self.lists[shape] for zspage in members)

    def layout(self):
        """[(slot size, owner of each slot)], as Zspages.layout() orders them."""
        return [
            (shape[0], zspage.slots)
            for shape in sorted(self.lists)
            for members in reversed(self.lists[shape])
            for zspage in members
        ]
