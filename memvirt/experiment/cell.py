"""One cell, from an empty host to a record: fill, warm-up, measured phase, the books closed, every page read back.

The record speaks of the measured phase: counters, histograms and processor time are differences between its start and
its end; usage, sharing and fragmentation are what the host held at its end. Only after all of it is taken are the VMs
read back against their shadows, because reading faults pages in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, cast

from memvirt.environment import collect, source_commit
from memvirt.errors import AdmissionError, ContentError, DeciderError, Exhausted, InvariantError, MemvirtError
from memvirt.experiment.backend import AnyVm, Host, MakeHost
from memvirt.experiment.expected import BatchLike, Shadow
from memvirt.experiment.fleet import Fleet, build
from memvirt.experiment.fleet_spec import vm_name
from memvirt.experiment.plan import Cell
from memvirt.experiment.sampler import Sampler
from memvirt.experiment.scenario import Scenario
from memvirt.experiment.simulated import Simulated
from memvirt.experiment.trace_cell import run_trace
from memvirt.inputs import ClassTable
from memvirt.results import derived
from memvirt.results.record import Histogram, Kind, Record, counter_difference, histogram_difference
from memvirt.results.timeline import FEW_ROWS, MOST_ROWS


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all cells of a run have in common."""

    corpus: ClassTable
    versions: Mapping[str, str]
    commit: str
    environment: Mapping[str, Any]
    make_host: MakeHost


def prepare(corpus: ClassTable, make_host: MakeHost | None = None) -> RunContext:
    """A run on this machine with this corpus."""
    from memvirt.versions import versions

    if make_host is None:
        from memvirt.host import Host

        make_host = Host.of
    return RunContext(corpus, versions(), source_commit(), collect(), make_host)


@dataclass(slots=True)
class _Phase:
    """What is gathered while a phase runs."""

    accesses: int = 0
    sim_ns: int = 0
    vms: dict[str, dict[str, int]] = field(default_factory=dict)
    content_pages: int = 0  # summed over samples
    used_frames: int = 0
    samples: int = 0
    wall_ns: int = 0


