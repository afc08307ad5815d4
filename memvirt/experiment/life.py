"""A fleet that lives: VMs that come, work, are changed and go while simulated time passes.

Every VM has one stream for all its life: it boots, then it works, interval by interval, until it leaves or the scenario
ends. The batch of an interval begins when the interval does. A VM that is behind, because it waited for memory, does not
catch up: it goes on with the interval that it finds when it is done (a closed loop: who waits for an answer asks no new
question). Its streams depend on (seed, group, number) and on time alone, so VMs of other groups can be added, and a group
can grow, without changing what the others do.

The run is cut at windows (a second). At each cut VMs come and go, events happen, and it is noted how much every VM has
worked in the window and how long it has waited:

    slowdown of a VM in a window = (work + stall) / work        0 / 0: it was idle, there is none

A layout in pages, from 0: image, the same in every VM of the same image classes, read-only; zeros; the VM's own pages,
filled from its private classes and then written to, so that no two are equal; then, untouched, what it may grow into.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal

import numpy as np

from memvirt.errors import Exhausted
from memvirt.experiment.backend import AnyVm, Host
from memvirt.experiment.driver import Driver, Gathered
from memvirt.experiment.expected import BatchLike, Shadow
from memvirt.experiment.fleet import blend
from memvirt.experiment.life_spec import Event, Group
from memvirt.experiment.living import Living
from memvirt.inputs import ClassTable
from memvirt.inputs.bits import Pages
from memvirt.results.record import Histogram
from memvirt.settings.vm_config import GuestOptions
from memvirt.workloads import BATCH, FILL, WRITE, Batch, Boot, Space, Stream
from memvirt.workloads.load import SECOND_NS, Load, Touches, level_percent

PER_MILLE = 1000
MOST_PER_MILLE = 1_000_000  # of a window in which a VM waited and did not work at all: a thousand times slower
SAMPLED = 10  # windows from one look at what memory holds to the next
MIX = 7919  # a prime: which VM of its group a stream is for, apart from those of other groups


@dataclass(slots=True, eq=False)
class Life(Generic[AnyVm]):
    """One VM, from its coming to its going."""

    group: Group
    number: int
    load: Load
    vm: AnyVm
    stream: Iterator[Batch] | None = None
    patched: int = 0  # times that its image has been rewritten, or is to be
    windows: dict[int, int] = field(default_factory=dict)  # slowdown in thousandths -> windows


class Contents:
    """What the VMs of a group are filled with."""

    def __init__(self, group: Group, corpus: ClassTable, vms: int) -> None:
        self._group = group
        self.touched = max(1, group.memory * group.touched_percent // 100)
        self.image = self.touched * group.content.image_percent // 100
        self.zero = self.touched * group.content.zero_percent // 100
        self._image = blend([corpus.canonical[corpus.sources([name])] for name in group.content.image])
        private = blend([corpus.canonical[corpus.sources([name])] for name in group.content.private])
        self._private = private
        self._vms = vms

    def boot(self, number: int) -> Boot:
        own = np.arange(self.touched - self.image - self.zero, dtype=np.int64)
        sources = np.concatenate([self.image_of(0), np.zeros(self.zero, np.uint32), self.own(number, own)])
        again = np.arange(self.image + self.zero, self.touched, dtype=np.uint32)
        return Boot(sources, again, self.touched)

    def image_of(self, version: int) -> Pages:
        """The image after so many patches: each puts another page of the corpus in every place."""
        return self._image[(np.arange(self.image) + version) % len(self._image)].astype(np.uint32)

    def own(self, number: int, pages: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Pages:
        """What the VM's own pages are filled from; VMs begin at different places of the corpus."""
        first = len(self._private) * number // self._vms
        return self._private[(first + pages) % len(self._private)].astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase of a life, as a cell asks for it."""

    name: Literal["warm-up", "measured"]
    began_ns: int
    ends_ns: int


class LivingFleet(Generic[AnyVm]):
    """The VMs of a scenario on one host. `vms` maps names to those that exist now."""

    def __init__(
        self,
        host: Host[AnyVm],
        spec: Living,
        corpus: ClassTable,
        seed: int,
        *,
        overcommit_percent: int,
        guest: GuestOptions | None,
    ) -> None:
        self.lives: dict[str, Life[AnyVm]] = {}
        self.window_ns = spec.time.window
        self.configured_pages = sum(spec.sizes(overcommit_percent))
        self._host = host
        self._spec = spec
        self._seed = seed
        self._guest = guest
        self._counts = {group.name: group.count(overcommit_percent) for group in spec.groups}
        self._groups = {group.name: (index, group) for index, group in enumerate(spec.groups)}
        self._contents = {group.name: Contents(group, corpus, self._counts[group.name]) for group in spec.groups}
        self._to_come = self._comings()
        self._to_happen = self._events()
        time = spec.time
        settles = [Stretch("warm-up", 0, time.settle)] if time.settle else []
        self.phases = (*settles, Stretch("measured", time.settle, time.settle + time.duration))

    @property
    def vms(self) -> dict[str, AnyVm]:
        return {name: life.vm for name, life in self.lives.items()}

    def _comings(self) -> list[tuple[int, int, int]]:
        """(when, group, number), latest first."""
        coming = [
            (group.comes_ns(number), index, number)
            for name, (index, group) in self._groups.items()
            for number in range(self._counts[name])
        ]
        return sorted(coming, reverse=True)

    def _events(self) -> list[tuple[int, int, int]]:
        """(when, event, number of the VM), latest first."""
        events = enumerate(self._spec.events)
        return sorted(
            ((at, index, vm) for index, e in events for vm, at in e.happens(self._counts[e.group])), reverse=True
        )

    def move_to(self, now_ns: int) -> None:
        """Whoever leaves by now leaves; then what happens happens; then who comes comes."""
        for name, life in list(self.lives.items()):
            goes_ns = life.group.goes_ns(life.number)
            if goes_ns is not None and goes_ns <= now_ns:
                del self.lives[name]
                life.vm.destroy()
        while self._to_happen and self._to_happen[-1][0] <= now_ns:
            _, index, number = self._to_happen.pop()
            event = self._spec.events[index]
            there = self.lives.get(self._groups[event.group][1].vm_name(number))
            if there is not None:
                self._happen(event, there)
        while self._to_come and self._to_come[-1][0] <= now_ns:
            _, index, number = self._to_come.pop()
            self._come(self._spec.groups[index], number)

    def _come(self, group: Group, number: int) -> None:
        vm = self._host.create(group.vm(number, self._guest))
        life = Life(group, number, self._spec.loads[group.load], vm)
        life.stream = self._stream(life)
        self.lives[vm.name] = life

    def _happen(self, event: Event, life: Life[AnyVm]) -> None:
        if event.load is not None:
            life.load = self._spec.loads[event.load]
        elif event.what == "rewrite-image":
            life.patched += 1
        else:
            life.vm.destroy()
            del self.lives[life.vm.name]
            self._come(life.group, life.number)

    def _stream(self, life: Life[AnyVm]) -> Iterator[Batch]:
        yield from self._booting(life)
        yield from self._working(life)

    def _booting(self, life: Life[AnyVm]) -> Iterator[Batch]:
        boot = self._contents[life.group.name].boot(life.number)
        rate = life.group.boot.per_second
        if rate is None:
            yield from boot.batches()
            return
        window_ns = self._spec.time.window
        each = max(1, min(BATCH, rate * window_ns // SECOND_NS))
        due_ns = life.vm.sim_ns
        for batch in boot.batches():
            for first in range(0, len(batch.pages), each):
                part = slice(first, first + each)
                sources = None if batch.sources is None else batch.sources[part]
                yield Batch(batch.pages[part], batch.ops[part], sources, 0, np.array([due_ns], np.int64))
                due_ns = max(due_ns, life.vm.sim_ns) if batch.sources is None else due_ns + window_ns

    def _working(self, life: Life[AnyVm]) -> Iterator[Batch]:
        """Interval after interval of its load, as long as it lives."""
        contents, window_ns = self._contents[life.group.name], self._spec.time.window
        index, count = self._groups[life.group.name][0], self._counts[life.group.name]
        space = Space(contents.touched, contents.image)
        stream = Stream(self._seed, index * MIX + life.number, "load")
        at_ns = -(-life.vm.sim_ns // window_ns) * window_ns
        load, done_ns, touches = None, 0, None
        patched, grown = 0, contents.touched
        ends_ns = self._spec.time.settle + self._spec.time.duration
        while at_ns < ends_ns:
            if life.load is not load or touches is None:
                load, done_ns = life.load, 0
                touches = Touches(load, space, stream, self._spec.time.epoch)
            if patched < life.patched:
                patched = life.patched
                yield from _fills(np.arange(contents.image, dtype=np.uint32), contents.image_of(patched), at_ns)
            step_ns = window_ns * level_percent(load.day, at_ns, life.number, count) // 100
            batch = touches.batch(done_ns, done_ns + step_ns, at_ns)
            done_ns += step_ns
            if batch is not None:
                yield batch
            if load.grow is not None:
                more = load.grow.per_second * window_ns // SECOND_NS
                end = min(grown + more, life.group.memory * load.grow.to_percent // 100)
                if end > grown:
                    pages = np.arange(grown, end, dtype=np.uint32)
                    yield from _fills(pages, contents.own(life.number, pages.astype(np.int64)), at_ns)
                    yield Batch(pages, np.full(len(pages), WRITE, np.uint8), None, 0, None)
                    grown = end
            at_ns = max(at_ns + window_ns, life.vm.sim_ns // window_ns * window_ns)


def _fills(pages: Pages, sources: Pages, due_ns: int) -> Iterator[Batch]:
    for first in range(0, len(pages), BATCH):
        part = slice(first, first + BATCH)
        ops = np.full(len(pages[part]), FILL, np.uint8)
        yield Batch(pages[part], ops, sources[part], 0, np.array([due_ns], np.int64))


class LivingDriver(Driver[AnyVm]):
    """Runs a fleet that lives, window by window, and keeps a shadow of every VM."""

    def __init__(self, host: Host[AnyVm], fleet: LivingFleet[AnyVm], guest: bool, rows: int) -> None:
        super().__init__(host, fleet, cloned=False, guest=guest, timed=True, rows=rows)
        self._living = fleet
        self._watched_streams: dict[AnyVm, Iterator[BatchLike]] = {}

    def go(self, phase: Stretch) -> Gathered:
        """Let time pass from the beginning of a stretch to its end. Raises Exhausted when a VM could not go on."""
        stretch, window_ns = phase, self._living.window_ns
        measured = stretch.name == "measured"
        gathered = Gathered()
        self.sampler.begin()
        if measured:
            self.windows = {}
        for began_ns in range(stretch.began_ns, stretch.ends_ns, window_ns):
            self._living.move_to(began_ns)
            self._follow()
            if measured and (began_ns - stretch.began_ns) // window_ns % SAMPLED == 0:
                self._sample(gathered)
            self._window(gathered, min(stretch.ends_ns, began_ns + window_ns), measured)
        if measured:
            self._sample(gathered)
        self.sampler.end(stretch.name)
        return gathered

    def histograms(self, taken: dict[str, Histogram]) -> dict[str, Histogram]:
        """Without requests: what has a due time here is the work of a second, which nobody has asked for."""
        return {kind: histogram for kind, histogram in taken.items() if kind != "request"}

    def _window(self, gathered: Gathered, until_ns: int, measured: bool) -> None:
        lives = {life.vm: life for life in self._living.lives.values()}
        streams = {vm: self._stream_of(life) for vm, life in lives.items()}
        before = {vm: (vm.sim_ns, self._shadows[vm].operations, vm.work_ns, vm.stall_ns) for vm in lives}
        began = time.perf_counter_ns()
        outcomes = self._host.run(streams, until_ns=until_ns)
        gathered.wall_ns += time.perf_counter_ns() - began
        for vm, outcome in outcomes.items():
            clock, operations, work, stall = before[vm]
            shadow = self._shadows[vm]
            shadow.commit(outcome.done - (shadow.operations - operations), go_on=True)
            worked, stalled = vm.work_ns - work, vm.stall_ns - stall
            entry = gathered.vms.setdefault(vm.name, dict.fromkeys(("accesses", "sim_ns", "stall_ns", "work_ns"), 0))
            for key, value in (
                ("accesses", outcome.done),
                ("sim_ns", vm.sim_ns - clock),
                ("stall_ns", stalled),
                ("work_ns", worked),
            ):
                entry[key] += value
            gathered.accesses += outcome.done
            gathered.sim_ns += vm.sim_ns - clock
            if measured and worked + stalled:
                self._note(lives[vm].group.level, worked, stalled)
            if outcome.reason not in ("done", "until"):
                raise Exhausted(f"{vm.name} stopped at {until_ns // SECOND_NS} s: {outcome.reason}")

    def _note(self, level: str, worked_ns: int, stalled_ns: int) -> None:
        slowdown = PER_MILLE * (worked_ns + stalled_ns) // worked_ns if worked_ns else MOST_PER_MILLE
        of_level = self.windows.setdefault(level, {})
        slowdown = min(slowdown, MOST_PER_MILLE)
        of_level[slowdown] = of_level.get(slowdown, 0) + 1

    def _stream_of(self, life: Life[AnyVm]) -> Iterator[BatchLike]:
        """The VM's one stream, as its shadow watches it."""
        self._watched_streams = {vm: found for vm, found in self._watched_streams.items() if vm in self._shadows}
        if life.vm not in self._watched_streams:
            shadow: Shadow = self._shadows[life.vm]
            assert life.stream is not None
            self._watched_streams[life.vm] = shadow.watch(life.stream)
        return self._watched_streams[life.vm]
