"""The queue in front of swap, in simulated time.

A device is a number of channels that serve requests one at a time. A request goes to the channel that is free first,
the lowest-numbered of several; it waits for it if need be, then holds it for latency + pages x time per page. One
device is shared by all VMs, so one VM's swapping delays the others: that is the whole model. Nothing merges or
reorders requests; the callers batch.

Invariant: a channel's `busy until` never falls. Requests may arrive with clocks that are behind each other, as actors
are; the order of the calls is the order of service.
"""

import cython
from memvirt.errors import ConfigError, InvariantError
from memvirt.names import DEVICE_CONSTANTS, DEVICES

# One second per page or of latency is beyond any device and keeps 2^32 requests far from overflow of int64.
MAX_NS = 1_000_000_000


@cython.final
cdef class Device:
    """Device(name) takes a named model of DEVICES; keyword arguments replace its constants.

    Device("custom", read_latency_ns=…, write_latency_ns=…, read_page_ns=…, write_page_ns=…, channels=…) needs all
    five. Raises ConfigError for unknown names and for values out of range.
    """

    def __cinit__(self, str name="nvme", **constants):
        unknown = set(constants) - set(DEVICE_CONSTANTS)
        if unknown:
            raise ConfigError(f"unknown device constant {sorted(unknown)[0]!r}: choose from {', '.join(DEVICE_CONSTANTS)}")
        if name in DEVICES:
            constants = dict(zip(DEVICE_CONSTANTS, DEVICES[name])) | constants
        elif name != "custom":
            raise ConfigError(f"unknown device {name!r}: choose {', '.join(DEVICES)} or custom")
        for key in DEVICE_CONSTANTS:
            bound = MAX_CHANNELS if key == "channels" else MAX_NS
            lowest = 1 if key == "channels" else 0
            if key not in constants:
                raise ConfigError(f"device {name!r} needs {key}")
            if type(constants[key]) is not int or not lowest <= constants[key] <= bound:
                raise ConfigError(f"device constant {key} = {constants[key]!r}: must be an integer, "
                                  f"{lowest} to {bound}")
        self.name = name
        (self.read_latency_ns, self.write_latency_ns, self.read_page_ns, self.write_page_ns,
         self.channels) = (constants[key] for key in DEVICE_CONSTANTS)

    cdef int64_t serve(self, int64_t now, int64_t duration) noexcept nogil:
        cdef int i, channel = 0
        cdef int64_t start
        for i in range(1, self.channels):
            if self._busy_until[i] < self._busy_until[channel]:
                channel = i
        start = max(now, self._busy_until[channel])
        self.queued_ns += <uint64_t>(start - now)
        self._busy_until[channel] = start + duration
        return start + duration

    cdef int64_t read(self, int64_t now, uint32_t pages) noexcept nogil:
        assert now >= 0 and pages > 0
        self.nr_reads += 1
        self.pages_read += pages
        return self.serve(now, self.read_latency_ns + pages * self.read_page_ns)

    cdef int64_t write(self, int64_t now, uint32_t pages) noexcept nogil:
        assert now >= 0 and pages > 0
        self.nr_writes += 1
        self.pages_written += pages
        return self.serve(now, self.write_latency_ns + pages * self.write_page_ns)

    def submit(self, str call, int64_t now, uint32_t pages):
        """One request from Python: call is "read" or "write", `now` in simulated ns; returns its completion."""
        if call not in ("read", "write") or now < 0 or pages == 0:
            raise ConfigError(f"submit({call!r}, {now}, {pages}): read or write, at 0 ns or later, of a page or more")
        return self.read(now, pages) if call == "read" else self.write(now, pages)

    def busy_until(self):
        """Simulated ns at which each channel becomes free."""
        return [self._busy_until[i] for i in range(self.channels)]

    cpdef object check(self):
        """Raises InvariantError if work was recorded that the counters cannot explain."""
        total = (self.nr_reads * self.read_latency_ns + self.pages_read * self.read_page_ns
                 + self.nr_writes * self.write_latency_ns + self.pages_written * self.write_page_ns)
        served = max(self.busy_until())
        if not self.nr_reads + self.nr_writes and (served or self.queued_ns):
            raise InvariantError(f"device {self.name}: busy until {served} ns without a request")
        if total < 0 or min(self.busy_until()) < 0:
            raise InvariantError(f"device {self.name}: time ran backwards: {self.busy_until()}")
