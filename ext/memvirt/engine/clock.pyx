"""Simulated time: integer nanoseconds, a named cost model, one running actor.

Every VM, the background reclaimer, the scanner and each balloon worker is an actor with a clock of its own. The engine
always runs the actor that is furthest behind, so what they do interleaves in simulated time without threads, and the
same inputs give the same schedule on any machine.
"""

from memvirt.errors import ConfigError

from .counters cimport Meter

# Used where no cost model is named. Rounded medians of memvirt's own benchmarks on an AMD EPYC Zen 5 guest, 2026;
# the hypervisor entry (`fault`) is the order of an EPT violation on current hardware and stays an assumption.
DEFAULT_COSTS = {
    "hit": 100, "refill": 60, "fault": 600, "zero_page": 180, "zero_huge": 60_000, "copy_page": 400, "leaf_copy": 3_000,
    "same_filled": 60, "compress": 5_000, "decompress": 1_300, "zpool_store": 200, "swap_submit": 1_500, "evict": 300,
    "reclaim_visit": 50, "scan_visit": 30, "hash_page": 250, "compare_page": 300, "merge": 300, "clone_fixed": 20_000,
    "clone_leaf": 10, "balloon_page": 250, "guest_fault": 500, "move_page": 700, "wait_quantum": 1_000_000,
}


cdef class Clock:
    """The running actor's clock and the cost model. `costs`: {operation: ns}, integers >= 0, all of them."""

    def __cinit__(self, Meter meter not None, costs=None):
        table = dict(DEFAULT_COSTS)
        for name, ns in (costs or {}).items():
            if name not in table:
                raise ConfigError(f"costs: no operation '{name}'; there are: {', '.join(sorted(table))}")
            if not isinstance(ns, int) or isinstance(ns, bool) or not 0 <= ns < 1 << 50:
                raise ConfigError(f"costs.{name}: {ns!r} is not a whole number of nanoseconds from 0 to 2^50")
            table[name] = ns
        self.costs = table
        self.meter = meter
        self.cpu_ns = meter.cpu_ns
        self.now = 0

    @property
    def table(self):
        """The cost model in force, {operation: ns}."""
        return self.costs
