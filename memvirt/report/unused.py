"""Mechanisms of a column that had no part in its numbers. A table that is silent about them teaches that they do nothing.

    a scanner that did not get round     fewer pages looked at than guests' frames at the end: sharing had no chance to save
    a cache that took no page            in any measured phase, though pages were evicted in some
    guests that reported no page         though free page reporting is on: phases shorter than its delay, blocks too large
    marks older than decisions           a decider that weighs accessed marks is asked more often than they are collected,
                                         so most of its decisions are made on what an earlier one knew
    marks younger than decisions         a decider looks at ages to which marks, collected so often, are never counted

Deciders that were never asked, or changed nothing, are in `notes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memvirt import policies
from memvirt.errors import ConfigError
from memvirt.names import DECIDERS
from memvirt.policies.base import OLDEST
from memvirt.report.escape import plain
from memvirt.results.record import Record
from memvirt.units import format_time, parse_time

SHOWN = 3  # columns named in one line


def unused(records: Sequence[Record]) -> list[str]:
    """A line for each kind of mechanism that had no part in some column's numbers."""
    columns: dict[str, list[Record]] = {}
    for record in records:
        if record.status == "done" and record.role == "column" and record.kind != "trace":
            columns.setdefault(record.preset, []).append(record)
    return [
        *_not_round(columns),
        *_never_took(columns),
        *_never_reported(columns),
        *_young_marks(columns),
        *_old_marks(columns),
    ]


def _host(record: Record) -> Mapping[str, Any]:
    host: Mapping[str, Any] = record.config.get("host", {})
    return host


def _not_round(columns: Mapping[str, Sequence[Record]]) -> list[str]:
    """Scanners that looked at fewer pages, since the host was made, than guests held frames at its end."""

    def missed(record: Record) -> bool:
        looked = record.sharing.get("pages_scanned", 0) + record.sharing.get("pages_skipped", 0)
        return _host(record).get("sharing") not in (None, "inline") and looked < record.usage.get("guest", 0)

    found = _where(columns, missed)
    return [
        f"The scanner of {found} had not looked at each page once when the measured phase ended: what sharing saves does "
        f"not show. Let it look at more pages, or let it settle; see 'memvirt explain'."
    ] * bool(found)


def _never_took(columns: Mapping[str, Sequence[Record]]) -> list[str]:
    """Compressed caches that no cell of the column put a page into, though it evicted some."""
    idle = {
        name: own
        for name, own in columns.items()
        if any(record.counters.get("evicted", 0) for record in own)
        and all(
            _host(record).get("zpool_percent")
            and not record.counters.get("evicted_zpool", 1)
            and not record.counters.get("fault_zpool", 1)
            for record in own
        )
    }
    found = _where(idle, lambda record: True)
    return [
        f"The compressed cache of {found} took no page in a measured phase, and gave none back: pages were evicted "
        f"without it."
    ] * bool(found)


def _never_reported(columns: Mapping[str, Sequence[Record]]) -> list[str]:
    """Columns whose guests name their free blocks, and of which none did in any cell."""
    idle = {
        name: own
        for name, own in columns.items()
        if all(
            (record.config.get("guest") or {}).get("report_order") is not None
            and not record.counters.get("guest.report_messages", 1)
            for record in own
        )
    }
    found = _where(idle, lambda record: True)
    return [
        f"Free page reporting of {found} named no page in a measured phase: a phase is shorter than report_delay, or guests "
        f"have fewer than 32 free blocks of report_order. See 'memvirt explain'."
    ] * bool(found)


def _old_marks(columns: Mapping[str, Sequence[Record]]) -> list[str]:
    """Deciders that weigh accessed marks and are asked more often than those are collected."""
    lines = []
    for name, own in columns.items():
        host = _host(own[0])
        decider, every = host.get("balloon"), host.get("decider_options", {}).get("interval_ns")
        marks = _marks_ns(host)
        weighs = decider in DECIDERS and getattr(policies.load(str(decider)), "weighs_marks", False)
        if weighs and isinstance(every, int) and marks is not None and every < marks:
            lines.append(
                f"The decider '{decider}' of {plain(name)} weighs accessed marks, which are collected every "
                f"{format_time(marks)}, and is asked every {format_time(every)}: most of its decisions know no more "
                f"than the one before."
            )
    return lines


def _young_marks(columns: Mapping[str, Sequence[Record]]) -> list[str]:
    """Deciders that look at ages to which accessed marks, collected so often, are never counted."""
    lines = []
    for name, own in columns.items():
        host = _host(own[0])
        least, marks = host.get("decider_options", {}).get("min_age_ns"), _marks_ns(host)
        if isinstance(least, int) and marks is not None and least > OLDEST * marks:
            lines.append(
                f"The decider '{host.get('balloon')}' of {plain(name)} looks at ages from {format_time(least)} on, and "
                f"accessed marks that are collected every {format_time(marks)} are counted to {format_time(OLDEST * marks)}: "
                f"nothing is ever that old. Let them be collected less often: --set harvest_interval=30s."
            )
    return lines


def _marks_ns(host: Mapping[str, Any]) -> int | None:
    """How often accessed marks are collected, which a record has as text, "30s". None: it does not say."""
    try:
        return parse_time(host.get("harvest_interval"))
    except ConfigError:
        return None


def _where(columns: Mapping[str, Sequence[Record]], unused: Callable[[Record], bool]) -> str:
    """The columns in whose cells that is so: "ksm (3 of 12 cells), all"; nothing where it is nowhere so."""
    told = []
    for name, own in columns.items():
        cells = sum(map(unused, own))
        if cells:
            told.append(plain(name) if cells == len(own) else f"{plain(name)} ({cells} of {len(own)} cells)")
    more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return ", ".join(told[:SHOWN]) + more
