"""Results as pandas frames: what a notebook works with, without parsing.

    found = memvirt.read_results("results/quick")
    found.cells.query("role == 'column'").pivot_table("slowdown", "scenario", "preset")

Every frame begins with the columns that name a cell (KEYS); what follows them is

    cells       a row a cell     how it ended, what it was made with, and every number that follows from its counts
    counters    a row a number   part (counters, sharing, cpu_ns, usage, stores, fragmentation), metric, unit, value
    histograms  a row a bucket   fault, sim_ns (its lower bound), count: every fault of the measured phase
    samples     a row a moment   phase, sim_ns, and the host's metrics then: states, and counts gained since the row before
    vms         the same of VMs  phase, sim_ns, vm, held_pages, active_pages, balloon_pages; none before it is created
    aging      a row a cycle    of scenarios that age: what the host's memory looked like after it
    validated   a row a number   of what `memvirt validate` has kept, all other frames being empty then: run, mechanism,
                                 what, engine, kernel (NaN where there is none), difference, tolerance, verdict, reason

Names are those of memvirt.metrics.registry, and `found.units` has the unit of each. Names of cells are categories, counts
int64; ratios are float64, and NaN where a cell has none (because it was refused, say). `samples` and `vms` are empty for
records of schema 2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from memvirt.backends import comparison
from memvirt.backends.rows import Row, skipped
from memvirt.errors import ConfigError
from memvirt.metrics.registry import unit_of
from memvirt.names import SAMPLED_COUNTS, SAMPLED_OF_VM, SAMPLED_STATES
from memvirt.results.record import Record, indices
from memvirt.results.run_folder import load

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]

KEYS = ("run", "suite", "scenario", "ratio", "preset", "role", "seed")
TOLD = ("tier", "kind", "status", "reason", "verified", "accesses", "sim_ns", "commit", "config_sha256")

Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Results:
    """Frames of one run or of several; see memvirt.results.frames."""

    cells: pandas.DataFrame
    counters: pandas.DataFrame
    histograms: pandas.DataFrame
    samples: pandas.DataFrame
    vms: pandas.DataFrame
    aging: pandas.DataFrame
    validated: pandas.DataFrame
    units: Mapping[str, str]  # metric -> unit


def read_results(path: Path | Sequence[Path]) -> Results:
    """The frames of a results folder, or of several; `run` says which a row is from. FolderError or RecordError names
    what cannot be read; ConfigError without pandas."""
    folders = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not folders:
        raise ConfigError("read_results: no folder was given")
    compared = [folder for folder in folders if comparison.is_folder(folder)]
    records = [(os.fspath(folder), record) for folder in folders if folder not in compared for record in load(folder)]
    return frames(records, [(os.fspath(folder), row) for folder in compared for row in comparison.read(folder).rows])


def frames(records: Sequence[tuple[str, Record]], compared: Sequence[tuple[str, Row]] = ()) -> Results:
    """The frames of records and of rows of comparisons, each with the name of its run."""
    cells = _cells(records)
    counters = _counters(records)
    histograms = _tall(records, ("fault", "sim_ns", "count"), [_histogram(record) for _, record in records])
    times = [_times(record) for _, record in records]
    sampled = (*SAMPLED_STATES, *SAMPLED_COUNTS)
    samples = _tall(
        records, ("phase", "sim_ns", *sampled), [_samples(*each, sampled) for each in _beside(records, times)]
    )
    vms = _tall(records, ("phase", "sim_ns", "vm", *SAMPLED_OF_VM), [_vms(*each) for each in _beside(records, times)])
    cycles = tuple(dict.fromkeys(name for _, record in records for sample in record.samples for name in sample))
    aged = [{name: _ints(sample[name] for sample in record.samples) for name in cycles} for _, record in records]
    named = {*cells.columns, *counters["metric"].unique(), *samples.columns, *vms.columns, *cycles, "count"}
    units = {name: unit_of(name) for name in sorted(named)}
    return Results(
        cells=cells,
        counters=counters,
        histograms=histograms,
        samples=samples,
        vms=vms,
        aging=_tall(records, cycles, aged),
        validated=_validated(compared),
        units={name: unit for name, unit in units.items() if unit},
    )


NUMBERS = ("engine", "kernel", "difference", "tolerance", "covered")  # of a row of a comparison


def _validated(compared: Sequence[tuple[str, Row]]) -> pandas.DataFrame:
    rows = [{"run": run, **row.as_dict()} for run, row in compared]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("run", *skipped("", "", "").as_dict())}
    for name in NUMBERS:
        columns[name] = _numbers(columns[name])
    return _frame(columns)


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ImportError as error:
        raise ConfigError(f"read_results needs pandas: pip install memvirt[report] ({error})") from None


def _keys(run: str, record: Record) -> tuple[Any, ...]:
    """The values of KEYS."""
    place = (record.base_scenario, float(record.ratio), record.preset, record.role, record.seed)
    return (run, record.suite, *place)


def _frame(columns: Mapping[str, Any]) -> pandas.DataFrame:
    """A frame whose names are categories."""
    made = _pandas().DataFrame(columns)
    text = [name for name in made.columns if made[name].dtype == object or str(made[name].dtype) == "str"]
    framed: pandas.DataFrame = made.astype(dict.fromkeys(text, "category"))
    return framed


def _cells(records: Sequence[tuple[str, Record]]) -> pandas.DataFrame:
    rows = [dict(zip(KEYS, _keys(run, record), strict=True)) for run, record in records]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in KEYS}
    columns |= {name: [getattr(record, name) for _, record in records] for name in TOLD}
    for name in ("memvirt", "lz4", "lz4_route", "numpy"):
        columns[f"version_{name}"] = [record.versions.get(name, "") for _, record in records]
    columns["corpus"] = [record.inputs.get("corpus", "") for _, record in records]
    for name in dict.fromkeys(name for _, record in records for name in record.swept):
        columns[f"sweep.{name}"] = [record.swept.get(name, "") for _, record in records]
    columns["accesses_per_s"] = [record.measured.get("accesses_per_s", 0) for _, record in records]
    for name in dict.fromkeys(name for _, record in records for name in record.derived):
        columns[name] = _numbers([record.derived.get(name, "") for _, record in records])
    return _frame(columns)


def _numbers(values: Sequence[Any]) -> Any:
    """A column of numbers, "" and None being none: counts as integers, nullable ones where any is missing."""
    missing = [value is None or value == "" for value in values]
    counts = [value for value, none in zip(values, missing, strict=True) if not none]
    if not counts or not all(isinstance(value, int) for value in counts):
        return np.array([np.nan if none else float(value) for value, none in zip(values, missing, strict=True)])
    if not any(missing):
        return _ints(counts)
    whole = [None if none else value for value, none in zip(values, missing, strict=True)]
    return _pandas().array(whole, dtype="Int64")


def _counters(records: Sequence[tuple[str, Record]]) -> pandas.DataFrame:
    parts, metrics, values = [], [], []
    for _, record in records:
        found = list(_counts(record))
        parts.append({"part": [part for part, _, _ in found], "metric": [metric for _, metric, _ in found]})
        metrics += parts[-1]["metric"]
        values.append(_ints(value for _, _, value in found))
    units = {metric: unit_of(metric) for metric in dict.fromkeys(metrics)}
    rows = [
        {**part, "unit": [units[metric] for metric in part["metric"]], "value": value}
        for part, value in zip(parts, values, strict=True)
    ]
    return _tall(records, ("part", "metric", "unit", "value"), rows)


def _counts(record: Record) -> Iterable[tuple[str, str, int]]:
    """(part, metric, value) of every count and state."""
    for part, found in (("counters", record.counters), ("sharing", record.sharing)):
        yield from ((part, name, value) for name, value in found.items())
    for part, found in (("cpu_ns", record.cpu_ns), ("usage", record.usage), ("stores", record.stores)):
        yield from ((part, f"{part}.{name}", value) for name, value in found.items())
    yield from (("fragmentation", name, value) for name, value in indices(record))


def _histogram(record: Record) -> dict[str, Any]:
    rows = [(kind, value, count) for kind, pairs in record.histograms.items() for value, count in pairs]
    return {
        "fault": [kind for kind, _, _ in rows],
        "sim_ns": _ints(value for _, value, _ in rows),
        "count": _ints(count for _, _, count in rows),
    }


def _times(record: Record) -> tuple[list[str], np.ndarray[Any, Any]]:
    """(phase, time) of the rows of a record's time line."""
    line = record.timeline
    return [stretch.phase for stretch in line.phases for _ in range(stretch.rows)], _ints(line.sim_ns)