class Driver(Generic[AnyVm]):
    """Runs the phases of a fleet and keeps a shadow of every VM."""

    def __init__(
        self,
        host: Host[AnyVm],
        fleet: Fleet[AnyVm],
        cloned: bool,
        guest: bool,
        aging: bool = False,
        timed: bool = False,
        rows: int = MOST_ROWS,
    ) -> None:
        """`cloned`: every VM but the first is a clone of it; `guest`: VMs have one; `aging`: look at the host's memory
        after every step; `timed`: note how much VMs work; `rows`: of its time line, at most, a phase."""
        self.sampler = Sampler(host, rows)
        self._aging = aging
        self.timed = timed
        self.cycles: list[dict[str, int]] = []  # of aging: the host's memory after each step of all phases
        self._host = host
        self._guest = guest
        self._fleet = fleet
        self._cloned = cloned
        self._shadows: dict[AnyVm, Shadow] = {}

    def run(
        self, name: str, steps: Iterator[Mapping[AnyVm, Iterator[BatchLike]]], sampled: bool, lasts_ns: int = 0
    ) -> _Phase:
        """Run every step of a phase, each for `lasts_ns` (0: until it is done). Raises Exhausted when a VM cannot go on."""
        phase = _Phase()
        self.sampler.begin()
        for step in steps:
            self._follow()
            self._sample(phase)
            now = self._host.sim_ns  # a VM whose clock is behind has been idle: the run takes it up to here first
            watched = phase if sampled else None
            streams = {vm: self._watched(vm, stream, watched, now) for vm, stream in step.items()}
            before = {vm: (max(vm.sim_ns, now), self._shadows[vm].operations, vm.stall_ns) for vm in streams}
            worked = {vm: vm.work_ns for vm in streams}
            began = time.perf_counter_ns()
            outcomes = self._host.run(streams, until_ns=now + lasts_ns) if lasts_ns else self._host.run(streams)
            phase.wall_ns += time.perf_counter_ns() - began
            if self._aging:
                self.cycles.append(
                    derived.memory_sample(len(self.cycles) + 1, self._host.fragmentation(), self._host.counters())
                )
            for vm, outcome in outcomes.items():
                shadow = self._shadows[vm]
                shadow.commit(outcome.done - (shadow.operations - before[vm][1]))
                took = vm.sim_ns - before[vm][0]
                entry = phase.vms.setdefault(vm.name, {"accesses": 0, "sim_ns": 0, "stall_ns": 0})
                entry["accesses"] += outcome.done
                entry["sim_ns"] += took
                entry["stall_ns"] += vm.stall_ns - before[vm][2]
                if self.timed:
                    entry["work_ns"] = entry.get("work_ns", 0) + vm.work_ns - worked[vm]
                phase.accesses += outcome.done
                phase.sim_ns += took
            for vm, outcome in outcomes.items():
                if outcome.reason not in ("done", "until" if lasts_ns else "done"):
                    raise Exhausted(
                        f"{vm.name} stopped in phase {name} after {outcome.done} accesses: {outcome.reason}"
                    )
        self._follow()
        self._sample(phase)
        self.sampler.end(name)
        return phase

    def _watched(
        self, vm: AnyVm, stream: Iterator[BatchLike], phase: _Phase | None, began_ns: int
    ) -> Iterator[BatchLike]:
        for batch in self._shadows[vm].watch(stream):
            if phase is not None:
                self._sample(phase)
            yield batch if batch.due_ns is None else batch._replace(due_ns=batch.due_ns + began_ns)

    def _follow(self) -> None:
        """Shadows for VMs that came since, none for those that went; a clone starts with its parent's content."""
        there = self._fleet.vms
        kept = {vm: shadow for vm, shadow in self._shadows.items() if there.get(vm.name) is vm}
        first = there.get(vm_name(0))
        parent = kept.get(first) if self._cloned and first is not None else None
        for vm in there.values():
            if vm in kept:
                continue
            if parent is None:
                kept[vm] = Shadow(vm.name, vm.pages, vm.tag_base, vm.writes_done, guest=self._guest)
            else:
                kept[vm] = parent.clone(vm.name, vm.tag_base, vm.writes_done)
        self._shadows = kept

    def _sample(self, phase: _Phase) -> None:
        usage = self._host.usage()
        phase.content_pages += sum(shadow.content_pages() for shadow in self._shadows.values())
        phase.used_frames += sum(usage.values()) - usage.get("free", 0)
        phase.samples += 1

    def verify(self, corpus: ClassTable) -> int:
        """Compare every page of every VM that was ever named; how many. ContentError at the first difference."""
        for vm, shadow in self._shadows.items():
            if shadow.writes != vm.writes_done:
                raise InvariantError(f"{vm.name}: {vm.writes_done} writes done, the streams held {shadow.writes}")
        pages, ids_of = getattr(corpus, "pages", None), self._host.ids_of
        return sum(shadow.verify(vm, pages, ids_of) for vm, shadow in self._shadows.items())


def blank(run: RunContext, cell: Cell) -> Record:
    """The record of a cell before it has run: failed, for the reason that it has not."""
    return Record(
        suite=cell.suite,
        scenario=cell.scenario,
        preset=cell.preset,
        role=cell.role,
        kind=cell.spec.kind,
        seed=cell.seed,
        tier=cell.tier,
        status="failed",
        reason="not run",
        ratio=cell.ratio,
        config=cell.config(),
        config_sha256=cell.sha256(),
        asked=dict(cell.asked),
        origins=dict(cell.origins),
        inputs={"corpus": run.corpus.sha256},
        versions=dict(run.versions),
        commit=run.commit,
        environment=dict(run.environment),
    )


def run_cell(run: RunContext, cell: Cell, baseline: Record | None = None) -> Record:
    """Run one cell. Refusal, exhaustion and failure are statuses of its record, never exceptions."""
    record = blank(run, cell)
    try:
        for file in cell.files:
            file.check()
        return RUNNERS[cell.spec.kind](run, cell, record, baseline)
    except AdmissionError as error:
        return replace(record, status="refused", reason=str(error))
    except Exhausted as error:
        return replace(record, status="exhausted", reason=str(error))
    except DeciderError as error:  # says itself what was raised
        return replace(record, reason=str(error))
    except (MemvirtError, MemoryError, OSError) as error:
        return replace(record, reason=f"{type(error).__name__}: {error}")


