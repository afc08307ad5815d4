"""Results as Bencher Metric Format, for continuous benchmarking: {benchmark: {measure: {value, lower_value, upper_value}}}.

A benchmark is a scenario at a ratio under a preset, a measure one of the suite's columns. The value is the mean over
seeds; the limits are its 95 % interval, and are left out with a single seed, where there is none. What this machine's
clock said is left out: it would raise alarms about the machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean

from memvirt.report.columns import Column
from memvirt.report.statistics import mean_interval
from memvirt.report.summary import groups, ratio_label
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record

Measure = dict[str, float]


def dumps(records: Sequence[Record], shown: Shown = USUAL) -> str:
    """The JSON of all cells that are done."""
    found: dict[str, dict[str, Measure]] = {}
    for group in groups(records, shown):
        columns = [column for column in group.columns if not column.wall]
        for row in group.rows:
            if row.done:
                name = f"{group.scenario} {ratio_label(group.ratio)} {row.preset}"
                measures = {column.name: _measure(column, row.values.get(column.name, ())) for column in columns}
                found[name] = {measure: value for measure, value in measures.items() if value}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _measure(column: Column, values: Sequence[float]) -> Measure:
    if not values:
        return {}
    if len(values) == 1:
        return {"value": values[0]}
    interval = mean_interval(values)
    return {"value": fmean(values), "lower_value": interval.low, "upper_value": interval.high}
