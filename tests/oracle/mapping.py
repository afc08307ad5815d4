"""The oracle: who maps what, and who pays for it."""

from oracle.lazy import Lazy
from oracle.parts import LEAF, OK, Entry, Frame, Leaf


class Mapping(Lazy):
    """Entries, frames, backings and leaves, changed together."""

    def mappers(self, frame):
        return {vm for leaf, _ in frame.sites for vm in leaf.holders}

    def aside(self, but=None, gone=False):
        """Frames that stay free for what VMs, but for one, do not hold yet of their reservations, less what others can be
        made to give back; `gone`: if they had given back all."""
        lack = [(vm, vm.reservation - vm.charged) for vm in self.vms.values() if vm.charged < vm.reservation]
        lack = [(vm, pages) for vm, pages in lack if vm is not but]
        pages = sum(pages for _, pages in lack)
        missing = pages + pages // 128 + 4 * len(lack) + sum(self.tables_of(vm, pages) for vm, pages in lack)
        if not lack or gone or not self.slots:
            return missing
        loose = sum(max(0, vm.charged - max(vm.reservation, self.nr_pinned(vm))) for vm in self.vms.values())
        loose -= min(loose, sum(leaf.huge for leaf in self.leaves.values()))
        return max(0, missing - min(loose, self.slots.slots - len(self.slots.taken)))

    def nr_pinned(self, vm):
        return sum(frame.pinned and frame.payer is vm for frame in self.frames.values())

    def tables_of(self, vm, pages):
        """Tables that so many pages of a VM may take: leaf tables, directory pages."""
        leaves = -(-vm.pages // LEAF)
        return min(pages, leaves) + min(pages, -(-leaves // 256))

    def charge(self, frame, vm):
        if frame.payer is not None:
            frame.payer.charged -= 1
            self.part(frame)
        frame.payer = vm
        if vm is not None:
            vm.charged += 1
            self.join(frame)

    def recharge(self, frame):
        """Whoever pays must map the frame; else the lowest VM that does, and has room, takes over; or the lowest of all."""
        mappers = self.mappers(frame)
        if frame.is_zero_frame or frame.payer in mappers:
            return
        with_room = [vm for vm in mappers if vm.limit is None or vm.charged < vm.limit]
        if mappers and not with_room:
            self.count["charged_over_limit"] += 1
            self.over = True
        self.charge(frame, min(with_room or mappers, key=lambda vm: vm.id, default=None))

    def drop_cached(self, leaf, index):
        for vm in leaf.holders:
            vm.cached.pop(leaf.region * LEAF + index, None)

    def drop_region(self, vm, region):
        for page in [page for page in vm.cached if page // LEAF == region]:
            del vm.cached[page]

    # ---- the order of all pages, and that of the pages of a VM with a limit

    def join(self, frame, page=None):
        """Into the order of who pays; `page`: of that VM, as which it comes back."""
        vm = frame.payer
        if frame.ordered and vm is not None and vm.order is not None:
            frame.place = vm.places.pop()
            vm.left.discard(page)
            vm.order.insert(frame.place, page)

    def part(self, frame):
        if frame.place is not None:
            frame.payer.order.forget(frame.place)
            self.leave_place(frame)

    def leave_place(self, frame):
        frame.payer.places.append(frame.place)
        frame.place = None

    def tell_own(self, frame, what):
        if frame.place is not None:
            getattr(frame.payer.order, what)(frame.place)

    def touch_order(self, frame):
        if frame.ordered:
            self.order.touch(frame.number)
            self.tell_own(frame, "touch")

    def spare(self, frame):
        self.order.spare(frame.number)
        self.tell_own(frame, "spare")

    def set_limit(self, vm, limit):
        """Who can reach its limit has an order of its own, which begins with its coldest pages."""
        vm.limit = limit
        if limit is None or limit > vm.pages:
            for frame in self.frames.values():
                frame.place = None if frame.payer is vm else frame.place
            vm.order = None
        elif vm.order is None:
            vm.order, vm.places, vm.left = self.make_order(limit), list(range(vm.pages - 1, -1, -1)), set()
            mine = {frame: page for page, frame in self.frames_of(vm) if frame.payer is vm and frame.ordered}
            for frame in sorted(mine, key=lambda frame: (0 if frame.touched else -frame.age, mine[frame])):
                self.join(frame)

    def frames_of(self, vm):
        """(page, frame) from the last page to the first."""
        for region, leaf in sorted(vm.leaves.items(), reverse=True):
            for index in range(LEAF - 1, -1, -1):
                entry = leaf.entries[index]
                if entry is not None and entry.present:
                    yield region * LEAF + index, entry.what

    def order_in(self, frame, key=None, page=None):
        if not (frame.ordered or frame.pinned or frame.is_zero_frame):
            frame.ordered = True
            self.order.insert(frame.number, key)
            self.join(frame, page)

    def order_out(self, frame):
        self.lazy_ends(frame, "released")
        if frame.ordered:
            self.order.forget(frame.number)
            self.part(frame)
            frame.ordered = False

    def take_guest(self, data):
        number = self.memory.take("guest")
        self.frames[number] = Frame(number, bytearray(data))
        return self.frames[number]

    def map(self, vm, leaf, index, frame, writable, key=None):
        frame.sites.add((leaf, index))
        self.charge(frame, vm)
        leaf.entries[index] = Entry(frame, writable)
        self.order_in(frame, key, None if key is None else leaf.region * LEAF + index)

    def release(self, backing):
        if backing.slot is not None:
            self.slots.give(backing.slot)
        self.order.forget_key(backing.number)
        self.backings.give(backing.number)

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
        entry.what.sites.remove((leaf, index))
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
                entry.what.sites.add((new, index))
            else:
                entry.what.refs += 1
        self.drop_region(vm, old.region)
        self.count["leaf_copies"] += 1
        return OK
