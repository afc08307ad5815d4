"""Several VMs in simulated time: whoever is first in the agenda has a turn.

Time is cut into quanta (Engine.quantum_ns), at multiples of their length. A VM's turn ends with the quantum in which it
began, so VMs are never much more than a quantum and an access apart. Actors (harvest, background reclaim, the scanner,
balloon workers, the decider) work at times of their own. Nothing in that depends on how streams are cut into batches, on
who else has work, or on calls: a turn goes on through the end of a batch, and a run stops between two quanta. A VM whose
next accesses are not due yet is idle: it sleeps, and takes no turn.

    quanta      |           |           |           |           |
    vm 0        aaaaaaaaaaaa aaaaaaaaaaa|aa·····················   · waits for a page
    vm 1        bbbbbbb|sleeps ────────────────────|bbbbbbbbbbb
    scanner           ss              ss              ss
    decider            !                       !

When a VM's access finds no memory, the host's rule decides: `stop` ends its stream, `wait` lets it sleep and try again
(until nothing has moved for WAIT_LIMIT sleeps of everyone), `kill` destroys the VM that pays for most frames beyond what
is reserved for it (of equals: for most frames, the lowest; if nobody pays for any such, the one that asks) and goes on. A
VM that waits tries again only once anything has changed: what failed fails again, after a look at every page.

The decider is asked at its interval, and once more at the next turn when free memory falls below the level that it gave
(Engine.wake_below; at most MOST_WAKES times in an interval, which goes on as it was). A VM that holds more than the decider
lets it run with (Vm.block_above) waits, and looks again after the same sleep, until it holds less or is let run.

All of it runs without the interpreter's lock, which is taken for a batch, for a decision, and for the end of a stream.
"""

from memvirt.errors import ConfigError

from ..agenda cimport DECIDER, FIRST_BALLOON, FIRST_VM, FOREVER
from ..counters cimport hist_add
from ..simtime cimport Actor
from ..types cimport NO_FRAME, NONE, OK, int64_t, uint32_t
from .accesses cimport serve
from .deciding cimport Deciding
from .ending cimport destroy_vm
from .engine cimport END_NS, Engine
from .sample cimport Samples
from .stream cimport Stream
from .vm cimport Vm

cdef enum:
    WAIT_LIMIT = 10000          # sleeps in a row, all VMs together, before `wait` gives up

cdef enum Rule:
    STOP = 0
    WAIT = 1
    KILL = 2

RULES = {"stop": STOP, "wait": WAIT, "kill": KILL}

cdef enum:
    SAMPLER = FIRST_BALLOON - 1  # in the agenda: the last number of a host's actors

# Whose turn it is, is known by a number, and C has no class for that: the table has plain pointers.
ctypedef int (*Turn)(void *engine, void *who, int64_t until) except -1 nogil


def require_startable(Engine engine not None, list vms not None, until_ns):
    """Raise unless such a run can begin: what refuses one of its VMs is known before another has done anything."""
    cdef Vm vm
    engine.gate.require_idle("run")
    for vm in vms:
        engine.own(vm)
        vm.require_running()
    _whole_quanta(engine, until_ns)


def run(Engine engine not None, dict streams not None, *, str on_exhausted="stop", until_ns=None, decide=None,
        decider=None, interval_ns=0, Samples samples=None):
    """Run the VMs' streams; {Vm: (accesses done, reason)}.

    streams: {Vm: iterator of (pages, ops[, sources[, work_ns[, due_ns]]])}; one that an earlier run has stopped at its time
    goes on where that was. until_ns: simulated time at which every VM stops, rounded up to a whole quantum; without
    streams, time passes until then. decide: called with the time every interval_ns; decider: whom it asks.
    samples: take a row whenever one is due. Reasons: done, until, killed, or why memory could not be had.
    """
    cdef int64_t until
    cdef bint idle = not streams and until_ns is not None
    cdef Vm vm
    cdef Deciding deciding
    if engine.deciding is None:
        engine.deciding = Deciding()
        engine.who[DECIDER] = <void *>engine.deciding
    deciding = engine.deciding
    if decide is not None and not 0 < interval_ns <= END_NS:
        raise ConfigError(f"decider: interval_ns = {interval_ns}; 1 to {END_NS} is the range")
    require_startable(engine, list(streams), until_ns)
    until = _whole_quanta(engine, until_ns)
    engine.enter()
    engine.gate.running = True
    engine.gate.entries -= 1                         # a run is no change from outside
    try:
        if decide is not None:
            deciding.begin(engine, decider, decide, interval_ns)
        for vm in engine.vms.values() if decide is None else ():
            vm.block_above = NONE
        if samples is not None:
            samples.number = SAMPLER
            engine.who[SAMPLER] = <void *>samples
            engine.clock.agenda.put(SAMPLER, engine.reached_ns)
        engine.rule = RULES[on_exhausted]
        for vm, batches in streams.items():
            _begin(engine, vm, batches)
        with nogil:
            _turns(engine, deciding, until, idle)
        engine.clock.interrupt.deliver()
    finally:
        engine.gate.running = False
        deciding.end()
        engine.clock.agenda.put(SAMPLER, FOREVER)
        _end(engine, list(streams), until, idle)
    return {vm: (vm.stream.done, vm.stream.reason) for vm in streams}


