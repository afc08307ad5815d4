"""One decision over 1,000 VMs, in processor time: the snapshot, the rule, its answer looked through and done.

Every built-in policy is asked on a host of 1,000 VMs with guests that hold 800 KiB each, at moments at which it acts on
what it sees; the row is that of the slowest, and the note names them all. Ages of pages are left out of snapshots for those
policies that do not look at them (`wants_ages`).

The host has harvested accessed marks for long. At harvest k of 80 all VMs access their pages from number 2 k on, so that
two more of their pages are left alone from then on at each: every VM has pages of each age of 1 .. 79 harvests, as many
buckets, and three of its pages come back after 1, 20 and 60 harvests, so that there are promotions. far-memory remembers
120 best ages of each VM. damon-reclaim, which would rest with so much free memory, works at any, and takes 1,000 pages. The
engine's work of finding and taking the pages that a policy reclaims is no part of the row; the note has it beside.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import numpy as np
from harness import Row, bounded

import memvirt
from memvirt import policies
from memvirt.deciding import Decisions
from memvirt.engine.host.engine import Engine
from memvirt.names import DECIDERS
from memvirt.policies.asking import Asked
from memvirt.policies.base import Targets

VMS = 1000
BOUND_MS = 10.0
STEP_NS = 16_000_000_000  # beyond every interval at which a policy acts again
HARVESTS, HARVEST = 80, "30s"
LEAST_BUCKETS = 60
PAGES = 200
OPTIONS = {"damon-reclaim": {"mid_permille": 1000, "high_permille": 1000, "quota_pages": 1000}}


def rows(repeats: int) -> Iterator[Row]:
    """One row: the slowest policy's decision against 10 ms."""
    with _host() as host:
        took = {name: _decision(host, name, max(5, repeats // 2)) for name in DECIDERS}
    slowest = max(took, key=lambda name: took[name])
    note = ", ".join(f"{name} {each}" for name, each in sorted(took.items(), key=lambda pair: pair[1], reverse=True))
    yield bounded(f"policies: a decision over {VMS:,} VMs, {slowest}", took[slowest].ms, BOUND_MS, "ms", note=note)


class Took(NamedTuple):
    """Processor time of a decision, and of taking the pages it reclaims."""

    ms: float
    taking_ms: float

    def __str__(self) -> str:
        return f"{self.ms:.1f}" + (f" (taking pages: {self.taking_ms:.1f})" if self.taking_ms else "")


class _Watched(Decisions):
    """Decisions of which one knows when all was done but to take pages."""

    began = decided = 0
    reclaims = False

    def apply(self, targets: Targets, engine: Engine, vms: Mapping[str, memvirt.Vm]) -> bool:
        acted = super().apply(replace(targets, reclaim_pages={}), engine, vms)
        self.decided, self.reclaims = time.process_time_ns(), bool(targets.reclaim_pages)
        return super().apply(targets, engine, vms) or acted if self.reclaims else acted


def _host() -> memvirt.Host:
    host = memvirt.Host(
        memory="6GiB",
        swap="4GiB",
        content="fingerprint",
        sharing="hash",
        swap_direct=False,
        seed=1,
        harvest_interval=HARVEST,
    )
    for number in range(VMS):
        host.create_vm(f"vm{number}", "4MiB", guest=True, reservation="100KiB", shares=1000 + number % 3)
    for harvest in range(HARVESTS):
        back = [PAGES - 1 - at for at, after in enumerate((1, 20, 60)) if harvest % (after + 1) == 0]
        pages = np.array([*range(2 * harvest, PAGES - 3), *back], np.uint32)
        for vm in host.vms:
            vm.access(pages, np.ones(len(pages), np.uint8))
        host.harvest()
    buckets = min(sum(age.cold_pages > 0 for age in vm.view().cold_ages) for vm in host.vms)
    assert buckets >= LEAST_BUCKETS, f"{buckets} buckets with pages in them"
    return host


def _decision(host: memvirt.Host, name: str, turns: int) -> Took:
    """Medians of processor time; the first turn is not counted."""
    asked, decisions = Asked(policies.build(name, OPTIONS.get(name, {}))), _Watched(host.config.harvest_interval)
    took, taking = [], []
    vms = {vm.name: vm for vm in host.vms}
    if name == "far-memory":
        decisions.apply(Targets(memo=_long_remembered(vms)), host.engine, vms)
    for turn in range(turns + 1):
        decisions.began = time.process_time_ns()
        decisions.make(asked, host.engine, vms, STEP_NS * (turn + 1))
        took.append((decisions.decided - decisions.began) / 1e6)
        taking.append((time.process_time_ns() - decisions.decided) / 1e6 if decisions.reclaims else 0.0)
    return Took(median(took[1:]), median(taking[1:]))


def _long_remembered(vms: Iterable[str]) -> dict[str, bytes]:
    """When each began, and a best age between 2 and 40 minutes for each of the past 120, as the rule has it."""
    names, rng = list(vms), np.random.default_rng(1)
    ages = rng.integers(4, HARVESTS, (len(names), 120)) * 30_000_000_000
    pasts = np.column_stack((np.full((len(names), 2), (-(10**13), 120)), ages))
    return {"vms": "\0".join(names).encode(), "pasts": pasts.astype("<i8").tobytes()}
