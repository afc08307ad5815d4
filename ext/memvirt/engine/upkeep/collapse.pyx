"""Collapse: small leaf tables become huge ones in the background, as Linux's khugepaged does.

    the 512 frames are one aligned block already       in place: the table goes, nothing moves
    they are private, in memory and may move           copied into a free 2 MiB block first, if there is one
    anything else                                      stays small

Private: named by this one entry, not merged, without a clean copy in a store; an entry that maps nothing, a page that
is out, a pinned page and one that was given up lazily keep the leaf small too (Linux fills up to max_ptes_none holes with
zeros; here none). A leaf that several VMs hold may become huge: that shares as well as a small one.

A block is taken only from what lies above the low watermark: this must not wake reclaim. A leaf that found no block is
counted as missed, and that is what sets off compaction where the host has a threshold for it.

Cost: CPU_COMPACT, costs.move_page for each page copied; looking is free of charge.
"""

from ..agenda cimport FOREVER
from ..counters cimport CPU_COMPACT
from ..memory.frames cimport FRAME_GUEST, FRAME_ISOLATED, FRAME_LAZY, FRAME_PINNED, FRAME_STABLE, FRAME_ZERO, Frame
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Leaf
from ..types cimport HUGE_ORDER, LEAF_ENTRIES, NONE, NONE16, OK, hfn_t, int64_t


cdef class Collapser:
    """Promotes the leaves of one host. interval_ns: simulated; 0: only when asked."""

    def __cinit__(self, Mapping mapping not None, int64_t interval_ns=0):
        self.mapping = mapping
        self.frames = mapping.frames
        self.leaves = mapping.leaves
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.share = LEAVES_PER_WAKE
        self.pause_ns = interval_ns

    cdef int64_t rest(self) noexcept nogil:
        return self.now_ns + self.pause_ns if self.pause_ns else FOREVER

    cdef uint32_t work(self, uint32_t nr_leaves) except? 0xFFFFFFFF nogil:
        """Look at that many leaves from the cursor on (all of them once: NONE); how many became huge."""
        cdef uint32_t end = self.leaves.records.end(), _step, done = 0, seen = 0
        if nr_leaves == NONE:
            self.cursor = 0
        for _step in range(end):
            if seen == nr_leaves or self.clock.interrupt.asked():
                break
            if self.cursor >= end:
                self.cursor = 0
            if self.leaves.at(self.cursor).used:
                seen += 1
                done += self._try(self.cursor)
            self.cursor += 1
        return done

    cdef bint copyable(self, leaf_t id) noexcept nogil:
        """True if the 512 pages are private, in memory and free to move."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef Frame *record
        cdef uint32_t i
        if leaf.entries == NULL or leaf.live != LEAF_ENTRIES:
            return False
        for i in range(LEAF_ENTRIES):
            if not leaf.entries[i] & PTE_PRESENT:
                return False
            record = &self.frames.frame[leaf.entries[i] & PTE_WHERE]
            if (record.refs != 1 or record.backing != NONE
                    or record.flags & (FRAME_STABLE | FRAME_ZERO | FRAME_PINNED | FRAME_ISOLATED | FRAME_LAZY)):
                return False
        return True

    cdef bint _try(self, leaf_t id) except? True nogil:
        """Make this leaf huge if it can be; whether it is now."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef uint32_t i
        cdef hfn_t base, source
        if self.mapping.tables.collapsible(id):
            self.mapping.tables.collapse(id)
            return True
        if not self.copyable(id):
            return False
        if self.frames.take(HUGE_ORDER, FRAME_GUEST, self.frames.low_pages + self.mapping.charges.aside(NONE16),
                            &base) != OK:
            self.meter.ev.collapse_missed += 1
            return False
        for i in range(LEAF_ENTRIES):
            source = leaf.entries[i] & PTE_WHERE
            self.frames.content.copy(base + i, source)
            self.mapping.move(source, base + i)
        self.clock.spend(CPU_COMPACT, LEAF_ENTRIES * self.clock.costs.move_page)
        self.meter.ev.collapse_copied += 1
        self.mapping.tables.collapse(id)
        return True
