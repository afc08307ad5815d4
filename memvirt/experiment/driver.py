"""Running the phases of a fleet: streams to the host, a shadow beside every VM, the counts that a record is made of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from memvirt.errors import Exhausted, InvariantError
from memvirt.experiment.backend import AnyVm, Host, Vm
from memvirt.experiment.expected import BatchLike, Shadow
from memvirt.experiment.fleet_spec import vm_name
from memvirt.experiment.sampler import Sampler
from memvirt.experiment.service import Service
from memvirt.inputs import ClassTable
from memvirt.results import derived
from memvirt.results.record import Histogram
from memvirt.results.timeline import MOST_ROWS

SomeVm = TypeVar("SomeVm", bound=Vm, covariant=True)


@dataclass(slots=True)
class Gathered:
    """What is gathered while a phase runs."""

    accesses: int = 0
    sim_ns: int = 0
    vms: dict[str, dict[str, int]] = field(default_factory=dict)
    content_pages: int = 0  # summed over samples
    used_frames: int = 0
    samples: int = 0
    wall_ns: int = 0


class HasVms(Protocol[SomeVm]):
    """A fleet: its VMs that exist now, by name."""

    @property
    def vms(self) -> Mapping[str, SomeVm]: ...


class Driver(Generic[AnyVm]):
    """Runs the phases of a fleet and keeps a shadow of every VM."""

    def __init__(
        self,
        host: Host[AnyVm],
        fleet: HasVms[AnyVm],
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
        self.windows: dict[
            str, dict[int, int]
        ] = {}  # of a fleet that lives: level -> slowdown in thousandths -> windows
        self.requests: dict[
            str, dict[int, int]
        ] = {}  # of one that has requests: level -> ns since one was due -> requests
        self.service = Service()  # of a fleet that lives: of groups with an objective
        self.cold: tuple[int, int] | None = (
            None  # of a fleet that lives: pages that are cold, and all that are in frames
        )
        self.cycles: list[dict[str, int]] = []  # of aging: the host's memory after each step of all phases
        self._host = host
        self._guest = guest
        self._fleet = fleet
        self._cloned = cloned
        self._shadows: dict[AnyVm, Shadow] = {}

    def go(self, phase: Any) -> Gathered:
        """Run a phase of its fleet."""
        return self.run(phase.name, iter(phase), sampled=phase.name == "measured", lasts_ns=phase.lasts_ns)

    def histograms(self, taken: dict[str, Histogram]) -> dict[str, Histogram]:
        """Of what the host has told, what the record is to hold."""
        return taken

    def run(
        self, name: str, steps: Iterator[Mapping[AnyVm, Iterator[BatchLike]]], sampled: bool, lasts_ns: int = 0
    ) -> Gathered:
        """Run every step of a phase, each for `lasts_ns` (0: until it is done). Raises Exhausted when a VM cannot go on."""
        phase = Gathered()
        self.sampler.begin()
        for step in steps:
            self._follow()
            self._sample(phase)
            now = self._host.sim_ns  # a VM whose clock is behind has been idle: the run takes it up to here first
            watched = phase if sampled else None
            streams = {vm: self._watched(vm, stream, watched, now) for vm, stream in step.items()}
            before = {vm: (max(vm.sim_ns, now), self._shadows[vm].operations, vm.stall_ns) for vm in streams}
            worked = {vm: (vm.work_ns, vm.driver_ns) for vm in streams}
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
                    entry["work_ns"] = entry.get("work_ns", 0) + vm.work_ns - worked[vm][0]
                if driven := vm.driver_ns - worked[vm][1]:
                    entry["driver_ns"] = entry.get("driver_ns", 0) + driven
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
        self, vm: AnyVm, stream: Iterator[BatchLike], phase: Gathered | None, began_ns: int
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
                kept[vm] = Shadow(vm.name, vm.address_pages, vm.tag_base, vm.writes_done, guest=self._guest)
            else:
                kept[vm] = parent.clone(vm.name, vm.tag_base, vm.writes_done)
        self._shadows = kept

    def _sample(self, phase: Gathered) -> None:
        usage = self._host.usage()
        phase.content_pages += sum(shadow.content_pages() for shadow in self._shadows.values())
        phase.used_frames += sum(usage.values()) - usage.get("free", 0)
        phase.samples += 1

    def verify(self, corpus: ClassTable) -> int:
        """Compare every page of every VM that was ever named; how many. ContentError at the first difference. The shadows
        are gone then: what comes after needs memory of its own."""
        for vm, shadow in self._shadows.items():
            if shadow.writes != vm.writes_done:
                raise InvariantError(f"{vm.name}: {vm.writes_done} writes done, the streams held {shadow.writes}")
        pages, ids_of = getattr(corpus, "pages", None), self._host.ids_of
        return sum(self._shadows.pop(vm).verify(vm, pages, ids_of) for vm in list(self._shadows))
