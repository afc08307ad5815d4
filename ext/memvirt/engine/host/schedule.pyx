"""Several VMs in simulated time: the actor that is furthest behind runs next.

Actors are the VMs that still have accesses to make, the balloon worker of each guest whose balloon is not where it
should be, the page-sharing scanner, and the decider. (The background reclaimer is one too; it catches up whenever a
fault asks for frames, see reclaim.) A VM runs until it is a quantum ahead of the next VM, or its batch is used up.
Python is entered once per batch and once per decision.

When a VM's access finds no memory, the host's rule decides: `stop` ends its stream, `wait` lets it sleep and try again
(until nothing has moved for WAIT_LIMIT sleeps of everyone), `kill` destroys the VM that pays for most frames beyond what
is reserved for it (of equals: for most frames, the lowest) and goes on. A VM that waits tries again only once anything
has changed: what failed fails again, after a look at every page.
"""

from memvirt.errors import ConfigError

from .batch cimport Batch, check_lengths
from .host cimport Engine
from .vm cimport Vm
from ..guests.balloon cimport Balloon
from ..simtime cimport Actor
from ..types cimport NO_FRAME, OK, int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    WAIT_LIMIT = 10000          # sleeps in a row, all VMs together, before `wait` gives up

cdef int64_t FOREVER = 0x7FFFFFFFFFFFFFFF


cdef class _Stream:
    """One VM and what is left of its batches."""
    cdef Vm vm
    cdef object batches
    cdef Batch batch            # its own: whatever the generators do to their arrays meanwhile
    cdef uint32_t at
    cdef uint64_t done
    cdef str reason
    cdef bint waits             # its last access found no memory
    cdef uint64_t changes       # Core.changes() then

    cdef bint refill(self) except? False:
        """Fetch the next batch that is not empty; False when there is none."""
        cdef const uint32_t[::1] pages, sources
        cdef const uint8_t[::1] ops
        while self.at == self.batch.n:
            batch = next(self.batches, None)
            if batch is None:
                return False
            pages, ops, sources = batch[0], batch[1], batch[2] if len(batch) > 2 else None
            self.vm._require_running()
            check_lengths(self.vm.name, pages, ops, sources)
            self.at = self.batch.n = 0
            if pages.shape[0]:
                self.batch.own(self.vm.name, self.vm.nr_vpns, self.vm.engine.content.nr_sources, pages, ops, sources, 0,
                               pages.shape[0])
        return True


def run(Engine engine not None, dict streams not None, *, str on_exhausted="stop", until_ns=None, decide=None,
        int64_t interval_ns=0, watch=None, int64_t quantum_ns=50_000):
    """Run the VMs' streams; {Vm: (accesses done, reason)}.

    streams: {Vm: iterator of (pages, ops[, sources])}. until_ns: simulated time at which every VM stops. decide: called
    with the time every interval_ns, between quanta. watch: called with the time between quanta, once it has come to what
    the last call returned; it looks and changes nothing. Reasons: done, until, killed, or why memory could not be had.
    """
    cdef int64_t until = FOREVER if until_ns is None else until_ns
    cdef list active = [_stream(engine, vm, batches) for vm, batches in streams.items()]
    cdef list everyone = list(active)
    cdef _Stream stream
    cdef int64_t now, limit, begins = engine.sim_ns(), next_decision = begins + interval_ns
    cdef int64_t next_look = FOREVER if watch is None else begins
    cdef uint32_t waits = 0
    engine._enter()
    try:
        for stream in active:                   # who was behind has been idle until now: that is no stall
            stream.vm.now_ns = max(stream.vm.now_ns, begins)
            engine.stalls.start(stream.vm.id, stream.vm.now_ns)
        while active:
            stream = _furthest_behind(active)
            now = stream.vm.now_ns
            if now >= until or not stream.vm.alive:
                _retire(engine, active, stream, "until" if stream.vm.alive else "killed")
                continue
            engine.stalls.settle(now)
            _background(engine, now)
            if now >= next_look:
                next_look = _ask(engine, watch, now)
            if decide is not None and now >= next_decision:
                _ask(engine, decide, now)
                next_decision = now + interval_ns
                continue                        # it may have ended any VM, this one too
            if not stream.refill():
                _retire(engine, active, stream, "done")
                continue
            limit = min(until, _next_clock(active, stream) + quantum_ns)
            if _serve(engine, stream, limit):
                waits = 0
            elif stream.vm.outcome != OK:
                waits = _exhausted(engine, stream, active, on_exhausted, waits)
    finally:
        for stream in list(active):
            _retire(engine, active, stream, "interrupted")
        engine.stalls.drain()
        engine._leave()
    engine.clock.interrupt.deliver()
    return {(<_Stream>entry).vm: ((<_Stream>entry).done, (<_Stream>entry).reason) for entry in everyone}


