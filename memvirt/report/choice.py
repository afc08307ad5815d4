"""Which rows and columns of a table are wanted. A choice changes what is shown and nothing else: claims, for instance, are
checked against all records, and those about what is shown are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from memvirt.errors import ConfigError
from memvirt.results.manifest import Shown
from memvirt.results.record import Record
from memvirt.results.shapes import column_problems
from memvirt.units import suggest

SAVED = "saved"  # names the column of frames saved by mechanism


@dataclass(frozen=True, slots=True)
class Choice:
    """Names of what is wanted; of what is empty, everything."""

    columns: tuple[str, ...] = ()  # metrics, and SAVED
    presets: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()  # without their ratios
    ratios: tuple[str, ...] = ()  # decimals

    def shown(self, shown: Shown) -> Shown:
        """The run's columns, or the chosen ones; ConfigError for names that are no metrics."""
        metrics = [name for name in self.columns if name != SAVED]
        if problems := column_problems(metrics, SAVED):
            raise ConfigError("\n".join(text for _, text in problems))
        return replace(shown, columns=metrics or shown.columns, saved=SAVED in self.columns) if self.columns else shown

    def rows(self, records: Sequence[Record]) -> list[Record]:
        """The chosen records in their order; ConfigError for a name that none of them has, and where none is left."""
        problems = [
            *_unknown("preset", self.presets, (record.preset for record in records if record.role == "column")),
            *_unknown("scenario", self.scenarios, (record.base_scenario for record in records)),
            *_unknown("ratio", self.ratios, (record.ratio for record in records if record.role == "column")),
        ]
        if problems:
            raise ConfigError("\n".join(problems))
        ratios = {float(ratio) for ratio in self.ratios}
        kept = [
            record
            for record in records
            if (not self.scenarios or record.base_scenario in self.scenarios)
            and (record.role != "column" or not self.presets or record.preset in self.presets)
            and (not ratios or float(record.ratio) in ratios)
        ]
        if not any(record.role == "column" for record in kept):
            raise ConfigError(
                "no cell of these presets, scenarios and ratios is finished; leave one of the options out"
            )
        return kept


ALL = Choice()


def _unknown(what: str, wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    known = list(dict.fromkeys(there))
    if what == "ratio":
        numbers = [ratio for ratio in known if _number(ratio) is not None]
        wrong = [each for each in wanted if _number(each) not in {_number(ratio) for ratio in numbers}]
    else:
        wrong = [each for each in wanted if each not in known]
    return [f"the run has no {what} '{each}'{suggest(each, known)} (it has {', '.join(known)})" for each in wrong]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
