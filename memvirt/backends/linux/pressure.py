"""Pressure: the share of time that the engine says its VMs wait for memory (psi = "linux"), beside the kernel's own PSI.

The kernel counts it for each control group of version 2 (memory.pressure; Documentation/accounting/psi.rst). *some* is the
time in which a task of the group is in reclaim, or waits for a page that had been active when it went. *full* is the time in
which no task of it does anything else. Of one process alone, as here, the two are the same on both sides. Of several they
would not be comparable on a busy machine: the kernel weighs processors by how busy they are, and the engine's VMs have one
each.

Shares are per mille of the time that the accesses took. Two things are compared, for each can be wrong alone. The count is of
pages that came back and had been active. The share of time depends on costs: the model's, and this machine's of the hour. So
the share has a wide tolerance, and the count a narrow one: it may be wrong for three of a hundred pages that came back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from memvirt.backends.linux import groups
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.limits import DEVICES, KERNELS, ORDERS, kernel_side, run
from memvirt.backends.linux.loads import load_of
from memvirt.backends.linux.pair import contents
from memvirt.backends.linux.undo import Changes
from memvirt.backends.rows import Row

PER_MILLE = 1000
SHARE_APART, SHARE_COVERED = 0.25, 3.0  # of the kernel's share
RESTORED_APART = 0.03  # of all pages that came back: for how many of them pressure is another one
COSTS = (
    "shares of time hang on what reclaim and the device take: the cost model is of another machine ('memvirt calibrate'); "
    "and the kernel counts the wait for a processor, too, while a task is in reclaim"
)
LOADS = (("zipf", 50), ("uniform", 75))


def pressed(device: str, changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """One VM under a limit, by several loads."""
    pages //= 2
    name = f"pressure: {device}"
    groups.place(None)  # before anything is changed
    corpus = contents(seed)
    settings: dict[str, Any] = ORDERS[KERNELS] | DEVICES[device][1] | {"psi": "linux"}
    DEVICES[device][0](changes, pages)
    for pattern, percent in LOADS:
        load = load_of(pattern, pages, seed, corpus)
        theirs = kernel_side(changes, load, percent, corpus)
        if "some_ns" not in theirs:
            raise Missing("nothing is said of pressure in groups (CONFIG_PSI, psi=1, control groups of version 2)")
        ours = run(load, theirs["room"], corpus, settings)
        yield from rows(name, f"{pattern} {percent} %", ours, theirs)


def rows(name: str, what: str, ours: dict[str, int], theirs: dict[str, int]) -> Iterator[Row]:
    """Pages that came back and had been active, and shares of time."""
    yield Row(
        mechanism=name, what=f"{what}: pages back that were active", engine=ours["restored"], kernel=theirs["restored"],
        tolerance=round(RESTORED_APART * theirs["faults"] / max(theirs["restored"], 1), 2),
    )  # fmt: skip
    for kind in ("some", "full"):
        engine, kernel = (round(PER_MILLE * side[f"{kind}_ns"] / max(side["elapsed_ns"], 1)) for side in (ours, theirs))
        row = Row(
            mechanism=name, what=f"{what}: time, {kind}", unit="per mille", engine=engine, kernel=kernel,
            tolerance=SHARE_APART,
        )  # fmt: skip
        yield row.unless_within(COSTS, SHARE_COVERED)


MECHANISMS: dict[str, Callable[[Changes, int, int], Iterator[Row]]] = {
    f"pressure: {device}": partial(pressed, device) for device in DEVICES
}
