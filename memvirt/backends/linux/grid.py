"""What prediction is worth: many loads, with more and less room, over each device, beside every order.

Of each load the kernel's major faults stand beside those of the order that follows its rules, and, once, of every other
order. How far `twolist` is off in the mean is a row of each device. A load's
accesses are generated, or those of a trace.

Two runs of the kernel are not alike. Over zram its faults were apart by 0.1 % in most loads of 8,192 pages, by 0.3 %
at most (Linux 6.18, two or three runs of each). One run is as good as their median where the claim is 2 %. A load of which
one run is further apart from the engine runs twice more; the median stands in the row, and how far they lie apart beside it.

The other thing that a simulation is asked for is which preset is the faster one. So the time of an access over zram and over
zswap is held against that over a swap file, with as many pages resident. Where the kernel's two lie apart, the engine's must
lie the same way round. zram and zswap are not held against each other: with one codec they take the same time in the engine,
and this kernel's zswap may have another codec.

zram is also held against the swap file with equal memory. Its compressed pages are charged to it then, as they would be on a
host of that size, so fewer of its pages are resident. Which of the two is first depends on how slow the disk is.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from memvirt.backends.linux import groups
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.limits import (
    BATCH,
    DEVICES,
    FAULTS_COVERED,
    HARVEST,
    KERNELS,
    ORDERS,
    Limited,
    beside,
    kernel_side,
    run,
)
from memvirt.backends.linux.loads import PATTERNS, Load, load_of, recorded
from memvirt.backends.linux.pair import contents
from memvirt.backends.linux.undo import Changes
from memvirt.backends.rows import Row, skipped
from memvirt.inputs.corpus import Corpus
from memvirt.settings import orders as order_table

NAME = "grid"
PERCENT, TIMES = (90, 75, 50, 25), 12  # resident; accesses a page
APART = 0.02  # of each load
MEAN, MEAN_PAGES = 0.005, 32768  # of all loads in the mean, of so many pages; with fewer a batch of 32 is a larger part
EDGE = BATCH // 2
MORE = 2  # runs of the kernel, where one is too far apart
FAR = 20.0  # what is told of another order is no claim: lfu has six times the kernel's faults
CLEAR = 0.25  # of the longer time: closer together, either may be first on a busy machine
DISK = "swap file"
DISK_COVERED, DISK_MEAN_COVERED = 0.25, 0.05
WRITTEN_FIRST = (
    "over a disk a page has left when it is written: until then it is found in the swap cache, and where it is put then is "
    "another place in the kernel's lists"
)
NEAR = 0.06  # of all pages: what is about the same memory

Found = dict[tuple[str, str, int], dict[str, int]]  # device, load, percent


def grid(changes: Changes, pages: int, seed: int, trace: Path | None = None) -> Iterator[Row]:
    """Every load with every share of its pages resident, over every device."""
    groups.place(None)  # before anything is changed
    corpus = contents(seed)
    loads = (
        {name: load_of(name, pages, seed, corpus, TIMES) for name in PATTERNS}
        if trace is None
        else {"trace": recorded(trace, seed, corpus)}
    )
    hosts = {name: Limited(load, corpus, ORDERS[KERNELS]) for name, load in loads.items()}
    theirs: Found = {}
    for device in DEVICES:
        try:
            with changes.apart():
                pool = DEVICES[device][0](changes, max(load.pages for load in loads.values()))
                yield from _over(changes, device, pool, loads, hosts, corpus, theirs)
        except Missing as reason:
            yield skipped(NAME, f"over {device}", str(reason))
    yield from _faster(loads, corpus, theirs)


def _over(
    changes: Changes,
    device: str,
    pool: Any,
    loads: dict[str, Load],
    hosts: dict[str, Limited],
    corpus: Corpus,
    theirs: Found,
) -> Iterator[Row]:
    """Faults over one device. Other orders are told of the first device alone: where pages go is no matter to them."""
    apart = []
    every = not theirs
    for name, load in loads.items():
        for percent in PERCENT:
            charged = pool if device == "zram" else None
            runs = [kernel_side(changes, load, percent, corpus, pool=charged)]
            if _distance(hosts[name], runs[0]) > APART:
                runs += [kernel_side(changes, load, percent, corpus, pool=charged) for _ in range(MORE)]
            runs.sort(key=itemgetter("faults"))
            theirs[device, name, percent] = seen = runs[len(runs) // 2]
            found = {KERNELS: hosts[name].having(seen["room"])}
            if every:
                found |= {order: run(load, seen["room"], corpus, settings) for order, settings in others().items()}
            for row in beside(NAME, f"{device}, {name} {percent} %", "faults", (APART, FAULTS_COVERED), seen, found):
                if not row.what.endswith(KERNELS):
                    yield row.unless_within(row.reason, FAR)
                elif row.failed and device == DISK:
                    yield row.unless_within(WRITTEN_FIRST, DISK_COVERED)
                else:
                    yield _at_an_edge(row, hosts[name], runs) if row.failed else row
            apart.append(_distance(hosts[name], seen))
    mean = round(100_000 * sum(apart) / len(apart))
    pages = max(load.pages for load in loads.values())
    row = Row(
        mechanism=NAME, what=f"{device}: 100,000 less mean distance",
        engine=100_000 - mean, kernel=100_000, tolerance=MEAN * max(1.0, MEAN_PAGES / pages),
    )  # fmt: skip
    yield row.unless_within(WRITTEN_FIRST, DISK_MEAN_COVERED) if device == DISK else row


def others() -> dict[str, dict[str, Any]]:
    """The settings of every other order."""
    names = [name for name in order_table.ORDERS if name != KERNELS]
    return {name: ORDERS.get(name, {"replacement": name, **HARVEST}) for name in names}


def _distance(host: Limited, seen: dict[str, int]) -> float:
    """How far the engine's faults are from the kernel's, as a part of these."""
    return abs(host.having(seen["room"])["faults"] - seen["faults"]) / max(seen["faults"], 1)


def _at_an_edge(row: Row, host: Limited, runs: list[dict[str, int]]) -> Row:
    """A row that is too far apart: with a reason where a few pages of room more or less move the engine as far, or the
    kernel's own runs lie as far apart."""
    room, kernels = runs[len(runs) // 2]["room"], [seen["faults"] for seen in runs]
    near = [row.engine or 0, *(host.having(room + more)["faults"] for more in (-EDGE, EDGE))]
    reason = f"{EDGE} pages of room more or less make {min(near):,} to {max(near):,} of the engine's"
    reason += f"; {len(runs)} runs of the kernel {kernels[0]:,} to {kernels[-1]:,}"
    covered = max(max(near) - min(near), kernels[-1] - kernels[0]) / max(row.kernel or 0, 1)
    return row.unless_within(reason, covered + row.tolerance)


# ---- which is the faster one


def _faster(loads: dict[str, Load], corpus: Corpus, theirs: Found) -> Iterator[Row]:
    """Of each load and share: how many pairs of devices that the kernel tells apart lie the same way round."""
    measured = {device for device, *_ in theirs}
    if DISK not in measured or len(measured) < 2:
        return
    for name, load in loads.items():
        hosts = {device: Limited(load, corpus, ORDERS[KERNELS] | settings) for device, (_, settings) in DEVICES.items()}
        for percent in PERCENT:
            seen = {device: theirs[device, name, percent] for device in DEVICES if (device, name, percent) in theirs}
            if DISK not in seen:
                continue
            ours = {device: hosts[device].having(found["room"])["ns"] for device, found in seen.items()}
            yield same_order(f"{name} {percent} %: faster than a disk", ours, {key: seen[key]["ns"] for key in seen})
        yield from _with_its_pool(name, load, hosts, theirs)


def same_order(what: str, ours: dict[str, int], theirs: dict[str, int], covered: float = 0.0) -> Row:
    """A row: devices that the kernel tells apart from a disk, and for how many of them the engine has the same first."""
    disk = theirs[DISK]
    pairs = [(name, DISK) for name, ns in theirs.items() if name != DISK and abs(ns - disk) >= CLEAR * max(ns, disk)]
    if not pairs:
        return skipped(NAME, what, f"the kernel's times lie within {CLEAR * 100:g} %: either may be the first")
    same = sum((ours[one] < ours[two]) == (theirs[one] < theirs[two]) for one, two in pairs)
    row = Row(mechanism=NAME, what=what, engine=same, kernel=len(pairs))
    told = ", ".join(f"{name} {ours[name]:,} beside {theirs[name]:,}" for name in theirs)
    return row.unless_within(f"ns of an access of {what.partition(':')[0]}, engine's beside kernel's: {told}", covered)


def _with_its_pool(name: str, load: Load, hosts: dict[str, Limited], theirs: Found) -> Iterator[Row]:
    """A disk at one share beside zram at the one at which its pool fills up what is missing to about the same."""
    for upper in PERCENT:
        disk = theirs.get((DISK, name, upper))
        fuller = {
            abs(found["resident"] + found["pool"] - upper * load.pages // 100): found
            for (device, of, lower), found in theirs.items()
            if device == "zram" and of == name and lower < upper
        }
        if disk is None or not fuller or min(fuller) > NEAR * load.pages:
            continue
        seen = {"zram": fuller[min(fuller)], DISK: disk}
        ours = {device: hosts[device].having(found["room"])["ns"] for device, found in seen.items()}
        what = f"{name} {upper} %, pool inside: faster"
        yield same_order(what, ours, {device: found["ns"] for device, found in seen.items()}, 1.0)
