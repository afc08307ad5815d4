"""From a scenario to VMs and their streams.

Every VM has one layout, in pages counted from 0:

    image        the operating system image: the same corpus pages in every VM, read-only
    private      what the VM made itself: corpus pages of its own, then written to by the workload
    freed        filled while booting, then handed back to the guest's free list: what a balloon can take for nothing
    arriving     read from a device while the measured workload runs, spread over it: files, the same in every VM
    untouched    configured, never used: what thin provisioning never pays for

The overcommit ratio is the sum of configured sizes over the host's memory. The host is fixed, and the fleet grows:
either more VMs of one size, each with the same stream at every ratio, or the same VMs, each larger.

Private pages come from windows of the corpus that do not overlap, one per VM, so that two VMs hold equal private pages
only where the captured machine did. Where a window is shorter than a VM's private memory its pages repeat. So from some
page on private pages are written to once at boot, which makes their content unique: a small corpus never looks like
sharing. Zero pages stay zero: they are equal on any machine. Scenarios that compare contents (`compared_with`) begin
with that at one page, the first that repeats in the shortest of their windows, and read a zero page at its turn: their
VMs touch the same pages in the same order, and hold something else.

A fleet that settles boots its VMs one after another, minutes apart as it were: after each the host's scanner, if there
is one, goes over all memory `settle_passes` times. So pages that can be merged are, before the next VM needs a frame.

A phase yields steps: dicts from VM to stream, each for one `host.run`. VMs are created, cloned and destroyed between
steps, so the caller must run each step before it asks for the next. Refusals of the host pass through unchanged.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal

import numpy as np

from memvirt.errors import ConfigError
from memvirt.experiment.backend import AnyVm, Host
from memvirt.experiment.fleet_spec import FleetSpec, vm_name
from memvirt.experiment.pace import paced
from memvirt.experiment.scenario import Scenario
from memvirt.inputs import ClassTable
from memvirt.inputs.bits import Pages
from memvirt.results.derived import settled
from memvirt.settings.vm_config import GuestOptions
from memvirt.units import HUGE_ORDER, PageCount
from memvirt.workloads import BATCH, FILL, Action, AgingPlan, Batch, Boot, Space, Stream, Workload, discard


@dataclass(frozen=True, slots=True)
class Phase(Generic[AnyVm]):
    """A named part of a cell, to be gone through once. Run each step before asking for the next."""

    name: Literal["fill", "warm-up", "measured"]
    steps: Callable[[], Iterator[dict[AnyVm, Iterator[Batch]]]]
    lasts_ns: int = 0  # of simulated time; 0: until all accesses are done

    def __iter__(self) -> Iterator[dict[AnyVm, Iterator[Batch]]]:
        return self.steps()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in one VM, in pages."""

    configured: int
    image: int
    live: int
    touched: int
    arriving: int = 0  # pages from `touched` on

    @classmethod
    def of(cls, spec: FleetSpec, configured: int) -> "Layout":
        touched = max(1, configured * spec.touched_percent // 100)
        live = max(1, touched - configured * spec.freed_percent // 100)
        arriving = min(configured * spec.arriving_percent // 100, configured - touched)
        return cls(configured, min(configured * spec.image_percent // 100, live - 1), live, touched, arriving)

    @property
    def space(self) -> Space:
        return Space(self.live, self.image)


class Contents:
    """Which corpus page lands where: one image for all, a window of the private classes for each VM."""

    def __init__(self, spec: FleetSpec, corpus: ClassTable, vms: int) -> None:
        self._image = blend([corpus.canonical[corpus.sources([name])] for name in spec.image])
        private = [corpus.canonical[corpus.sources([name])] for name in spec.private]
        short = [name for name, pages in zip(spec.private, private, strict=True) if len(pages) < vms]
        if short:
            raise ConfigError(f"the corpus has too few pages of {', '.join(short)} for {vms} VMs; capture a larger one")
        shares = [len(pages) // vms for pages in private]
        compared = (*spec.private, *spec.compared_with) if spec.compared_with else ()
        self._shortest = min((len(corpus.sources([name])) // vms for name in compared), default=None)
        self._windows = [
            blend([pages[vm * share : (vm + 1) * share] for pages, share in zip(private, shares, strict=True)])
            for vm in range(vms)
        ]

    def boot(self, vm: int, layout: Layout, first: int = 0, count: int | None = None) -> Boot:
        """The boot of a VM, or of `count` pages of it from `first` on, of which none are freed again."""
        last = layout.touched if count is None else first + count
        pages = np.arange(first, last, dtype=np.int64)
        image = pages < layout.image
        own = pages - layout.image
        window = self._windows[vm]
        sources = np.where(image, self._image[pages % len(self._image)], window[own % len(window)])
        # A repeated image page is equal in every VM and may stay; a repeated private page would feign sharing.
        if self._shortest is None:
            again = (own >= len(window)) & (sources != 0)
        else:
            again = own >= self._shortest
        freed_from = layout.live if count is None else count
        return Boot(sources.astype(np.uint32), np.flatnonzero(again).astype(np.uint32), freed_from, first)

    def arrivals(self, layout: Layout) -> Pages:
        """Corpus pages of the files that arrive: those that follow the image's."""
        return self._image[np.arange(layout.image, layout.image + layout.arriving) % len(self._image)].astype(np.uint32)


def among(batches: Iterator[Batch], length: int, first: int, sources: Pages) -> Iterator[Batch]:
    """A workload of about `length` accesses, and evenly spread over it the fills of pages from `first` on."""
    done = filled = 0
    for batch in batches:
        done += len(batch.pages)
        fills = np.arange(filled, len(sources) * min(done, length) // length)
        filled += len(fills)
        at = (np.arange(len(fills)) + 1) * len(batch.pages) // max(1, len(fills))
        pages = np.insert(batch.pages, at, fills + first)
        ops = np.insert(batch.ops, at, FILL)
        due = batch.due_ns
        if due is not None and len(fills):  # a file comes with the access behind it, or the last
            due = np.insert(due, at, due[np.minimum(at, len(due) - 1)])
        given = np.zeros(len(batch.pages), np.uint32) if batch.sources is None else batch.sources
        given = np.insert(given, at, sources[fills])
        for start in range(0, len(pages), BATCH):
            part = slice(start, start + BATCH)
            yield Batch(pages[part], ops[part], given[part], batch.work_ns, None if due is None else due[part])


def blend(parts: Sequence[Pages]) -> Pages:
    """Several runs of pages as one, mixed in proportion to their lengths, each in its own order."""
    keys = [(np.arange(len(part), dtype=np.int64) << 20) // len(part) for part in parts]
    return np.concatenate(parts)[np.argsort(np.concatenate(keys), kind="stable")]


class Fleet(Generic[AnyVm]):
    """VMs on one host, and the phases of a cell. `vms` maps names to the VMs that exist now."""

    def __init__(
        self,
        host: Host[AnyVm],
        scenario: Scenario,
        sizes: Sequence[int],
        contents: Contents,
        seed: int,
        guest: GuestOptions | None,
    ) -> None:
        self.vms: dict[str, AnyVm] = {}
        self.configured_pages = sum(sizes)
        self._guest = guest
        self._host = host
        self._scenario = scenario
        self._layouts = [Layout.of(scenario.fleet, pages) for pages in sizes]
        self._contents = contents
        self._seed = seed
        self._held = [0] * len(sizes)
        if scenario.aging is not None:
            budget = scenario.fleet.vms * scenario.fleet.memory * scenario.aging.resident_percent // 100
            plan = AgingPlan([layout.touched for layout in self._layouts], budget, seed)
            most, measured = plan.cycles(scenario.aging.cycles), plan.cycles(scenario.aging.measured_cycles)
            self.phases: tuple[Phase[AnyVm], ...] = (
                Phase("warm-up", lambda: self._age(most, until_settled=True)),
                Phase("measured", lambda: self._age(measured)),
            )
            return
        if scenario.measured is None:
            raise ConfigError("a scenario needs a measured workload, or aging")
        phases = [Phase("fill", self._clones if scenario.fleet.cloned else self._boots)]
        if scenario.warm_up is not None:
            phases.append(self._working("warm-up", scenario.warm_up))
        self.phases = (*phases, self._working("measured", scenario.measured))

    def create(self, index: int) -> AnyVm:
        """Create VM number `index`; what the host says to that passes through."""
        config = self._scenario.fleet.vm(index, self._layouts[index].configured, self._guest)
        self.vms[config.name] = self._host.create(config)
        return self.vms[config.name]

    def _boots(self) -> Iterator[dict[AnyVm, Iterator[Batch]]]:
        passes = self._scenario.settle_passes
        if not passes:
            yield {self.vms[vm_name(index)]: self._boot(index) for index in range(len(self._layouts))}
            return
        for index in range(len(self._layouts)):
            yield {self.vms[vm_name(index)]: self._boot(index)}
            self._host.settle(passes)

    def _clones(self) -> Iterator[dict[AnyVm, Iterator[Batch]]]:
        parent = self.vms[vm_name(0)]
        yield {parent: self._boot(0)}
        for index in range(1, len(self._layouts)):
            self.vms[vm_name(index)] = parent.clone(vm_name(index))

    def _boot(self, index: int) -> Iterator[Batch]:
        return self._contents.boot(index, self._layouts[index]).batches()

    def _working(self, name: Literal["warm-up", "measured"], workload: Workload) -> Phase[AnyVm]:
        pace = self._scenario.pace

        def stream_of(index: int, layout: Layout) -> Iterator[Batch]:
            stream = Stream(self._seed, index, name)
            batches = self._arriving(name, layout, workload, workload.batches(layout.space, stream))
            return batches if pace is None else paced(batches, pace, stream)

        def steps() -> Iterator[dict[AnyVm, Iterator[Batch]]]:
            yield {self.vms[vm_name(index)]: stream_of(index, layout) for index, layout in enumerate(self._layouts)}

        return Phase(name, steps, 0 if pace is None else pace.lasts(name))

    def _arriving(self, phase: str, layout: Layout, workload: Workload, batches: Iterator[Batch]) -> Iterator[Batch]:
        """In the measured phase files arrive while the VM works."""
        if phase != "measured" or not layout.arriving:
            return batches
        return among(batches, max(1, workload.length()), layout.touched, self._contents.arrivals(layout))

    def _age(
        self, cycles: Iterator[list[Action]], until_settled: bool = False
    ) -> Iterator[dict[AnyVm, Iterator[Batch]]]:
        """One step per cycle. What VMs give up goes back to the host at once: by stopping, or through the balloon."""
        unusable: list[int] = []
        for actions in cycles:
            yield {vm: batches for action in actions if (acted := self._act(action)) for vm, batches in [acted]}
            unusable.append(self._host.fragmentation()["unusable"][HUGE_ORDER])
            for action in actions:
                if action.kind == "shrink":
                    self._give_back(action.vm)
            if until_settled and settled(unusable) is not None:
                return

    def _give_back(self, index: int) -> None:
        """Let the balloon hold what the VM no longer fills."""
        if self._guest:
            free = self._layouts[index].touched - self._held[index]
            self.vms[vm_name(index)].balloon(PageCount(free))

    def _act(self, action: Action) -> tuple[AnyVm, Iterator[Batch]] | None:
        """Carry out one action; its stream, if it has one."""
        name, held = vm_name(action.vm), self._held[action.vm]
        if action.kind == "stop":
            self.vms.pop(name).destroy()
            self._held[action.vm] = 0
            return None
        if action.kind == "shrink":
            self._held[action.vm] = held - action.pages
            return self.vms[name], discard(held - action.pages, action.pages)
        vm = self.create(action.vm) if action.kind == "boot" else self.vms[name]
        self._held[action.vm] = held + action.pages
        if action.kind == "grow":
            self._give_back(action.vm)
        boot = self._contents.boot(action.vm, self._layouts[action.vm], held, action.pages)
        return vm, boot.batches()


def build(
    host: Host[AnyVm],
    scenario: Scenario,
    corpus: ClassTable,
    seed: int,
    *,
    overcommit_percent: int = 100,
    guest: GuestOptions | None = None,
) -> Fleet[AnyVm]:
    """Create the VMs of a scenario on a host and describe their phases.

    `guest` is that of every VM; streams are the same with and without. Clones and VMs that age are
    created by the steps of their phases. ConfigError for what cannot be; refusals are the host's own.
    """
    if not 1 <= overcommit_percent <= 100_000:
        raise ConfigError(f"an overcommit ratio of {overcommit_percent / 100:g} is outside 0.01 to 1000")
    sizes = scenario.fleet.sizes(overcommit_percent)
    cloned = scenario.fleet.cloned
    contents = Contents(scenario.fleet, corpus, 1 if cloned else len(sizes))
    fleet = Fleet(host, scenario, sizes, contents, seed, guest)
    at_once = 0 if scenario.aging is not None else 1 if cloned else len(sizes)
    for index in range(at_once):
        fleet.create(index)
    return fleet
