"""One VM: what the host keeps of it, and what can be asked of it. Its accesses are served by accesses.pyx.

A VM knows the parts of its host that it is a row in, and who may call. It does not know the host as a whole. A VM that has
ended keeps none of that, so that a stale reference keeps no memory; what it counted can still be asked.
"""

from libc.stdlib cimport calloc, free

from memvirt.errors import ConfigError

from ..counters cimport histogram_dict
from ..mapping.spaces cimport set_limit
from ..types cimport NONE, int64_t
from .batch cimport Batch

cdef int64_t LAST_NS = (<int64_t>1) << 60       # no VM sleeps longer

# In the order of Outcome.
OUTCOMES = ("done", "no_frame", "no_slot", "pool_full", "rejected", "io_failed", "corrupt", "limited", "refused", "empty")


cdef class Vm:
    """One VM of an Engine; made by admission.create_vm and cloning.clone_vm."""

    def __dealloc__(self):
        free(self.latency)

    cpdef int require(self) except -1:
        if not self.alive:
            raise ConfigError(f"VM '{self.name}' has been destroyed")
        return self.gate.look()

    cdef int require_running(self) except -1:
        self.require()
        if self.frozen:
            raise ConfigError(f"VM '{self.name}' is a frozen template: clone it, the clones run")
        return 0

    # ---- what there is to see

    @property
    def tag_base(self):
        return self.hits.tag_base

    @property
    def sequence(self):
        """Writes done so far."""
        return self.hits.sequence

    @property
    def outcome_name(self):
        return OUTCOMES[self.outcome]

    @property
    def charged(self):
        """Frames this VM pays for."""
        return self.mapping.charges.of[self.id].charged if self.alive else 0

    @property
    def reservation(self):
        """Pages promised to it in host memory."""
        return self.mapping.charges.of[self.id].reservation if self.alive else 0

    def stall(self):
        """How long this VM has waited for memory; see Stalls.of_vm."""
        return self.stalls.of_vm(self.id, self.now_ns) if self.alive else self.last_stall

    @property
    def waited_ns(self):
        """How long this VM has waited for memory, whether that counts as pressure or not."""
        return self.stalls.waited(self.id) if self.alive else self.last_waited_ns

    @property
    def busy_ns(self):
        """How long it has had work in all: it worked, or stalled."""
        return self.stalls.busy(self.id, self.now_ns) if self.alive else self.last_busy_ns

    def requests(self):
        """Of the parts of batches that had due times: how long each took from then until it was done, as a histogram, and
        for how long the first has been due that is not done. None if there were none."""
        cdef Batch batch
        cdef int64_t due_ns = -1
        if self.latency == NULL:
            return None
        batch = self.stream.batch
        if self.stream.at < self.stream.part_end:
            due_ns = self.stream.due_ns
        elif self.stream.at < batch.n and batch.nr_parts:
            due_ns = batch.due_ns[self.stream.at / (batch.n / batch.nr_parts)]
        behind_ns = max(<int64_t>0, self.now_ns - due_ns) if due_ns >= 0 else 0
        return {"latency": histogram_dict(self.latency), "behind_ns": behind_ns}

    # ---- what the host is told of it

    def account(self):
        """{"charged", "limit", "reservation", "shares", "domain", "active"}, pages; limit None: no limit."""
        self.require()
        record = dict(self.mapping.charges.of[self.id])
        record["limit"] = None if self.mapping.charges.of[self.id].limit == NONE else record["limit"]
        for own in ("open", "leaving", "pinned"):
            del record[own]
        return record

    def set_account(self, *, limit=-1, reservation=None, shares=None, domain=None):
        """Change what admission and reclaim know of this VM; pages. limit None: no limit."""
        self.require()
        self.gate.pass_by()                     # not in the middle of a call
        if limit != -1:
            set_limit(self.mapping, self.id, NONE if limit is None else limit)
        if reservation is not None:
            self.mapping.charges.reserve(self.id, reservation)
        if shares is not None:
            self.mapping.charges.of[self.id].shares = shares
        if domain is not None:
            self.mapping.charges.of[self.id].domain = domain

    def freeze(self):
        """It runs no more; clones of it do."""
        self.require()
        self.gate.pass_by()
        if self.runs:                           # a decider's call: the stream would end in the middle of the run
            raise ConfigError(f"VM '{self.name}' is running a stream; freeze it when that ends, or take a snapshot")
        self.frozen = True

    def sleep_until(self, int64_t ns):
        """The VM is idle until then; nothing if it has come further already."""
        self.require_running()
        if not 0 <= ns <= LAST_NS:
            raise ConfigError(f"VM '{self.name}': sleep until {ns} ns; 0 to {LAST_NS} is the range")
        if self.runs:
            raise ConfigError(f"VM '{self.name}' is running a stream; due times of its batches say when it sleeps")
        self.now_ns = max(self.now_ns, ns)

    # ---- while it runs, and when it ends

    cdef int count_requests(self) except -1:
        if self.stream.batch.nr_parts and self.latency == NULL:
            self.latency = <Histogram *>calloc(1, sizeof(Histogram))
            if self.latency == NULL:
                raise MemoryError("histogram of requests")
        return 0

    cdef int end(self) except -1:
        if self.guest is not None:
            self.guest.end()
        if self.hardware is not None:           # without a guest yet: the VM was refused in between
            self.hardware.end()
        self.alive = False
        self.guest = self.worker.guest = None
        self.hardware = None
        self.gate = None
        self.mapping = None
        self.stalls = None
        return 0
