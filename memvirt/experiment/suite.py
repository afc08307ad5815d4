"""Suites: named experiments, read from TOML.

A suite runs every scenario at every overcommit ratio under every variant of the host with every seed. A variant is a
preset, with settings changed; `presets = [...]` is short for variants that change nothing. A tier makes the same suite
shorter or longer: smoke for tests, quick for a first look, full for numbers that are quoted.

A scenario is a fleet on a host, or a trace of page numbers held against the variants' orders of replacement alone
(`simulate`): then the share of the trace's pages that fits in memory takes the place of the overcommit ratio.

A scenario may have columns and a host of its own: policies whose intervals are seconds have nothing to do in a scenario of
milliseconds, and a host that is large enough for one kind is too large for the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from memvirt.errors import ConfigError
from memvirt.experiment.fleet_spec import Named, Sizes
from memvirt.experiment.living import Living
from memvirt.experiment.scenario import Scenario, Tier, TierName
from memvirt.experiment.simulated import Simulated
from memvirt.results.claims import Claim, problems_of
from memvirt.results.manifest import Rule, Shown
from memvirt.results.record import Kind
from memvirt.results.shapes import column_problems
from memvirt.settings.diagnose import Conflicts, Problem, read_toml, validate
from memvirt.settings.fields import DISTINCT, Count, Model, Name
from memvirt.settings.presets import VmSettings
from memvirt.shipped import SUITES
from memvirt.units import suggest


class Variant(Model):
    """A preset by name, and the settings of the host and of its VMs that are changed in it."""

    name: Name = Field(description="of the column")
    preset: str = Field(description="a preset's name or file")
    set: dict[str, Any] = Field(description="host settings changed in it", default={})
    vm: VmSettings = Field(
        description="of what it asks of every VM, that is changed: as the table [vm] of a preset", default=VmSettings()
    )


def column(preset: str) -> Variant:
    """A preset, by name or by the path of its file, as a variant that changes nothing. Or a decider of one's own,
    file.py:ClassName, in the place of that of preset balloon: guests with balloons, and swap as the safety net."""
    if is_own(preset):
        return Variant(name=preset.rpartition(":")[2], preset="balloon", set={"balloon": preset})
    return Variant(name=Path(preset).stem, preset=preset)


def is_own(preset: str) -> bool:
    """Whether a column's name is a decider in a file of one's own."""
    return ".py:" in preset


TAGS: Mapping[str, str] = {"fleet": "hosted", "life": "living", "trace": "simulated"}  # shown in no message
MARKS: Mapping[str, Kind] = {"simulate": "trace", "groups": "life"}  # the key that tells a scenario of the kind


def _tag(value: Any) -> str:
    if isinstance(value, BaseModel):
        return TAGS.get(getattr(value, "kind", ""), "")
    given = (kind for key, kind in MARKS.items() if isinstance(value, Mapping) and key in value)
    return TAGS[next(given, "fleet")]


AnyScenario = Annotated[
    Annotated[Scenario, Tag("hosted")] | Annotated[Living, Tag("living")] | Annotated[Simulated, Tag("simulated")],
    Discriminator(_tag),
]


class Suite(Model):
    """A suite file."""

    schema_: Literal[1] = Field(description="1", alias="schema")
    name: Name = Field(description="of the suite")
    title: str = Field(description="one line, printed above its tables")
    description: str = Field(description="what it runs, in one sentence")
    question: str = Field(description="what it is to answer, in one sentence; its reports begin with it", default="")
    presets: list[str] = Field(description="columns: names or files of presets", default=[])
    variants: list[Variant] = Field(description="further columns; keys below", default=[])
    seeds: Annotated[list[Count], DISTINCT] = Field(description="each runs every cell", default=[1], min_length=1)
    host: Sizes = Field(
        description="the host of all scenarios; keys below", default=Sizes.model_validate({"memory": "64MiB"})
    )
    tiers: dict[TierName, Tier] = Field(description="smoke, quick, full: what a tier changes; keys below", default={})
    columns: list[str] = Field(
        description="metrics that its tables show, the deciding one first; none: the usual ones", default=[]
    )
    learned: Rule = Field(
        default="slowdown", description="rule of the line under a table: slowdown, leading, apart or survival"
    )
    sweep: dict[str, Annotated[list[Any], DISTINCT, Field(min_length=1)]] = Field(
        description="setting -> values: every column runs with each combination of them", default={}
    )
    claims: list[Claim] = Field(description="what it is expected to show; keys below", default=[])
    scenarios: list[AnyScenario] = Field(description="what is run; keys below", min_length=1)

    @model_validator(mode="after")
    def _agree_in_names(self) -> Self:
        problems = problems_of(self.claims) + [
            Problem(("columns", index), text) for index, text in column_problems(self.columns)
        ]
        if self.learned in ("leading", "apart") and not self.columns:
            text = f"'{self.learned}' compares the first of columns: name some"
            problems.append(Problem(("learned",), text, ("columns",)))
        if not self.presets and not self.variants and any(each.presets is None for each in self.scenarios):
            problems.append(Problem(("presets",), "give presets or variants", ("variants",)))
        if "host" not in self.model_fields_set and any(each.has_vms and not each.own_host for each in self.scenarios):
            problems.append(Problem(("host",), "is required by scenarios with a fleet", ("scenarios",)))
        columns = [(column(preset).name, preset) for preset in self.presets]
        for key, taken, given in (
            ("presets", [], columns),
            ("variants", columns, [(variant.name, variant.preset) for variant in self.variants]),
            ("scenarios", [], [(scenario.name, scenario.name) for scenario in self.scenarios]),
        ):
            problems += _doubles((key,), taken, given)
        for index, scenario in enumerate(self.scenarios):
            own = [(column(preset).name, preset) for preset in scenario.presets or ()]
            problems += _doubles(("scenarios", index, "presets"), [], own)
        if problems:
            raise Conflicts(problems)
        return self

    def shown(self) -> Shown:
        """What tables show of this suite's runs."""
        return Shown(question=self.question, columns=self.columns, learned=self.learned, claims=self.claims)

    def seeds_of(self, scenario: Named) -> list[int]:
        """The seeds that a scenario runs with."""
        return scenario.seeds or self.seeds

    def variants_of(self, scenario: Named) -> list[Variant]:
        """The columns of a scenario: presets and variants alike, presets first. A variant of the suite is called by its
        name."""
        if scenario.presets is None:
            return [*(column(preset) for preset in self.presets), *self.variants]
        named = {variant.name: variant for variant in self.variants}
        return [named.get(preset) or column(preset) for preset in scenario.presets]

    def host_of(self, scenario: Named) -> Sizes:
        """The host of a scenario."""
        return scenario.own_host or self.host

    def at(self, tier: TierName) -> "Suite":
        """The suite as this tier runs it; a tier the file does not mention changes nothing."""
        change = self.tiers.get(tier, Tier())
        percent = change.memory_percent

        def scaled(scenario: AnyScenario) -> AnyScenario:
            host = scenario.own_host and scenario.own_host.scaled(percent)
            changed = {"own_host": host, "seeds": None if change.seeds else scenario.seeds}
            return scenario.scaled(change).model_copy(update=changed)

        return self.model_copy(
            update={
                "host": self.host.scaled(percent),
                "seeds": change.seeds or self.seeds,
                "scenarios": [scaled(scenario) for scenario in self.scenarios],
            }
        )


