"""The oracle: a whole host restated in plain Python, slowly and without cleverness.

An entry is an object that names a frame or a backing; a leaf is a list of 512 of them with a list of holders; a frame
knows the set of entries that name it. The order in which pages go is one of the naive restatements that test the orders
themselves. Free memory is one big integer, a bit per frame.

What is exact, and compared digit for digit: for VMs without a guest, on a host without zpool, *everything*: bytes of
every page, event counters, frames by use (tables and records included), who is charged, simulated clocks, stall time and
processor time by mechanism, what page sharing holds. Frame numbers and leaf numbers are modelled too, because the scanner
walks the one and the harvest the other.

Not modelled: hosts with a zpool (what compresses to what is the codec's business), VMs with a guest, and snapshots.
Those are held to their bytes by the tests of injected faults, and to themselves by those of determinism.
"""

from oracle.faults import Faults
from oracle.parts import (
    DISCARD,
    FILL,
    FOREVER,
    LAZY,
    LEAF,
    NO_FRAME,
    OK,
    ORDER_BYTES,
    ORDERS,
    PAGE,
    QUANTUM,
    READ,
    WRITE,
    Device,
    Frame,
    Memory,
    Refused,
    Slab,
    Slots,
    Vm,
    index_words,
    parts,
    tag_of,
    word_of,
)
from oracle.sharing import Sharing