cdef _Stream _stream(Engine engine, Vm vm, batches):
    cdef _Stream stream = _Stream()
    vm._require()
    if vm.engine is not engine:
        raise ConfigError(f"VM '{vm.name}' belongs to another host")
    stream.vm = vm
    stream.batch = Batch()
    stream.batches = iter(batches)
    stream.reason = "done"
    return stream


cdef int _retire(Engine engine, list active, _Stream stream, str reason) except -1:
    """The stream is over. A VM that was destroyed has been taken out of the stall accounts then."""
    stream.reason = reason
    active.remove(stream)
    return engine.stalls.stop(stream.vm.id, stream.vm.now_ns) if stream.vm.alive else 0


cdef _Stream _furthest_behind(list active):
    cdef _Stream best = active[0], stream
    for stream in active:
        if stream.vm.now_ns < best.vm.now_ns or (stream.vm.now_ns == best.vm.now_ns and stream.vm.id < best.vm.id):
            best = stream
    return best


cdef int64_t _next_clock(list active, _Stream running):
    """Clock of the furthest-behind VM beside the running one."""
    cdef int64_t clock = FOREVER - (<int64_t>1 << 40)
    cdef _Stream stream
    for stream in active:
        if stream is not running and stream.vm.now_ns < clock:
            clock = stream.vm.now_ns
    return clock


cdef bint _serve(Engine engine, _Stream stream, int64_t limit) except? False:
    """One quantum; True if at least one access was done. A VM that waits does not try while nothing has changed."""
    cdef uint32_t done
    cdef Batch batch = stream.batch
    if stream.waits and stream.changes == engine.changes():
        return False
    with nogil:
        done = engine.serve(stream.vm, batch.pages + stream.at, batch.ops + stream.at,
                            NULL if batch.sources == NULL else batch.sources + stream.at, batch.n - stream.at, limit)
    stream.at += done
    stream.done += done
    engine.clock.interrupt.deliver()
    stream.waits = done == 0 and stream.vm.outcome != OK
    stream.changes = engine.changes()
    return done > 0


cdef object _ask(Engine engine, whom, int64_t now):
    """Let a decider look and do what it wants, or a watcher look; its answer. Having asked changes nothing by itself."""
    cdef uint64_t entries = engine.entries
    engine._leave()
    answer = whom(now)
    engine._enter()
    if engine.entries == entries + 1:
        engine.entries = entries
    return answer


cdef int _background(Engine engine, int64_t now) except -1:
    """All actors catch up with `now`, balloon workers by one message."""
    cdef Actor actor
    cdef Balloon balloon
    for actor in engine.actors:
        actor.catch_up(now)
    for name in engine.vms:
        balloon = (<Vm>engine.vms[name]).worker
        if balloon.due(now):
            balloon.step()
    return 0


cdef uint32_t _exhausted(Engine engine, _Stream stream, list active, str rule, uint32_t waits) except? 0xFFFFFFFF:
    """The running VM found no memory. Returns how many fruitless tries there have been in a row."""
    cdef Vm victim
    cdef int64_t began
    if rule == "wait" and waits < WAIT_LIMIT:
        engine.meter.ev.waits += 1
        began = stream.vm.now_ns
        stream.vm.now_ns += max(engine.clock.costs.wait_quantum, <int64_t>1)
        engine.stalls.stall(stream.vm.id, began, stream.vm.now_ns)
        return waits + 1
    if rule == "kill" and stream.vm.outcome == NO_FRAME:
        victim = max(engine.vms.values(),
                     key=lambda vm: (max(0, vm.charged - vm.reservation), vm.charged, -vm.id))
        engine.meter.ev.kills += 1
        engine._leave()
        engine.destroy_vm(victim)
        engine._enter()
        return 0
    engine.meter.ev.stops += 1
    _retire(engine, active, stream, stream.vm.outcome_name)
    return 0
