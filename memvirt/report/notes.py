"""What every table says beside its numbers, in whatever format: where they are from, what marks and heads mean, and what
a reader would otherwise take for more than it is.

    caption     suite, tier, seeds, corpus, version, settings that were changed
    marks       best, intervals, seeds that lie apart
    warnings    a tier for tests, too few seeds, rows whose decider slept, mechanisms that had no part in the numbers,
                orders that saw no accessed marks
    endings     how rows without numbers ended
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memvirt.metrics.registry import REGISTRY
from memvirt.report.columns import COLUMNS, Column
from memvirt.report.escape import plain
from memvirt.report.statistics import MIN_SEEDS
from memvirt.report.summary import Group, idle, is_timed, listed, ratio_label
from memvirt.report.unused import unused
from memvirt.results.record import Record

IDLE = "†"  # behind a preset whose decider had no part in the numbers
DIGITS = re.compile(r"\d+")
HASH = 12  # characters of a hash that are shown


def caption(records: Sequence[Record]) -> str:
    """Suite, tier, seeds, corpus, version, and what was changed by --set, in one line."""
    first = records[0]
    seeds = sorted({record.seed for record in records if record.role == "column"} or {first.seed})
    told = [f"suite {first.suite}", f"tier {first.tier}", _seeds(seeds)]
    told += [f"{name} {value[:HASH]}" for name, value in sorted(first.inputs.items())]
    told.append(f"memvirt {first.versions.get('memvirt', 'of unknown version')}{_commit(first.commit)}")
    told += [f"--set {text}" for text in _changed(records)]
    scenarios = dict.fromkeys(record.base_scenario for record in records)
    idle = _computing_nothing(records)
    if idle:
        where = "" if len(idle) == len(scenarios) else f" in {listed(idle)}"
        told.append(f"a microbenchmark of mechanisms{where}")
    return plain(", ".join(told))


def _changed(records: Sequence[Record]) -> list[str]:
    """What --set changed, with the presets that it changed where those are not all."""
    columns = [record for record in records if record.role == "column"] or list(records)
    every = {record.preset for record in columns}
    changed: dict[str, dict[str, None]] = {}  # override -> presets
    for record in columns:
        for text in record.asked.get("settings", []):
            changed.setdefault(text, {})[record.preset] = None
    return [text if len(own) == len(every) else f"{text} ({listed(list(own))})" for text, own in changed.items()]


def _computing_nothing(records: Sequence[Record]) -> list[str]:
    """The scenarios whose VMs do nothing but access memory, so that a slowdown is no service's; or that have none."""
    own: dict[str, bool] = {}
    for record in records:
        own[record.base_scenario] = own.get(record.base_scenario, False) or record.kind == "life" or is_timed(record)
    return [scenario for scenario, computes in own.items() if not computes]


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    run = list(range(seeds[0], seeds[0] + len(seeds)))
    return f"seeds {seeds[0]} to {seeds[-1]}" if list(seeds) == run else f"seeds {', '.join(map(str, seeds))}"


def _commit(commit: str) -> str:
    edited = "+" if commit.endswith("+") else ""
    return f" ({commit.removesuffix('+')[:HASH]}{edited})" if commit else ""


def notes(every: Sequence[Group], records: Sequence[Record], columns: Sequence[Column] | None = None) -> list[str]:
    """The lines under a table, but for what was learned. `columns`: those that are shown, where they are not all."""
    return [meanings(every, every[0].columns if columns is None else columns), *further(every, records)]


def further(every: Sequence[Group], records: Sequence[Record]) -> list[str]:
    """The same without what heads mean."""
    return [*_marks(every), *caveats(every, records)]


def caveats(every: Sequence[Group], records: Sequence[Record]) -> list[str]:
    """Those of the lines that a reader would go wrong without, whatever the marks of a format are."""
    return [
        *_few_seeds(every),
        *_tier(records[0]),
        *(f"{IDLE} {text}" for text in idle_deciders(records)),
        *unused(records),
        *_unseen(records),
        *endings(every),
    ]


# What VMs with work that takes time of its own are slowed down by is said of that work.
LIVING = {
    "slowdown": "(work + waiting for memory) / work, of all that VMs compute",
    "slowdown_p50": "half of the VMs' seconds take at most so many times their work",
    "slowdown_p99": "ninety-nine of a hundred of the VMs' seconds take at most so many times their work",
    "slowdown_worst": "no second of a VM takes more than so many times its work",
}


# What heads of the usual columns mean that do not say it themselves.
USUAL = {
    "effective_overcommit": "content that VMs hold / host memory that holds it",
    "slowdown": "time / time with enough memory",
    "cpu_overhead_percent": "managing it / all processor time that memory took, background included",
}


def meanings(every: Sequence[Group], shown: Sequence[Column]) -> str:
    """What the heads of the columns that are shown mean, of the usual ones those that do not say it themselves."""
    return f"{'. '.join(text for _, text in meant(every, shown))}."


