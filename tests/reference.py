"""The oracle: a whole host restated in plain Python, slowly and without cleverness.

An entry is an object that names a frame or a backing; a leaf is a list of 512 of them with a list of holders; a frame
knows the set of entries that name it. The order in which pages go is one of the naive restatements that test the orders
themselves. Free memory is one big integer, a bit per frame.

What is exact, and compared digit for digit: for VMs without a guest, on a host without zpool and with at most one
cluster of swap slots, *everything*: bytes of every page, event counters, frames by use (tables, reverse-map nodes and
records included), who is charged, simulated clocks, stall time and processor time by mechanism, what page sharing
holds. Frame numbers and leaf numbers are modelled too, because the scanner walks the one and the harvest the other.

Not modelled, and therefore not compared: hosts with a zpool (what compresses to what is the codec's business) and VMs
with a guest. For those the tests compare bytes, and sums that must hold whatever happens.
"""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("naive_orders", Path(__file__).with_name("engine") / "naive_orders.py")
assert _spec is not None and _spec.loader is not None
naive_orders = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive_orders)

ORDERS = {
    "clock": naive_orders.NaiveClock,
    "lru": naive_orders.NaiveLru,
    "fifo": naive_orders.Naive,
    "random": naive_orders.NaiveRandom,
}
PAGE = 4096
LEAF = 512
CLUSTER = 32  # pages reclaimed at a time
OK, NO_FRAME, LIMITED = "done", "no_frame", "limited"
READ, WRITE, FILL, DISCARD = range(4)
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
        self.is_zero_frame = False
        self.age, self.touched = 0, True


class Backing:
    """A content that is out of memory: in a swap slot, or one word over and over (slot None)."""

    def __init__(self, data, slot):
        self.data, self.slot = data, slot
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


class Vm:
    """One VM: its leaves by region, and what its translation cache holds."""

    def __init__(self, id, name, pages, tag_base, now):
        self.id, self.name, self.pages, self.tag_base, self.now = id, name, pages, tag_base, now
        self.leaves, self.directory = {}, set()
        self.cached = {}  # page -> [frame, writable]
        self.revoked = set()  # regions whose cached write permission does not count
        self.charged = self.stall = self.sequence = self.reservation = self.domain = self.active = 0
        self.limit, self.hand, self.ages = None, 0, []
        self.alive, self.fixed, self.outcome = True, [], OK


