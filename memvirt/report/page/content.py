"""What a report says in words and tables: plain values that a template lays out.

Names are spelled as `plain` spells them; escaping is the template's.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from memvirt.experiment import suite
from memvirt.report import capacity, claims, conclusion, machine, verdict
from memvirt.report.columns import Column
from memvirt.report.escape import plain
from memvirt.report.figures.data import deciding
from memvirt.report.figures.data import scenes as scenes_of
from memvirt.report.notes import IDLE
from memvirt.report.page.tables import TableCell, head, ratio_word
from memvirt.report.runs import Run
from memvirt.report.standing import standing
from memvirt.report.statistics import MIN_SEEDS, Interval
from memvirt.report.summary import ARROWS, MISSING, Group, Row, averaged, number, ratio_label
from memvirt.results.record import Record, differences
from memvirt.settings import presets
from memvirt.settings.config import HostConfig
from memvirt.settings.sources import default_source

NAME = "hostname"  # of a machine: a page is sent, and the name tells nothing of results
# Of an environment: what was so at that moment only, and differs between any two runs.
FLEETING = ("load_1min", "memory_available_bytes", "psi_cpu", "psi_memory", "started", "steal_ticks", "swap_used_bytes")
SETTINGS_SHOWN = 60  # of those that differ between two runs


# ---- what was learned

QUESTION = "How far can memory be overcommitted, by which mechanism, and at what cost?"
WHOLE = ("slowdown", "survival")  # rules whose line speaks of all scenarios together


def question(run: Run) -> tuple[str, str]:
    """What the run was made to answer, and what it runs, in the words of its suite. Of runs that did not keep them, a
    shipped suite of the same name and title has them; else it is the question of all suites."""
    about = run.manifest
    asked, told = about.shown.question, about.description
    if not (asked and told) and about.suite in suite.names():
        shipped = suite.load(about.suite)
        if shipped.title == about.title:
            asked, told = asked or shipped.question, told or shipped.description
    return plain(asked or QUESTION), plain(told)


def learned(run: Run) -> tuple[list[str], list[str], str]:
    """What the suite answers, with the answers of a search; what the columns say; and the line under the run's table."""
    every = run.groups()
    checked = claims.check(run.manifest.shown.claims, run.records)
    found = capacity.sentences(run.manifest.asked, run.records)
    said = verdict.line(every).removeprefix("Learned: ")
    said = plain(said[:1].upper() + said[1:])
    facts = list(map(plain, conclusion.facts(every)))
    if every and every[0].learned in WHOLE:
        return [*map(plain, [*found, *conclusion.answers(checked)])], [said, *facts], ""
    return [*map(plain, [*found, *conclusion.answers(checked)])], facts, said


# Heads behind scenario and ratio, and which are of numbers.
FINDINGS = (
    ("best", False),
    ("its mean", True),
    ("95 % interval", True),
    ("n", True),
    ("next", False),
    ("its mean", True),
)


def findings(run: Run) -> tuple[str, list[tuple[str, bool]], list[list[TableCell]]]:
    """What is compared, heads with whether they are of numbers, and a row for each scenario and ratio: who is best and by
    how much, with intervals and seeds; who is not ranked, where anybody is not."""
    column, rows, every = None, [], run.groups()
    unranked = any(row.idle for group in every for row in group.rows)
    for (scene,) in scenes_of([run]):
        column = deciding(scene)
        for group in scene.groups:
            idle = ", ".join(f"{row.preset}{IDLE}" for row in group.rows if row.idle)
            rows.append([*_finding(group, column), *([TableCell(idle or MISSING)] * unranked)])
    heads = [("scenario", False), (ratio_word(every), True)]
    heads += FINDINGS
    heads += [("not ranked", False)] * unranked
    return (head(column) if column else ""), heads, rows


def _finding(group: Group, column: Column) -> list[TableCell]:
    place = [TableCell(group.scenario), TableCell(ratio_label(group.ratio), group.ratio, True)]
    rows = [row for row in group.ranked() if row.done and row.mean(column.name) is not None]
    if not rows:
        why = f"no {column.title} there" if any(row.done for row in group.ranked()) else group.why_none
        return [*place, TableCell(why), *(TableCell(MISSING, number=number) for _, number in FINDINGS[1:])]
    sign = -1 if ARROWS[column.better] == "↑" else 1
    rows.sort(key=lambda row: sign * (row.mean(column.name) or 0))
    first, seeds = rows[0], len(rows[0].values[column.name])
    who, beaten = _standing(rows, column, seeds)
    mean, interval = averaged(first.values[column.name], column.name)
    between = _between(column, interval) if interval else "five seeds needed"
    return [
        *place,
        TableCell(who),
        TableCell(number(column, mean), f"{mean}", True),
        TableCell(between, number=True),
        TableCell(str(seeds), number=True),
        TableCell(beaten.preset if beaten else MISSING),
        _mean(column, beaten),
    ]


