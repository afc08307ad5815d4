"""The command `compare`: what differs between runs, row by row, and one line that says what came of it."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from math import inf
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memvirt.errors import ConfigError
from memvirt.report.comparison import WALL, Case, Compared, Difference, compare
from memvirt.report.escape import plain
from memvirt.report.statistics import MIN_PROCESSES, MIN_SEEDS, RankTest, Verdict
from memvirt.report.summary import figures
from memvirt.units import suggest

FORMATS = ("text", "json")
NAMED = 5  # cells that a line names
REGRESSION = 3  # exit code
STYLES = {Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.SAME: "", Verdict.INCONCLUSIVE: "yellow"}


def compare_command(
    paths: Sequence[str | os.PathLike[str]], threshold: float | None = None, form: str = "text", width: int = 100
) -> tuple[str, int]:
    """The comparison of runs with the first of them, and the exit code: 3 when one is worse by more than `threshold`.

    `threshold` is a share: 0.05 is 5 %. `form` is text or json. ConfigError for fewer than two paths, folders mixed
    with files, a threshold that is not a positive number, and unlike runs.
    """
    if threshold is not None and not 0 <= threshold < inf:
        raise ConfigError(f"a threshold of {threshold:g} is not a share: 0.05 is 5 %")
    if form not in FORMATS:
        raise ConfigError(f"unknown format '{form}'{suggest(form, FORMATS)} (known: {', '.join(FORMATS)})")
    outcome = compare(paths)
    found = outcome.regressions(threshold) if threshold is not None else 0
    shown = text(outcome, threshold, found, width) if form == "text" else to_json(outcome, threshold, found)
    return shown, REGRESSION if found else 0


def text(outcome: Compared, threshold: float | None, regressions: int, width: int) -> str:
    """The comparison as plain text: what differs besides the numbers, the numbers, one line over all, regressions."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, legacy_windows=False, markup=False, emoji=False)
    console.print(f"before: {plain(outcome.base)}")
    for note in outcome.notes:
        console.print(f"note: {plain(note)}")
    for other in dict.fromkeys(each.case.other for each in outcome.differences):
        mine = [each for each in outcome.differences if each.case.other == other]
        console.print(f"after: {plain(other)}\n")
        shown = [each for each in mine if not each.case.equal and _telling(each)]
        if shown:
            console.print(_table(shown), Text())
    for ending in outcome.endings:
        console.print(plain(_ending(ending)))
    for each in outcome.differences:
        if each.disputed and each.case.ranks is not None:
            console.print(second_opinion(each, each.case.ranks))
    for line in _means(outcome):
        console.print(plain(line))
    console.print(summary(outcome, threshold, regressions))
    for line in _regressed(outcome, threshold) if threshold is not None else ():
        console.print(plain(line))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _telling(each: Difference) -> bool:
    """Whether a row is printed: of a fault kind's percentiles, those that changed."""
    return " fault p" not in each.case.metric or each.verdict is not Verdict.SAME


def _ending(ending: tuple[str, str, str, str]) -> str:
    other, cell, before, after = ending
    return f"{cell}: {before} before, {after} after ({other})"


def _means(outcome: Compared) -> list[str]:
    """A line for each run over all cells that every run has, and which are left out."""
    lines = []
    for other in dict.fromkeys(each.other for each in outcome.overall):
        mine = [each for each in outcome.overall if each.other == other]
        most = max(each.cells for each in mine)
        told = [f"{each.metric} {each.ratio:.3f}{f' (of {each.cells})' if each.cells < most else ''}" for each in mine]
        lines.append(f"geometric mean of after / before over {most} cells that all have: {', '.join(told)} ({other})")
    if outcome.overall and outcome.left_out:
        lines.append(f"left out of the means: {_some(outcome.left_out)} (--json names them)")
    if any(each.without for each in outcome.overall):
        lines.append("(of N): the other cells have no such number, or nothing of it on one side (--json names them)")
    return lines


