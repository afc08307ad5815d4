"""What all page-sharing scanners have in common: a slice of work at a time, an actor's clock, and hints.

Hints, after XLH (Miller et al., USENIX ATC 2013): equal pages are mostly file contents, which arrive from a device, whole
and at a known moment, while the scan in order comes by much later. So the share index remembers which frames' content
has just arrived, and a scanner that has `hints` looks at those first, the oldest arrival first. At most half of a slice
goes to them: under a flood of arrivals the scan in order, which alone finds what was written, still gets on.
"""

from ..agenda cimport FOREVER
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Look
from ..simtime cimport Actor
from ..mapping.listener cimport Listener
from .shareindex cimport ShareIndex
from ..types cimport LEAF_ENTRIES, NONE, gfn_t, hfn_t, int64_t, uint32_t, vmid_t


cdef class Scanner(Listener):
    """Base of the scanners. Beside the VMs it looks at `pages_to_scan` pages, then sleeps `sleep_ns`."""

    def __init__(self, ShareIndex index not None, uint32_t pages_to_scan=100, int64_t sleep_ns=20_000_000,
                 bint hints=False):
        self.index = index
        self.clock = index.clock
        self.pages_to_scan = pages_to_scan
        self.sleep_ns = sleep_ns
        self.hints = hints
        if hints:
            self.index.use_recent()

    cdef uint32_t scan(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        """Nothing to look at."""
        return 0

    cdef bint visit(self, hfn_t frame, uint32_t *looked) except? True nogil:
        return False

    cdef uint32_t follow_hints(self, uint32_t pages, uint32_t *looked) except? 0xFFFFFFFF nogil:
        """Arrivals first; a frame that is no page any more costs nothing."""
        cdef uint32_t merged = 0
        cdef hfn_t frame = NONE
        if self.hints and pages > 1:
            frame = self.index.next_recent()
        while frame != NONE:
            merged += self.visit(frame, looked)
            frame = self.index.next_recent() if looked[0] < pages / 2 else NONE
        self.hints_followed += looked[0]
        return merged

    cdef void forget_vm(self, vmid_t vm) noexcept nogil:
        pass

    cdef hfn_t frame_at(self, vmid_t vm, gfn_t gfn, gfn_t *next) noexcept nogil:
        """One step of a walk over a VM's memory in address order; the frame may be merged or shared by a clone."""
        cdef Look at
        next[0] = gfn + 1
        if not self.index.mapping.leaves.look(vm, gfn, &at):
            next[0] = (gfn / LEAF_ENTRIES + 1) * LEAF_ENTRIES
        return at.entry & PTE_WHERE if at.entry & PTE_PRESENT else NONE

    def metadata_bytes(self):
        """What this scanner keeps at a fixed size; charged to the host when it is created."""
        return 0

    def metadata_bytes_of(self, uint32_t nr_pages):
        """The same for a VM of `nr_pages` pages, when that is created."""
        return 0

    def metadata_frames(self):
        """Frames it has taken since, for structures that grow."""
        return 0

    def most_frames(self, sizes):
        """The most that these can come to, with VMs and snapshots of so many pages each; never less than they are now."""
        return self.metadata_frames()

    def counters(self):
        """What this scanner counts for itself; pages merged and saved are the host's to say."""
        return {"pages_scanned": self.pages_scanned, "full_scans": self.full_scans}

    def check(self):
        """Recount derived state; InvariantError on the first difference."""


cdef class Scanning(Actor):
    """The actor of one scanner."""

    def __cinit__(self, Scanner scanner not None):
        self.scanner = scanner
        self.clock = scanner.clock
        self.share = scanner.pages_to_scan

    cdef int64_t rest(self) noexcept nogil:
        self.share = self.scanner.pages_to_scan
        return self.now_ns + max(self.scanner.sleep_ns, <int64_t>1) if self.share else FOREVER

    cdef void set_pace(self, uint32_t pages, int64_t sleep_ns, int64_t now) noexcept nogil:
        """From now on that many pages at a time, 0: none, and that long a sleep between."""
        self.scanner.pages_to_scan = self.share = pages
        self.scanner.sleep_ns = sleep_ns
        if pages:
            self.wake(now)
        else:
            self.clock.agenda.put(self.number, FOREVER)

    cdef int step(self) except -1 nogil:
        """A slice in which there was nothing to look at took no time: then it sleeps at least as long as whoever waits for
        something to change. Else a short pause would have it walk over memory for ever."""
        cdef int64_t began = self.clock.agenda.at(self.number), least = began + self.clock.costs.wait_quantum
        Actor.step(self)
        if self.now_ns == began < self.clock.agenda.at(self.number) < least:
            self.clock.agenda.put(self.number, least)
        return 0

    cdef uint32_t work(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        return self.scanner.scan(pages)