def _between(column: Column, interval: Interval) -> str:
    """Both ends of an interval, with as many digits as tell them apart."""
    low, high = number(column, interval.low), number(column, interval.high)
    if interval.low == interval.high:
        return "seeds agree"
    digits = 1
    while low == high and digits < 5:
        low, high = f"{interval.low:,.{digits}f}", f"{interval.high:,.{digits}f}"
        digits += 1
    return f"{low} to {high}"


def _standing(rows: Sequence[Row], column: Column, seeds: int) -> tuple[str, Row | None]:
    """Who is best in words, with those not told apart from it, and the next one, where there is one. Rows: the best mean
    first."""
    if len(rows) == 1:
        return f"{rows[0].preset} alone finished", None
    found = standing([row.mean(column.name) or 0 for row in rows], [row.values[column.name] for row in rows])
    if not found.beaten:
        return "no difference", None
    alike, unsure = (", ".join(rows[at].preset for at in places) for places in (found.alike, found.unsure))
    notes = ["alike"] if len(found.alike) > 1 else []
    notes += ["too few seeds to tell"] if seeds < MIN_SEEDS else []
    notes += [f"not told apart from {unsure}"] if unsure else []
    who = f"{alike} ({'; '.join(notes)})" if notes else alike
    return who, rows[found.beaten[0]]


def _mean(column: Column, row: Row | None) -> TableCell:
    mean = row.mean(column.name) if row else None
    return TableCell(MISSING, number=True) if mean is None else TableCell(number(column, mean), f"{mean}", True)


def expected(run: Run) -> list[list[str]]:
    """A row for each claim of the suite: what became of it, its statement, of which cells, and what the records say."""
    checked = claims.check(run.manifest.shown.claims, run.records)
    return [[each.word, *map(plain, (each.claim.statement, each.scope, each.evidence))] for each in checked]


SLOWDOWNS = {
    False: "simulated time over that of the same stream on a host with enough memory, and speaks of a program that does "
    "nothing but access memory",
    True: "(work + waiting for memory) / work: it speaks of the time that virtual machines compute, their sleep left out",
}


def slowdowns(every: Sequence[Group]) -> list[str]:
    """What slowdown is in these groups; of which scenarios, where some have work that takes time of its own."""
    found: dict[bool, dict[str, None]] = {}
    for group in every:
        if not group.simulated:
            found.setdefault(group.timed, {})[group.scenario] = None
    return [
        f"Slowdown{f' in {_few(where)}' if len(found) > 1 else ''} is {SLOWDOWNS[timed]}."
        for timed, where in found.items()
    ]


# ---- where, and what differs


def environment(runs: Sequence[Run]) -> list[list[str]]:
    """A row for each thing known of the machines that ran them, a value a run; "and others" where a run's cells differ."""
    names = dict.fromkeys(name for run in runs for record in run.records for name in record.environment)
    names.pop(NAME, None)
    rows = []
    for name in names:
        values = [
            dict.fromkeys(machine.told(name, record.environment.get(name)) for record in run.records) for run in runs
        ]
        fleeting = name in FLEETING
        said = [
            plain(next(iter(each)) + ("" if len(each) == 1 else " (first cell)" if fleeting else " and others"))
            for each in values
        ]
        rows.append([machine.named(name), *said])
    return rows


def differing(runs: Sequence[Run]) -> list[list[str]]:
    """A row for each thing in which the runs differ, settings included; the first column says what."""
    told: dict[str, list[str]] = {
        "suite": [run.manifest.suite for run in runs],
        "tier": [run.manifest.tier for run in runs],
        "seeds": [_few(dict.fromkeys(str(record.seed) for record in run.records)) for run in runs],
        "scenarios": [_few(dict.fromkeys(record.scenario for record in run.records)) for run in runs],
        "presets": [
            _few(dict.fromkeys(record.preset for record in run.records if record.role == "column")) for run in runs
        ],
        "commit": [run.manifest.commit or "unknown" for run in runs],
    }
    for part in ("inputs", "versions"):
        names = dict.fromkeys(name for run in runs for name in getattr(run.manifest, part))
        told |= {name: [getattr(run.manifest, part).get(name, "–") for run in runs] for name in names}
    first = [run.records[0].environment for run in runs]
    names = dict.fromkeys(name for each in first for name in each if name not in (*FLEETING, NAME))
    told["machine"] = _numbered(first)
    told |= {
        f"machine: {machine.named(name)}": [machine.told(name, each.get(name)) for each in first] for name in names
    }
    rows = [[name, *values] for name, values in told.items() if len(set(values)) > 1]
    return [[plain(text) for text in row] for row in [*rows, *_settings_apart(runs)]]