def _on_a_host(run: RunContext, cell: Cell, record: Record, baseline: Record | None) -> Record:
    """Run a cell whose scenario is a fleet."""
    spec = cast(Scenario, cell.spec)
    # Only the tier whose wall times are quoted pays for a disk: simulated time has its own device.
    host = run.make_host(cell.host, corpus=run.corpus, swap_direct=cell.tier == "full")
    try:
        fleet = build(host, spec, run.corpus, cell.seed, overcommit_percent=cell.overcommit_percent, guest=cell.guest)
        cloned, aging = spec.fleet.cloned, spec.aging is not None
        guest, rows = cell.guest is not None, MOST_ROWS if cell.tier == "full" else FEW_ROWS
        driver = Driver(host, fleet, cloned=cloned, guest=guest, aging=aging, timed=spec.timed, rows=rows)
        return _measured(run, record, host, fleet, driver, baseline)
    finally:
        host.close()


def _alone(run: RunContext, cell: Cell, record: Record, baseline: Record | None) -> Record:
    """Run a cell whose scenario is a trace."""
    return run_trace(record, cell, cast(Simulated, cell.spec), baseline)


RUNNERS: Mapping[Kind, Callable[[RunContext, Cell, Record, Record | None], Record]] = {
    "fleet": _on_a_host,
    "trace": _alone,
}


def _measured(
    run: RunContext,
    record: Record,
    host: Host[AnyVm],
    fleet: Fleet[AnyVm],
    driver: Driver[AnyVm],
    baseline: Record | None,
) -> Record:
    wall_ns: dict[str, int] = {}
    phase = _Phase()
    before = _look(host)
    for part in fleet.phases:
        before = _look(host)
        phase = driver.run(part.name, iter(part), sampled=part.name == "measured", lasts_ns=part.lasts_ns)
        wall_ns[part.name] = phase.wall_ns
    after = _look(host)
    lies = derived.without_floats(host.fragmentation())
    taken = derived.Taken(
        counters=counter_difference(after.counters, before.counters),
        histograms=histogram_difference(after.histograms, before.histograms),
        cpu_ns=counter_difference(after.cpu_ns, before.cpu_ns),
        stall=counter_difference(after.stall, before.stall),
        usage=dict(host.usage()),
        sharing=after.sharing,
        merge_times=_merge_times(before.sharing, after.sharing),
        stores=dict(host.stores()),
        fragmentation=lies,
        vms=phase.vms,
        timed=driver.timed,
        content_pages=phase.content_pages,
        used_frames=phase.used_frames,
        configured_pages=fleet.configured_pages,
        sim_ns=phase.sim_ns,
        baseline_ns=baseline.sim_ns if baseline is not None and baseline.status == "done" else 0,
    )
    closed = replace(
        record,
        status="done",
        reason="",
        accesses=phase.accesses,
        sim_ns=phase.sim_ns,
        counters=taken.counters,
        histograms=taken.histograms,
        usage=taken.usage,
        sharing=taken.sharing,
        stores=taken.stores,
        fragmentation=lies,
        samples=driver.cycles,
        timeline=driver.sampler.timeline(),
        cpu_ns=taken.cpu_ns,
        vms=phase.vms,
        derived=derived.derived(taken),
        measured={
            "wall_ns": wall_ns,
            "accesses_per_s": phase.accesses * 10**9 // max(1, phase.wall_ns),
            "wall_samples": dict(host.wall_samples()),
            "swap_areas": host.swap(),
        },
    )
    return _read_back(closed, run.corpus, host, driver)


def _read_back(record: Record, corpus: ClassTable, host: Host[AnyVm], driver: Driver[AnyVm]) -> Record:
    """The record, verified; or failed, at the first page that is not what it should be."""
    try:
        pages = driver.verify(corpus)
        host.check()
    except (ContentError, InvariantError) as error:
        return replace(record, status="failed", reason=f"{type(error).__name__}: {error}")
    return replace(record, verified=True, verified_pages=pages)


@dataclass(frozen=True, slots=True)
class _Look:
    counters: dict[str, int]
    histograms: dict[str, Histogram]
    cpu_ns: dict[str, int]
    stall: dict[str, int]
    sharing: dict[str, int]


def _merge_times(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[int, int]:
    """Merges of the phase, and the sum of what passed before each."""
    names = ("time_to_merge_ns.count", "time_to_merge_ns.sum")
    count, total = (after.get(name, 0) - before.get(name, 0) for name in names)
    return count, total


def _look(host: Host[Any]) -> _Look:
    """What the host counts now; what it does not count is empty."""
    histograms = {
        kind: [(int(value), int(count)) for value, count in histogram["buckets"]]
        for kind, histogram in host.histograms().items()
    }
    stall = {name: int(value) for name, value in host.stall().items() if name.endswith("_ns")}
    return _Look(dict(host.counters()), histograms, dict(host.cpu_ns()), stall, dict(host.sharing()))
