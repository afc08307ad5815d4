"""What a search for the largest fleet came to, in words, tables and JSON: from the records of its folder alone.

    answer      how many VMs, at which ratio of memory promised to memory there, with every seed; by seed; with a spare host
    beyond      the smallest size that fails: which objective, by how much, and what its VMs waited for
    curve       every size that was asked: the objectives' values from the least to the largest over seeds
    doubts      sizes that fail below one that meets, and cells that failed to run

Names come from files of users; whoever prints them on a page spells them as memvirt.report.escape does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from memvirt.experiment.capacity import Answer, holds
from memvirt.experiment.objectives import judge
from memvirt.experiment.searching import Found, of_records
from memvirt.experiment.sizing import LOST
from memvirt.report.figures.data import fault_name
from memvirt.report.summary import MISSING, figures, ratio_label
from memvirt.results.manifest import Asked
from memvirt.results.record import Record

WAITS = ("swap", "zpool", "same", "cached")  # kinds of faults that only lack of memory makes
HEADS = ("preset", "VMs", "ratio", "by seed", "with a spare host", "what breaks first beyond")


def sentences(asked: Asked, records: Sequence[Record]) -> list[str]:
    """The answers of a run in sentences, one or two a column; none where it was no search."""
    found = of_records(asked, records)
    return [] if found is None else [text for column in found.columns for text in _sentences(found, column)]


def _sentences(found: Found, column: str) -> Iterator[str]:
    answer = found.answer(column)
    told = f"{column}: {headline(found, answer)}"
    if answer.outcome == "found" and not column.endswith(LOST):
        told += f"; each of {found.search.hosts} hosts may hold {spare(found, column)[0]} if one of them may fail"
    yield told
    yield from (f"{column}: {text}" for text in doubts(found, column))


def headline(found: Found, answer: Answer) -> str:
    """The answer in a sentence."""
    search, low, high = found.search, found.search.low, found.search.high
    slo = ", ".join(search.slo)
    if answer.outcome == "unfinished":
        return "the search has not ended; go on with it by --resume"
    if answer.outcome == "none":
        seeds = [seed for seed, size in answer.by_seed.items() if size < low]
        return f"not even {low} {search.group} VM{'s' if low > 1 else ''} meet {slo} with {_seeds(seeds)}"
    if answer.outcome == "all":
        return f"every size from {low} to {high} meets {slo}; the limit is of {search.limit}, so this is no answer"
    least, most = answer.interval
    several = f"all {len(found.seeds)} seeds say so" if least == most else f"{least} to {most} by seed"
    by_seed = several if len(found.seeds) > 1 else "one seed"
    return f"{answer.size} {search.group} VMs meet {slo}; {by_seed}"


def spare(found: Found, column: str) -> tuple[int, str]:
    """(VMs that each of several hosts may hold if one of them may fail, how that is known)."""
    searched = found.with_spare(column)
    if searched is None:
        return found.answer(column).with_spare(found.search.hosts), "arithmetic"
    return max(0, searched.size) if searched.size >= found.search.low else 0, "searched"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def doubts(found: Found, column: str) -> list[str]:
    """What speaks against the answer."""
    told = [
        f"with seed {seed} {fails} VMs fail although {meets} meet: larger is not harder here, and the answer stays below"
        for seed, fails, meets in found.answer(column).violations
    ]
    failed = [
        each for (preset, *_), each in sorted(found.records.items()) if preset == column and each.status == "failed"
    ]
    if failed:
        told.append(
            f"{len(failed)} cell{'s' if len(failed) > 1 else ''} failed and count as not meeting; run again with --resume "
            f"(the first: {failed[0].cell}: {failed[0].reason})"
        )
    return told


def beyond(found: Found, column: str) -> str:
    """What breaks first at the smallest size that fails."""
    record = found.beyond(column)
    if record is None:
        return "nothing, as far as sizes went"
    place = f"at {record.swept[found.search.varied]}"
    if record.status != "done":
        return f"{place} {record.status}, seed {record.seed}: {record.reason}"
    judged = judge(record, found.objectives)
    first = judged.broken[0]
    objective = found.objectives[first]
    told = f"{place} {objective.name} is {judged.values[first]}, seed {record.seed}"
    others = len(judged.broken) - 1
    told += f", and {others} more objective{'s' if others > 1 else ''}" if others else ""
    return f"{told}; {_waited(record)}"


def _waited(record: Record) -> str:
    """What VMs waited for, the longest first."""
    stalled = sum(vm["stall_ns"] for vm in record.vms.values())
    if not stalled:
        return "no VM waited"
    kinds = sorted(waits(record).items(), key=lambda pair: -pair[1])
    shares = [f"{fault_name(kind)} {100 * ns // stalled} %" for kind, ns in kinds if 100 * ns >= stalled]
    direct = record.counters.get("reclaim_direct", 0)
    told = f"VMs waited {figures(stalled / 1e9)} s" + (f": {', '.join(shares)}" if shares else "")
    return told + (f"; {figures(direct)} pages were reclaimed by who needed them" if direct else "")


def waits(record: Record) -> dict[str, int]:
    """Time in faults that only lack of memory makes, by kind, ns."""
    sums = {kind: sum(ns * count for ns, count in record.histograms.get(kind, ())) for kind in WAITS}
    return {kind: ns for kind, ns in sums.items() if ns}


def table(found: Found) -> list[tuple[str, ...]]:
    """Head and a row for each column."""
    rows: list[tuple[str, ...]] = [HEADS]
    for column in alone(found):
        answer = found.answer(column)
        rows.append((column, *_numbers(found, column, answer), beyond(found, column)))
    return rows


def alone(found: Found) -> list[str]:
    """The columns, without their searches with a host lost."""
    return [column for column in found.columns if not column.endswith(LOST)]


def _numbers(found: Found, column: str, answer: Answer) -> tuple[str, str, str, str]:
    if answer.outcome == "none":
        return f"< {found.search.low}", MISSING, MISSING, "0"
    size = {"all": f"≥ {answer.size}", "unfinished": f"{answer.size}…"}.get(answer.outcome, str(answer.size))
    by_seed = " ".join(str(each) for each in answer.by_seed.values())
    return size, _label(found, column, answer.size), by_seed, str(spare(found, column)[0])


def ratio(found: Found, column: str, size: int) -> str:
    """Memory promised to memory there with so many VMs, as records spell it; "" where no cell of the size was run."""
    of = (each.ratio for (preset, there, _), each in found.records.items() if (preset, there) == (column, size))
    return next(of, "")


def _label(found: Found, column: str, size: int) -> str:
    told = ratio(found, column, size)
    return ratio_label(told) if told else MISSING


def curve(found: Found, column: str) -> list[tuple[str, ...]]:
    """Head and a row for each size that was asked."""
    objectives, answer, judged = found.objectives, found.answer(column), found.judged(column)
    rows = [("VMs", "ratio", *(f"{each.name} ≤ {each.at_most}" for each in objectives), "seeds that meet", "")]
    for size in sorted({size for sizes in judged.values() for size in sizes}):
        here = [sizes[size] for sizes in judged.values() if size in sizes]
        values = [_span([each.values[i] for each in here]) for i in range(len(objectives))]
        meets = f"{sum(each.meets for each in here)} of {len(here)}"
        ended = {each.status for (preset, there, _), each in found.records.items() if (preset, there) == (column, size)}
        mark = "the answer" if size == answer.size and answer.outcome == "found" else ""
        note = ", ".join(filter(None, [mark, *sorted(ended - {"done"})]))
        rows.append((str(size), _label(found, column, size), *values, meets, note))
    return rows


def _span(values: Sequence[Decimal | None]) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return MISSING
    return f"{min(there)}" if min(there) == max(there) else f"{min(there)} to {max(there)}"


def as_json(found: Found) -> dict[str, Any]:
    """All of it for programs. Slowdowns and ratios are decimal strings, as in records."""
    search = found.search
    return {
        "scenario": search.scenario,
        "vary": search.varied,
        "objectives": [
            {"name": each.name, "metric": each.metric, "at_most": str(each.at_most)} for each in found.objectives
        ],
        "seeds": list(found.seeds),
        "bounds": {"low": search.low, "high": search.high, "limit": search.limit},
        "columns": [_column(found, column) for column in alone(found)],
    }


def _column(found: Found, column: str) -> dict[str, Any]:
    answer = found.answer(column)
    least, most = answer.interval
    found_one = answer.outcome in ("found", "all")
    return {
        "preset": column,
        "outcome": answer.outcome,
        "answer": answer.size if found_one else None,
        "ratio": ratio(found, column, answer.size) if found_one else None,
        "by_seed": {str(seed): size for seed, size in answer.by_seed.items()},
        "interval": {"low": least, "high": most, "holds_median": holds(len(found.seeds))},
        **({} if column.endswith(LOST) else {"n_plus_1": _spare(found, column)}),
        "violations": [{"seed": seed, "fails": fails, "meets": meets} for seed, fails, meets in answer.violations],
        "doubts": doubts(found, column),
        "beyond": _beyond(found, column),
        "curve": _points(found, column),
    }


def _spare(found: Found, column: str) -> dict[str, Any]:
    """The answer for several hosts of which one may fail, with its own search where there was one."""
    size, how = spare(found, column)
    told: dict[str, Any] = {"hosts": found.search.hosts, "answer": size, "how": how}
    if how == "searched":
        lost = _column(found, column + LOST)
        told |= {key: lost[key] for key in ("outcome", "by_seed", "violations", "doubts", "beyond", "curve")}
    return told


def _beyond(found: Found, column: str) -> dict[str, Any] | None:
    record = found.beyond(column)
    if record is None:
        return None
    judged = judge(record, found.objectives)
    broken = [found.objectives[i].name for i in judged.broken]
    return {
        "size": int(record.swept[found.search.varied]),
        "seed": record.seed,
        "cell": record.cell,
        "status": record.status,
        "reason": record.reason,
        "broken": broken,
        "values": _values(found, judged.values),
        "stall_ns": sum(vm["stall_ns"] for vm in record.vms.values()),
        "waits_ns": waits(record),
    }


def _values(found: Found, values: Sequence[Decimal | None]) -> dict[str, str | None]:
    named = zip(found.objectives, values, strict=True)
    return {each.name: None if value is None else str(value) for each, value in named}


def _points(found: Found, column: str) -> list[dict[str, Any]]:
    points = []
    for seed, sizes in found.judged(column).items():
        for size, judged in sizes.items():
            record = found.records[column, size, seed]
            points.append(
                {
                    "size": size,
                    "seed": seed,
                    "ratio": record.ratio,
                    "status": record.status,
                    "meets": judged.meets,
                    "values": _values(found, judged.values),
                    "cell": record.cell,
                }
            )
    return sorted(points, key=lambda point: (point["size"], point["seed"]))