def meant(every: Sequence[Group], shown: Sequence[Column]) -> list[tuple[str, str]]:
    """(title of a column, what it means) of the same; "" for the ratio's, which no table is without. What means one thing
    in some scenarios and another in others has both, each with where it holds."""
    kinds: dict[tuple[bool, bool], list[Group]] = {}
    for group in every:
        kinds.setdefault((group.timed, group.simulated), []).append(group)
    texts = [_texts(alike[0], shown) for alike in kinds.values()]
    where = [listed(list(dict.fromkeys(group.scenario for group in alike))) for alike in kinds.values()]
    told = []
    for title in texts[0]:
        found = [text[title] for text in texts]
        each = [f"in {place}: {text}" for place, text in zip(where, found, strict=True)]
        said = found[0] if len(set(found)) == 1 else "; ".join(each)
        told.append((title, f"{title}: {said}" if title else said))
    return told


def _texts(group: Group, shown: Sequence[Column]) -> dict[str, str]:
    """Title of a column -> what it means in a group."""
    own = LIVING if group.timed else {}
    if group.columns == COLUMNS:
        usual = {column.title: own.get(column.name) or USUAL[column.name] for column in shown if column.name in USUAL}
        return {"": "ratio: memory promised to VMs / host memory", **usual}
    trace, fleet = "capacity: pages that fit in memory / pages of the trace", "ratio: memory promised / host memory"
    told = {each.title: own.get(each.name) or REGISTRY[each.name].meaning for each in shown}
    return {"": trace if group.simulated else fleet, **told}


def _marks(every: Sequence[Group]) -> list[str]:
    arrows = "↑ more is better, ↓ less is better."
    counts = {len(group.seeds) for group in every}
    told = []
    if max(counts) >= MIN_SEEDS:
        told.append(f"* best of its ratio, with those that print alike, and told apart from all others; {arrows}")
        told.append(
            f"Means over n = {max(counts)} seeds; ± how far the 95 % interval of the mean reaches (Student's t), if it shows."
        )
    elif max(counts) > 1:
        told.append(f"{arrows} Means over {max(counts)} seeds.")
    else:
        told.append(arrows)
    if max(counts) > 1:
        told[-1] += " ~ the seeds lie more than 10 % of the mean apart."
    return told


def _few_seeds(every: Sequence[Group]) -> list[str]:
    counts = {len(group.seeds) for group in every}
    few = list(dict.fromkeys(group.scenario for group in every if len(group.seeds) < MIN_SEEDS))
    where = f" in {', '.join(few)}" if max(counts) >= MIN_SEEDS else ""
    how = "One seed" if min(counts) == 1 else f"Fewer than {MIN_SEEDS} seeds"
    return [f"{how}{where}: nothing tells how far other seeds' numbers lie, so no best value is marked."] * bool(few)


def _tier(record: Record) -> list[str]:
    if record.tier != "smoke":
        return []
    return ["Tier smoke is for tests: hosts so small and phases so short are no measurement. Use quick or full."]


def idle_deciders(records: Sequence[Record]) -> list[str]:
    """A line for each column whose decider slept through every measured phase, or changed nothing in any."""
    shipped = {record.preset: record.asked.get("preset", record.preset) for record in records}
    told = []
    for preset, (decider, asked) in idle(records).items():
        who, own = f"the decider '{decider}' of {preset}", ".py:" in decider
        if not asked:
            why = "was never asked: its interval is longer than the measured phases"
            how = "shorten interval_ns" if own else "shorten it with --set decider_options.interval_ns=..."
        else:
            why = f"was asked {asked} times and changed nothing"
            how = (
                "nothing was wanting, by its own rule"
                if own
                else "its thresholds and floors are for larger hosts, or nothing was wanting; see "
                f"'memvirt explain {shipped[preset]}'"
            )
        told.append(f"{who} {why}: {how}. Its rows are not ranked.")
    return told


def _unseen(records: Sequence[Record]) -> list[str]:
    """Where pages were evicted by an order that saw no access in the measured phase."""
    evicting = [
        record
        for record in records
        if record.status == "done" and record.role == "column" and record.counters.get("evicted", 0)
    ]
    blind = [record for record in evicting if record.counters.get("harvests", 1) == 0]
    if not blind:
        return []
    cells = dict.fromkeys(f"{record.scenario} {record.preset}" for record in blind)
    some = ", ".join(list(cells)[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
    return [
        f"In {len(blind)} of the {len(evicting)} cells that evicted pages the measured phase was shorter than "
        f"harvest_interval: no accessed marks were collected in it, so the order of replacement knew what filling and "
        f"warm-up had left, and the mark it finds when it looks at a page ({plain(some)})."
    ]


def endings(every: Sequence[Group]) -> list[str]:
    """How rows without numbers ended; reasons that differ in numbers only are together under the first one."""
    ends: dict[tuple[str, str], list[str]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for group in every:
        for row in group.rows:
            if not row.done:
                place = f"{row.preset} in {group.scenario} at {ratio_label(group.ratio)}"
                kind = (row.status, DIGITS.sub("", row.reason))
                reasons.setdefault(kind, row.reason)
                ends.setdefault(kind, []).append(place)
    return [
        f"{kind[0]}: {places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}: {reasons[kind]}"
        for kind, places in ends.items()
    ]
