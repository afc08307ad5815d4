"""The figures of results by name: what each shows, and the function that makes it.

A maker is given the scenes of one scenario (memvirt.report.figures.data), one for each run, and a ratio. It answers with a
specification, or with a sentence that says why there is nothing to draw. The table names makers and imports none, so that
`memvirt list figures` answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from memvirt.errors import ConfigError
from memvirt.units import suggest

if TYPE_CHECKING:
    from memvirt.report.figures.data import Scene
    from memvirt.report.figures.style import Figure

    Maker = Callable[[Sequence[Scene], str], Figure | str]

SAFE = re.compile(r"[^\w.-]+", re.ASCII)  # what a file's name is spared
LONGEST = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of figure."""

    name: str
    title: str
    summary: str
    made_by: str  # "module.function" beside this module
    every_ratio: bool = False  # it shows all ratios at once, and is made once a scenario
    of_hosts: bool = True  # nothing to draw of an order of replacement alone
    of_searches: bool = False  # nothing to draw but of a search for the largest fleet

    @property
    def maker(self) -> Maker:
        """The function that makes it."""
        module, function = self.made_by.split(".")
        return cast("Maker", getattr(import_module(f"memvirt.report.figures.{module}"), function))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "capacity",
            "How large the fleet may be",
            "every objective of a search over the sizes that were asked, with its limit and the answer of each preset",
            "sizes.capacity",
            every_ratio=True,
            of_searches=True,
        ),
        Kind(
            "tradeoff",
            "Overcommit against slowdown",
            "effective overcommit against slowdown of every preset and ratio, with the Pareto front",
            "costs.tradeoff",
            every_ratio=True,
        ),
        Kind(
            "levels",
            "Slowdown by service level",
            "slowdown at p99 over the ratio promised, a panel for each service level of a fleet that lives",
            "levels.levels",
            every_ratio=True,
        ),
        Kind(
            "savings",
            "What was saved, by which mechanism",
            "waterfall of memory saved by mechanism, less metadata, and processor seconds for each GiB",
            "savings.savings",
        ),
        Kind(
            "latency",
            "How long faults took",
            "percentile curves of fault latency, a panel for each kind of fault",
            "latency.latency",
        ),
        Kind(
            "memory",
            "What host memory was used for",
            "host memory by use over simulated time, a panel for each preset",
            "conditions.memory",
        ),
        Kind(
            "states",
            "What state the host was in",
            "the state that a decider says the host is in, as a band over simulated time, a panel for each preset",
            "conditions.states",
        ),
        Kind(
            "stall",
            "Time spent waiting for memory",
            "share of simulated time in which some VM and every VM waited, over time",
            "conditions.stall",
        ),
        Kind(
            "fragmentation",
            "How free memory lies",
            "share of free memory that a block of each order cannot use",
            "conditions.fragmentation",
        ),
        Kind(
            "miss-ratios",
            "Misses by size of memory",
            "miss ratio of every order of replacement over the share of a trace that fits",
            "costs.miss_ratios",
            every_ratio=True,
            of_hosts=False,
        ),
        Kind(
            "sensitivity",
            "What the seeds change",
            "the deciding metric of every preset, a mark for each seed, with mean and interval",
            "costs.sensitivity",
            of_hosts=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Made:
    """A figure of one scenario, or why there is none."""

    kind: Kind
    scenario: str
    ratio: str  # "" for a figure of all ratios
    figure: Figure | None
    reason: str = ""

    @property
    def file_name(self) -> str:
        """A name for a file, without its ending: kind, scenario, ratio."""
        parts = [self.kind.name, SAFE.sub("-", self.scenario)[:LONGEST].strip("-.") or "scenario"]
        return "-".join([*parts, *([self.ratio] if self.ratio else [])])


def kind_called(name: str) -> Kind:
    """The kind of a name; ConfigError with a suggestion for none."""
    if name not in KINDS:
        raise ConfigError(f"unknown figure '{name}'{suggest(name, list(KINDS))} (known: {', '.join(KINDS)})")
    return KINDS[name]


def make(kind: Kind, scenes: Sequence[Scene], ratio: str = "") -> Made:
    """The figure of a scenario at a ratio: unless given, the one that tells most (`data.telling_ratio`)."""
    from memvirt.report.figures.data import telling_ratio

    asked = ratio or telling_ratio(scenes)
    figure = kind.maker(scenes, asked)
    shown = "" if kind.every_ratio else asked
    if isinstance(figure, str):
        return Made(kind, scenes[0].name, shown, None, figure)
    return Made(kind, scenes[0].name, shown, figure)
