"""A pyperf program that times one cell: `python -m memvirt.timing.worker --cell FILE --corpus FILE [pyperf's options]`.

A process gives one value: the seconds that the engine took for the measured phase. Host, VMs, fill and warm-up come
before it and are not timed, nor is making the streams: their batches are laid out beforehand. The simulated numbers of
the phase ride along as mv_* metadata; they are the same in every process, and the same as in the cell's record.
"""

from __future__ import annotations

import argparse
import gc
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyperf  # type: ignore[import-untyped]

from memvirt.errors import TimingError
from memvirt.experiment.fleet import build
from memvirt.experiment.plan import Cell
from memvirt.experiment.scenario import Scenario
from memvirt.host import Host
from memvirt.inputs import load
from memvirt.results.record import counter_difference
from memvirt.timing.hook import publish
from memvirt.timing.samples import HOOK, benchmark_name

SCHEMA = 1  # of the mv_* metadata
# 1 - first version.


def measure(loops: int, cell: Cell, corpus_file: str) -> float:
    """Seconds of the measured phase. A cell runs once in a process: its second run would find caches warm."""
    if loops != 1:
        raise ValueError(f"{loops} loops: a cell runs once in a process")
    if not cell.spec.times_wall:
        raise TimingError(
            f"{cell.name}: only scenarios with a fleet are timed; bench/bench_replacement.py times orders"
        )
    spec = cast(Scenario, cell.spec)
    corpus = load(Path(corpus_file))
    host = Host.of(cell.host, corpus=corpus)
    fleet = build(host, spec, corpus, cell.seed, overcommit_percent=cell.overcommit_percent, guest=cell.guest)
    *before, measured = fleet.phases
    for phase in before:
        _run(host, iter(phase), phase.name)
    counters, cpu_ns = host.counters(), host.cpu_ns()
    gc.collect()
    gc.disable()
    took = _run(host, iter(measured), measured.name)
    gc.enable()
    publish(
        schema=SCHEMA,
        suite=cell.suite,
        scenario=cell.scenario,
        preset=cell.preset,
        seed=cell.seed,
        config_sha256=cell.sha256(),
        corpus_sha256=corpus.sha256,
        accesses=took.accesses,
        sim_ns=took.sim_ns,
        **counter_difference(host.counters(), counters),
        **{f"cpu_ns_{name}": value for name, value in counter_difference(host.cpu_ns(), cpu_ns).items()},
    )
    return took.elapsed_ns / 1e9


@dataclass(slots=True)
class _Took:
    elapsed_ns: int = 0  # in the engine, by this machine's clock
    accesses: int = 0
    sim_ns: int = 0  # summed over VMs


def _run(host: Host, steps: Iterator[Any], phase: str) -> _Took:
    took = _Took()
    for step in steps:
        streams = {vm: iter(list(stream)) for vm, stream in step.items()}
        took.sim_ns -= sum(max(vm.sim_ns, host.sim_ns) for vm in streams)
        began = time.perf_counter_ns()
        outcomes = host.run(streams)
        took.elapsed_ns += time.perf_counter_ns() - began
        took.sim_ns += sum(vm.sim_ns for vm in streams)
        for vm, outcome in outcomes.items():
            took.accesses += outcome.done
            if outcome.reason != "done":
                raise TimingError(f"{vm.name} stopped in phase {phase} after {outcome.done} accesses: {outcome.reason}")
    return took


def _pass_on(command: list[str], args: argparse.Namespace) -> None:
    """Our options for the process that pyperf starts."""
    command += ["--cell", args.cell, "--corpus", args.corpus]


def main() -> None:
    """The program."""
    runner = pyperf.Runner(values=1, warmups=0, processes=1, loops=1, add_cmdline_args=_pass_on)
    runner.argparser.add_argument(
        "--cell", required=True, metavar="FILE", help="a pickled memvirt.experiment.plan.Cell, of our own making"
    )
    runner.argparser.add_argument("--corpus", required=True, metavar="FILE", help="the corpus of its VMs")
    args = runner.parse_args()
    if args.hook is None:
        args.hook = [HOOK]
    cell = pickle.loads(Path(args.cell).read_bytes())
    runner.bench_time_func(benchmark_name(cell), measure, cell, args.corpus)


if __name__ == "__main__":
    main()
