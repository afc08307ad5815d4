"""Claims: what a run is expected to show, stated before anyone looks, so that a program can say whether it does.

A claim is a sentence for people and a test for programs: a metric of some cells, and the range it lies in. With
`relative_to` it is the ratio to another cell that lies there. Instead of a metric a claim may name an outcome, for that a
preset is refused or runs out of memory is a result, too.

    schema = 1

    [[claims]]
    id = "lz4-beats-swap"                  # a name
    statement = "Text comes back from a compressed cache in less than half the time that swap takes."
    metric = "slowdown"                    # memvirt list metrics
    cells = ["source-125--lz4"]            # SCENARIO-PERCENT--PRESET; * and ? stand for any characters
    relative_to = "swap"                   # a preset: the same scenario and seed there; or a whole cell
    at_most = 0.5                          # and at_least; one of them, or both
    published = "0.45 (a paper, its figure)"  # what others found of it, told beside the number; with where it is from
    answer = true                          # of several: those that reports begin with
    minutes = 2                            # what making the evidence takes

Claims of a suite stand in its file. A run takes them along in run.json, where tables find them. A file CLAIMS.toml in a
results folder takes their place: that is how a paper states its own. `memvirt.report.claims` says whether they hold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from memvirt.metrics.metric import Kind
from memvirt.metrics.registry import REGISTRY
from memvirt.results.record import Status, Tier
from memvirt.settings.diagnose import Conflicts, Problem, read_toml, validate
from memvirt.settings.fields import Model, Name
from memvirt.units import suggest

FILE = "CLAIMS.toml"
SEPARATOR = "--"  # between scenario and preset
LONGEST = 500  # characters of a statement
MOST_CLAIMS, MOST_PATTERNS = 256, 64  # of a file, and of a claim: each pattern is held against every cell

Number = Annotated[float, Field(allow_inf_nan=False)]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class Claim(Model):
    """One thing that a run is expected to show."""

    id: Name = Field(description="a name, which messages use")
    statement: str = Field(description="one sentence in words", min_length=1, max_length=LONGEST)
    cells: list[Pattern] = Field(
        description="a list of cells by SCENARIO-PERCENT--PRESET; * and ? stand for any characters",
        min_length=1,
        max_length=MOST_PATTERNS,
    )
    metric: str = Field(default="", description="a metric's name")
    at_least: Number | None = Field(default=None, description="the metric, or its ratio, is not less")
    at_most: Number | None = Field(default=None, description="and not more")
    relative_to: str = Field(
        default="",
        description="a preset, for the same scenario and seed there, or a whole cell: the ratio to it counts",
    )
    outcome: Status | None = Field(default=None, description="in place of a metric: done, refused or exhausted")
    seeds: Literal["each", "mean"] = Field(default="each", description="each seed has to show it, or their mean")
    tiers: list[Tier] = Field(default=["quick", "full"], description="where it is stated", min_length=1)
    published: str = Field(
        default="", description="what others have published of it, and where: told beside the number", max_length=200
    )
    answer: bool = Field(default=False, description="true: reports begin with its statement, where it holds")
    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="what making the evidence takes")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        problems += [
            Problem((key,), "holds a control character; write it as one line of text")
            for key in ("statement", "published")
            if not getattr(self, key).isprintable()
        ]
        if bool(self.metric) == bool(self.outcome):
            problems.append(Problem(("metric",), "give either a metric or an outcome", ("outcome",)))
        if self.metric and self.metric not in REGISTRY:
            text = f"no metric is called '{self.metric}'{suggest(self.metric, list(REGISTRY))}"
            problems.append(Problem(("metric",), text))
        bounds = [bound for bound in (self.at_least, self.at_most) if bound is not None]
        if self.metric and not bounds:
            problems.append(Problem(("at_most",), "give at_least, at_most or both", ("at_least",)))
        if self.outcome and (bounds or self.relative_to):
            problems.append(Problem(("outcome",), "an outcome has no range", ("at_least", "at_most", "relative_to")))
        if bounds != sorted(bounds):
            problems.append(Problem(("at_least",), "is above at_most", ("at_most",)))
        problems += [
            Problem(
                ("cells", index),
                f"is no SCENARIO-PERCENT{SEPARATOR}PRESET (two dashes), as in zipf-150{SEPARATOR}swap or *{SEPARATOR}swap",
            )
            for index, cell in enumerate(self.cells)
            if SEPARATOR not in cell
        ]
        if problems:
            raise Conflicts(problems)
        return self


class Claims(Model):
    """A file CLAIMS.toml."""

    schema_: Literal[1] = Field(alias="schema", description="1")
    claims: list[Claim] = Field(description="what is claimed", min_length=1, max_length=MOST_CLAIMS)

    @model_validator(mode="after")
    def _agree_in_ids(self) -> Self:
        if problems := problems_of(self.claims):
            raise Conflicts(problems)
        return self


def problems_of(claims: Sequence[Claim]) -> list[Problem]:
    """What is wrong with claims that are stated now, beside what no claim can be: an id that an earlier one has, and what
    no run can show."""
    ids = [claim.id for claim in claims]
    found = [Problem(("claims", at), f"'{name}' is given twice") for at, name in enumerate(ids) if name in ids[:at]]
    for at, claim in enumerate(claims):
        if claim.metric and REGISTRY[claim.metric].kind in (Kind.HISTOGRAM, Kind.WALL_TIME):
            text = f"'{claim.metric}' is no number that equal runs agree in"
            found.append(Problem(("claims", at, "metric"), text))
        if claim.outcome == "failed":
            text = "a cell that failed shows nothing; done, refused and exhausted are results"
            found.append(Problem(("claims", at, "outcome"), text))
    return found


def of_no_cell(claims: Sequence[Claim], cells: Iterable[str]) -> list[tuple[str, str]]:
    """(id, pattern) of what claims name and no cell is called, of cells SCENARIO-PERCENT--PRESET."""
    known = list(dict.fromkeys(cells))
    return [
        (claim.id, pattern)
        for claim in claims
        for pattern in claim.cells
        if not any(fnmatchcase(cell, pattern) for cell in known)
    ]


def read(path: str | os.PathLike[str]) -> list[Claim]:
    """The claims of a file; ConfigError with all that is wrong in it, each with its line."""
    data, source = read_toml(Path(path))
    return validate(Claims, data, source).claims


def dumps(claims: Sequence[Claim]) -> str:
    """The text of a CLAIMS.toml; `read` gives the same claims again."""
    parts = ["schema = 1\n"]
    for claim in claims:
        table = claim.model_dump(mode="json", exclude_defaults=True)
        parts.append("[[claims]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items()))
    return "\n".join(parts)


def _toml(value: Any) -> str:
    """A text, a number or a list of texts in TOML, whose basic strings are JSON's but for U+007F."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