class Oracle(Faults):
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
        self.order = self.make_order(config.memory)
        self.frames = {}  # number -> Frame, of guests
        self.count, self.cpu = dict.fromkeys(host.counters(), 0), dict.fromkeys(host.cpu_ns(), 0)
        self.faults = {}  # kind -> [how many, their ns]
        self.now = self.background = self.evictions = self.reached = self.entries = self.waits = 0
        self.awake, self.batch, self.running = False, [], None
        self.begin_lazy()
        self.over, self.providing = False, None  # a VM may be above its limit; the one whose pages are all brought in
        self.foretold = False  # what is reclaimed for is known to be there
        self.next_harvest = config.harvest_interval
        self.slots = Slots(config.swap) if config.swap else None
        self.vms, self.leaves = {}, {}
        self.directories, self.leaf_slab = Slab(self.memory, "table", 1), Slab(self.memory, "table", PAGE // 32)
        self.backings = Slab(self.memory, "backing", PAGE // 16)
        if config.commit == "strict":  # no more records than slots
            self.backings.most = config.swap
        self.take_fixed(self.host_bytes())
        self.zeros = None  # the frame of zeros that untouched pages share while they are only read
        if config.provisioning == "on-write":
            self.zeros = Frame(self.memory.take("fixed"), bytearray(PAGE))
            self.zeros.is_zero_frame = True
        self.sharing = Sharing(self) if config.sharing else None

    def make_order(self, capacity):
        options = self.config.replacement_options if self.config.replacement == "twolist" else {}  # others: defaults
        order = ORDERS[self.config.replacement](capacity, **options)
        if self.config.replacement == "random":
            order.seed = self.config.seed
        return order

    def host_bytes(self):
        """Of a frame: record, age, bits in the free map, place in the order; of 512: what compaction finds in them; of a
        swap slot: a bit; of 512 of them: a cluster."""
        frames, slots = self.config.memory, self.config.swap
        words = -(-frames // 64)
        groups = -(-words // 64)
        free_map = words + groups + sum(index_words(words if order < 6 else groups) for order in range(11))
        return (
            frames * 17
            + free_map * 8
            + -(-frames // LEAF) * 3
            + ORDER_BYTES[self.config.replacement](frames, slots + 4 * frames)
            + -(-slots // 64) * 8
            + -(-slots // LEAF) * 16
        )

    def spend(self, mechanism, ns):
        self.now += ns
        self.cpu[mechanism] += ns

    def arrive(self, *vms):
        """VMs have done something of their own, outside a run."""
        self.entries += 1
        self.reached = max([self.reached, *(vm.now for vm in vms)])

    # ---- VMs

    def take_fixed(self, length):
        """Frames for `length` bytes, the largest blocks first: [(frame, order)]."""
        missing, order, taken = -(-length // PAGE), 10, []
        self.make_room(missing + self.min, self.reached)
        if missing + self.min + self.aside() > self.memory.nr_free:
            raise Refused
        while missing:
            first = self.memory.take("fixed", order) if 1 << order <= missing else None
            if first is None:
                order -= 1
                continue
            taken.append((first, order))
            missing -= 1 << order
        return taken

    def vm_bytes(self, pages):
        return pages * 4 + 2 * (pages >> 9) + (pages >> 15) + 64 + 2 * 128 * 6

    def new_vm(self, name, pages, tag_base, first=0, reservation=0, later=0, secured=False):
        """`first`: frames that it takes beside its own tables; `later`: more, of its own and for tables of those. Where
        they cannot be had, nobody's pages go."""
        length = self.vm_bytes(pages)
        first += -(-length // PAGE)
        id = next(i for i in range(len(self.vms) + 1) if all(vm.id != i for vm in self.vms.values()))
        vm = Vm(id, name, pages, tag_base, self.reached)
        if first + later > self.config.memory:
            raise Refused
        self.vms[name], vm.reservation = vm, reservation
        fits = self.could_take(first, secured)
        vm.reservation = 0
        fits = fits and (not later or self.could_take(first + later, secured))
        if fits:
            try:
                vm.fixed = self.take_fixed(length)
            except Refused:
                fits = False
        if not fits:
            del self.vms[name]
            raise Refused
        return vm

    def filling(self, pages):
        """What a VM takes that is filled at once: with 2 MiB blocks that are there whatever its tables break."""
        leaves, free = -(-pages // LEAF), self.memory.nr_free
        kept = -(-self.vm_bytes(pages) // PAGE) + LEAF
        blocks = max(0, self.memory.huge_blocks() - kept // LEAF)
        blocks = min(blocks, max(0, free - kept - self.high - self.aside()) // LEAF, pages // LEAF)
        tables = (
            leaves + self.leaf_slab.frames_needed(leaves) + self.directories.frames_needed(-(-pages // (LEAF * 256)))
        )
        return pages + tables - blocks + self.highest_floor(huge=True) - self.min

    def create_vm(self, name, pages, tag_base, *, limit=None, reservation=0, domain=0, shares=1000):
        self.promise(pages, reservation, limit)
        thick = self.config.provisioning == "thick"
        if thick and limit is not None and pages > limit:
            raise Refused
        vm = self.new_vm(name, pages, tag_base, 0, reservation, self.filling(pages) if thick else 0)
        vm.reservation, vm.domain, vm.shares = reservation, domain, shares
        self.set_limit(vm, limit)
        self.set_aside(vm)
        if thick:
            self.now = vm.now
            enough = self.populate(vm)
            vm.now = self.now
            self.arrive(vm)
            if not enough:
                self.destroy(vm)
                raise Refused
        return vm

    def set_aside(self, vm):
        if vm.reservation and not self.make_room(self.min, self.reached):
            self.destroy(vm)
            raise Refused

    def populate(self, vm):
        tables = (vm.pages // LEAF) * 33 // 32 + 3
        fits = self.memory.nr_free >= vm.pages + tables + self.high + self.aside(vm)
        self.providing, self.foretold = vm, True
        enough = (fits or self.could_free(vm.pages + self.min, vm)) and self.bring_in(vm)
        self.providing, self.foretold = None, False
        return enough

    def bring_in(self, vm):
        page = 0
        while page < vm.pages:
            if page % LEAF == 0:
                if self.zero_huge(vm, page):
                    page += LEAF
                    continue
                self.count["huge_missed"] += 1
            while self.classify(vm, page, False)[0] == "zero":
                if self.zero(vm, page) != OK:
                    return False
            page += 1
        return vm.charged >= vm.pages

    def promise(self, pages, reservation, limit):
        """Refused under commit='strict', unless all VMs and one more of so many pages can be filled."""
        if self.config.commit != "strict":
            return
        every = [(vm.pages, vm.reservation, vm.limit) for vm in self.vms.values()] + [(pages, reservation, limit)]
        total, slots = sum(size for size, _, _ in every), self.config.swap
        spare = self.config.provisioning != "thin"
        leaves = sum(-(-size // LEAF) for size, _, _ in every)
        frames = self.config.memory - self.min - self.usage()["fixed"] - -(-self.vm_bytes(pages) // PAGE) - leaves
        frames -= self.leaf_slab.most_frames(leaves + spare)
        frames -= self.directories.most_frames(sum(-(-size // (LEAF * 256)) for size, _, _ in every) + spare)
        frames -= self.backings.most_frames(min(total, slots))
        frames -= sum(min(kept, -(-size // LEAF)) + min(kept, -(-size // (LEAF * 256))) + kept // 128 + 5
                      for size, kept, _ in every if kept)  # fmt: skip
        beyond = sum(max(0, size - most) for size, _, most in every if most is not None)
        reserved = sum(kept for _, kept, _ in every)
        if total > max(0, frames) + slots or (beyond and total > slots) or (total > frames and frames < reserved + 32):
            raise Refused

    def clone(self, parent, name, tag_base):
        self.promise(parent.pages, parent.reservation, parent.limit)
        first = self.directories.frames_needed(len(parent.directory))
        pinned, secured = self.pinned_of(parent), bool(parent.directory)
        vm = self.new_vm(name, parent.pages, tag_base, first, parent.reservation, pinned, secured)
        vm.reservation, vm.domain = parent.reservation, parent.domain
        self.set_limit(vm, parent.limit)
        self.now = parent.now
        self.set_aside(vm)
        needed = self.directories.frames_needed(len(parent.directory))
        if (needed and not self.may_take(vm, needed)) or not self.directories.reserve(len(parent.directory)):
            self.destroy(vm)
            raise Refused
        self.keep_all(parent)
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
        self.foretold = True
        copied, vm.shares = self.copy_pinned(parent, vm), parent.shares
        self.foretold = False
        if not copied:
            self.destroy(vm)
            raise Refused
        vm.sequence = parent.sequence
        parent.now, vm.now = self.now, max(vm.now, self.now)
        self.arrive(parent, vm)
        return vm

    def pinned_of(self, parent):
        """Frames for copies of pinned pages, and of the leaves that have some."""
        leaves = [
            leaf
            for leaf in parent.leaves.values()
            if any(entry is not None and entry.present and entry.what.pinned for entry in leaf.entries)
        ]
        tables = len(leaves) + sum(leaf.huge for leaf in leaves) + self.leaf_slab.frames_needed(len(leaves))
        return self.nr_pinned(parent) + tables

    def copy_pinned(self, parent, child):
        """The child gets copies at once of pages that are pinned; whether there was room."""
        for region, leaf in sorted(parent.leaves.items()):
            for index in range(LEAF):
                entry = leaf.entries[index]
                if entry is None or not entry.present or not entry.what.pinned:
                    continue
                if child.leaves[region].shared:
                    needed = 1 + child.leaves[region].huge + self.leaf_slab.frames_needed(1)
                    if self.secure(child, 0, needed) != OK:
                        return False
                    self.spend("copy", self.costs["leaf_copy"])
                    self.copy_leaf(child, child.leaves[region])
                if self.secure(child, 1, 0) != OK:
                    return False
                self.break_cow(child, child.leaves[region], index, entry.what)
                self.count["clone_pinned_copied"] += 1
        return True

    def enter_directory(self, vm, region):
        if region >> 8 not in vm.directory:
            vm.directory.add(region >> 8)
            self.directories.take()

    def destroy(self, vm):
        self.entries += 1
        self.now = min(vm.now, self.reached)
        self.let_go(vm)
        for _ in vm.directory:
            self.directories.give(None)
        for first, order in vm.fixed:
            self.memory.give("fixed", first, order)
        vm.alive = False
        del self.vms[vm.name]
        if self.over:
            self.keep_limits()

    def let_go(self, vm):
        """It holds no leaf any more: first what others hold is left, then what nobody holds is emptied."""
        for region, leaf in sorted(vm.leaves.items()):
            if not leaf.shared:
                continue
            leaf.holders.remove(vm)
            del vm.leaves[region]
            for entry in leaf.entries:
                if entry is not None and entry.present and entry.what.payer is vm:
                    self.recharge(entry.what)
        for leaf in vm.leaves.values():
            leaf.holders.clear()
        for region, leaf in sorted(vm.leaves.items()):
            del vm.leaves[region]
            for index, entry in enumerate(leaf.entries):
                if entry is not None:
                    self.unmap(leaf, index)
            if not leaf.huge:
                self.memory.give("table", leaf.table)
            self.leaf_slab.give(leaf.number)
            del self.leaves[leaf.number]

    # ---- what VMs do

    def access(self, vm, pages, ops, sources=None):
        """(accesses done, why it stopped)"""
        began = vm.now
        found = self.serve_batch(vm, pages, ops, sources)
        vm.busy += vm.now - began
        if self.over:
            self.keep_limits()
        self.arrive(vm)
        return found

    def serve_batch(self, vm, pages, ops, sources=None, until=FOREVER, work=0):
        """Those that begin before `until`; after each the VM computes for `work`."""
        self.now, vm.outcome, done = vm.now, OK, 0
        for page, op in zip(pages, ops, strict=True):
            if self.now >= until:
                break
            hit = op in (READ, WRITE) and page in vm.cached
            if hit and op == WRITE:
                hit = vm.cached[page][1] and page // LEAF not in vm.revoked
            if not hit and op != DISCARD:
                vm.outcome = self.give_up(vm, page) if op == LAZY else self.serve(vm, page, op != READ)
                if vm.outcome != OK:
                    break
            self.spend("access", self.costs["hit"])
            self.store(vm, page, op, 0 if sources is None else sources[done])
            self.now += work
            done += 1
        vm.now = self.now
        return done, vm.outcome

    def serve(self, vm, page, write):
        """Touch a page on the VM's own account: what it waits for is its stall."""
        self.running = vm
        outcome = self.touch(vm, page, write)
        self.running = None
        return outcome

    def store(self, vm, page, op, source):
        self.count[("reads", "writes", "fills", "discards", "discards")[op]] += 1
        if op == WRITE:
            vm.sequence += 1
            word = word_of(page) * 8
            vm.cached[page][0].data[word : word + 8] = tag_of(vm.tag_base, vm.sequence).to_bytes(8, "little")
        elif op == FILL:
            vm.cached[page][0].data[:] = self.pages[source]

    def write(self, vm, address, data):
        """Bytes written; vm.outcome says why not all."""
        self.now, done, vm.outcome, began = vm.now, 0, OK, vm.now
        while done < len(data) and vm.outcome == OK:
            at = (address + done) % PAGE
            part = data[done : done + PAGE - at]
            vm.outcome = self.serve(vm, (address + done) // PAGE, True)
            if vm.outcome == OK:
                vm.cached[(address + done) // PAGE][0].data[at : at + len(part)] = part
                done += len(part)
        vm.busy += self.now - began
        if self.over:
            self.keep_limits()
        vm.now = self.now
        self.arrive(vm)
        return done

    def pin(self, vm, first, pages, pinned):
        """How many pages could be pinned, or unpinned."""
        self.now, done, began = vm.now, 0, vm.now
        for page in range(first, first + pages):
            vm.outcome = self.serve(vm, page, pinned)
            if vm.outcome != OK:
                break
            frame = vm.cached[page][0]
            before, frame.pinned = frame.pinned, pinned
            if pinned:
                self.order_out(frame)
                if not before and not self.keep_aside():
                    frame.pinned = False
                    self.order_in(frame)
                    vm.outcome = NO_FRAME
                    break
            else:
                self.order_in(frame)
            done += 1
        vm.busy += self.now - began
        if self.over:
            self.keep_limits()
        vm.now = self.now
        self.arrive(vm)
        return done

    def bytes_of(self, vm, page):
        """What the page holds, wherever it lies; None if it was never touched."""
        leaf = vm.leaves.get(page // LEAF)
        entry = leaf.entries[page % LEAF] if leaf else None
        return None if entry is None else bytes(entry.what.data)

    def run(self, streams, until=FOREVER):
        """Batches [(pages, ops, sources, work, due times)] per VM, side by side; the last two may be left out. Due times cut
        a batch into so many parts of one length. {vm: (done, reason)}."""
        until = -(-until // QUANTUM) * QUANTUM
        left = {vm: [part for batch in batches for part in parts(*batch)] for vm, batches in streams.items()}
        found = {vm: [0, "until"] for vm in streams}
        for vm in left:
            vm.began = vm.now = max(vm.now, self.reached)
        while left:
            at, _, turn = min(self.agenda(left))
            if at >= until:
                break
            self.reached = max(self.reached, at)
            if isinstance(turn, Vm):
                self.turn(turn, left, found, until)
                if self.over:
                    self.now = turn.now
                    self.keep_limits()
            else:
                turn()
            for vm in [vm for vm in left if not vm.alive]:
                found[vm][1] = "killed"
                del left[vm]
        for vm in left:
            self.stop(vm)
            vm.asleep_until = None
        last = until if left else max([self.reached, *(vm.now for vm in streams)])
        self.reached = max(self.reached, min(last, until))
        return {vm: tuple(value) for vm, value in found.items()}

    def stop(self, vm):
        """It has no work now, or none any more."""
        if vm.began is not None:
            vm.busy += vm.now - vm.began
        vm.began = None

    def agenda(self, left):
        """(when, the lower goes first, whose turn) of everybody who works."""
        yield from ((vm.now if vm.asleep_until is None else vm.asleep_until, 100 + vm.id, vm) for vm in left)
        if self.config.harvest_interval:
            yield self.next_harvest, 0, self.harvest_turn
        if self.awake:
            yield self.background, 1, self.background_turn
        if self.sharing and self.sharing.slice:
            yield self.sharing.next, 5, self.sharing.turn

    def turn(self, vm, left, found, until):
        """What begins before the end of the quantum, through all batches."""
        if vm.asleep_until is not None:
            self.wake(vm)
        limit = min(until, (vm.now // QUANTUM + 1) * QUANTUM)
        while vm.now < limit:
            while left[vm] and not left[vm][0].pages:
                del left[vm][0]
            if not left[vm]:
                found[vm][1] = "done"
                self.stop(vm)
                del left[vm]
                return
            part = left[vm][0]
            if not part.begun:
                part.begun = True
                if part.due is not None and part.due > vm.now:
                    self.stop(vm)
                    vm.asleep_until = part.due
                    if part.due >= limit:
                        return
                    self.wake(vm)
            if vm.waits_since != (self.changes(), self.entries):  # else what failed would fail again
                served, outcome = self.serve_batch(vm, part.pages, part.ops, part.sources, limit, part.work)
                part.drop(served)
                if not part.pages and part.due is not None:
                    vm.latencies.append(vm.now - part.due)
                found[vm][0] += served
                self.waits = 0 if served else self.waits
                vm.waits_since = None
                if outcome == OK:
                    continue
                vm.waits_since = (self.changes(), self.entries)
            self.find_no_memory(vm, left, found)
            return

    def wake(self, vm):
        """Its next part is due."""
        vm.began = vm.now = max(vm.now, vm.asleep_until)
        vm.asleep_until = None

    def find_no_memory(self, vm, left, found):
        if self.config.on_exhausted == "wait" and self.waits < 10_000:
            self.waits += 1
            self.count["waits"] += 1
            vm.stall += self.costs["wait_quantum"]
            vm.now += self.costs["wait_quantum"]
            return
        self.waits, vm.waits_since = 0, None
        if self.config.on_exhausted == "kill" and vm.outcome == NO_FRAME:
            self.count["kills"] += 1
            most = max(self.vms.values(), key=lambda vm: (max(0, vm.charged - vm.reservation), vm.charged, -vm.id))
            self.destroy(vm if most.charged <= most.reservation else most)
            return
        self.count["stops"] += 1
        found[vm][1] = vm.outcome
        self.stop(vm)
        del left[vm]

    def changes(self):
        """Grows with all that may let an access succeed that found no memory."""
        moved = ("reads", "writes", "fills", "discards", "reclaim_background", "harvested", "merges", "kills")
        return sum(self.count[name] for name in moved)

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
