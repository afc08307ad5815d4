"""The oracle: what an access does that is not a hit."""

from oracle.parts import LEAF, NO_FRAME, OK, PAGE, Entry, Frame
from oracle.reclaim import Reclaim


class Faults(Reclaim):
    """Faults by kind."""

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
        first, steps, huge = kind, 0, self.count["fault_huge"]
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
            first = "huge" if self.count["fault_huge"] != huge else first
            tally = self.faults.setdefault(first, [0, 0])
            tally[0] += 1
            tally[1] += self.now - began
        if write:
            self.keep(entry.what)
            self.detach(entry.what)
        region = page // LEAF
        if region in vm.revoked:
            vm.revoked.discard(region)
            for other in vm.cached:
                if other // LEAF == region:
                    vm.cached[other][1] = False
        if leaf.huge:
            leaf.huge_accessed = True
        entry.accessed = True
        clean = entry.what.backing is not None or entry.what.lazy
        vm.cached[page] = [entry.what, entry.writable and not leaf.shared and not clean]
        return OK

    def step(self, vm, page, write, kind, leaf, entry):
        evictions = self.evictions
        index = page % LEAF
        if write and leaf is not None and leaf.shared:
            needed = 1 + leaf.huge + self.leaf_slab.frames_needed(1)
            outcome = self.secure(vm, 0, needed)
            if outcome != OK or self.evictions != evictions:
                return outcome
            self.spend("copy", self.costs["leaf_copy"])
            return self.copy_leaf(vm, leaf)
        if kind == "zero":
            return self.zero(vm, page, write)
        if kind == "reuse":
            self.unshare(entry.what)
            entry.writable = True
        elif kind == "cached":
            frame, entry.what.refs = entry.what.frame, entry.what.refs - 1
            frame.sites.add((leaf, index))
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

    def zero(self, vm, page, write=True):
        evictions = self.evictions
        if self.zeros is not None and not write:
            outcome = OK if page // LEAF in vm.leaves else self.secure(vm, 0, self.frames_to_reach(vm, page))
            if outcome != OK or self.evictions != evictions:
                return outcome
            leaf = self.reach(vm, page)
            leaf.entries[page % LEAF] = Entry(self.zeros)
            self.zeros.sites.add((leaf, page % LEAF))
            self.count["fault_zero_read"] += 1
            return OK
        if self.config.provisioning == "thin-huge" and page // LEAF not in vm.leaves:
            if self.zero_huge(vm, page):
                return OK
            self.count["huge_missed"] += 1
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
        room = self.memory.nr_free - self.high - 2 - self.aside(vm)
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
        self.spend(*("zero", self.costs["zero_page"]) if shared is self.zeros else ("copy", self.costs["copy_page"]))
        shared.sites.remove((leaf, index))
        self.drop_cached(leaf, index)
        self.count["cow_breaks_shared"] += shared.stable or (shared.is_zero_frame and shared is not self.zeros)
        self.recharge(shared)
        self.map(vm, leaf, index, copy, True)

    def bring_back(self, vm, leaf, index, backing):
        frame, began = self.take_guest(backing.data), self.now
        if backing.slot is None:
            self.spend("zero", self.costs["zero_page"])
        else:
            self.spend("swap", self.costs["swap_submit"])
            self.now = max(self.now, self.device.read(self.now))
            self.count["swap_pages_in"] += 1
            self.stalled(began)
        backing.refs -= 1
        self.map(vm, leaf, index, frame, backing.refs == 0, backing.number)
        if backing.refs or (backing.slot is not None and len(self.slots.taken) <= self.slots.slots // 2):
            backing.frame, frame.backing = frame, backing
        else:
            self.release(backing)
