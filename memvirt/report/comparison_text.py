"""The command `compare`: what differs between runs, row by row, and one line that says what came of it."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memvirt.errors import ConfigError
from memvirt.report.comparison import WALL, Case, Difference, Outcome, compare
from memvirt.report.statistics import MIN_PROCESSES, MIN_SEEDS, RankTest, Verdict
from memvirt.report.summary import figures
from memvirt.units import suggest

FORMATS = ("text", "json")
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


def text(outcome: Outcome, threshold: float | None, regressions: int, width: int) -> str:
    """The comparison as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, legacy_windows=False, markup=False, emoji=False)
    console.print(f"before: {outcome.base}")
    for note in outcome.notes:
        console.print(f"note: {note}")
    for other in dict.fromkeys(each.case.other for each in outcome.differences):
        mine = [each for each in outcome.differences if each.case.other == other]
        console.print(f"after: {other}\n")
        shown = [each for each in mine if not each.case.equal]
        if shown:
            console.print(_table(shown), Text())
    for other, cell, before, after in outcome.endings:
        console.print(f"{cell}: {before} before, {after} after ({other})")
    for each in outcome.differences:
        if each.disputed and each.case.ranks is not None:
            console.print(second_opinion(each, each.case.ranks))
    console.print(summary(outcome, threshold, regressions))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


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
            case.cell,
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


def summary(outcome: Outcome, threshold: float | None, regressions: int) -> str:
    """The line under a comparison."""
    counts = Counter(each.verdict for each in outcome.differences if not each.case.equal)
    equal = sum(each.case.equal for each in outcome.differences)
    told = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
    told += [f"{equal} equal digit for digit"] if equal else []
    line = f"{len(outcome.differences)} metrics compared: {', '.join(told) or 'nothing to compare'}."
    few = any(not each.case.sampled and each.case.comparison.n < MIN_SEEDS for each in outcome.differences)
    if few and counts:
        line += f" Below {MIN_SEEDS} seeds a verdict on simulated metrics speaks of the seeds that were run."
    if any(each.case.sampled and each.case.comparison.interval is None for each in outcome.differences):
        line += f" Wall times have no verdict below {MIN_PROCESSES} processes a side."
    if threshold is not None:
        line += f" Worse by more than {100 * threshold:g} %: {regressions or 'none'}."
    return line


def to_json(outcome: Outcome, threshold: float | None, regressions: int) -> str:
    """Everything that was found, for programs."""
    found = {
        "format": "memvirt-compare",
        "schema": 1,
        "base": outcome.base,
        "threshold": threshold,
        "regressions": regressions,
        "notes": outcome.notes,
        "endings": outcome.endings,
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
