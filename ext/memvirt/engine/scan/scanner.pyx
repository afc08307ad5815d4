"""What all page-sharing scanners have in common: a slice of work at a time, and an actor's clock."""

from ..shareindex cimport ShareIndex
from ..types cimport int64_t, uint32_t


cdef class Scanner:
    """Base of the scanners. As an actor it looks at `pages_to_scan` pages, then sleeps `sleep_ns`."""

    def __init__(self, ShareIndex index not None, uint32_t pages_to_scan=100, int64_t sleep_ns=20_000_000):
        self.index = index
        self.clock = index.clock
        self.pages_to_scan = pages_to_scan
        self.sleep_ns = sleep_ns

    cdef uint32_t scan(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        """Nothing to look at."""
        return 0

    def counters(self):
        """What this scanner counts for itself; pages merged and saved are the host's to say."""
        return {"pages_scanned": self.pages_scanned, "full_scans": self.full_scans}
