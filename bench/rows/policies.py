"""One decision over 1,000 VMs, in processor time: the snapshot, the rule, its answer looked through and done.

Every built-in policy is asked on a host of 1,000 VMs with guests that hold 800 KiB each, at moments at which it acts on
what it sees; the row is that of the slowest, and the note names them all. Ages of pages are left out of snapshots for those
policies that do not look at them (`wants_ages`).
"""

import time
from collections.abc import Iterator
from statistics import median

import numpy as np
from harness import Row, bounded

import memvirt
from memvirt import policies
from memvirt.deciding import Decisions
from memvirt.names import DECIDERS
from memvirt.policies.asking import Asked

VMS = 1000
BOUND_MS = 10.0
STEP_NS = 16_000_000_000  # beyond every interval at which a policy acts again


def rows(repeats: int) -> Iterator[Row]:
    """One row: the slowest policy's decision against 10 ms."""
    with _host() as host:
        took = {name: _decision_ms(host, name, max(5, repeats // 2)) for name in DECIDERS}
    slowest = max(took, key=lambda name: took[name])
    note = ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(took.items(), key=lambda pair: -pair[1]))
    yield bounded(f"policies: a decision over {VMS:,} VMs, {slowest}", took[slowest], BOUND_MS, "ms", note=note)


def _host() -> memvirt.Host:
    host = memvirt.Host(memory="6GiB", swap="4GiB", content="fingerprint", sharing="hash", swap_direct=False, seed=1)
    pages = np.arange(200, dtype=np.uint32)
    for number in range(VMS):
        vm = host.create_vm(f"vm{number}", "4MiB", guest=True, reservation="100KiB", shares=1000 + number % 3)
        vm.access(pages, np.ones(len(pages), np.uint8))
    return host


def _decision_ms(host: memvirt.Host, name: str, turns: int) -> float:
    """Median of processor time, ms; the first turn is not counted."""
    asked, decisions, took = Asked(policies.build(name, {})), Decisions(), []
    vms = {vm.name: vm for vm in host.vms}
    for turn in range(turns + 1):
        began = time.process_time_ns()
        decisions.make(asked, host.engine, vms, STEP_NS * (turn + 1))
        took.append((time.process_time_ns() - began) / 1e6)
    return median(took[1:])
