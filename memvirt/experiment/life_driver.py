"""Runs a fleet that lives, window by window.

The run is cut at windows (a second). At each cut VMs come and go, events happen, and it is noted how much every VM has
worked in the window and how long it has waited:

    slowdown of a VM in a window = (work + stall) / work        0 / 0: it was idle, there is none
                                   and what the driver in its guest took of its processor, as stall
    requests                     how long each took from when it was due, by the service level of its VM
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Generic

from memvirt.errors import Exhausted
from memvirt.experiment.backend import AnyVm, Host
from memvirt.experiment.driver import Driver, Gathered
from memvirt.experiment.expected import BatchLike, Shadow
from memvirt.experiment.life import Life, LivingFleet, Stretch
from memvirt.experiment.service import Service
from memvirt.results.derived import COLD_NS, WINDOW_QUANTILES, summed
from memvirt.results.record import Histogram, percentile
from memvirt.workloads.load import SECOND_NS

PER_MILLE = 1000
MOST_PER_MILLE = 1_000_000  # of a window in which a VM waited and did not work at all: a thousand times slower
SAMPLED = 10  # windows from one look at what memory holds to the next
PARTS = ("accesses", "sim_ns", "stall_ns", "work_ns")


class LifePhase(Generic[AnyVm]):
    """What is noted while a phase of a fleet passes."""

    def __init__(self, measured: bool) -> None:
        self.measured = measured
        self.gathered = Gathered()
        self.service = Service()  # of groups with an objective
        self.windows: dict[str, dict[int, int]] = {}  # level -> slowdown in thousandths -> VM-windows
        self.requests: dict[str, dict[int, int]] = {}  # level -> ns from when one was due until it was done -> requests
        self._of_vm: dict[str, dict[int, int]] = {}  # VM -> slowdown in thousandths -> windows
        self._asked: dict[AnyVm, dict[int, int]] = {}  # the requests of a VM that have been noted

    def note(
        self, life: Life[AnyVm], accesses: int, took_ns: int, worked_ns: int, stalled_ns: int, driven_ns: int = 0
    ) -> None:
        """What a VM did in a window; `driven_ns`: for so long its driver had its processor."""
        entry = self.gathered.vms.setdefault(life.vm.name, dict.fromkeys(PARTS, 0))
        for part, value in zip(PARTS, (accesses, took_ns, stalled_ns, worked_ns), strict=True):
            entry[part] += value
        if driven_ns:
            entry["driver_ns"] = entry.get("driver_ns", 0) + driven_ns
        self.gathered.accesses += accesses
        self.gathered.sim_ns += took_ns
        slowdown: int | None = None
        took_in_all_ns = worked_ns + stalled_ns + driven_ns
        if took_in_all_ns:
            slowdown = PER_MILLE * took_in_all_ns // worked_ns if worked_ns else MOST_PER_MILLE
            slowdown = min(slowdown, MOST_PER_MILLE)
            _add(self.windows.setdefault(life.group.level, {}), slowdown, 1)
            _add(self._of_vm.setdefault(life.vm.name, {}), slowdown, 1)
        self.service.note(life.group, life.vm.name, life.vm.held_pages, slowdown, stalled_ns)

    def end(self) -> None:
        """No more windows: how slow each VM was in its own, in thousandths of a window's work. One that was idle all the
        time has none."""
        for vm, counts in self._of_vm.items():
            windows = sorted(counts.items())
            for name, per_mille in WINDOW_QUANTILES:
                value = percentile(windows, per_mille)
                assert value is not None
                self.gathered.vms[vm][f"slowdown_{name}_milli"] = value

    def note_requests(self, lives: Mapping[str, Life[AnyVm]]) -> None:
        """The requests that were done since the last time."""
        before, self._asked = self._asked, {}
        for life in lives.values():
            self._asked[life.vm] = done = life.working.requests()
            known, of_level = before.get(life.vm, {}), self.requests.setdefault(life.group.level, {})
            for value, count in done.items():
                _add(of_level, value, count - known.get(value, 0))

    def begin_requests(self, lives: Mapping[str, Life[AnyVm]]) -> None:
        """Those that are done by now are not of this phase."""
        self._asked = {life.vm: life.working.requests() for life in lives.values()}


class LivingDriver(Driver[AnyVm]):
    """Runs a fleet that lives, and keeps a shadow of every VM."""

    def __init__(self, host: Host[AnyVm], fleet: LivingFleet[AnyVm], guest: bool, rows: int) -> None:
        super().__init__(host, fleet, cloned=False, guest=guest, timed=True, rows=rows)
        self._living = fleet
        self._watched_streams: dict[AnyVm, Iterator[BatchLike]] = {}

    def go(self, phase: Any) -> Gathered:
        """Let time pass from the beginning of a stretch to its end. Raises Exhausted when a VM could not go on."""
        stretch: Stretch = phase
        window_ns = self._living.window_ns
        noted: LifePhase[AnyVm] = LifePhase(stretch.name == "measured")
        self.sampler.begin()
        noted.begin_requests(self._living.lives)
        for began_ns in range(stretch.began_ns, stretch.ends_ns, window_ns):
            until_ns = min(stretch.ends_ns, began_ns + window_ns)
            self._living.move_to(began_ns, until_ns)
            self._follow()
            if noted.measured and (began_ns - stretch.began_ns) // window_ns % SAMPLED == 0:
                self._sample(noted.gathered)
            self._window(noted, until_ns)
        if noted.measured:
            self._sample(noted.gathered)
            self._note_backlog(noted.gathered)
            noted.end()
            self.windows, self.requests, self.service = noted.windows, noted.requests, noted.service
            self.cold = self._host.cold_pages(COLD_NS)
        self.sampler.end(stretch.name)
        return noted.gathered

    def histograms(self, taken: dict[str, Histogram]) -> dict[str, Histogram]:
        """With the requests of loads that have some; what else has a due time is the work of a second, which nobody has
        asked for."""
        kept = {kind: histogram for kind, histogram in taken.items() if kind != "request"}
        whole = summed(self.requests.values())
        return {**kept, "request": sorted(whole.items())} if whole else kept

    def _window(self, noted: LifePhase[AnyVm], until_ns: int) -> None:
        lives = {life.vm: life for life in self._living.lives.values()}
        streams = {vm: self._stream_of(life) for vm, life in lives.items()}
        before = {vm: (vm.sim_ns, self._shadows[vm].operations, vm.work_ns, vm.stall_ns, vm.driver_ns) for vm in lives}
        began = time.perf_counter_ns()
        outcomes = self._host.run(streams, until_ns=until_ns)
        noted.gathered.wall_ns += time.perf_counter_ns() - began
        for vm, outcome in outcomes.items():
            clock, operations, work, stall, driven = before[vm]
            shadow = self._shadows[vm]
            shadow.commit(outcome.done - (shadow.operations - operations), go_on=True)
            times = (vm.sim_ns - clock, vm.work_ns - work, vm.stall_ns - stall, vm.driver_ns - driven)
            noted.note(lives[vm], outcome.done, *times)
            if outcome.reason not in ("done", "until"):
                raise Exhausted(f"{vm.name} stopped at {until_ns // SECOND_NS} s: {outcome.reason}")
        noted.service.end_window()
        if self._living.asks:
            noted.note_requests(self._living.lives)

    def _note_backlog(self, gathered: Gathered) -> None:
        """For how long, at the end, each VM that has requests has one to do; and how long who is there waited to come."""
        for life in self._living.lives.values():
            if life.waited_ns:
                gathered.vms[life.vm.name]["admission_ns"] = life.waited_ns
            if life.working.asking:
                gathered.vms[life.vm.name]["behind_ns"] = life.working.behind_ns()

    def _stream_of(self, life: Life[AnyVm]) -> Iterator[BatchLike]:
        """The VM's one stream, as its shadow watches it."""
        self._watched_streams = {vm: found for vm, found in self._watched_streams.items() if vm in self._shadows}
        if life.vm not in self._watched_streams:
            shadow: Shadow = self._shadows[life.vm]
            self._watched_streams[life.vm] = shadow.watch(life.stream)
        return self._watched_streams[life.vm]


def _add(counts: dict[int, int], value: int, count: int) -> None:
    if count:
        counts[value] = counts.get(value, 0) + count