def _numbered(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Machines told apart without their names."""
    known = list(dict.fromkeys(each.get(NAME, "") for each in environments))
    return [f"machine {known.index(each.get(NAME, '')) + 1}" for each in environments]


def _settings_apart(runs: Sequence[Run]) -> Iterator[list[str]]:
    """Settings in which a cell of one run and the same cell of another differ: the first cell of each preset."""
    found: dict[str, dict[int, str]] = {}
    first = {record.cell: record for record in reversed(runs[0].records)}
    for i, run in enumerate(runs[1:], 1):
        seen = set()
        for record in run.records:
            if record.cell not in first or record.preset in seen:
                continue
            seen.add(record.preset)
            for place, before, now in differences(first[record.cell].config, record.config):
                values = found.setdefault(f"{record.preset}: {place}", {0: _short(before)})
                values[i] = _short(now)
    for place, values in list(found.items())[:SETTINGS_SHOWN]:
        yield [place, *(values.get(i, values[0]) for i in range(len(runs)))]
    if len(found) > SETTINGS_SHOWN:
        yield [f"and {len(found) - SETTINGS_SHOWN} more settings", *[""] * len(runs)]


def _few(names: Mapping[str, Any], most: int = 12) -> str:
    several = list(names)
    return ", ".join(several[:most]) + (f" and {len(several) - most} more" if len(several) > most else "")


def _short(value: Any, most: int = 120) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= most else f"{text[:most]}…"


# ---- settings


def settings(run: Run) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """(preset, rows) of every preset as its first cell was resolved; a row is setting, value, who set it, its source.

    Settings that differ from cell to cell, such as the host's memory, are those of that cell."""
    found = []
    for preset in dict.fromkeys(record.preset for record in run.records if record.role == "column"):
        record = next(each for each in run.records if each.preset == preset and each.role == "column")
        found.append((plain(preset), _settings(record)))
    return found


def _settings(record: Record) -> list[tuple[str, str, str, str]]:
    known = _sources(record.preset)
    config = _config(record)
    rows = []
    for key, value in presets.flat(record.config):
        first, _, inner = key.partition(".")
        if first in ("scenario", "files"):
            continue
        name = inner if first == "host" else key
        text = plain(_short(value))
        origin = next(
            (who for place, who in record.origins.items() if name == place or name.startswith(f"{place}.")), ""
        )
        source, said = known.get(name, ("", ""))
        if source != text and said:
            said = ""  # of another value
        if not said and not origin and config is not None:
            note = default_source(name, config)
            said = f"{note.text} ({note.tag})" if note else ""
        rows.append((name, text, plain(origin or "memvirt's default"), plain(said)))
    return rows


def _sources(preset: str) -> dict[str, tuple[str, str]]:
    """Setting -> (its value, where that is from) of a preset that comes with memvirt; nothing of others."""
    if preset not in presets.names():
        return {}
    return {
        row.key: (_short(row.value), f"{row.source} ({row.tag})" if row.source else "")
        for row in presets.explain(preset)
    }


def _config(record: Record) -> HostConfig | None:
    """The host's settings as a model, where this memvirt still takes them."""
    try:
        # Nothing of a decider is a default of memvirt's, and one in a file would be run to be known.
        host = {**record.config.get("host", {}), "balloon": None, "decider_options": {}}
        return HostConfig.model_validate(host)
    except ValueError:
        return None


# ---- commands


def commands(runs: Sequence[Run]) -> list[str]:
    """What makes the runs again, and this page."""
    made = [f"memvirt {shlex.join(run.manifest.asked.words())} --out {shlex.quote(run.name)}" for run in runs]
    names = " ".join(shlex.quote(run.name) for run in runs)
    return [plain(line) for line in (*made, f"memvirt report {names} -o report.html")]
