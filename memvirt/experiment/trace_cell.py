"""One simulated cell: a trace of page numbers through one order of replacement, every access seen.

    miss_ratio = misses / requests
    of_optimum = hits / hits of the offline optimum on the same trace with the same capacity

First requests of a page are misses in every order and are counted in both; where even the optimum hits nothing there is
no share of it. The trace is made by the generators that drive VMs, so a scenario can be run on a host as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from memvirt.engine.replacement.registry import ORDERS
from memvirt.errors import InvariantError
from memvirt.experiment.plan import Cell
from memvirt.experiment.simulated import Simulated
from memvirt.results import derived
from memvirt.results.record import Record
from memvirt.simulation import simulate
from memvirt.workloads import Space, Stream


def trace_of(spec: Simulated, seed: int) -> npt.NDArray[np.uint32]:
    """The page numbers of a scenario's trace."""
    batches = spec.simulate.workload.batches(Space(spec.simulate.pages), Stream(seed, 0, "measured"))
    return np.concatenate([batch.pages for batch in batches])


def run_trace(record: Record, cell: Cell, spec: Simulated, optimum: Record | None) -> Record:
    """The cell's record; `optimum` is that of the offline optimum, None when the cell is it.

    `verified`: the misses lie between what no order avoids (the optimum's, and first requests) and all requests.
    """
    order = spec.baseline if cell.is_baseline else cell.host.replacement
    options: dict[str, Any] = {} if cell.is_baseline else dict(cell.host.replacement_options)
    if not cell.is_baseline and ORDERS[order].draws:
        options["seed"] = cell.host.seed
    found = simulate(order, trace_of(spec, cell.seed), cell.host.memory, detail=True, **options)
    least = found.misses if optimum is None else optimum.counters["misses"]
    if not max(found.distinct, least) <= found.misses <= found.requests:
        raise InvariantError(
            f"{cell.name}: {found.misses} misses of {found.requests} requests for {found.distinct} pages, "
            f"the optimum has {least}"
        )
    return replace(
        record,
        status="done",
        reason="",
        accesses=found.requests,
        counters={"requests": found.requests, "misses": found.misses, "compulsory_misses": found.distinct},
        derived=derived.of_trace(found.requests, found.misses, least),
        verified=True,
    )
