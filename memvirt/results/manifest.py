"""run.json: what a run is, beside the records it leaves.

    what was asked for     suite, tier, presets, settings, seeds, corpus: enough to ask for the same cells again
    what it came to        every cell's configuration hash, in the order of the run; inputs, versions, commit
    how it is shown        title, columns of its tables, the rule of the line below them, what was expected of it

A resumed run must agree in what it came to (`SAME`). How it is shown says nothing about the numbers: it lies here once,
and no record knows of it.
"""

from __future__ import annotations

import json
import re
from dataclasses import field
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from memvirt.errors import FolderError
from memvirt.metrics.registry import REGISTRY
from memvirt.results.claims import Claim
from memvirt.results.record import Tier
from memvirt.results.shapes import is_file_name
from memvirt.results.timeline import Whole
from memvirt.settings.diagnose import dotted
from memvirt.untrusted import Excess, json_value

FORMAT = "memvirt-run"
SCHEMA = 2
# 2 - what was asked for, and how the run is shown, which was in every record before.
# 1 - first version.

SAME = ("suite", "tier", "cells", "inputs", "versions", "commit")  # in which a resumed run must agree
PLACE = re.compile(r"(?:^|[=,:])~?/")
STRICT = ConfigDict(extra="forbid", strict=True)

Rule = Literal["slowdown", "leading", "apart", "survival"]


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Shown:
    """What tables show of a run."""

    question: str = ""  # what it was run to answer
    columns: list[str] = field(default_factory=list)  # names of metrics, the deciding one first; none: the usual ones
    saved: bool = True  # whether frames saved by mechanism stand there, too
    learned: Rule = "slowdown"  # rule of the last line, memvirt.report.verdict
    claims: list[Claim] = field(default_factory=list)  # what the suite expects, memvirt.report.claims

    @field_validator("columns")
    @classmethod
    def _of_metrics(cls, columns: list[str]) -> list[str]:
        if unknown := [name for name in columns if name not in REGISTRY]:
            raise ValueError(f"no metric is called '{unknown[0]}'")
        return columns