def _doubles(
    place: tuple[str | int, ...], taken: Sequence[tuple[str, str]], given: Sequence[tuple[str, str]]
) -> Iterator[Problem]:
    """Names that are given twice, or taken, among (name, what it stands for)."""
    for index, (name, value) in enumerate(given):
        before = next((other for known, other in [*taken, *given[:index]] if known == name), None)
        if before is not None:
            both = f" ({before} and {value})" if before != value else ""
            yield Problem((*place, index), f"'{name}' is given twice{both}")


def names() -> list[str]:
    """The suites that come with memvirt."""
    return SUITES.names()


def load(suite: str | Path) -> Suite:
    """A suite by name, or from a TOML file; ConfigError with all that is wrong in it."""
    path = Path(suite)
    if path.suffix != ".toml":
        if str(suite) not in names():
            hint = suggest(str(suite), names())
            raise ConfigError(f"no suite is called '{suite}'{hint} (suites: {', '.join(names())})")
        path = SUITES.file(str(suite))
    data, source = read_toml(path)
    placed = {key: beside(value, path.parent) if key == "scenarios" else value for key, value in data.items()}
    return validate(Suite, placed, source)


def beside(value: Any, folder: Path) -> Any:
    """The tables of a suite in which `file` names files from where the suite lies, and not from here."""
    if isinstance(value, list):
        return [beside(each, folder) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: str(folder / each) if key == "file" and isinstance(each, str) else beside(each, folder)
        for key, each in value.items()
    }
