"""The oracle: pages that were given up lazily."""

from oracle.parts import LEAF, OK


class Lazy:
    """Each VM's own in the order in which they were given up; part of an Oracle."""

    def begin_lazy(self):
        self.lazy_turn = self.lazy_end = 0
        self.lazy_count = dict.fromkeys(("marked", "kept", "freed", "released", "skipped"), 0)

    def lazy_events(self):
        count = self.lazy_count if self.lazy_count["marked"] + self.lazy_count["skipped"] else {}
        return {f"lazy_{name}": value for name, value in count.items()}

    def give_up(self, vm, page):
        """What a VM's lazy discard does to a page; OK, or what ran out."""
        held = self.entry_of(vm, page) is not None
        self.running = vm
        outcome, marked = self.give_up_page(vm, page)
        self.running = None
        if marked or (held and outcome == OK and self.entry_of(vm, page) is None):
            self.spend("balloon", self.costs["evict"])
        return outcome

    def entry_of(self, vm, page):
        leaf = vm.leaves.get(page // LEAF)
        return leaf.entries[page % LEAF] if leaf else None

    def give_up_page(self, vm, page):
        index = page % LEAF
        while True:
            leaf, entry = vm.leaves.get(page // LEAF), self.entry_of(vm, page)
            if entry is None or (entry.present and entry.what.pinned):
                return OK, False
            frame = entry.what if entry.present else None
            if frame is not None:
                own = len(frame.sites) == 1 and not frame.stable and not frame.is_zero_frame and not leaf.shared
                if not own or (frame.backing is not None and frame.backing.refs):
                    self.lazy_count["skipped"] += 1
                    return OK, False
                if not leaf.huge:
                    self.mark_lazy(leaf, index, frame)
                    return OK, True
            elif not leaf.shared:
                self.unmap(leaf, index)
                return OK, False
            evictions = self.evictions
            needed = 1 if frame is not None else 1 + leaf.huge + self.leaf_slab.frames_needed(1)
            outcome = self.secure(vm, 0, needed)
            if outcome != OK:
                return outcome, False
            if self.evictions != evictions:
                continue
            if frame is not None:
                self.split(leaf)
            else:
                self.spend("copy", self.costs["leaf_copy"])
                self.copy_leaf(vm, leaf)

    def mark_lazy(self, leaf, index, frame):
        leaf.entries[index].accessed = False
        self.drop_cached(leaf, index)
        if frame.lazy:
            return
        self.order_out(frame)
        frame.lazy = True
        frame.payer.lazy.append(frame)
        self.lazy_end = max(self.lazy_end, frame.payer.id + 1)
        self.lazy_count["marked"] += 1
        self.detach(frame)

    def lazy_ends(self, frame, how):
        if frame.lazy:
            frame.lazy = False
            frame.payer.lazy.remove(frame)
            self.lazy_count[how] += 1

    def keep(self, frame):
        """It is like any other from now on."""
        if frame.lazy:
            self.lazy_ends(frame, "kept")
            self.order_in(frame)

    def keep_all(self, vm):
        for frame in list(vm.lazy):
            self.keep(frame)

    def free_lazy(self, vm, want, keep):
        """About so many lazily freed pages of the VM go; how many did."""
        gone = 0
        while gone < want and vm.lazy and self.may_lose(vm, keep):
            frame = vm.lazy[0]
            self.count["reclaim_scanned"] += 1
            self.spend("reclaim", self.costs["reclaim_visit"])
            if self.referenced(frame):
                self.count["reclaim_spared_accessed"] += 1
                vm.lazy.append(vm.lazy.pop(0))
                continue
            self.spend("reclaim", self.costs["evict"])
            self.evictions += 1
            self.lazy_ends(frame, "freed")
            self.unmap(*next(iter(frame.sites)))
            gone += 1
        return gone

    def free_lazy_of_all(self, want):
        gone, vms = 0, {vm.id: vm for vm in self.vms.values()}
        for _ in range(self.lazy_end if any(vm.lazy for vm in vms.values()) else 0):
            if gone >= want:
                break
            vm, self.lazy_turn = vms.get(self.lazy_turn), (self.lazy_turn + 1) % self.lazy_end
            gone += self.free_lazy(vm, want - gone, vm.reservation) if vm else 0
        return gone
