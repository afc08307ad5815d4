"""Of which cells a claim speaks, in the words of the table: scenarios with their ratios, and presets.

A claim names cells by SCENARIO-PERCENT--PRESET, where the percentage is what its suite asked for. The ratio that a cell
came to may be another, and is what tables show. So names are turned into words by the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from memvirt.report.summary import ratio_label
from memvirt.results.claims import SEPARATOR, Claim
from memvirt.results.record import Record

SHOWN = 4  # names in one list

Place = tuple[str, str]  # scenario and ratio


def cell(record: Record) -> str:
    """What a record's cell is called: "zipf at 1.50, swap"."""
    return f"{record.base_scenario} at {ratio_label(record.ratio)}, {record.preset}"


class Places:
    """Where the cells of some records are."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._called = {record.scenario: (record.base_scenario, ratio_label(record.ratio)) for record in records}
        self._ratio = "capacity" if any(record.kind == "trace" for record in records) else "ratio"
        self._presets: dict[str, list[str]] = {}  # scenario with its percentage -> its presets
        for record in records:
            own = self._presets.setdefault(record.scenario, []) if record.role == "column" else []
            own += [record.preset] * (record.preset not in own)

    def cell(self, name: str) -> str:
        """The words for a cell's name; the name itself where it holds wildcards or is of no scenario among the records."""
        scenario, _, preset = name.rpartition(SEPARATOR)
        if scenario not in self._called or set(preset) & set("*?"):
            return name
        return f"{' at '.join(self._called[scenario])}, {preset}"

    def scope(self, claim: Claim) -> str:
        """The cells of a claim that are there: "zipf at 1.50: swap, sharing"; its own names where none is."""
        named: dict[tuple[str, ...], list[Place]] = {}  # presets; () for all of a place's
        for scenario, presets in self._presets.items():
            own = [each for each in presets if _is_named(claim, f"{scenario}{SEPARATOR}{each}")]
            if own:
                key = () if len(own) == len(presets) > 1 else tuple(own)
                named.setdefault(key, []).append(self._called[scenario])
        told = [f"{self._where(places)}: {_few(who) or 'all presets'}" for who, places in named.items()]
        against = f"; against {self.cell(claim.relative_to)}" if claim.relative_to else ""
        return ("; ".join(told) or ", ".join(claim.cells)) + against

    def _where(self, places: Sequence[Place]) -> str:
        """Scenarios with their ratios, those of the same ratios together."""
        alike: dict[str, list[str]] = {}
        for scenario in dict.fromkeys(scenario for scenario, _ in places):
            ratios = [ratio for each, ratio in places if each == scenario]
            every = sum(self._called[each][0] == scenario for each in self._presets)
            words = f"every {self._ratio}" if len(ratios) == every > 1 else _few(ratios)
            alike.setdefault(words, []).append(scenario)
        whole = len({self._called[each][0] for each in self._presets})
        return "; ".join(
            f"{'every scenario' if len(names) == whole > 1 else _few(names)} at {ratios}"
            for ratios, names in alike.items()
        )


def _is_named(claim: Claim, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in claim.cells)


def _few(names: Iterable[str]) -> str:
    several = list(names)
    if len(several) <= SHOWN:
        return ", ".join(several)
    return f"{', '.join(several[: SHOWN - 1])} and {len(several) - SHOWN + 1} more"
