"""What a suite file says: scenarios on one host, under presets or variants of them, sized by tier.

[[variants]]   a preset under another name with settings changed; in place of the list `presets`
[tiers.NAME]   smoke, quick, full: how large and how long, and with which seeds
[[scenarios]]  a fleet, the ratios to try, and a table per phase (memvirt.fleet says what they mean)
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from memvirt.config import Count, Model, Name
from memvirt.diagnose import Conflicts, Problem
from memvirt.fleet import AgingSpec, FleetSpec

Scale = Annotated[int, Field(strict=True, ge=1, le=100_000)]  # per cent


class Tier(Model):
    """How much of a suite is run."""

    memory_percent: Scale = 100  # of the sizes in the file
    accesses_percent: Scale = 100
    seeds: list[Count] | None = Field(default=None, min_length=1)  # in place of the suite's


class Variant(Model):
    """A preset with settings changed, as a column of its own."""

    name: Name
    preset: str
    set: dict[str, Any] = Field(default={})


class Scenario(Model):
    """One workload on one fleet, at every ratio."""

    name: Name
    description: str = ""
    overcommit_percent: list[Scale] = Field(default=[100], min_length=1)
    fleet: FleetSpec
    warm_up: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None
    aging: AgingSpec | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.measured is None) == (self.aging is None):
            raise Conflicts([Problem(("measured",), "give either measured or aging", ("aging",))])
        return self


class SuiteConfig(Model):
    """A named experiment."""

    version: Literal[1] = Field(alias="schema")
    name: Name
    title: str
    description: str
    presets: list[str] = Field(default=[])
    variants: list[Variant] = Field(default=[])
    seeds: list[Count] = Field(default=[1], min_length=1)
    host: dict[str, Any] = Field(default={})
    tiers: dict[Literal["smoke", "quick", "full"], Tier] = Field(default={})
    scenarios: list[Scenario] = Field(min_length=1)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        if bool(self.presets) == bool(self.variants):
            problems.append(Problem(("presets",), "give either presets or variants", ("variants",)))
        for key, names in (
            ("presets", self.presets),
            ("variants", [variant.name for variant in self.variants]),
            ("scenarios", [scenario.name for scenario in self.scenarios]),
        ):
            doubles = [index for index, name in enumerate(names) if name in names[:index]]
            problems += [Problem((key, index), f"'{names[index]}' is given twice") for index in doubles]
        if problems:
            raise Conflicts(problems)
        return self
