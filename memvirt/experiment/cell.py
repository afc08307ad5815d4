"""One cell, from an empty host to a record: fill, warm-up, measured phase, the books closed, every page read back.

The record speaks of the measured phase: counters, histograms and processor time are differences between its start and
its end; usage, sharing and fragmentation are what the host held at its end. Only after all of it is taken are the VMs
read back against their shadows, because reading faults pages in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, cast

from memvirt.environment import collect, source_commit
from memvirt.errors import AdmissionError, ContentError, DeciderError, Exhausted, InvariantError, MemvirtError
from memvirt.experiment.backend import AnyVm, Host, MakeHost
from memvirt.experiment.driver import Driver, Gathered
from memvirt.experiment.fleet import Fleet, build
from memvirt.experiment.life import LivingFleet
from memvirt.experiment.life_driver import LivingDriver
from memvirt.experiment.living import Living
from memvirt.experiment.plan import Cell
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


def _over_time(run: RunContext, cell: Cell, record: Record, baseline: Record | None) -> Record:
    """Run a cell whose scenario is a fleet that lives."""
    spec = cast(Living, cell.spec)
    run = replace(run, corpus=spec.filled_from(run.corpus))
    host = run.make_host(cell.host, corpus=run.corpus, swap_direct=False)
    try:
        guest, rows = cell.guest, MOST_ROWS if cell.tier == "full" else FEW_ROWS
        percent = cell.overcommit_percent
        fleet = LivingFleet(
            host,
            spec,
            run.corpus,
            cell.seed,
            overcommit_percent=percent,
            guest=guest,
            admission_wait_ns=cell.host.admission_wait or 0,
        )
        driver = LivingDriver(host, fleet, guest=guest is not None, rows=rows)
        return _measured(run, record, host, fleet, driver, baseline)
    finally:
        host.close()


RUNNERS: Mapping[Kind, Callable[[RunContext, Cell, Record, Record | None], Record]] = {
    "fleet": _on_a_host,
    "life": _over_time,
    "trace": _alone,
}


AnyFleet = Fleet[AnyVm] | LivingFleet[AnyVm]


def _measured(
    run: RunContext, record: Record, host: Host[Any], fleet: AnyFleet[Any], driver: Driver[Any], baseline: Record | None
) -> Record:
    wall_ns: dict[str, int] = {}
    phase = Gathered()
    before = _look(host)
    for part in fleet.phases:
        before = _look(host)
        phase = driver.go(part)
        wall_ns[part.name] = phase.wall_ns
    after = _look(host)
    lies = derived.without_floats(host.fragmentation())
    taken = derived.Taken(
        counters=counter_difference(after.counters, before.counters),
        histograms=driver.histograms(histogram_difference(after.histograms, before.histograms)),
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
        windows=driver.windows,
        requests=driver.requests,
        levels={name: astuple(level) for name, level in driver.service.levels.items()},
        held_for_shares=driver.service.held_for_shares,
        share_error=tuple(driver.service.error),
        cold=driver.cold,
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
