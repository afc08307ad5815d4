"""Fleets that live on hosts of real size, in processor time: what a VM-minute costs, filling, collecting accessed marks.

    a minute    40 VMs of 2.5 GiB on 64 GiB, promised 1.56 times what there is: the load follows a day, memory grows, every
                minute one VM comes and one goes. A turn is the next simulated minute of the same host, run as a cell of a
                suite runs it: the streams made, served, and remembered so that they can be read back
    limit       the same streams looked up in a flat table a VM: nothing is kept, and nobody waits
    many        256 VMs of 1 GiB that fill all of it and read on, 100 million touches, in one go

The work of a minute is that of its streams: about as many touches as there are pages that are used once in an epoch.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import Reference, Row, bounded, compare
from limits.build import load

import memvirt
from memvirt.experiment import plan
from memvirt.experiment.life import LivingFleet, Stretch
from memvirt.experiment.life_driver import LivingDriver
from memvirt.experiment.living import Living
from memvirt.experiment.plan import Cell
from memvirt.inputs import ClassTable, synthetic
from memvirt.workloads.base import FILL
from rows.common import all_pages, reads, writes, zipf

SUITE = """
schema = 1
name = "minutes"
title = "A host of real size"
description = "For bench/ratios.py"
presets = ["swap"]
seeds = [1]
[host]
memory = "{memory}"
swap = "{memory}"
harvest_interval = "50s"
[[scenarios]]
name = "life"
description = "A day, growth, one VM in and out a minute"
overcommit_percent = [100]
time = {{ duration = "{minutes}min", epoch = "{epoch}" }}
[scenarios.loads.web]
busy_percent = 30
parts = [
    {{ percent = 10, every = "200ms" }},
    {{ percent = 20, every = "10s" }},
    {{ percent = 30, every = "2min" }},
    {{ percent = 40, every = "1h" }},
]
day = {{ period = "20min", low_percent = 30, spread = true }}
grow = {{ per_second = "256KiB", to_percent = 95 }}
[[scenarios.groups]]
name = "stay"
vms = {vms}
memory = "{size}"
load = "web"
touched_percent = 60
[[scenarios.groups]]
name = "guest"
vms = {minutes}
memory = "{size}"
load = "web"
touched_percent = 60
boot = {{ every = "1min", per_second = "400MiB" }}
stay = "1min"
"""
MINUTE_NS, SECOND_NS = 60 * 10**9, 10**9
MINUTES = 40  # of the scenario: more than there are turns
SETTLE = 2  # of them before the first turn
HOST_GIB, VMS, VM_MIB = 64, 40, 2560
BOUNDS_S = {"10s": 0.07, "2s": 0.15}  # of one core, for a VM-minute
FILL_PER_S = 5_000_000
HARVEST_MS = 2  # a GiB that VMs hold
PIECE = 1 << 16  # pages of a batch
MANY, MANY_TOUCHES, MANY_S = 256, 100_000_000, 60


def cell(
    epoch: str, memory: str = f"{HOST_GIB}GiB", size: str = f"{VM_MIB}MiB", vms: int = VMS, minutes: int = MINUTES
) -> Cell:
    """The cell of the suite; one of its VMs is the one that comes and goes."""
    text = SUITE.format(memory=memory, minutes=minutes, epoch=epoch, size=size, vms=vms - 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "minutes.toml")
        file.write_text(text)
        (found,) = plan.make(str(file), corpus="synthetic").cells
    return found


class Ours:
    """A fleet on a host, as a cell runs it."""

    def __init__(self, made: Cell, corpus: ClassTable) -> None:
        assert isinstance(made.spec, Living)
        self.host = memvirt.Host.of(made.host, corpus=corpus)
        self.fleet = LivingFleet(self.host, made.spec, corpus, 1, overcommit_percent=100, guest=None)
        self._driver = LivingDriver(self.host, self.fleet, guest=False, rows=256)
        self._now_ns = 0
        self.vm_minutes = 0.0

    def pass_minute(self) -> float:
        """Processor seconds of the next simulated minute, for each VM-minute of it."""
        began, vms = time.process_time(), max(1, len(self.fleet.vms))
        self._driver.go(Stretch("warm-up", self._now_ns, self._now_ns + MINUTE_NS))
        self._now_ns += MINUTE_NS
        self.vm_minutes += vms
        return (time.process_time() - began) / max(vms, len(self.fleet.vms))


class FlatVm:
    """A VM whose pages are all there."""

    def __init__(self, name: str, pages: int, table: Any) -> None:
        self.name, self.pages, self.table, self.sim_ns = name, pages, table, 0

    def destroy(self) -> None:
        """It ends; there is nothing to give back."""


class Limit:
    """The same streams, looked up in flat tables."""

    def __init__(self, made: Cell, corpus: ClassTable) -> None:
        self._tables, self._hit_ns = load("hit_limit"), made.host.costs.hit
        fleet: Any = LivingFleet
        self._fleet = fleet(self, made.spec, corpus, 1, overcommit_percent=100, guest=None)
        self._now_ns = 0

    def create(self, config: Any) -> FlatVm:
        """As a host does."""
        return FlatVm(config.name, config.memory, self._tables.Flat(config.memory))

    def pass_minute(self) -> float:
        """As that of `Ours`."""
        began, vms = time.process_time(), len(self._fleet.lives)
        for now_ns in range(self._now_ns, self._now_ns + MINUTE_NS, SECOND_NS):
            self._fleet.move_to(now_ns, now_ns + SECOND_NS)
            for life in self._fleet.lives.values():
                self._serve(life.vm, life.stream, now_ns + SECOND_NS)
        self._now_ns += MINUTE_NS
        return (time.process_time() - began) / max(1, vms, len(self._fleet.lives))

    def _serve(self, vm: FlatVm, stream: Any, until_ns: int) -> None:
        while vm.sim_ns < until_ns:
            batch = next(stream, None)
            if batch is None:
                vm.sim_ns = until_ns
                return
            vm.table.touch(batch.pages, batch.ops)
            begins_ns = vm.sim_ns if batch.due_ns is None else max(vm.sim_ns, int(batch.due_ns[0]))
            vm.sim_ns = begins_ns + len(batch.pages) * (batch.work_ns + self._hit_ns)


def rows(repeats: int) -> Iterator[Row]:
    corpus = synthetic(8192, seed=1)
    for epoch, bound_s in BOUNDS_S.items():
        yield from _minutes(epoch, bound_s, corpus, repeats)
    yield from _filling(corpus, repeats)
    yield _many(corpus)


def _minutes(epoch: str, bound_s: float, corpus: ClassTable, repeats: int) -> Iterator[Row]:
    ours, limit = Ours(cell(epoch), corpus), Limit(cell(epoch), corpus)
    for _ in range(SETTLE):
        ours.pass_minute(), limit.pass_minute()
    what = f"a minute of {VMS} VMs of {VM_MIB / 1024:g} GiB on {HOST_GIB} GiB, epoch {epoch}"
    reference = Reference(name="the same streams, flat tables", measure=limit.pass_minute, target=None)
    turns = min(repeats, MINUTES - SETTLE - 2)
    (row,) = compare(what, ours.pass_minute, [reference], unit="s/VM-min", repeats=turns)
    yield row
    assert row.ours is not None
    yield bounded(what, row.ours, bound_s, "s/VM-min", f"{row.turns} minutes")
    yield _harvest(ours.host)
    ours.host.check()
    ours.host.close()


def _harvest(owner: memvirt.Host) -> Row:
    """Accessed marks of all that VMs hold."""
    held = sum(vm.held_pages for vm in owner.snapshot().vms) / 262144
    took = []
    for _ in range(5):
        began = time.process_time()
        owner.harvest()
        took.append((time.process_time() - began) * 1e3 / held)
    return bounded(
        "collecting accessed marks", sorted(took)[2], HARVEST_MS, "ms/GiB", f"{held:.0f} GiB held, median of 5"
    )


def _filling(corpus: ClassTable, repeats: int) -> Iterator[Row]:
    """A VM that boots in bulk: pages filled from the corpus."""
    pages = all_pages(VM_MIB * 256)
    sources = (pages % (len(corpus.canonical) - 1) + 1).astype(np.uint32)
    ops = np.full(len(pages), FILL, np.uint8)
    parts = [slice(first, first + PIECE) for first in range(0, len(pages), PIECE)]
    batches = [(pages[part], ops[part], sources[part]) for part in parts]
    owner = memvirt.Host(memory=f"{VM_MIB + 256}MiB", content="fingerprint", corpus=corpus, seed=1)

    def ours() -> float:
        vm = owner.create_vm("vm", f"{VM_MIB}MiB")
        began = time.process_time()
        outcome = owner.run({vm: batches})[vm]
        spent = (time.process_time() - began) * 1e9 / len(pages)
        if outcome.done != len(pages):
            raise RuntimeError(f"{outcome.done} of {len(pages)} pages were filled: {outcome.reason}")
        vm.destroy()
        return spent

    def flat() -> float:
        frames, ids = np.zeros(len(pages), np.uint64), corpus.canonical.astype(np.uint64) << np.uint64(40)
        began = time.process_time()
        for part in parts:
            frames[pages[part]] = ids[sources[part]]
        return (time.process_time() - began) * 1e9 / len(pages)

    what = f"a VM of {VM_MIB / 1024:g} GiB filled in bulk"
    reference = Reference(name="ids into a flat table (NumPy)", measure=flat, target=None)
    (row,) = compare(what, ours, [reference], unit="ns/page", repeats=repeats)
    yield row
    assert row.ours is not None
    yield bounded(what, row.ours, 1e9 / FILL_PER_S, "ns/page", f"{1e3 / row.ours:.1f} M pages/s")


def _many(corpus: ClassTable) -> Row:
    """Where there is room for all of it: with overcommit it is the pages that go which take the time."""
    began = time.process_time()
    with memvirt.Host(memory=f"{MANY + MANY // 16}GiB", content="fingerprint", corpus=corpus) as host:
        vms = [host.create_vm(f"vm{number}", "1GiB") for number in range(MANY)]
        first, left = all_pages(vms[0].pages), MANY_TOUCHES - MANY * vms[0].pages
        for vm in vms:
            vm.access(first, writes(len(first)))
        hot = [zipf(len(first), PIECE, seed) for seed in range(16)]
        for turn in range(-(-left // PIECE)):
            vms[turn % MANY].access(hot[turn // MANY % len(hot)], reads(PIECE))
    took = time.process_time() - began
    return bounded(f"{MANY} VMs of 1 GiB: {MANY_TOUCHES // 10**6} M touches", took, MANY_S, "s of a core")
