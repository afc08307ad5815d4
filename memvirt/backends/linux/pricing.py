"""Cost beside cost: what the engine's cost model says of an event, and what this machine's kernel takes for it.

The engine's number is the simulated time of the same accesses, by the model that ships; the kernel's is processor time, the
median of batches (memvirt.backends.linux.costs). The model is of another machine, so a row is no proof: it says by how much
a slowdown of a table would be another one here. Ten times what the kernel takes is a failure all the same.

Which way is faster is another question: the answer must be the same on both sides, where the kernel's own lie so far apart
that a busy machine cannot turn them around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from memvirt import host as engine
from memvirt.backends.linux import areas, costs
from memvirt.backends.linux.counting import HUGE_PAGES
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.limits import MARKS, kernel_side
from memvirt.backends.linux.loads import Load, load_of
from memvirt.backends.linux.pair import contents
from memvirt.backends.linux.undo import Changes
from memvirt.backends.measured import Measured
from memvirt.backends.rows import Row, skipped
from memvirt.inputs.corpus import Corpus
from memvirt.settings.costs import load as cost_model
from memvirt.settings.costs import of_giving
from memvirt.units import PAGE_SIZE
from memvirt.workloads.base import FILL, WRITE

MODEL = "the cost model is of another machine; 'memvirt calibrate' measures this one's"
APART, COVERED = 0.5, 9.0  # of the kernel's number: within a half is close; ten times as much is a failure
VISITS = 2  # candidates that reclaim looks at for a page that goes, about
CACHE_PERCENT = 60
RESIDENT_PERCENT = 75  # with less a group may run out of memory before a slow disk has taken its pages
CLEAR = 0.25  # of the longer time


def _row(mechanism: str, what: str, ours: float, theirs: int) -> Row:
    row = Row(mechanism=mechanism, what=what, unit="ns", engine=round(ours), kernel=theirs, tolerance=APART)
    return row.unless_within(MODEL, COVERED)


def faults(pages: int, seed: int) -> Iterator[Row]:
    """What any user can time."""
    name = "cost: faults"
    found: dict[str, Measured] = {}
    for measure in (costs.faults, costs.huge, costs.copies):
        try:
            found |= {each.name: each for each in measure(seed)}
        except Missing as reason:
            yield skipped(name, str(measure.__doc__).rstrip("."), str(reason))
    for key, ours in _simulated(min(pages, 8 * HUGE_PAGES)).items():
        if key in found:
            yield _row(name, found[key].what, ours, found[key].median)
    giving = of_giving(cost_model("default"))
    yield _row(name, found["release"].what, giving["release_page"], found["release"].median)


def _simulated(pages: int) -> dict[str, float]:
    """Simulated ns of an access, by the name of its measurement."""
    every, writes = np.arange(pages), np.full(pages, WRITE, np.uint8)
    with engine.Host(memory=(3 * pages + 2048) * PAGE_SIZE) as host:
        vm = host.create_vm("vm", pages * PAGE_SIZE)
        vm.access(every, writes)
        touched = vm.sim_ns / pages
        clone = vm.clone("clone")
        before = clone.sim_ns
        clone.access(every, writes)
        broken = (clone.sim_ns - before) / pages
    regions = max(1, pages // HUGE_PAGES)
    with engine.Host(memory=(regions * HUGE_PAGES + 4096) * PAGE_SIZE, provisioning="thin-huge") as host:
        vm = host.create_vm("vm", regions * HUGE_PAGES * PAGE_SIZE)
        vm.access(np.arange(regions) * HUGE_PAGES, np.full(regions, WRITE, np.uint8))
        huge = vm.sim_ns / regions
    return {"first_touch": touched, "first_touch_huge": huge, "cow_break": broken}


def zram(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """A page that goes to zram, and one that comes back."""
    name = "cost: zram"
    model = cost_model("default")
    ours = {
        "zram_store": model.same_filled
        + model.compress
        + model.zpool_store
        + model.evict
        + VISITS * model.reclaim_visit,
        "zram_load": model.fault + model.decompress + model.hit,
    }
    for each in costs.zram_timed(changes, seed):
        yield _row(name, each.what, ours[each.name], each.median)


def faster(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """Which is faster under a limit: a swap file, or zram."""
    name = "order: zram and a swap file"
    corpus = contents(seed)
    load = load_of("zipf", pages, seed, corpus)
    areas.one_page_at_a_time(changes)
    areas.no_zswap(changes)
    theirs: dict[str, int] = {}
    ours: dict[str, int] = {}
    for device, make, cache in (("zram", areas.zram, CACHE_PERCENT), ("a swap file", areas.file, 0)):
        with changes.apart():
            make(changes, pages)
            found = kernel_side(changes, load, RESIDENT_PERCENT, corpus)
        theirs[device] = found["ns"]
        ours[device] = _limited(load, found["resident"], corpus, {"zpool_percent": cache})
        yield _row(name, f"an access at {RESIDENT_PERCENT} % over {device}", ours[device], theirs[device])
    yield _first(name, ours, theirs)


def _first(name: str, ours: dict[str, int], theirs: dict[str, int]) -> Row:
    what = "zram is the faster one"
    if abs(theirs["zram"] - theirs["a swap file"]) < CLEAR * max(theirs.values()):
        return skipped(
            name, what, f"the kernel's two lie within {CLEAR * 100:g} % here: on a busy machine either may be first"
        )
    first = [int(side["zram"] < side["a swap file"]) for side in (ours, theirs)]
    return Row(mechanism=name, what=what, engine=first[0], kernel=first[1])


def _limited(load: Load, resident: int, corpus: Corpus, settings: dict[str, Any]) -> int:
    """Simulated ns of an access of a VM that may hold so many pages. The cache's frames are the host's, as zram's are."""
    with engine.Host(
        memory=4 * load.pages * PAGE_SIZE,
        swap=2 * load.pages * PAGE_SIZE,
        corpus=corpus,
        watermarks=MARKS,
        readahead=0,
        zpool_reject_above=PAGE_SIZE,
        **settings,
    ) as host:
        vm = host.create_vm("vm", load.pages * PAGE_SIZE, limit=resident * PAGE_SIZE)
        vm.access(np.arange(load.pages), np.full(load.pages, FILL, np.uint8), load.sources)
        vm.access(load.order[: load.warm], load.ops[: load.warm])
        before = vm.sim_ns
        outcome = vm.access(load.order[load.warm :], load.ops[load.warm :])
        if not outcome.done:
            raise RuntimeError(f"the engine stopped: {outcome.reason}")
        return (vm.sim_ns - before) // outcome.done


ANYONE: dict[str, Callable[[int, int], Iterator[Row]]] = {"cost: faults": faults}
MECHANISMS: dict[str, Callable[[Changes, int, int], Iterator[Row]]] = {
    "cost: zram": zram,
    "order: zram and a swap file": faster,
}