def _some(names: Sequence[str], most: int = NAMED) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _regressed(outcome: Compared, threshold: float) -> list[str]:
    """Every regression, the worst first: what CI has to show."""
    lines = [f"regression: {_ending(ending)}" for ending in outcome.lost()]
    for each in outcome.regressed(threshold):
        case, ratio = each.case, each.case.comparison.ratio
        by = "from nothing" if ratio == inf else f"ratio {ratio:.3f}"
        values = f"{_with_unit(case, case.before)} before, {_with_unit(case, case.after)} after"
        lines.append(f"regression: {case.cell}: {case.metric}: {values}, {by}, n = {case.comparison.n} ({case.other})")
    return lines


def _table(shown: Sequence[Difference]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for head in ("cell", "metric"):
        table.add_column(head, overflow="fold")
    for head in ("before", "after", "ratio", "95 % interval", "n"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for each in shown:
        case = each.case
        interval = case.comparison.interval
        table.add_row(
            Text(plain(case.cell)),
            case.metric,
            _with_unit(case, case.before),
            _with_unit(case, case.after),
            "–" if case.comparison.ratio == inf else f"{case.comparison.ratio:.3f}",
            "–" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}",
            str(case.comparison.n),
            Text(each.verdict, style=STYLES[each.verdict]),
        )
    return table


def _with_unit(case: Case, value: float) -> str:
    if case.metric == WALL:
        return f"{figures(value * 1000)} ms"
    return f"{figures(value)} {case.unit}".rstrip()


def second_opinion(each: Difference, ranks: RankTest) -> str:
    """What is said beside a verdict that the rank test does not share."""
    return (
        f"{each.case.cell}: {each.verdict} by Welch's test, but Mann-Whitney's sees no difference "
        f"(p = {ranks.p:.2g}): look at the samples ({each.case.other})"
    )


def summary(outcome: Compared, threshold: float | None, regressions: int) -> str:
    """The line under a comparison."""
    counts = Counter(each.verdict for each in outcome.differences if not each.case.equal)
    equal = sum(each.case.equal for each in outcome.differences)
    told = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
    told += [f"{equal} equal digit for digit"] if equal else []
    line = f"{len(outcome.differences)} metrics compared: {', '.join(told) or 'nothing to compare'}."
    few = any(
        not each.case.sampled and not each.case.equal and each.case.comparison.n < MIN_SEEDS
        for each in outcome.differences
    )
    if few and counts:
        line += f" Below {MIN_SEEDS} seeds a verdict on simulated metrics speaks of the seeds that were run."
    if any(each.case.sampled and each.case.comparison.interval is None for each in outcome.differences):
        line += f" Wall times have no verdict below {MIN_PROCESSES} processes a side."
    if threshold is not None:
        line += f" Worse by more than {100 * threshold:g} %: {regressions or 'none'}."
    return line


def to_json(outcome: Compared, threshold: float | None, regressions: int) -> str:
    """Everything that was found, for programs."""
    found = {
        "format": "memvirt-compare",
        "schema": 2,  # 2 - means over all cells, what is left out of them, regressions one by one; 1 - first version
        "base": outcome.base,
        "threshold": threshold,
        "regressions": regressions,
        "notes": outcome.notes,
        "endings": outcome.endings,
        "regressed": [] if threshold is None else _regressed(outcome, threshold),
        "overall": [asdict(each) for each in outcome.overall],
        "left_out": outcome.left_out,
        "differences": [_as_json(each) for each in outcome.differences],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _as_json(each: Difference) -> dict[str, Any]:
    case, comparison = each.case, each.case.comparison
    return {
        "other": case.other,
        "cell": case.cell,
        "metric": case.metric,
        "unit": case.unit,
        "before": case.before,
        "after": case.after,
        "ratio": None if comparison.ratio == inf else comparison.ratio,
        "interval": None if comparison.interval is None else [comparison.interval.low, comparison.interval.high],
        "p": comparison.p,
        "corrected_p": each.corrected_p,
        "rank_p": case.ranks and case.ranks.p,
        "cliffs_delta": case.ranks and case.ranks.delta,
        "n": comparison.n,
        "verdict": each.verdict,
        "equal": case.equal,
    }
