"""Records as files for others: Markdown and LaTeX for papers, CSV and JSON for programs.

Markdown and LaTeX show what the terminal shows, best values bold. CSV and JSON hold every number of every record in one
long frame (suite, scenario, ratio, preset, role, seed, metric, unit, value): a line each, values spelled as in the record, so
nothing is rounded on the way. They need nothing but Python; the other two need pandas.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from memvirt.errors import ConfigError
from memvirt.metrics.registry import REGISTRY
from memvirt.report import claims, verdict
from memvirt.report.columns import BY_NAME, Column
from memvirt.report.summary import (
    ARROWS,
    MISSING,
    SINGLE_RUN,
    Group,
    Row,
    figures,
    groups,
    ratio_label,
    value_text,
)
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record

FRAME = ("suite", "scenario", "ratio", "preset", "role", "seed", "metric", "unit", "value")
FORMAT = "memvirt-table"
SCHEMA = 1
# 1 - first version.

Line = tuple[str, str, str, str, str, int, str, str, int | str]

UNITS = {"faults": "faults", "cpu_total_ns": "ns", "status": "", "accesses": "accesses", "sim_ns": "ns"}
ENDINGS = ("refused", "exhausted", "failed")
LATEX_MARKS = ("textbf: --rwrap", "textit: --rwrap", "")  # best, ended otherwise, plain: for pandas' Styler
# Characters that LaTeX's own fonts set in mathematics only.
LATEX = {
    "×": r"$\times$",
    "µ": r"\textmu{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": "$-$",
    "–": "--",
    "±": r"$\pm$",
}


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
    for index in ("external", "unusable"):
        for order, value in enumerate(record.fragmentation.get(index, ())):
            yield f"fragmentation.{index}.order{order}", int(value)
    if "accesses_per_s" in record.measured:
        yield "accesses_per_s", int(record.measured["accesses_per_s"])


def unit_of(name: str) -> str:
    """The unit of a line of the frame."""
    if name in UNITS:
        return UNITS[name]
    if name in BY_NAME:
        return BY_NAME[name].unit
    if name.startswith("fragmentation."):
        return "1/1000"
    if name.startswith("sim_ns."):
        return "ns"
    return REGISTRY[name].unit if name in REGISTRY else ""


def to_csv(records: Sequence[Record], shown: Shown = USUAL) -> str:
    """The long frame with a head line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FRAME)
    writer.writerows(frame(records))
    return out.getvalue()


def to_json(records: Sequence[Record], shown: Shown = USUAL) -> str:
    """The long frame with what the run was, one line of the frame per line of text."""
    first = records[0]
    about = {
        "format": FORMAT,
        "schema": SCHEMA,
        "suite": first.suite,
        "tier": first.tier,
        "commit": first.commit,
        "inputs": first.inputs,
        "versions": first.versions,
        "learned": verdict.line(groups(records, shown)),
        "claims": [
            {
                "id": each.claim.id,
                "statement": each.claim.statement,
                "standing": each.standing,
                "evidence": each.evidence,
            }
            for each in claims.check(shown.claims, records)
        ],
        "columns": FRAME,
    }
    head = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in about.items()]
    rows = ",\n".join(f"  {json.dumps(_as_numbers(line), ensure_ascii=False)}" for line in frame(records))
    return "{\n" + ",\n".join([*head, f' "rows": [\n{rows}\n ]']) + "\n}\n"


def _as_numbers(line: Line) -> list[Any]:
    """A line whose value is a JSON number, except for a status."""
    *place, metric, unit, value = line
    return [*place, metric, unit, float(value) if isinstance(value, str) and metric != "status" else value]