def _beside(records: Sequence[tuple[str, Record]], times: Sequence[Any]) -> Iterable[tuple[Record, Any]]:
    return zip((record for _, record in records), times, strict=True)


def _samples(record: Record, times: tuple[list[str], Any], names: Sequence[str]) -> dict[str, Any]:
    phases, sim_ns = times
    none = np.zeros(len(phases), np.int64)
    host = record.timeline.host
    return {
        "phase": phases,
        "sim_ns": sim_ns,
        **{name: _ints(host[name]) if name in host else none for name in names},
    }


def _vms(record: Record, times: tuple[list[str], Any]) -> dict[str, Any]:
    phases, sim_ns = times
    vms, none = record.timeline.vms, [0] * len(phases)
    return {
        "phase": phases * len(vms),
        "sim_ns": np.tile(sim_ns, len(vms)),
        "vm": [vm for vm in vms for _ in phases],
        **{
            name: _ints(value for columns in vms.values() for value in columns.get(name, none))
            for name in SAMPLED_OF_VM
        },
    }


def _ints(values: Iterable[int]) -> np.ndarray[Any, Any]:
    return np.fromiter(values, np.int64)


def _tall(
    records: Sequence[tuple[str, Record]], names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> pandas.DataFrame:
    """A frame of the rows of all records, KEYS repeated in front of `names`."""
    lengths = [len(each[names[0]]) if names else 0 for each in rows]
    keys = [_keys(run, record) for run, record in records]
    columns: dict[str, Any] = {
        name: _repeated([key[place] for key in keys], lengths) for place, name in enumerate(KEYS)
    }
    for name in names:
        parts = [each[name] for each in rows]
        if parts and isinstance(parts[0], list):
            columns[name] = _categories([text for part in parts for text in part])
        else:
            columns[name] = np.concatenate([*parts, np.zeros(0, np.int64)])
    return _frame(columns)


def _repeated(values: Sequence[Any], lengths: Sequence[int]) -> Any:
    """A value for each row of its record: text as categories, whose codes are repeated and not the text."""
    if values and not isinstance(values[0], str):
        return np.repeat(np.array(values), lengths)
    names = list(dict.fromkeys(values))
    place = {name: index for index, name in enumerate(names)}
    codes = np.repeat(np.array([place[value] for value in values], np.int32), lengths)
    return _pandas().Categorical.from_codes(codes, categories=names)


def _categories(values: Sequence[str]) -> Any:
    names = list(dict.fromkeys(values))
    place = {name: index for index, name in enumerate(names)}
    return _pandas().Categorical.from_codes(_ints(place[value] for value in values), categories=names)