cdef int64_t _whole_quanta(Engine engine, until_ns) except -1:
    """The end of the quantum in which this time lies, or of all time."""
    if until_ns is None:
        return FOREVER
    if not 0 <= until_ns <= END_NS:
        raise ConfigError(f"until_ns = {until_ns}: 0 to {END_NS} ns is the range")
    return min(-(-until_ns // engine.quantum_ns) * engine.quantum_ns, END_NS)


cdef int _begin(Engine engine, Vm vm, batches) except -1:
    """The VM has work from now on. If it was behind it has been idle until now: that is no stall."""
    if vm.stream is None or vm.stream.batches is not batches:
        vm.stream = Stream(iter(batches))
    vm.stream.done, vm.stream.reason = 0, "until"
    vm.now_ns = max(vm.now_ns, engine.reached_ns)
    if vm.stream.sleeps and vm.stream.due_ns > vm.now_ns:
        engine.clock.agenda.put(FIRST_VM + vm.id, vm.stream.due_ns)
    else:
        vm.stream.sleeps = False
        engine.stalls.start(vm.id, vm.now_ns)
        engine.clock.agenda.put(FIRST_VM + vm.id, vm.now_ns)
    vm.runs = True
    engine.nr_running += 1
    return 0


cdef int _end(Engine engine, list vms, int64_t until, bint idle) except -1:
    """Nobody has work any more; simulated time has come to the end that was asked for, or to that of the last VM."""
    cdef Vm vm
    cdef int64_t last = engine.reached_ns
    if not engine.clock.interrupt.caught and until != FOREVER and (idle or engine.nr_running):
        last = until
    for vm in vms:
        last = max(last, vm.now_ns)
        if vm.runs:
            _retire(engine, vm, vm.stream.reason)
    engine.reached_ns = max(engine.reached_ns, min(last, until))
    engine.stalls.book_until(engine.reached_ns)
    engine.leave()
    return 0


cdef int _retire(Engine engine, Vm vm, str reason) except -1:
    """Its stream is over."""
    vm.stream.reason = reason
    vm.runs = False
    engine.nr_running -= 1
    engine.clock.agenda.put(FIRST_VM + vm.id, FOREVER)
    return engine.stalls.stop(vm.id, vm.now_ns)


# ---- turns

cdef int _turns(Engine engine, Deciding deciding, int64_t until, bint idle) except -1 nogil:
    """One after the other, until no VM has work or the time has come."""
    cdef int64_t now = 0
    cdef uint32_t who
    cdef Turn actor = <Turn><void *>_turn_of_actor, vm = <Turn><void *>_turn_of_vm
    while (engine.nr_running or idle) and not engine.clock.interrupt.asked():
        who = engine.clock.agenda.first(&now)
        if who == NONE or now >= until:
            break
        if now >= END_NS:
            _end_of_time(now)
        engine.reached_ns = max(engine.reached_ns, now)
        engine.stalls.book_until(now)
        if deciding.decide is not None and deciding.look(now):
            continue
        if who < FIRST_VM:
            actor(<void *>engine, engine.who[who], until)
        else:
            vm(<void *>engine, engine.who[who], until)
    return 0


cdef int _end_of_time(int64_t now) except -1 nogil:
    with gil:
        raise ConfigError(f"simulated time is at its end: {now} ns, after 146 years; go on with a new host")


cdef int _turn_of_actor(Engine engine, Actor actor, int64_t until) except -1 nogil:
    return actor.step()


cdef int _turn_of_vm(Engine engine, Vm vm, int64_t until) except -1 nogil:
    """Its accesses up to the end of the quantum. At the end the VM may be gone: it does not know its host any more."""
    cdef int64_t limit
    cdef uint32_t done
    if vm.stream.sleeps:
        _wake(engine, vm)
    if engine.mapping.charges.of[vm.id].charged > vm.block_above:
        return _block(engine, vm)
    limit = min(min(until, END_NS), (vm.now_ns / engine.quantum_ns + 1) * engine.quantum_ns)
    while vm.now_ns < limit and not engine.clock.interrupt.caught:
        if vm.stream.at == vm.stream.batch.n and not _refill(engine, vm):
            break
        if vm.stream.at == vm.stream.part_end and _sleeps_until_next_part(engine, vm, limit):
            break
        if vm.waits and vm.changes == engine.changes():
            _find_no_memory(engine, vm)
            break
        if vm.guest is not None and vm.guest.owed_ns:
            _let_driver_go_first(engine, vm)
            continue
        done = serve(engine, vm, vm.stream.batch, vm.stream.at, vm.stream.part_end, limit)
        vm.stream.at += done
        vm.stream.done += done
        if vm.stream.at == vm.stream.part_end and vm.stream.due_ns >= 0:
            hist_add(vm.latency, vm.now_ns - vm.stream.due_ns)
            hist_add(&engine.requests, vm.now_ns - vm.stream.due_ns)
        if done:
            engine.nr_waits = engine.nr_blocks = 0
        vm.waits = vm.outcome != OK
        if vm.waits:
            vm.changes = engine.changes()
            _find_no_memory(engine, vm)
            break
    if engine.mapping.charges.over:
        engine.clock.now = vm.now_ns
        engine.reclaim.keep_limits()
    if vm.runs:
        engine.clock.agenda.put(FIRST_VM + vm.id, vm.stream.due_ns if vm.stream.sleeps else vm.now_ns)
    if vm.guest is not None:
        vm.worker.look(vm.now_ns)
        engine.reporting.look(vm.id, vm.now_ns)
    engine.compactor.look(vm.now_ns)
    return 0


cdef void _let_driver_go_first(Engine engine, Vm vm) noexcept nogil:
    """The driver in its guest had its processor: the VM goes on later. That is neither its own work nor a stall."""
    cdef int64_t ns = vm.guest.settle(engine.stalls._began_ns[vm.id])
    vm.now_ns += ns
    vm.driver_ns += ns


cdef bint _sleeps_until_next_part(Engine engine, Vm vm, int64_t limit) except? False nogil:
    """Begin the next part of its batch. If that is not due yet the VM is idle until then: it sleeps, beyond this turn or
    in it. If the VM is behind, the part begins late."""
    vm.stream.next_part()
    if vm.stream.due_ns <= vm.now_ns:
        return False
    engine.stalls.stop(vm.id, vm.now_ns)
    vm.stream.sleeps = True
    if vm.stream.due_ns >= limit:
        return True
    _wake(engine, vm)
    return False


cdef int _wake(Engine engine, Vm vm) except -1 nogil:
    """Its next accesses are due."""
    vm.stream.sleeps = False
    vm.now_ns = max(vm.now_ns, vm.stream.due_ns)
    return engine.stalls.start(vm.id, vm.now_ns)


cdef int _block(Engine engine, Vm vm) except -1 nogil:
    """It holds more than the decider lets it run with: it waits, and looks again."""
    cdef int64_t began = vm.now_ns
    vm.now_ns += max(engine.clock.costs.wait_quantum, <int64_t>1)
    engine.blocked_ns += vm.now_ns - began
    engine.nr_blocks += 1
    engine.clock.agenda.put(FIRST_VM + vm.id, vm.now_ns)
    return engine.stalls.wait(vm.id, began, vm.now_ns)


cdef bint _refill(Engine engine, Vm vm) except? False nogil:
    """Fetch its next batch; if there is none, its stream is done."""
    with gil:
        vm.require_running()
        if vm.stream.refill(vm.name, vm.nr_vpns, engine.content.nr_sources):
            vm.count_requests()
            return True
        _retire(engine, vm, "done")
        return False


cdef int _find_no_memory(Engine engine, Vm vm) except -1 nogil:
    """Its next access found none: what the host's rule says."""
    cdef int64_t began = vm.now_ns
    if engine.rule == WAIT and engine.nr_waits < WAIT_LIMIT:
        engine.meter.ev.waits += 1
        engine.nr_waits += 1
        vm.now_ns += max(engine.clock.costs.wait_quantum, <int64_t>1)
        return engine.stalls.wait(vm.id, began, vm.now_ns)
    with gil:
        return _give_up(engine, vm)


cdef int _give_up(Engine engine, Vm vm) except -1:
    """Nobody makes room: the VM that pays for most goes, or this stream is over."""
    engine.nr_waits = 0
    vm.waits = False
    if engine.rule == KILL and vm.outcome == NO_FRAME:
        victim = max(engine.vms.values(),
                     key=lambda vm: (max(0, vm.charged - vm.reservation), vm.charged, -vm.id))
        if victim.charged <= victim.reservation:    # nobody has more than was promised: who asks for more goes
            victim = vm
        engine.meter.ev.kills += 1
        engine.leave()
        try:
            destroy_vm(engine, victim)
        finally:
            engine.enter()
        return 0
    engine.meter.ev.stops += 1
    return _retire(engine, vm, vm.outcome_name)
