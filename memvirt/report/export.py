"""Records as files for programs: CSV and JSON.

Both hold every number of every record in one long frame (suite, scenario, ratio, preset, role, seed, metric, unit, value):
a line each, values spelled as in the record, so nothing is rounded on the way. JSON has, beside it, what the run was, what
was learned, which claims held, and the table that people read: mean, n and 95 % interval of each of its numbers. A choice
of columns is one of metrics.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from memvirt.metrics.registry import unit_of
from memvirt.report import claims, verdict
from memvirt.report.choice import ALL, Choice
from memvirt.report.escape import plain, spreadsheet
from memvirt.report.notes import caption, notes
from memvirt.report.summary import Group, Row, groups
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record, indices

FRAME = ("suite", "scenario", "ratio", "preset", "role", "seed", "metric", "unit", "value")
FORMAT = "memvirt-table"
SCHEMA = 2
# 2 - caption, notes, claims and the table with its intervals.
# 1 - first version.

Line = tuple[str, str, str, str, str, int, str, str, int | str]


def frame(records: Sequence[Record]) -> list[Line]:
    """Every number of every record, a line each, in the order of the records."""
    lines: list[Line] = []
    for record in records:
        place = (record.suite, record.base_scenario, record.ratio, record.preset, record.role, record.seed)
        lines += [(*place, name, unit_of(name), value) for name, value in _numbers(record)]
    return lines


def _numbers(record: Record) -> Iterator[tuple[str, int | str]]:
    yield "status", record.status
    if record.status != "done":
        return
    yield "accesses", record.accesses
    yield "sim_ns", record.sim_ns
    yield from ((name, value) for name, value in sorted(record.derived.items()) if value != "")
    yield from sorted(record.counters.items())
    yield from ((name, value) for name, value in sorted(record.sharing.items()) if name not in record.counters)
    for family, part in (("cpu_ns", record.cpu_ns), ("usage", record.usage)):
        yield from ((f"{family}.{name}", value) for name, value in sorted(part.items()))
    yield from indices(record)
    if "accesses_per_s" in record.measured:
        yield "accesses_per_s", int(record.measured["accesses_per_s"])


def to_csv(records: Sequence[Record], shown: Shown = USUAL, choice: Choice = ALL, remarks: Sequence[str] = ()) -> str:
    """The long frame with a head line. A text that a spreadsheet would compute has an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FRAME)
    for *texts, seed, metric, unit, value in _chosen(records, shown, choice):
        writer.writerow([*(spreadsheet(str(text)) for text in texts), seed, spreadsheet(metric), unit, value])
    return out.getvalue()


def to_json(records: Sequence[Record], shown: Shown = USUAL, choice: Choice = ALL, remarks: Sequence[str] = ()) -> str:
    """The long frame with what the run was, one line of the frame per line of text."""
    rows, first = choice.rows(records), records[0]
    every = groups(rows, choice.shown(shown))
    about = {
        "format": FORMAT,
        "schema": SCHEMA,
        "suite": first.suite,
        "tier": first.tier,
        "commit": first.commit,
        "inputs": first.inputs,
        "versions": first.versions,
        "caption": caption(rows),
        "notes": [*notes(every, rows), *remarks],
        "learned": verdict.line(every),
        "claims": [
            {
                "id": each.claim.id,
                "statement": each.claim.statement,
                "standing": each.word,
                "scope": plain(each.scope),
                "evidence": plain(each.evidence),
            }
            for each in claims.check(shown.claims, records)
        ],
        "columns": FRAME,
    }
    parts = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in about.items()]
    for name, lines in (
        ("table", [_as_table(group, row) for group in every for row in group.rows]),
        ("rows", [_as_numbers(line) for line in _chosen(records, shown, choice)]),
    ):
        listed = ",\n".join(f"  {json.dumps(line, ensure_ascii=False)}" for line in lines)
        parts.append(f' "{name}": [\n{listed}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _chosen(records: Sequence[Record], shown: Shown, choice: Choice) -> Iterator[Line]:
    choice.shown(shown)  # refuses what is no metric
    for line in frame(choice.rows(records)):
        if not choice.columns or line[6] in ("status", *choice.columns):
            yield line


def _as_table(group: Group, row: Row) -> dict[str, Any]:
    """A row of the table that people read, with the mean, n and 95 % interval of each number."""
    numbers: dict[str, Any] = {}
    for column in group.columns:
        mean, half, best = row.mean(column.name), row.half(column.name), group.best(column)
        if mean is not None:
            interval = None if half is None else [mean - half, mean + half]
            n = len(row.values[column.name])
            numbers[column.name] = {"mean": mean, "n": n, "interval": interval, "best": group.is_best(row, best)}
    return {
        "scenario": group.scenario,
        "ratio": group.ratio,
        "preset": row.preset,
        "role": row.role,
        "status": row.status,
        "reason": row.reason,
        "ranked": row in group.ranked(),
        "numbers": numbers,
    }


def _as_numbers(line: Line) -> list[Any]:
    """A line whose value is a JSON number, except for a status."""
    *place, metric, unit, value = line
    return [*place, metric, unit, float(value) if isinstance(value, str) and metric != "status" else value]