USUAL = Shown()


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Search:
    """What a search for the largest fleet is about; its cells are found as it goes (memvirt.experiment.capacity)."""

    scenario: str
    group: str  # whose VMs are counted
    slo: list[str]  # objectives, as memvirt.experiment.objectives reads them
    low: Whole  # VMs, the bounds of the search
    high: Whole
    limit: str  # what the upper bound is of
    starts: dict[str, Whole]  # column -> VMs of the first guess
    hosts: Whole  # N + 1: the answer beside is for so many, one of which may fail
    failover: bool = False  # and it is searched for, with the VMs of the host that failed

    @property
    def varied(self) -> str:
        """The setting that is varied: the name of a column in tables."""
        return f"{self.group}.vms"

    def words(self, seeds: int) -> list[str]:
        """The options that ask for it."""
        options = {"--vary": self.varied, "--slo": ",".join(self.slo), "--seeds": seeds, "--scenario": self.scenario}
        options |= {"--between": f"{self.low},{self.high}", "--hosts": self.hosts}
        words = [str(word) for option in options.items() for word in option]
        return words + (["--failover"] if self.failover else [])


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Asked:
    """What the user asked for, word by word."""

    suite: str  # a name, or the path of a file
    tier: Tier = "quick"
    presets: list[str] = field(default_factory=list)  # the columns asked for; none: all of the suite's
    scenarios: list[str] = field(default_factory=list)  # those of the suite that are run; none: all
    settings: list[str] = field(default_factory=list)  # "key=value", changed in every column that has them
    seeds: list[Whole] = field(default_factory=list)  # none: the suite's
    corpus: str = ""  # a path or 'synthetic'; empty: this machine's own
    trace: str = ""  # a file that VMs replay; empty: the suite's own workloads
    streams: Literal["all", "each"] = "all"  # what of it a VM replays
    times: bool = False  # its time stamps say when touches are due
    speed: Whole = 100  # with times: per cent of that speed
    per_second: Whole | None = None  # touches of it that are due in a second
    sweep: list[str] = field(
        default_factory=list
    )  # "key=a,b": settings that every column runs with, beside the suite's
    most_cells: Whole = 0  # of a sweep; 0: as many as there may be unasked
    fill: list[str] = field(default_factory=list)  # "image=A,B", "private=C": classes in place of the suite's
    search: Search | None = None  # of `memvirt capacity`, whose cells depend on what others came to

    def words(self) -> list[str]:
        """The arguments of `memvirt` that ask for the same cells."""
        words = ["capacity" if self.search else "run", self.suite, "--tier", self.tier]
        words += self.search.words(len(self.seeds)) if self.search else []
        words += ["--preset", ",".join(self.presets)] if self.presets else []
        for option, values in (
            ("--scenario", self.scenarios),
            ("--set", self.settings),
            ("--sweep", self.sweep),
            ("--seed", [] if self.search else self.seeds),
            ("--fill", self.fill),
        ):
            for value in values:
                words += [option, str(value)]
        words += ["--most-cells", str(self.most_cells)] if self.most_cells else []
        words += ["--corpus", self.corpus] if self.corpus else []
        words += ["--trace", self.trace, "--streams", self.streams] if self.trace else []
        words += ["--times"] if self.times else []
        words += ["--speed", str(self.speed)] if self.speed != 100 else []
        return words + (["--per-second", str(self.per_second)] if self.per_second is not None else [])

    def places(self) -> list[str]:
        """The words among them that name a place of a machine from its root on, or from somebody's home."""
        return [word for word in self.words() if PLACE.search(word)]


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Manifest:
    """The contents of run.json."""

    format: Literal["memvirt-run"] = FORMAT  # type: ignore[assignment]
    schema: Literal[2] = SCHEMA  # type: ignore[assignment]
    suite: str
    title: str = ""
    description: str = ""  # of the suite: what it runs
    tier: Tier
    asked: Asked
    shown: Shown = USUAL
    cells: dict[str, str]  # name of a cell -> hash of its configuration, in the order of the run
    part: list[str] = field(default_factory=list)  # of a shard: the cells it runs; else empty: all of them
    inputs: dict[str, str] = field(default_factory=dict)  # name -> content hash of the corpus
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""

    @field_validator("cells", "part")
    @classmethod
    def _of_files(cls, cells: Any) -> Any:
        if wrong := [cell for cell in cells if not is_file_name(cell)]:
            raise ValueError(f"{wrong[0]!r} can be no cell: its record could be no file's name")
        return cells


_ADAPTER: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def dumps(manifest: Manifest) -> str:
    """The text of run.json."""
    return json.dumps(_ADAPTER.dump_python(manifest, mode="json"), indent=1, ensure_ascii=False) + "\n"


def loads(text: str | bytes, source: str) -> Manifest:
    """The manifest in `text`; FolderError names `source` and everything that is wrong with it."""
    try:
        raw = json_value(text)
    except Excess as error:
        raise FolderError(f"{source}: damaged: {error}; its run has to be run again") from None
    except ValueError:
        raise FolderError(f"{source}: damaged: not a whole JSON file; its run has to be run again") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise FolderError(f"{source}: not of a memvirt run")
    if raw.get("schema") != SCHEMA:
        old = " (whose records held no defaults, options and costs)" if raw.get("schema") == 1 else ""
        told = f"schema {raw.get('schema')!r}{old}, this memvirt reads {SCHEMA}; run it again into another folder"
        raise FolderError(f"{source}: {told}")
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'run'}: {_said(each)}" for each in error.errors())
        raise FolderError(f"{source}: damaged: {wrong}") from None


def _said(detail: ErrorDetails) -> str:
    """What one of pydantic's details says; of settings that do not go together, each."""
    problems = detail.get("ctx", {}).get("problems", ())
    told = [": ".join(filter(None, (dotted(each.place), each.message))) for each in problems]
    return "; ".join(told) or detail["msg"]


def differing(one: Manifest, other: Manifest) -> list[str]:
    """The parts of SAME in which two runs differ."""
    return [part for part in SAME if getattr(one, part) != getattr(other, part)]
