"""The oracle: how frames come back."""

from fractions import Fraction

from oracle.mapping import Mapping
from oracle.parts import CLUSTER, LEAF, LIMITED, NO_FRAME, OK, PAGE, SWAP_BATCH, Backing, Entry, same_filled


class Reclaim(Mapping):
    """Watermarks, the harvest of accessed marks, eviction to swap."""

    def could_free(self, frames, but=None):
        """Would so many frames be free, beside what is set aside, whichever of those pages go first that may?"""
        found, dirty, wasted, records = self.memory.nr_free, 0, 0, 0
        slots = self.slots.slots - len(self.slots.taken) if self.slots else 0
        for vm in self.vms.values():
            mine = [frame for frame in self.frames.values() if frame.payer is vm and (frame.ordered or frame.lazy)]
            if vm is self.providing:
                mine = []
            kept = [frame for frame in mine if frame.backing is None and not frame.lazy]
            clean, same = len(mine) - len(kept), sum(self.is_value(frame.data) for frame in kept)
            huge = {id(leaf) for frame in mine for leaf, _ in frame.sites if leaf.huge}
            loose, hard = max(0, vm.charged - vm.reservation), len(mine) - clean - same
            easy = min(clean + same, loose)
            found += easy - min(len(huge), easy + min(hard, loose - easy))
            dirty += min(hard, loose - easy)
            wasted += min(hard, loose) - min(hard, loose - easy)
            records += min(same, loose)
        dirty = min(dirty, max(0, slots - wasted))
        records += dirty
        beyond = max(0, records - self.backings.room()) if self.backings.most is not None else 0
        found += dirty - beyond - self.backings.frames_needed(records - beyond)
        return found >= frames + self.aside(but, gone=True)

    def make_room(self, frames, now):
        """For an admission, on the background reclaimer's time: whether so many are free beside what is set aside."""
        if self.memory.nr_free >= frames + self.aside():
            return True
        if not self.could_free(frames):
            return False
        caller, self.now = self.now, max(self.background, now)
        self.foretold = True
        enough = self.direct(frames)
        self.foretold = False
        self.now, self.background = caller, self.now
        return enough

    def could_take(self, frames, secured=False):
        """Can so many be had for tables? `secured`: asked for as a fault does, which wakes the background reclaimer."""
        level = self.min if not secured else max(self.high if self.awake else self.low, self.floor())
        return self.memory.nr_free >= frames + level + self.aside() or self.could_free(frames + self.min)

    def keep_aside(self):
        """What is set aside is there, or can be had."""
        if not self.aside() or self.memory.nr_free >= self.min + self.aside():
            return True
        return self.could_free(self.min) and self.direct(self.min)

    def may_take(self, vm, tables):
        return self.could_take(tables, True) and self.secure(vm, 0, tables) == OK

    def keep_limits(self):
        """Pages of VMs that were left more than their limit go."""
        self.over = False
        caller, self.now = self.now, max(self.background, self.now)
        for vm in sorted(self.vms.values(), key=lambda vm: vm.id):
            while vm.limit is not None and vm.charged > vm.limit:
                if not self.shrink_own(vm, vm.charged - vm.limit):
                    self.count["limit_unmet"] += vm.charged - vm.limit
                    break
        self.now, self.background = caller, self.now

    def secure(self, vm, guest, tables):
        if self.over:
            self.keep_limits()
        if guest and vm.limit is not None:
            began = self.now
            while vm.charged + guest > vm.limit:
                gone = self.shrink_own(vm, max(min(CLUSTER, vm.limit // 8), vm.charged + guest - vm.limit))
                self.count["reclaim_limit"] += gone
                if not gone:
                    break
            self.stalled(began)
            if vm.charged + guest > vm.limit:
                self.count["exhausted_limit"] += 1
                return LIMITED
        if self.memory.nr_free >= guest + tables + max(self.low, self.floor()) + self.aside(vm) and not self.awake:
            return OK
        self.catch_up()
        while self.memory.nr_free < guest + tables + self.floor() + self.aside(vm):
            if not self.direct(guest + tables + self.floor(), vm):
                self.count["exhausted_no_frame"] += 1
                self.count["reservation_unmet"] += bool(guest and vm.charged < vm.reservation)
                return NO_FRAME
        return OK

    def floor(self):
        """What no allocation gets: min, or what reclaim itself needs for a record and to split a huge leaf."""
        huge = any(leaf.huge for leaf in self.leaves.values())
        return max(self.min, (self.backings.frames_needed(1) == 1) + huge)

    def highest_floor(self, huge):
        """The same, whatever goes meanwhile."""
        grows = self.backings.most is None or self.backings.room() > 0
        return max(self.min, grows + huge)

    def stalled(self, began):
        """The running VM waited for memory."""
        if self.running is not None:
            self.running.stall += self.now - began

    def direct(self, frames, vm=None):
        began, aside, enough = self.now, self.aside(vm), True
        while self.memory.nr_free < frames + aside:
            missing = frames + aside - self.memory.nr_free
            gone = self.shrink(max(missing, CLUSTER))
            self.count["reclaim_direct"] += gone
            more = self.aside(vm)
            if not gone or (not self.foretold and more > aside and frames + more >= self.memory.nr_free + missing):
                enough = False
                break
            aside = more
        self.stalled(began)
        return enough

    def catch_up(self):
        now = self.now
        while self.config.harvest_interval and self.next_harvest <= now:
            self.harvest_turn()
        if not self.awake and self.memory.nr_free < self.low + self.aside() and now >= self.background:
            self.awake, self.background = True, now
        while self.awake and self.background <= now:
            self.background_turn()
        self.now = now

    def background_turn(self):
        """A batch of the background reclaimer; it sleeps at the high watermark, or when nothing goes."""
        self.now = self.background
        gone = self.shrink(CLUSTER)
        self.count["reclaim_background"] += gone
        if not gone:
            self.now += self.costs["wait_quantum"]
        self.awake = gone > 0 and self.memory.nr_free < self.high + self.aside()
        self.background = self.now

    def harvest_now(self):
        self.entries += 1
        self.harvest()

    def harvest_turn(self):
        self.next_harvest += self.config.harvest_interval
        self.harvest()

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

    def unmark(self, number):
        """The order moves this page between its lists. That of a VM is told of the mark, as that of all is below."""
        if self.unmark_frame(self.frames[number]):
            self.tell_own(self.frames[number], "touch")

    def unmark_own(self, vm, place):
        frame = next(frame for frame in self.frames.values() if frame.payer is vm and frame.place == place)
        if self.unmark_frame(frame):
            self.order.touch(frame.number)

    def unmark_frame(self, frame):
        self.count["reclaim_scanned"] += 1
        self.spend("reclaim", self.costs["reclaim_visit"])
        return self.referenced(frame)

    def shrink(self, want):
        """Evict about `want` pages, anyone's; how many went."""
        patience, gone, insisted = 2 * sum(frame.ordered for frame in self.frames.values()) + CLUSTER, 0, None
        spared = self.count["reclaim_spared_reserved"]
        gone = self.free_lazy_of_all(want)
        if self.config.victims == "shares":
            patience, gone = 0, gone + (self.by_shares(want - gone) if gone < want else 0)
        self.order.pass_time(self.now)
        while (gone < want or self.order.goes_on(self.unmark)) and patience > 0:
            patience -= 1
            number = self.order.choose(self.unmark)
            if number is None:
                break
            frame = self.frames[number]
            self.count["reclaim_scanned"] += 1
            self.spend("reclaim", self.costs["reclaim_visit"])
            reserved = not self.may_lose(frame.payer, frame.payer.reservation)
            if frame.isolated or reserved:
                self.count["reclaim_spared_reserved"] += reserved and not frame.isolated
                self.order.spare(number)
                if frame.isolated:
                    self.tell_own(frame, "spare")
                continue
            if frame is not insisted and self.referenced(frame):
                self.count["reclaim_spared_accessed"] += 1
                insisted = frame
                self.touch_order(frame)
                continue
            gone += self.evict_or_isolate(frame)
            gone += self.flush() if self.batch and len(self.batch) >= self.written_at(want, gone) else 0
        gone += self.flush() if self.batch else 0
        if gone:
            return gone
        used_too = self.count["reclaim_spared_reserved"] == spared
        # the order may have named those alone that cannot go
        for vm in sorted(self.vms.values(), key=lambda vm: vm.id):
            gone += self.shrink_vm(vm, want - gone, 0, vm.reservation, used_too) if gone < want else 0
        return gone

    def by_shares(self, want):
        """The same, of whoever pays least for a frame, 32 at a time, of those that have more than is reserved or pinned."""
        gone, passed = 0, set()
        while gone < want:
            may = [vm for vm in self.vms.values() if vm.charged > max(vm.reservation, self.nr_pinned(vm))]
            may = [vm for vm in may if vm not in passed]
            if not may:
                break
            least = min(may, key=lambda vm: (Fraction(vm.shares, vm.charged), vm.id))
            freed = self.shrink_vm(least, min(want - gone, CLUSTER), 0, least.reservation)
            passed |= set() if freed else {least}
            gone += freed
        return gone

    def shrink_own(self, vm, want):
        """The same of the pages of a VM at its limit, as its own order names them."""
        patience, gone, insisted = (
            2 * sum(frame.place is not None and frame.payer is vm for frame in self.frames.values()),
            0,
            None,
        )
        patience += CLUSTER
        gone = self.free_lazy(vm, want, 0)
        vm.order.pass_time(self.now)
        marks = lambda place: self.unmark_own(vm, place)  # noqa: E731
        while (gone < want or vm.order.goes_on(marks)) and patience > 0 and self.may_lose(vm, 0):
            patience -= 1
            place = vm.order.choose(marks)
            if place is None:
                break
            frame = next(frame for frame in self.frames.values() if frame.payer is vm and frame.place == place)
            self.count["reclaim_scanned"] += 1
            self.spend("reclaim", self.costs["reclaim_visit"])
            if frame.isolated:
                self.spare(frame)
                continue
            if frame is not insisted and self.referenced(frame):
                self.count["reclaim_spared_accessed"] += 1
                insisted = frame
                self.touch_order(frame)
                continue
            gone += self.evict_or_isolate(frame)
            gone += self.flush() if self.batch and len(self.batch) >= self.written_at(want, gone) else 0
        gone += self.flush() if self.batch else 0
        return gone or self.shrink_vm(vm, want, 0, 0, True)

    def written_at(self, want, gone):
        """So many isolated pages are written at once."""
        return min(SWAP_BATCH, want - gone) if gone < want else CLUSTER

    def may_lose(self, vm, keep):
        leaving = sum(frame.payer is vm for frame in self.batch)
        return vm.charged - leaving > keep and vm is not self.providing

    def shrink_vm(self, vm, want, min_age, keep, used_too=False):
        """Evict about `want` pages that this VM pays for, by its own hand, two rounds at most; leave it `keep`. Or
        whatever can go, used or not, in one."""
        left, page = (1 if used_too else 2) * vm.pages, vm.hand if vm.hand < vm.pages else 0
        gone = self.free_lazy(vm, want, keep)
        while gone < want and left > 0 and self.may_lose(vm, keep):
            leaf = vm.leaves.get(page // LEAF)
            step = 1 if leaf else min(LEAF - page % LEAF, vm.pages - page)
            entry = leaf.entries[page % LEAF] if leaf else None
            left, page = left - step, (page + step) % vm.pages
            frame = entry.what if entry is not None and entry.present else None
            if frame is None or frame.payer is not vm or not frame.ordered or frame.isolated:
                continue
            self.count["reclaim_scanned"] += 1
            self.spend("reclaim", self.costs["reclaim_visit"])
            if not used_too and self.referenced(frame):
                self.count["reclaim_spared_accessed"] += 1
                self.touch_order(frame)
                continue
            if not used_too and (0 if frame.touched else frame.age) < min_age:
                continue
            gone += self.evict_or_isolate(frame)
            if len(self.batch) == SWAP_BATCH or (self.batch and gone + len(self.batch) >= want):
                gone += self.flush()
        vm.hand = page
        return gone + (self.flush() if self.batch else 0)

    def is_value(self, data):
        """Whether a page goes as a value, and not to swap."""
        return data == bytes(PAGE) if self.config.same_filled == "zero" else same_filled(data)

    def evict_or_isolate(self, frame):
        leaf, _ = next(iter(frame.sites))
        if leaf.huge:
            if self.memory.nr_free == 0:
                self.spare(frame)
                return 0
            self.split(leaf)
        self.evictions += 1
        if frame.backing is not None:
            return self.evict(frame, frame.backing, "clean")
        if not self.backings.reserve(len(self.batch) + 1):
            self.count["reject_backing_frame"] += 1
            self.spare(frame)
            return 0
        self.spend("reclaim", self.costs["same_filled"])
        if self.is_value(frame.data):
            return self.evict(frame, Backing(self.backings.take(), bytes(frame.data), None), "same")
        self.spare(frame)
        if self.slots is not None and len(self.slots.taken) + len(self.batch) >= self.slots.slots:
            self.count["reject_swap_full"] += 1
            self.count["evict_failed"] += 1
        elif self.slots is not None:
            frame.isolated = True
            self.batch.append(frame)
        return 0

    def evict(self, frame, backing, how):
        self.spend("reclaim", self.costs["evict"])
        self.count["evicted"] += 1
        self.count["evicted_" + how] += 1
        frame.backing = backing.frame = None
        vm = frame.payer
        page = min((leaf.region * LEAF + index for leaf, index in frame.sites if vm in leaf.holders), default=None)
        for leaf, index in frame.sites:
            leaf.entries[index] = Entry(backing)
            self.drop_cached(leaf, index)
            backing.refs += 1
        frame.sites.clear()
        if frame.ordered:
            frame.ordered = False
            self.order.take(frame.number, backing.number)
            if frame.place is not None:
                if page in vm.left:
                    vm.order.forget_key(page)
                vm.left.add(page)
                vm.order.take(frame.place, page)
                self.leave_place(frame)
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
            self.evict(frame, Backing(self.backings.take(), bytes(frame.data), slot), "swap")
            self.count["swap_pages_out"] += 1
        self.count["evict_failed"] += len(batch) - len(got)
        return len(got)

    def lower(self, vm, limit):
        """The VM's limit is this from now on; what it has beyond that goes at once. How many."""
        self.set_limit(vm, limit)
        beyond = 0 if limit is None else max(0, vm.charged - limit)
        if beyond:
            self.entries += 1
            self.now = max(self.background, vm.now)
            beyond = self.shrink_own(vm, beyond)
            self.count["reclaim_limit"] += beyond
            self.background = self.now
        return beyond

    def reclaim_from(self, vm, pages):
        self.entries += 1
        self.now = max(self.background, vm.now)
        age = 127
        while age and sum(each >= age for each in vm.ages) < pages:
            age -= 1
        gone = self.shrink_vm(vm, pages, age, vm.reservation) if pages else 0
        self.count["reclaim_proactive"] += gone
        self.background = self.now
        return gone
