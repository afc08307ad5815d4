"""Cells of a run, run again here: their records have to come out digit for digit.

Before that everything is compared that may rightly change a digit: LZ4 and the route to it, the pages, the configuration
that this memvirt makes of what was asked for. What differs is named, and the cells are not run: a difference would tell
nothing. Results may come from anyone, so nothing that they name is executed: where a column, wherever it says so, has a
decider in a file, the run is not run again.

The cells are taken in the order of the hashes of their names: spread over the run, and the same for everyone.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memvirt.errors import MemvirtError
from memvirt.experiment import plan, sizing
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.plan import Cell, Plan
from memvirt.report.check import SHOWN, Check, Standing, skipped
from memvirt.results.manifest import Manifest
from memvirt.results.record import Record, comparable, differences
from memvirt.untrusted import PROGRAM, looking
from memvirt.versions import versions

MAY_DIFFER = ("commit", "versions")
DECIDING = ("lz4", "lz4_route")

OpenCorpus = Callable[[str], Any]


@looking()
def plan_of(manifest: Manifest, suite: str) -> Plan:
    """The plan that this memvirt makes of what was asked for; `suite` is a name or a file. ConfigError where a column has
    a decider in a file, which is not run."""
    asked = manifest.asked
    if asked.search is not None:
        made = sizing.again(asked, suite)
        return made.of(made.named(manifest.cells))
    return plan.make(
        suite,
        asked.tier,
        only=asked.presets,
        scenarios=asked.scenarios,
        overrides=asked.settings,
        seeds=asked.seeds,
        corpus=asked.corpus,
        trace=asked.trace,
        streams=asked.streams,
        times=asked.times,
        speed=asked.speed,
        per_second=asked.per_second,
        fill=asked.fill,
        swept=asked.sweep,
        most_cells=asked.most_cells,
    )


def is_of(manifest: Manifest, suite: str) -> bool:
    """Whether this suite is what was run: all its cells have the configuration that run.json says."""
    try:
        return {cell.name: cell.sha256() for cell in plan_of(manifest, suite).whole()} == manifest.cells
    except MemvirtError:
        return False


def run_again(
    manifest: Manifest, records: Sequence[Record], count: int, suite: str, open_corpus: OpenCorpus, corpus: str
) -> Iterator[Check]:
    """A line for each of `count` cells, or one that says why none can be run."""
    name = "rerun"
    here = versions()
    other = [f"{key} {manifest.versions.get(key, 'unknown')} there, {here[key]} here" for key in DECIDING]
    if [manifest.versions.get(key) for key in DECIDING] != [here[key] for key in DECIDING]:
        yield skipped(name, f"{'; '.join(other)}: compressed sizes may differ, so a difference would mean nothing")
        return
    try:
        planned = plan_of(manifest, suite)
        run = prepare(open_corpus(corpus))
    except MemvirtError as error:
        told = "; ".join(line.strip() for line in str(error).splitlines())
        if PROGRAM in told:
            told += f"; if you trust it: {shlex.join(['memvirt', *manifest.asked.words()])}"
        yield skipped(name, f"cannot be set up: {told}")
        return
    wanted = manifest.inputs.get("corpus", "")
    if run.corpus.sha256 != wanted:
        yield skipped(
            name,
            f"the pages are {wanted[:12]} there, {run.corpus.sha256[:12]} here; name the same corpus by --corpus, or "
            "have the bundle made --with-pages",
        )
        return
    cells, by_name = {cell.name: cell for cell in planned.cells}, {record.cell: record for record in records}

    def ran(cell: Cell) -> Record:
        with looking():
            return run_cell(run, cell, by_name.get(planned.baseline_of(cell).name))

    for record in chosen(records, count):
        yield _again(record, cells.get(record.cell), ran)


def chosen(records: Sequence[Record], count: int) -> list[Record]:
    """The records whose cells are run again: of columns, and of such that came to an end."""
    ended = [record for record in records if record.role == "column" and record.status != "failed"]
    return sorted(ended, key=lambda record: hashlib.sha256(record.cell.encode()).digest())[:count]


def _again(record: Record, cell: Cell | None, run: Callable[[Cell], Record]) -> Check:
    name = f"rerun {record.cell}"
    if cell is None:
        return Check(Standing.FAIL, name, "no cell of what was asked for is called so")
    if cell.sha256() != record.config_sha256:
        apart = list(differences(record.config, cell.config()))
        told = [f"{place} {one} there, {other} here" for place, one, other in apart[:SHOWN]]
        return Check(
            Standing.FAIL, name, f"this memvirt makes another configuration of what was asked for ({'; '.join(told)})"
        )
    now, then = comparable(run(cell)), comparable(record)
    places = [key for key in then if key not in MAY_DIFFER and now[key] != then[key]]
    if not places:
        return Check(Standing.PASS, name, f"{record.accesses} accesses, the same digit for digit")
    first = next(differences(_named(then, places), _named(now, places)))
    return Check(
        Standing.FAIL, name, f"{first[0]} is {_short(first[1])} there, {_short(first[2])} here; {_made(record)}"
    )


def _named(record: Mapping[str, Any], places: Sequence[str]) -> dict[str, Any]:
    return {place: record[place] for place in places}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _made(record: Record) -> str:
    here = versions()["memvirt"]
    return f"it was made by memvirt {record.versions.get('memvirt', 'unknown')}, commit {record.commit}; this is {here}"


def suite_of(folder: Path, manifest: Manifest, name: str) -> str:
    """The suite's own file where it lies in a bundle, and was a file; else what was asked for."""
    beside = folder / name
    return str(beside) if manifest.asked.suite.endswith(".toml") and os.path.isfile(beside) else manifest.asked.suite
