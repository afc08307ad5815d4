"""The oracle: page sharing."""

from oracle.parts import FOREVER, LEAF, PAGE, Entry, Frame


class Sharing:
    """Page sharing over an Oracle's frames, with the scanner that walks them in order."""

    def __init__(self, oracle):
        self.oracle, self.now, self.cursor, self.index = oracle, 0, 0, {}
        self.zero = Frame(oracle.memory.take("fixed"), bytes(PAGE))
        self.zero.is_zero_frame = True
        cells = 16
        while cells < oracle.config.memory + oracle.config.memory // 2:
            cells *= 2
        table = cells * 8 if oracle.config.sharing == "hash" else 0
        oracle.take_fixed(table + oracle.config.memory * 8)  # and a time per frame
        options = oracle.config.sharing_options
        self.slice, self.sleep_ns, self.next = options["pages_to_scan"], options["sleep_ns"], 0
        self.bound = options.get("max_page_sharing", 0) or FOREVER
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
        """Look at so many pages, at most to the end of memory, or at all from its start; how many were merged."""
        looked, merged, oracle = 0, 0, self.oracle
        if pages == FOREVER:
            self.cursor = 0
        while looked < pages:
            if self.cursor == 0:
                self.index, self.met = {}, False
                for _, frame in sorted(oracle.frames.items()):
                    if frame.stable:
                        self.index.setdefault(self.key(frame), []).append(frame.number)
            frame = oracle.frames.get(self.cursor)
            if frame is not None and not frame.pinned:
                looked += 1
                self.scanned += 1
                self.met = True
                oracle.spend("scan", oracle.costs["scan_visit"])
                merged += self.visit(frame)
            self.cursor += 1
            if self.cursor == oracle.config.memory:
                self.cursor = 0
                self.full += self.met  # a pass in which no page was there is none
                break
        return merged

    def scan_now(self, pages=FOREVER):
        self.oracle.entries += 1
        self.oracle.now = max(self.now, self.oracle.reached)
        merged = self.scan(pages)
        self.now = self.oracle.now
        self.next = max(self.next, self.now)
        return merged

    def turn(self):
        """As an actor: a slice, then a pause."""
        self.oracle.now = self.next
        self.scan(self.slice)
        pause = max(self.sleep_ns, 1)
        if self.oracle.now == self.next:  # there was nothing to look at
            pause = max(pause, self.oracle.costs["wait_quantum"])
        self.now = self.oracle.now
        self.next = self.now + pause

    def visit(self, frame):
        if frame.stable:
            return False
        self.oracle.spend("scan", self.oracle.costs["same_filled"])
        if not any(frame.data):
            return self.merge(frame, self.zero)
        if self.oracle.config.sharing == "zero-only":
            return False
        self.oracle.spend("scan", self.oracle.costs["hash_page"])
        known = self.index.setdefault(self.key(frame), [])
        for number in known:
            other = self.oracle.frames.get(number)
            if other is frame:
                return False
            if other is not None and not other.pinned and len(frame.sites) + len(other.sites) <= self.bound:
                self.oracle.spend("scan", self.oracle.costs["compare_page"])
                if self.key(frame) == self.key(other):
                    return self.merge(frame, other)
                self.false_matches += 1
        known.append(frame.number)
        return False

    def merge(self, duplicate, kept):
        oracle = self.oracle
        huge = [leaf for frame in (duplicate, kept) for leaf, _ in frame.sites if leaf.huge]
        if kept.is_zero_frame:
            huge = [leaf for leaf, _ in duplicate.sites if leaf.huge]
        if huge and oracle.memory.nr_free < len(huge) + oracle.min:
            self.put_off += 1
            return False
        for leaf in huge:
            if leaf.huge:
                oracle.split(leaf)
        oracle.keep(kept)
        for leaf, index in kept.sites if not kept.is_zero_frame else ():
            leaf.entries[index].writable = False
            for vm in leaf.holders:
                if leaf.region * LEAF + index in vm.cached:
                    vm.cached[leaf.region * LEAF + index][1] = False
        kept.stable = not kept.is_zero_frame
        for leaf, index in duplicate.sites:
            oracle.drop_cached(leaf, index)
            leaf.entries[index] = Entry(kept)
            kept.sites.add((leaf, index))
        duplicate.sites.clear()
        oracle.count["merges"] += 1
        oracle.count["merges_zero"] += kept.is_zero_frame
        oracle.free_frame(duplicate)
        oracle.spend("scan", oracle.costs["merge"])
        return True
