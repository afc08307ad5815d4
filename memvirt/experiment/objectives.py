"""Service level objectives: what a size of a fleet must keep to be called large enough and no larger.

    gold.p99=1.05       of the seconds of all gold VMs, 99 of 100 take at most 1.05 times as long as their work
    bronze.worst=2      no second of a bronze VM takes longer than twice its work
    p50=1.01            half of the seconds of all VMs

An objective is held against the slowdown of windows that a record of a fleet that lives has, as its decimal stands there.
A cell that did not come to an end (admission refused a VM, memory ran out, it failed) meets nothing. Where VMs of a level
had nothing to do in any window, none of them waited, and the objective is met.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from memvirt.errors import ConfigError
from memvirt.results.record import Record
from memvirt.units import suggest

LEVELS = ("gold", "silver", "bronze")
QUANTILES = ("p50", "p99", "worst")
FORM = "write LEVEL.QUANTILE=SLOWDOWN, as in gold.p99=1.05"
LARGEST = 1000  # the largest slowdown of a window that a record holds


@dataclass(frozen=True, slots=True)
class Objective:
    """At most so slow, in that quantile of the windows of a level's VMs."""

    level: str  # "": VMs of all levels
    quantile: str
    at_most: Decimal

    @property
    def name(self) -> str:
        return f"{self.level}.{self.quantile}" if self.level else self.quantile

    @property
    def metric(self) -> str:
        """The derived number of a record that it is held against."""
        return f"slowdown_{self.quantile}" + (f".{self.level}" if self.level else "")

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        return f"{self.name}={self.at_most}"

    def value(self, record: Record) -> Decimal | None:
        """The slowdown of a finished record; None where no VM of the level had anything to do."""
        found = record.derived.get(self.metric, "")
        return None if found == "" else Decimal(found)


@dataclass(frozen=True, slots=True)
class Judged:
    """A record against its objectives."""

    meets: bool
    values: tuple[Decimal | None, ...]  # in the order of the objectives; none of a cell that did not end
    broken: tuple[int, ...]  # numbers of the objectives that are not met, the farthest from its limit first


def judge(record: Record, objectives: Sequence[Objective]) -> Judged:
    """Whether a record meets all of them."""
    if record.status != "done":
        return Judged(False, (None,) * len(objectives), ())
    values = tuple(objective.value(record) for objective in objectives)
    over = [
        (value / objective.at_most, number)
        for number, (objective, value) in enumerate(zip(objectives, values, strict=True))
        if value is not None and value > objective.at_most
    ]
    return Judged(not over, values, tuple(number for _, number in sorted(over, key=lambda pair: (-pair[0], pair[1]))))


def parse(texts: Sequence[str], levels: Collection[str]) -> tuple[Objective, ...]:
    """The objectives of "gold.p99=1.05,p50=1.01"; `levels` are those that the fleet's groups have.

    ConfigError with everything that is none.
    """
    problems: list[str] = []
    found: dict[str, Objective] = {}
    for word in (word.strip() for text in texts for word in text.split(",")):
        try:
            objective = _objective(word, levels)
        except ConfigError as error:
            problems.append(f"--slo {word}: {error}")
            continue
        if objective.name in found:
            problems.append(f"--slo {word}: {objective.name} is given twice; keep the stricter one")
        found[objective.name] = objective
    if problems or not found:
        raise ConfigError("\n".join(problems) or f"--slo: names no objective; {FORM}")
    return tuple(found.values())


def _objective(word: str, levels: Collection[str]) -> Objective:
    name, equals, limit = word.partition("=")
    level, _, quantile = name.strip().rpartition(".")
    if not equals or not quantile:
        raise ConfigError(FORM)
    if quantile not in QUANTILES:
        raise ConfigError(f"no quantile is called '{quantile}'{suggest(quantile, QUANTILES)} ({', '.join(QUANTILES)})")
    if level and level not in levels:
        known = [each for each in LEVELS if each in levels]
        why = "no group of the scenario is of that level" if level in LEVELS else f"no level is called '{level}'"
        raise ConfigError(f"{why}{suggest(level, known)} (it has {', '.join(known)})")
    return Objective(level, quantile, _limit(limit.strip()))


def _limit(text: str) -> Decimal:
    try:
        limit = Decimal(text)
    except InvalidOperation:
        raise ConfigError(f"'{text}' is no number; {FORM}") from None
    if not limit.is_finite() or not 1 <= limit <= LARGEST:
        raise ConfigError(f"a slowdown is (work + stall) / work: give 1 to {LARGEST}, where 1 is no waiting at all")
    return limit


def texts(objectives: Sequence[Objective]) -> Iterator[str]:
    """As they were asked for."""
    return (objective.text for objective in objectives)