class Memory:
    """Frames by number: the lowest-numbered block of the smallest order that has one, as a buddy allocator gives it."""

    def __init__(self, frames):
        self.free = (1 << frames) - 1
        self.aligned = [sum(1 << i for i in range(0, frames, 1 << order)) for order in range(11)]
        self.used = dict.fromkeys(("guest", "table", "zspage", "fixed", "rmap", "backing", "swap_cache"), 0)

    @property
    def nr_free(self):
        return self.free.bit_count()

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
        self.end, self.numbers = 0, []

    def frames_needed(self, records):
        return max(0, -(-(records - len(self.numbers)) // self.per_frame))

    def reserve(self, records):
        for _ in range(self.frames_needed(records)):
            if self.memory.take(self.use) is None:
                return False
            self.numbers += range(self.end + self.per_frame - 1, self.end - 1, -1)
            self.end += self.per_frame
        return True

    def take(self):
        return self.numbers.pop()

    def give(self, number):
        self.numbers.append(number)


class Slots:
    """One cluster of swap slots: taken from where the last take ended, round and round."""

    def __init__(self, slots):
        assert slots <= LEAF, "the oracle knows one cluster"
        self.slots, self.next, self.taken = slots, 0, set()

    def take(self, n):
        got = []
        while len(got) < n and len(self.taken) < self.slots:
            if self.next == self.slots:
                self.next = 0
            if self.next not in self.taken:
                self.taken.add(self.next)
                got.append(self.next)
            self.next += 1
        return got


class Device:
    """Channels that serve one request at a time; a request goes to the one that is free first."""

    def __init__(self, device):
        self.read_ns, self.write_ns = device.read_latency_ns, device.write_latency_ns
        self.read_page_ns, self.write_page_ns = device.read_page_ns, device.write_page_ns
        self.busy = [0] * device.channels

    def serve(self, now, ns):
        channel = self.busy.index(min(self.busy))
        self.busy[channel] = max(now, self.busy[channel]) + ns
        return self.busy[channel]

    def read(self, now):
        return self.serve(now, self.read_ns + self.read_page_ns)

    def write(self, now, pages):
        return self.serve(now, self.write_ns + pages * self.write_page_ns)


def word_of(page):
    return (page * 2654435761 % 2**32 >> 7) & 511


def tag_of(base, sequence):
    return (base + sequence) % 2**31 or 1


def same_filled(data):
    return data == data[:8] * (PAGE // 8)


class Oracle:
    """What a memvirt.Host (`host`, just made) must do. Its methods are those of the host and its VMs.

    Of the host itself it takes settings only: watermarks, costs, constants of the device, tag bases of the VMs.
    """

    def __init__(self, host, corpus=()):
        config, engine = host.config, host.engine
        self.pages, self.config = [bytes(PAGE), *map(bytes, corpus)], config
        self.costs, self.device = dict(engine.clock.table), Device(engine.device)
        frames = engine.frames
        self.min, self.low, self.high = frames.min_pages, frames.low_pages, frames.high_pages
        self.memory = Memory(config.memory)
        self.order = ORDERS[config.replacement](config.memory)
        self.frames = {}  # number -> Frame, of guests
        self.count, self.cpu = dict.fromkeys(host.counters(), 0), dict.fromkeys(host.cpu_ns(), 0)
        self.faults = {}  # kind -> [how many, their ns]
        self.now = self.background = self.evictions = 0
        self.awake, self.batch, self.running = False, [], None
        self.next_harvest = config.harvest_interval
        self.slots = Slots(config.swap) if config.swap else None
        self.vms, self.leaves = {}, {}
        self.directories, self.leaf_slab = Slab(self.memory, "table", 1), Slab(self.memory, "table", PAGE // 32)
        self.nodes, self.backings = Slab(self.memory, "rmap", PAGE // 8), Slab(self.memory, "backing", PAGE // 16)
        self.take_fixed(config.memory * 18)
        self.sharing = Sharing(self) if config.sharing else None

    def spend(self, mechanism, ns):
        self.now += ns
        self.cpu[mechanism] += ns

    def sim_ns(self):
        return max((vm.now for vm in self.vms.values()), default=self.background)

    # ---- VMs

    def take_fixed(self, length):
        """Frames for `length` bytes, the largest blocks first: [(frame, order)]."""
        missing, order, taken = -(-length // PAGE), 10, []
        if missing + self.min > self.memory.nr_free:
            self.direct(None, missing + self.min)
        if missing + self.min > self.memory.nr_free:
            raise Refused
        while missing:
            first = self.memory.take("fixed", order) if 1 << order <= missing else None
            if first is None:
                order -= 1
                continue
            taken.append((first, order))
            missing -= 1 << order
        return taken

    def new_vm(self, name, pages, tag_base):
        fixed = self.take_fixed(pages * 4 + (pages >> 9) + (pages >> 15) + 64)
        id = next(i for i in range(len(self.vms) + 1) if all(vm.id != i for vm in self.vms.values()))
        vm = Vm(id, name, pages, tag_base, self.sim_ns())
        vm.fixed = fixed
        self.vms[name] = vm
        return vm

    def create_vm(self, name, pages, tag_base, *, limit=None, reservation=0, domain=0):
        vm = self.new_vm(name, pages, tag_base)
        vm.limit, vm.reservation, vm.domain = limit, reservation, domain
        if self.config.provisioning == "thick" and not self.populate(vm):
            self.destroy(vm)
            raise Refused
        return vm

    def populate(self, vm):
        page = 0
        while page < vm.pages:
            if page % LEAF == 0 and self.zero_huge(vm, page):
                page += LEAF
                continue
            while self.classify(vm, page, False)[0] == "zero":
                if self.zero(vm, page) != OK:
                    return False
            page += 1
        return True

    def clone(self, parent, name, tag_base):
        vm = self.new_vm(name, parent.pages, tag_base)
        vm.limit, vm.reservation, vm.domain = parent.limit, parent.reservation, parent.domain
        self.now = parent.now
        needed = self.directories.frames_needed(len(parent.directory))
        if self.secure(vm, 0, needed) != OK or not self.directories.reserve(len(parent.directory)):
            self.destroy(vm)
            raise Refused
        for region, leaf in sorted(parent.leaves.items()):
            self.enter_directory(vm, region)
            vm.leaves[region] = leaf
            leaf.holders.append(vm)
            self.count["clone_leaves"] += 1
        for directory in parent.directory - vm.directory:
            self.enter_directory(vm, directory << 8)
        parent.revoked |= set(range((parent.pages >> 9) + 1))
        self.spend("clone", self.costs["clone_fixed"] + len(vm.leaves) * self.costs["clone_leaf"])
        self.count["clones"] += 1
        vm.sequence = parent.sequence
        parent.now = vm.now = self.now
        return vm

    def enter_directory(self, vm, region):
        if region >> 8 not in vm.directory:
            vm.directory.add(region >> 8)
            self.directories.take()

    def destroy(self, vm):
        self.now = vm.now
        for region, leaf in sorted(vm.leaves.items()):
            leaf.holders.remove(vm)
            del vm.leaves[region]
            for index, entry in enumerate(leaf.entries):
                if entry is not None and not leaf.holders:
                    self.unmap(leaf, index)
                elif entry is not None and entry.present and entry.what.payer is vm:
                    self.recharge(entry.what)
            if not leaf.holders:
                if not leaf.huge:
                    self.memory.give("table", leaf.table)
                self.leaf_slab.give(leaf.number)
                del self.leaves[leaf.number]
        for _ in vm.directory:
            self.directories.give(None)
        for first, order in vm.fixed:
            self.memory.give("fixed", first, order)
        vm.alive = False
        del self.vms[vm.name]

    # ---- who maps what

    def add_site(self, frame, leaf, index):
        if frame.is_zero_frame or not frame.sites:
            new_nodes = 0
        else:
            new_nodes = 2 if len(frame.sites) == 1 else 1
        for _ in range(new_nodes):
            self.nodes.take()
        frame.sites.add((leaf, index))

    def remove_site(self, frame, leaf, index):
        frame.sites.remove((leaf, index))
        if not frame.is_zero_frame and frame.sites:
            for _ in range(2 if len(frame.sites) == 1 else 1):
                self.nodes.give(None)

    def mappers(self, frame):
        return {vm for leaf, _ in frame.sites for vm in leaf.holders}

    def charge(self, frame, vm):
        if frame.payer is not None:
            frame.payer.charged -= 1
        frame.payer = vm
        if vm is not None:
            vm.charged += 1

    def recharge(self, frame):
        """Whoever pays must map the frame; else the lowest VM that does takes over."""
        mappers = self.mappers(frame)
        if not frame.is_zero_frame and frame.payer not in mappers:
            self.charge(frame, min(mappers, key=lambda vm: vm.id, default=None))

    def drop_cached(self, leaf, index):
        for vm in leaf.holders:
            vm.cached.pop(leaf.region * LEAF + index, None)

    def drop_region(self, vm, region):
        for page in [page for page in vm.cached if page // LEAF == region]:
            del vm.cached[page]

    def order_in(self, frame):
        if not (frame.ordered or frame.pinned or frame.is_zero_frame):
            frame.ordered = True
            self.order.insert(frame.number, None)

    def order_out(self, frame):
        if frame.ordered:
            frame.ordered = False
            self.order.forget(frame.number)

    def take_guest(self, data):
        number = self.memory.take("guest")
        self.frames[number] = Frame(number, bytearray(data))
        return self.frames[number]

    def map(self, vm, leaf, index, frame, writable):
        self.add_site(frame, leaf, index)
        self.charge(frame, vm)
        leaf.entries[index] = Entry(frame, writable)
        self.order_in(frame)

    def release(self, backing):
        if backing.slot is not None:
            self.slots.taken.remove(backing.slot)
        self.backings.give(None)

    def detach(self, frame):
        """The frame is about to differ from its backing, or to vanish."""
        backing, frame.backing = frame.backing, None
        if backing is not None:
            backing.frame = None
            if backing.refs == 0:
                self.release(backing)

    def unshare(self, frame):
        if frame.stable:
            frame.stable = False
            self.sharing.breaks += 1

    def free_frame(self, frame):
        if frame.is_zero_frame:
            return
        self.order_out(frame)
        self.detach(frame)
        self.unshare(frame)
        self.charge(frame, None)
        del self.frames[frame.number]
        self.memory.give("guest", frame.number)

    def unmap(self, leaf, index):
        entry, leaf.entries[index] = leaf.entries[index], None
        self.drop_cached(leaf, index)
        if not entry.present:
            entry.what.refs -= 1
            if entry.what.refs == 0 and entry.what.frame is None:
                self.release(entry.what)
            return
        self.remove_site(entry.what, leaf, index)
        if entry.what.sites:
            self.recharge(entry.what)
        else:
            self.free_frame(entry.what)

    # ---- leaves

    def frames_to_reach(self, vm, page):
        region = page // LEAF
        if region >> 8 not in vm.directory:
            return self.directories.frames_needed(1) + 1 + self.leaf_slab.frames_needed(1)
        return 0 if region in vm.leaves else 1 + self.leaf_slab.frames_needed(1)

    def new_leaf(self, vm, region, huge):
        leaf = Leaf(self.leaf_slab.take(), region, huge)
        self.leaves[leaf.number] = leaf
        self.hold(vm, leaf)
        return leaf

    def hold(self, vm, leaf):
        vm.leaves[leaf.region] = leaf
        leaf.holders.append(vm)

    def reach(self, vm, page):
        """The small leaf above a page."""
        region = page // LEAF
        if region >> 8 not in vm.directory:
            self.directories.reserve(1)
            self.enter_directory(vm, region)
        if region not in vm.leaves:
            self.leaf_slab.reserve(1)
            table = self.memory.take("table")
            self.new_leaf(vm, region, False).table = table
        return vm.leaves[region]

    def split(self, leaf):
        leaf.table, leaf.huge = self.memory.take("table"), False
        for entry in leaf.entries:
            entry.accessed = leaf.huge_accessed
        self.count["leaf_splits"] += 1

    def copy_leaf(self, vm, old):
        if old.huge:
            self.split(old)
        self.leaf_slab.reserve(1)
        self.nodes.reserve(2 * old.live)
        table = self.memory.take("table")
        old.holders.remove(vm)
        new = self.new_leaf(vm, old.region, False)
        new.table = table
        for index, entry in enumerate(old.entries):
            if entry is None:
                continue
            entry.writable = False
            new.entries[index] = Entry(entry.what)
            if entry.present:
                self.add_site(entry.what, new, index)
            else:
                entry.what.refs += 1
        self.drop_region(vm, old.region)
        self.count["leaf_copies"] += 1
        return OK

    # ---- faults

    def classify(self, vm, page, write):
        leaf = vm.leaves.get(page // LEAF)
        entry = leaf.entries[page % LEAF] if leaf else None
        if entry is None:
            return "zero", leaf, None
        if entry.present:
            if not write or (entry.writable and not leaf.shared):
                return None, leaf, entry
            sole = len(entry.what.sites) == 1 and not entry.what.is_zero_frame
            return "reuse" if sole and not leaf.shared else "cow", leaf, entry
        if entry.what.frame is not None:
            return "cached", leaf, entry
        return "same" if entry.what.slot is None else "swap", leaf, entry

    def touch(self, vm, page, write):
        """Make the page accessible and its translation cached."""
        began, (kind, leaf, entry) = self.now, self.classify(vm, page, write)
        first, steps = kind, 0
        if kind is None:
            self.spend("access", self.costs["refill"])
            self.count["tcache_refills"] += 1
        else:
            self.spend("fault", self.costs["fault"])
        while kind is not None:
            outcome = self.step(vm, page, write, kind, leaf, entry)
            steps += 1
            if outcome == OK and steps >= 64:
                self.count["exhausted_no_frame"] += 1
                outcome = NO_FRAME
            if outcome != OK:
                return outcome
            kind, leaf, entry = self.classify(vm, page, write)
        if first is not None:
            tally = self.faults.setdefault(first, [0, 0])
            tally[0] += 1
            tally[1] += self.now - began
        region = page // LEAF
        if region in vm.revoked:
            vm.revoked.discard(region)
            for other in vm.cached:
                if other // LEAF == region:
                    vm.cached[other][1] = False
        if leaf.huge:
            leaf.huge_accessed = True
        entry.accessed = True
        vm.cached[page] = [entry.what, entry.writable and not leaf.shared]
        return OK

    def step(self, vm, page, write, kind, leaf, entry):
        evictions = self.evictions
        index = page % LEAF
        if write and leaf is not None and leaf.shared:
            needed = 1 + leaf.huge + self.leaf_slab.frames_needed(1) + self.nodes.frames_needed(2 * leaf.live)
            outcome = self.secure(vm, 0, needed)
            if outcome != OK or self.evictions != evictions:
                return outcome
            self.spend("copy", self.costs["leaf_copy"])
            return self.copy_leaf(vm, leaf)
        if kind == "zero":
            return self.zero(vm, page)
        if kind == "reuse":
            self.detach(entry.what)
            self.unshare(entry.what)
            entry.writable = True
        elif kind == "cached":
            outcome = self.secure(vm, 0, self.nodes.frames_needed(2))
            if outcome != OK or self.evictions != evictions:
                return outcome
            self.nodes.reserve(2)
            frame, entry.what.refs = entry.what.frame, entry.what.refs - 1
            self.add_site(frame, leaf, index)
            leaf.entries[index] = Entry(frame)
        else:
            outcome = self.secure(vm, 1, 0)
            if outcome != OK or self.evictions != evictions:
                return outcome
            if kind == "cow":
                self.break_cow(vm, leaf, index, entry.what)
            else:
                self.bring_back(vm, leaf, index, entry.what)
        self.count["fault_" + kind] += 1
        return OK

    def zero(self, vm, page):
        evictions = self.evictions
        if self.config.provisioning == "thin-huge" and page // LEAF not in vm.leaves:
            if self.zero_huge(vm, page):
                return OK
            self.count["fault_around_missed"] += 1
        outcome = self.secure(vm, 1, self.frames_to_reach(vm, page))
        if outcome != OK or self.evictions != evictions:
            return outcome
        leaf = self.reach(vm, page)
        self.spend("zero", self.costs["zero_page"])
        self.map(vm, leaf, page % LEAF, self.take_guest(bytes(PAGE)), True)
        self.count["fault_zero"] += 1
        return OK

    def zero_huge(self, vm, page):
        region = page // LEAF
        room = self.memory.nr_free - self.high - 2
        if (region + 1) * LEAF > vm.pages or (vm.limit is not None and vm.charged + LEAF > vm.limit) or room < LEAF:
            return False
        base = self.memory.take("guest", 9)
        if base is None:
            return False
        self.directories.reserve(1)
        self.enter_directory(vm, region)
        self.leaf_slab.reserve(1)
        self.spend("zero", self.costs["zero_huge"])
        leaf = self.new_leaf(vm, region, True)
        for index in range(LEAF):
            frame = self.frames[base + index] = Frame(base + index, bytearray(PAGE))
            self.map(vm, leaf, index, frame, True)
        self.count["fault_huge"] += 1
        return True

    def break_cow(self, vm, leaf, index, shared):
        copy = self.take_guest(shared.data)
        self.spend("copy", self.costs["copy_page"])
        self.remove_site(shared, leaf, index)
        self.drop_cached(leaf, index)
        self.count["cow_breaks_shared"] += shared.stable or shared.is_zero_frame
        self.recharge(shared)
        self.map(vm, leaf, index, copy, True)

    def bring_back(self, vm, leaf, index, backing):
        frame = self.take_guest(backing.data)
        if backing.slot is None:
            self.spend("zero", self.costs["zero_page"])
        else:
            began = self.now
            self.spend("swap", self.costs["swap_submit"])
            self.now = max(self.now, self.device.read(self.now))
            self.stalled_since(began)
            self.count["swap_pages_in"] += 1
        self.map(vm, leaf, index, frame, False)
        backing.refs -= 1
        if backing.refs or backing.slot is not None:
            backing.frame, frame.backing = frame, backing
        else:
            leaf.entries[index].writable = True
            self.release(backing)

    # ---- reclaim

    def stalled_since(self, began):
        if self.running is not None:
            self.running.stall += self.now - began

    def secure(self, vm, guest, tables):
        if guest and vm.limit is not None:
            began = self.now
            while vm.charged + guest > vm.limit:
                gone = self.shrink_vm(vm, max(min(CLUSTER, vm.limit // 8), vm.charged + guest - vm.limit), 0)
                self.count["reclaim_limit"] += gone
                if not gone:
                    self.stalled_since(began)
                    self.count["exhausted_limit"] += 1
                    return LIMITED
            self.stalled_since(began)
        if self.memory.nr_free >= guest + tables + self.low and not self.awake:
            return OK
        self.catch_up()
        if self.memory.nr_free >= guest + tables + self.min or self.direct(vm, guest + tables + self.min):
            return OK
        self.count["exhausted_no_frame"] += 1
        return NO_FRAME

    def direct(self, vm, frames):
        began, gone = self.now, 1
        while gone and self.memory.nr_free < frames:
            gone = self.shrink(max(frames - self.memory.nr_free, CLUSTER))
            self.count["reclaim_direct"] += gone
        self.stalled_since(began)
        return gone > 0

    def catch_up(self):
        now = self.now
        self.harvest_due(now)
        if not self.awake:
            if self.memory.nr_free >= self.low or now < self.background:
                return
            self.awake, self.background = True, now
        while self.awake and self.background <= now:
            self.now = self.background
            gone = self.shrink(CLUSTER)
            self.count["reclaim_background"] += gone
            if not gone:
                self.now += self.costs["wait_quantum"]
            self.awake = gone > 0 and self.memory.nr_free < self.high
            self.background = self.now
        self.now = now

    def harvest_due(self, now):
        if now >= self.next_harvest:
            self.next_harvest = now + self.config.harvest_interval
            self.harvest()

    def touch_order(self, frame):
        if frame.ordered:
            self.order.touch(frame.number)

    def harvest(self):
        for vm in self.vms.values():
            vm.active = 0
        for _, leaf in sorted(self.leaves.items()):
            found = 0
            if leaf.huge and leaf.huge_accessed:
                leaf.huge_accessed, found = False, LEAF
                for vm in leaf.holders:
                    self.drop_region(vm, leaf.region)
                for entry in leaf.entries:
                    entry.what.touched = True
                    self.touch_order(entry.what)
            for index, entry in enumerate(leaf.entries):
                if not leaf.huge and entry is not None and entry.present and entry.accessed:
                    entry.accessed = False
                    self.drop_cached(leaf, index)
                    entry.what.touched = True
                    self.touch_order(entry.what)
                    found += 1
            self.count["harvested"] += found
            for vm in leaf.holders:
                vm.active += found
        for vm in self.vms.values():
            vm.ages = []
        for frame in self.frames.values():
            if frame.payer is not None and not frame.is_zero_frame:
                frame.age = 0 if frame.touched else min(127, frame.age + 1)
                frame.touched = False
                frame.payer.ages.append(frame.age)
        self.count["harvests"] += 1

    def referenced(self, frame):
        """Test and clear the accessed marks of all entries of a frame."""
        found = False
        for leaf, index in frame.sites:
            if leaf.huge and leaf.huge_accessed:
                found, leaf.huge_accessed = True, False
                for vm in leaf.holders:
                    self.drop_region(vm, leaf.region)
                for entry in leaf.entries:
                    entry.what.touched = True
                    if entry.what is not frame:
                        self.touch_order(entry.what)
            elif not leaf.huge and leaf.entries[index].accessed:
                frame.touched = True
                found, leaf.entries[index].accessed = True, False
                self.drop_cached(leaf, index)
        return found

    def shrink(self, want):
        """Evict about `want` pages, anyone's; how many went."""
        patience, gone, insisted = 2 * len(self.order.held) + CLUSTER, 0, None
        while gone < want and patience > 0:
            patience -= 1
            number = self.order.candidate()
            if number is None:
                break
            frame = self.frames[number]
            self.count["reclaim_scanned"] += 1
            self.spend("reclaim", self.costs["reclaim_visit"])
            reserved = frame.payer.charged <= frame.payer.reservation
            if frame.isolated or reserved:
                self.count["reclaim_spared_reserved"] += reserved and not frame.isolated
                self.order.spare(number)
                continue
            if frame is not insisted and self.referenced(frame):
                self.count["reclaim_spared_accessed"] += 1
                insisted = frame
                self.order.touch(number)
                continue
            gone += self.evict_or_isolate(frame)
            if len(self.batch) == CLUSTER or (self.batch and gone + len(self.batch) >= want):
                gone += self.flush()
        return gone + (self.flush() if self.batch else 0)

    def shrink_vm(self, vm, want, min_age):
        """Evict about `want` pages that this VM pays for, by its own hand, two rounds at most."""
        left, gone, page = 2 * vm.pages, 0, vm.hand if vm.hand < vm.pages else 0
        while gone < want and left > 0:
            leaf = vm.leaves.get(page // LEAF)
            step = 1 if leaf else min(LEAF - page % LEAF, vm.pages - page)
            entry = leaf.entries[page % LEAF] if leaf else None
            left, page = left - step, (page + step) % vm.pages
            frame = entry.what if entry is not None and entry.present else None
            if frame is None or frame.payer is not vm or not frame.ordered or frame.isolated:
                continue
            self.count["reclaim_scanned"] += 1
            self.spend("reclaim", self.costs["reclaim_visit"])
            if self.referenced(frame):
                self.count["reclaim_spared_accessed"] += 1
                self.order.touch(frame.number)
                continue
            if (0 if frame.touched else frame.age) < min_age:
                continue
            gone += self.evict_or_isolate(frame)
            if len(self.batch) == CLUSTER or (self.batch and gone + len(self.batch) >= want):
                gone += self.flush()
        vm.hand = page
        return gone + (self.flush() if self.batch else 0)

    def evict_or_isolate(self, frame):
        leaf, _ = next(iter(frame.sites))
        if leaf.huge:
            if self.memory.nr_free == 0:
                self.order.spare(frame.number)
                return 0
            self.split(leaf)
        self.evictions += 1
        if frame.backing is not None:
            return self.evict(frame, frame.backing, "clean")
        if not self.backings.reserve(CLUSTER):
            self.count["reject_backing_frame"] += 1
            self.order.spare(frame.number)
            return 0
        self.spend("reclaim", self.costs["same_filled"])
        if same_filled(frame.data):
            self.backings.take()
            return self.evict(frame, Backing(bytes(frame.data), None), "same")
        self.order.spare(frame.number)
        if self.slots is None:
            self.count["reject_swap_full"] += 1
        else:
            frame.isolated = True
            self.batch.append(frame)
        return 0

    def evict(self, frame, backing, how):
        self.spend("reclaim", self.costs["evict"])
        self.count["evicted"] += 1
        self.count["evicted_" + how] += 1
        frame.backing = backing.frame = None
        for leaf, index in frame.sites:
            leaf.entries[index] = Entry(backing)
            self.drop_cached(leaf, index)
            backing.refs += 1
        for _ in frame.sites if len(frame.sites) > 1 else ():
            self.nodes.give(None)
        frame.sites.clear()
        if frame.ordered:
            frame.ordered = False
            self.order.take(frame.number, None)
        self.free_frame(frame)
        return 1

    def flush(self):
        batch, self.batch = self.batch, []
        got = self.slots.take(len(batch))
        self.count["reject_swap_full"] += len(batch) - len(got)
        first, last = 0, self.now
        for i in range(1, len(got) + 1):  # one request per run of neighbours; wait for the last to complete
            if i == len(got) or got[i] != got[i - 1] + 1:
                self.spend("swap", self.costs["swap_submit"])
                last = max(last, self.device.write(self.now, i - first))
                first = i
        self.now = max(self.now, last)
        for frame in batch:
            frame.isolated = False
        for frame, slot in zip(batch, got, strict=False):
            self.backings.take()
            self.evict(frame, Backing(bytes(frame.data), slot), "swap")
            self.count["swap_pages_out"] += 1
        self.count["evict_failed"] += len(batch) - len(got)
        return len(got)

    def reclaim_from(self, vm, pages):
        self.now = max(self.background, vm.now)
        age = 127
        while age and sum(each >= age for each in vm.ages) < pages:
            age -= 1
        gone = self.shrink_vm(vm, pages, age) if pages else 0
        self.count["reclaim_proactive"] += gone
        self.background = self.now
        return gone

    # ---- what VMs do

    def access(self, vm, pages, ops, sources=None, until=FOREVER):
        """(accesses done, why it stopped)"""
        self.now, vm.outcome, done, self.running = vm.now, OK, 0, vm
        for page, op in zip(pages, ops, strict=True):
            if self.now >= until:
                break
            hit = op in (READ, WRITE) and page in vm.cached
            if hit and op == WRITE:
                hit = vm.cached[page][1] and page // LEAF not in vm.revoked
            if not hit:
                if op != DISCARD:
                    vm.outcome = self.touch(vm, page, op != READ)
                if vm.outcome != OK:
                    break
            self.spend("access", self.costs["hit"])
            self.store(vm, page, op, 0 if sources is None else sources[done])
            done += 1
        vm.now, self.running = self.now, None
        return done, vm.outcome

    def store(self, vm, page, op, source):
        self.count[("reads", "writes", "fills", "discards")[op]] += 1
        if op == WRITE:
            vm.sequence += 1
            word = word_of(page) * 8
            vm.cached[page][0].data[word : word + 8] = tag_of(vm.tag_base, vm.sequence).to_bytes(8, "little")
        elif op == FILL:
            vm.cached[page][0].data[:] = self.pages[source]

    def write(self, vm, address, data):
        """Bytes written; vm.outcome says why not all."""
        self.now, done, vm.outcome, self.running = vm.now, 0, OK, vm
        while done < len(data) and vm.outcome == OK:
            at = (address + done) % PAGE
            part = data[done : done + PAGE - at]
            vm.outcome = self.touch(vm, (address + done) // PAGE, True)
            if vm.outcome == OK:
                vm.cached[(address + done) // PAGE][0].data[at : at + len(part)] = part
                done += len(part)
        vm.now, self.running = self.now, None
        return done

    def pin(self, vm, first, pages, pinned):
        """How many pages could be pinned, or unpinned."""
        self.now, done, self.running = vm.now, 0, vm
        for page in range(first, first + pages):
            vm.outcome = self.touch(vm, page, pinned)
            if vm.outcome != OK:
                break
            frame = vm.cached[page][0]
            frame.pinned = pinned
            if pinned:
                self.order_out(frame)
            else:
                self.order_in(frame)
            done += 1
        vm.now, self.running = self.now, None
        return done

    def bytes_of(self, vm, page):
        """What the page holds, wherever it lies; None if it was never touched."""
        leaf = vm.leaves.get(page // LEAF)
        entry = leaf.entries[page % LEAF] if leaf else None
        return None if entry is None else bytes(entry.what.data)

    def run(self, streams, until=FOREVER):
        """Batches [(pages, ops, sources)] per VM, side by side: {vm: (done, reason)}."""
        left = {vm: list(batches) for vm, batches in streams.items()}
        done, reasons, waits = dict.fromkeys(left, 0), {}, 0
        while left:
            vm = min(left, key=lambda vm: (vm.now, vm.id))
            if not vm.alive or vm.now >= until:
                reasons[vm] = "until" if vm.alive else "killed"
                del left[vm]
                continue
            self.harvest_due(vm.now)
            if self.sharing:
                self.sharing.catch_up(vm.now)
            while left[vm] and len(left[vm][0][0]) == 0:
                del left[vm][0]
            if not left[vm]:
                reasons[vm] = "done"
                del left[vm]
                continue
            others = [other.now for other in left if other is not vm]
            served, outcome = self.access(vm, *left[vm][0], until=min([until, *(now + 50_000 for now in others)]))
            done[vm] += served
            left[vm][0] = [part[served:] for part in left[vm][0]]
            if served or outcome == OK:
                waits = 0 if served else waits
            elif self.config.on_exhausted == "wait" and waits < 10_000:
                waits += 1
                self.count["waits"] += 1
                vm.stall += self.costs["wait_quantum"]
                vm.now += self.costs["wait_quantum"]
            elif self.config.on_exhausted == "kill" and outcome == NO_FRAME:
                self.count["kills"] += 1
                self.destroy(max(self.vms.values(), key=lambda vm: (vm.charged, -vm.id)))
                waits = 0
            else:
                self.count["stops"] += 1
                reasons[vm] = outcome
                del left[vm]
                waits = 0
        return {vm: (done[vm], reasons[vm]) for vm in done}

    # ---- what there is to see

    def usage(self):
        return {"free": self.memory.nr_free, **self.memory.used}

    def sharing_state(self):
        frames, sharing = self.frames.values(), self.sharing
        return {
            "pages_shared": sum(frame.stable for frame in frames),
            "pages_sharing": sum(len(frame.sites) - 1 for frame in frames if frame.stable),
            "zero_pages": len(sharing.zero.sites) if sharing else 0,
            "cow_sharing": sum(len(frame.sites) - 1 for frame in frames if not frame.stable),
            "leaves_shared": sum(leaf.live * (len(leaf.holders) - 1) for leaf in self.leaves.values()),
        } | (sharing.state() if sharing else {})


class Sharing:
    """Page sharing over an Oracle's frames, with the scanner that walks them in order."""

    def __init__(self, oracle):
        self.oracle, self.now, self.cursor, self.index = oracle, 0, 0, {}
        self.zero = Frame(oracle.memory.take("fixed"), bytes(PAGE))
        self.zero.is_zero_frame = True
        cells = 16
        while cells < oracle.config.memory + oracle.config.memory // 2:
            cells *= 2
        oracle.take_fixed(cells * 8)
        options = oracle.config.scanner_options()
        self.slice, self.sleep_ns = options["pages_to_scan"], options["sleep_ns"]
        self.breaks = self.false_matches = self.put_off = self.scanned = self.full = 0

    def state(self):
        return {
            "breaks": self.breaks,
            "false_matches": self.false_matches,
            "merges_put_off": self.put_off,
            "pages_scanned": self.scanned,
            "full_scans": self.full,
        }

    def key(self, frame):
        return bytes(frame.data), frame.payer.domain

    def scan(self, pages=FOREVER):
        """Look at so many pages, at most to the end of memory; how many were merged."""
        looked, merged, oracle = 0, 0, self.oracle
        while looked < pages:
            if self.cursor == 0:
                self.index = {}
                for _, frame in sorted(oracle.frames.items()):
                    if frame.stable:
                        self.index.setdefault(self.key(frame), []).append(frame.number)
            frame = oracle.frames.get(self.cursor)
            if frame is not None and not frame.pinned:
                looked += 1
                self.scanned += 1
                oracle.spend("scan", oracle.costs["scan_visit"])
                merged += self.visit(frame)
            self.cursor += 1
            if self.cursor == oracle.config.memory:
                self.cursor = 0
                self.full += 1
                break
        return merged

    def scan_now(self, pages=FOREVER):
        self.oracle.now = max(self.now, self.oracle.sim_ns())
        merged = self.scan(pages)
        self.now = self.oracle.now
        return merged

    def catch_up(self, now):
        while self.now <= now:
            self.oracle.now = self.now
            self.scan(self.slice)
            self.now = self.oracle.now + max(self.sleep_ns, 1)

    def visit(self, frame):
        if frame.stable:
            return False
        self.oracle.spend("scan", self.oracle.costs["same_filled"])
        if not any(frame.data):
            return self.merge(frame, self.zero)
        self.oracle.spend("scan", self.oracle.costs["hash_page"])
        known = self.index.setdefault(self.key(frame), [])
        for number in known:
            other = self.oracle.frames.get(number)
            if other is frame:
                return False
            if other is not None and not other.pinned:
                self.oracle.spend("scan", self.oracle.costs["compare_page"])
                if self.key(frame) == self.key(other):
                    return self.merge(frame, other)
                self.false_matches += 1
        known.append(frame.number)
        return False

    def merge(self, duplicate, kept):
        oracle = self.oracle
        nodes = 0 if kept.is_zero_frame else len(duplicate.sites) + 1
        huge = [leaf for frame in (duplicate, kept) for leaf, _ in frame.sites if leaf.huge]
        if kept.is_zero_frame:
            huge = [leaf for leaf, _ in duplicate.sites if leaf.huge]
        needed = oracle.nodes.frames_needed(nodes) + len(huge)
        if needed and oracle.memory.nr_free < needed + oracle.min:
            self.put_off += 1
            return False
        for leaf in huge:
            if leaf.huge:
                oracle.split(leaf)
        oracle.nodes.reserve(nodes)
        for leaf, index in kept.sites if not kept.is_zero_frame else ():
            leaf.entries[index].writable = False
            for vm in leaf.holders:
                if leaf.region * LEAF + index in vm.cached:
                    vm.cached[leaf.region * LEAF + index][1] = False
        kept.stable = not kept.is_zero_frame
        given = len(duplicate.sites) if len(duplicate.sites) > 1 else 0
        for leaf, index in duplicate.sites:
            oracle.drop_cached(leaf, index)
            leaf.entries[index] = Entry(kept)
            oracle.add_site(kept, leaf, index)
        for _ in range(given):
            oracle.nodes.give(None)
        duplicate.sites.clear()
        oracle.count["merges"] += 1
        oracle.count["merges_zero"] += kept.is_zero_frame
        oracle.free_frame(duplicate)
        oracle.spend("scan", oracle.costs["merge"])
        return True