def to_markdown(records: Sequence[Record], shown: Shown = USUAL) -> str:
    """A table for each scenario, best values bold, endings in italics, the learned line below."""
    pandas = _require("pandas", "tabulate", form="md")
    parts = []
    for title, members in _scenarios(records, shown):
        rows = [[_marked(value, best, "**{}**", "*{}*", "{}") for value, best in row] for row in _rows(members)]
        table = pandas.DataFrame(rows, columns=_heads(members[0]))
        align = ("right", "left", *["right"] * len(members[0].columns), "left")
        parts.append(f"**{title}**\n\n{table.to_markdown(index=False, disable_numparse=True, colalign=align)}\n")
    parts.append(verdict.line(groups(records, shown)) + "\n")
    counted, told = claims.told(shown.claims, records)
    parts += ["\n".join([counted, "", *(f"- {line}" for line in told)]) + "\n"] if told else []
    return "\n".join(parts)


def to_latex(records: Sequence[Record], shown: Shown = USUAL) -> str:
    """A booktabs table for each scenario; the learned line as a comment on top."""
    pandas = _require("pandas", "jinja2", form="latex")
    parts = [f"% {verdict.line(groups(records, shown))}\n% needs \\usepackage{{booktabs,textcomp}}\n"]
    for title, members in _scenarios(records, shown):
        rows = _rows(members)
        table = pandas.DataFrame([[value for value, _ in row] for row in rows], columns=_heads(members[0]))
        bold = pandas.DataFrame([[_marked(value, best, *LATEX_MARKS) for value, best in row] for row in rows])
        style = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
        style = style.apply(lambda _, bold=bold: bold.to_numpy(), axis=None)
        layout = f"rl{'r' * len(members[0].columns)}l"
        text = style.to_latex(hrules=True, column_format=layout, caption=_escaped(title), position_float="centering")
        parts.append(text)
    out = "\n".join(parts)
    for character, command in LATEX.items():
        out = out.replace(character, command)
    return out


WRITERS: dict[str, Callable[[Sequence[Record], Shown], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "json": to_json,
}


def _require(*modules: str, form: str) -> Any:
    """The first of the modules, all of them importable; ConfigError that says how to get them."""
    try:
        first, *_ = [import_module(name) for name in modules]
    except ImportError as error:
        needed = " and ".join(modules)
        raise ConfigError(f"format '{form}' needs {needed}: pip install memvirt[report] ({error})") from None
    return first


def _scenarios(records: Sequence[Record], shown: Shown) -> Iterator[tuple[str, list[Group]]]:
    every = groups(records, shown)
    for scenario in dict.fromkeys(group.scenario for group in every):
        members = [group for group in every if group.scenario == scenario]
        yield f"{scenario}: {members[0].description}".removesuffix(": "), members


def _heads(group: Group) -> list[str]:
    ratio = "capacity (×)" if group.simulated else "ratio (×)"
    return [ratio, "preset", *(_title(column) for column in group.columns), "frames saved"]


def _title(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    mark = f", {SINGLE_RUN}" if column.wall else f" {ARROWS[column.better]}"
    return f"{column.title}{unit}{mark}".rstrip()


def _rows(members: Sequence[Group]) -> list[list[tuple[str, bool]]]:
    """Cells as (text, whether it is best); the text of a row without numbers says how it ended."""
    rows = []
    for group in members:
        best = {column.name: group.best(column) for column in group.columns}
        for row in group.rows:
            cells = [(ratio_label(group.ratio), False), (row.preset, False)]
            first = group.columns[0]
            cells += [
                (_value(column, row, column is first), group.is_best(row, best[column.name]))
                for column in group.columns
            ]
            saved = ", ".join(f"{name} {figures(frames)}" for name, frames in row.saved.items())
            cells.append((saved or MISSING if row.done else row.ending, False))
            rows.append(cells)
    return rows


def _value(column: Column, row: Row, first: bool) -> str:
    if row.done:
        return value_text(column, row)
    return row.status if first else MISSING


def _marked(text: str, best: bool, bold: str, ended: str, plain: str) -> str:
    if text in ENDINGS:
        return ended.format(text)
    return (bold if best else plain).format(text)


def _escaped(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text
