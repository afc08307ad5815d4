"""Suites: named experiments, read from TOML.

A suite runs every scenario at every overcommit ratio under every variant of the host with every seed. A variant is a
preset, with settings changed; `presets = [...]` is short for variants that change nothing. A tier makes the same suite
shorter or longer: smoke for tests, quick for a first look, full for numbers that are quoted.

A scenario is a fleet on a host, or a trace of page numbers held against the variants' orders of replacement alone
(`simulate`): then the share of the trace's pages that fits in memory takes the place of the overcommit ratio.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    model_validator,
)

from memvirt.errors import ConfigError
from memvirt.experiment.fleet_spec import AgingSpec, FleetSpec, Named
from memvirt.experiment.living import Living
from memvirt.experiment.pace import Pace
from memvirt.metrics.registry import REGISTRY
from memvirt.results.claims import Claim, doubles
from memvirt.results.manifest import Rule, Shown
from memvirt.results.record import Kind, ratio_text
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import Conflicts, Problem, read_toml, validate
from memvirt.settings.fields import DISTINCT, Count, Model, Name, Pages, PagesOrZero
from memvirt.settings.vm_config import VmConfig
from memvirt.units import PAGE_SIZE, PageCount, suggest
from memvirt.workloads import Workload, parse

FOLDER = Path(__file__).parent / "suites"
BASELINE_SPARE_PAGES = 4096  # beyond half as much again as all VMs: tables, watermarks and a scattered last block

TierName = Literal["smoke", "quick", "full"]
Scale = Annotated[int, Field(strict=True, ge=1, le=100_000)]


def _workload(value: Any) -> Any:
    return parse(value) if isinstance(value, dict) else value


WorkloadTable = Annotated[SerializeAsAny[Workload], BeforeValidator(_workload)]


class Sizes(Model):
    """The host of all scenarios; everything else about it is the variant's."""

    memory: Pages = Field(description="host memory")
    swap: PagesOrZero = Field(default=0, description="of the host's swap area, where a preset has one")


class Tier(Model):
    """How a tier differs: memory of host and VMs, accesses, seeds."""

    memory_percent: Scale = Field(default=100, description="of the memory of host and VMs")
    accesses_percent: Scale = Field(
        default=100, description="of the accesses of every phase, and of the time that a pace lets it last"
    )
    seeds: Annotated[list[Count], DISTINCT] | None = Field(default=None, description="in place of the suite's")


class Variant(Model):
    """A preset by name, and the host settings changed in it."""

    name: Name = Field(description="of the column")
    preset: str = Field(description="a preset's name or file")
    set: dict[str, Any] = Field(description="host settings changed in it", default={})


def column(preset: str) -> Variant:
    """A preset, by name or by the path of its file, as a variant that changes nothing."""
    return Variant(name=Path(preset).stem, preset=preset)


class Scenario(Named):
    """A fleet, the ratios to try, and what it does."""

    kind: ClassVar[Kind] = "fleet"
    baseline: ClassVar[str] = "baseline"  # begins the name of what its cells are held against
    host_settings: ClassVar[tuple[str, ...]] = tuple(HostConfig.model_fields)  # what of a column's host its cells have

    overcommit_percent: Annotated[list[Scale], DISTINCT] = Field(
        description="ratios to run, in per cent: configured memory of all VMs to host memory", min_length=1
    )
    fleet: FleetSpec = Field(description="the VMs; keys below")
    warm_up: WorkloadTable | None = Field(
        default=None, description="a workload and its parameters, before the measured one"
    )
    measured: WorkloadTable | None = Field(
        default=None, description="a workload and its parameters: what the table speaks of"
    )
    pace: Pace | None = Field(
        default=None, description="how time passes in its phases; without it access follows access; keys below"
    )
    aging: AgingSpec | None = Field(default=None, description="in place of a measured workload; keys below")
    settle_passes: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        default=0, description="full passes of the sharing scanner after each VM that booted"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        if (self.measured is None) == (self.aging is None):
            problems.append(Problem(("measured",), "give either a measured workload or aging", ("aging",)))
        if self.aging is not None and self.warm_up is not None:
            problems.append(Problem(("warm_up",), "aging has no warm-up", ("aging",)))
        problems += self._problems_of_pace()
        for percent in self.overcommit_percent:
            try:
                self.fleet.sizes(percent)
            except ConfigError as error:
                problems.append(Problem(("overcommit_percent",), str(error), ("fleet",)))
        if problems:
            raise Conflicts(problems)
        return self

    def _problems_of_pace(self) -> Iterator[Problem]:
        if self.pace is None:
            return
        if self.aging is not None:
            yield Problem(("pace",), "aging has no pace: its VMs fill and free memory at once", ("aging",))
        if self.pace.warm_up and self.warm_up is None and self.aging is None:
            yield Problem(("pace", "warm_up"), "there is no warm-up that could last so long", ("warm_up",))
        for name, load in self.workloads.items():
            if load.timed and self.pace.per_second is not None:
                text = "the trace's own times say when its accesses are due; give either those or a rate"
                yield Problem(("pace", "per_second"), text, (name,))

    @property
    def timed(self) -> bool:
        """Whether how long the measured phase takes is given, by due times or as such."""
        pace = self.pace
        asked = pace is not None and (pace.per_second is not None or pace.measured > 0)
        return asked or (self.measured is not None and self.measured.timed)

    def scaled(self, tier: Tier) -> "Scenario":
        """The scenario with a tier's memory and accesses."""
        memory = max(1, self.fleet.memory * tier.memory_percent // 100)
        phases = {"warm_up": self.warm_up, "measured": self.measured}
        scaled: dict[str, Any] = {name: load and load.scaled(tier.accesses_percent) for name, load in phases.items()}
        scaled["pace"] = self.pace and self.pace.scaled(tier.accesses_percent)
        return self.model_copy(update={"fleet": self.fleet.model_copy(update={"memory": memory}), **scaled})

    def promising(self, promised: Mapping[str, tuple[int, ...]]) -> "Scenario":
        """The scenario with a preset's promises where its fleet makes none of the kind."""
        return self.with_promises({**promised, **self.fleet.promised})

    def with_promises(self, promised: Mapping[str, tuple[int, ...]]) -> "Scenario":
        """The scenario whose fleet promises its VMs this and nothing else."""
        changed = {**dict.fromkeys(self.fleet.promised), **promised}
        if not changed:
            return self
        table = self.fleet.model_dump(mode="json", exclude_none=True)
        table = {key: value for key, value in table.items() if changed.get(key, key) is not None}
        return self.model_copy(update={"fleet": validate(FleetSpec, {**table, **promised})})

    def with_contents(self, classes: Mapping[str, Sequence[str]]) -> "Scenario":
        """The scenario whose VMs are filled from other classes: of "image", of "private", or of both."""
        table = self.fleet.model_dump(mode="json", exclude_none=True)
        return self.model_copy(update={"fleet": validate(FleetSpec, {**table, **classes})}) if classes else self

    @property
    def points(self) -> list[int]:
        """The ratios the scenario is run at, in percent."""
        return self.overcommit_percent

    def sizes(self, percent: int) -> list[int]:
        """Configured pages of each VM at a ratio."""
        return self.fleet.sizes(percent)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of a corpus that its VMs are filled from."""
        return (*self.fleet.image, *self.fleet.private)

    def vms(self, percent: int) -> list[VmConfig]:
        """The VMs of its fleet at a ratio, without guests."""
        return [self.fleet.vm(index, pages) for index, pages in enumerate(self.sizes(percent))]

    def accesses(self, percent: int) -> int:
        """About how many operations a cell does."""
        sizes = self.sizes(percent)
        lengths = {name: part.length() for name, part in self.workloads.items()}
        per_vm = sum(n if self.pace is None else self.pace.accesses_within(name, n) for name, n in lengths.items())
        cycles = self.aging.cycles + self.aging.measured_cycles if self.aging else 2
        return sum(sizes) * cycles // 2 + per_vm * len(sizes)

    @property
    def workloads(self) -> dict[str, Workload]:
        """The workloads of its phases, by the setting that names them."""
        named = {"warm_up": self.warm_up, "measured": self.measured}
        return {name: load for name, load in named.items() if load is not None}

    @property
    def has_baseline(self) -> bool:
        """Whether its cells are held against one: how long VMs age depends on what they come to."""
        return self.aging is None

    def host(self, percent: int, column: HostConfig) -> HostConfig:
        """The host of a cell: the column's."""
        return column

    def baseline_host(self, percent: int, host: HostConfig) -> HostConfig:
        """Enough memory for all that the VMs were promised, and no mechanism to get more."""
        memory = sum(self.sizes(percent)) * 3 // 2 + BASELINE_SPARE_PAGES
        kept = {"content": host.content, "provisioning": host.provisioning, "costs": host.costs, "seed": host.seed}
        return validate(HostConfig, {**kept, "memory": PageCount(memory)})

    def ratio(self, percent: int, host: HostConfig) -> str:
        """Overcommit: configured pages / the host's, an exact decimal."""
        return ratio_text(sum(self.sizes(percent)), host.memory, 2)

    def bytes_held(self, host: HostConfig) -> int:
        """Memory of this machine that a host takes: page bytes, where it has any."""
        return host.memory * PAGE_SIZE if host.content == "bytes" else 0


class TraceSpec(Model):
    """The table [scenarios.simulate]: a trace of page numbers, and how much of what it names fits in memory."""

    pages: Annotated[int, Field(strict=True, ge=100, le=1 << 24)] = Field(
        description="the workload names pages 0 to pages - 1"
    )
    capacity_percent: Annotated[list[Annotated[int, Field(strict=True, ge=1, le=100)]], DISTINCT] = Field(
        description="of the pages, that fit in memory", min_length=1
    )
    workload: WorkloadTable = Field(description="a workload and its parameters")

    @model_validator(mode="after")
    def _timeless(self) -> Self:
        if self.workload.timed:
            raise Conflicts([Problem(("workload", "times"), "no time passes without a host; leave it out")])
        return self


class Simulated(Named):
    """A trace replayed through an order of replacement: demand paging, every access seen, no host and no bytes."""

    kind: ClassVar[Kind] = "trace"
    has_host: ClassVar[bool] = False
    baseline: ClassVar[str] = "belady"  # the offline optimum
    has_baseline: ClassVar[bool] = True
    host_settings: ClassVar[tuple[str, ...]] = ("replacement", "replacement_options", "seed")
    classes: ClassVar[tuple[str, ...]] = ()

    simulate: TraceSpec = Field(
        description="in place of a fleet: a trace through the columns' orders of replacement; keys below"
    )

    def scaled(self, tier: Tier) -> "Simulated":
        """The scenario with a tier's memory and accesses."""
        pages = max(100, self.simulate.pages * tier.memory_percent // 100)
        workload = self.simulate.workload.scaled(tier.accesses_percent)
        return self.model_copy(
            update={"simulate": self.simulate.model_copy(update={"pages": pages, "workload": workload})}
        )

    @property
    def points(self) -> list[int]:
        """Capacities, in percent of the trace's pages."""
        return self.simulate.capacity_percent

    def sizes(self, percent: int) -> list[int]:
        """The pages of the trace, whatever the capacity."""
        return [self.simulate.pages]

    def capacity(self, percent: int) -> int:
        """Pages that fit in memory."""
        return max(1, self.simulate.pages * percent // 100)

    def accesses(self, percent: int) -> int:
        """About how many requests a cell replays."""
        return self.simulate.workload.length()

    def promising(self, promised: Mapping[str, tuple[int, ...]]) -> "Simulated":
        """The scenario itself: a trace has no VMs to promise anything to."""
        return self

    with_promises = promising

    def vms(self, percent: int) -> list[VmConfig]:
        """None."""
        return []

    @property
    def workloads(self) -> dict[str, Workload]:
        """The workload that makes the trace, by the setting that names it."""
        return {"simulate.workload": self.simulate.workload}

    def host(self, percent: int, column: HostConfig) -> HostConfig:
        """The capacity and the column's order of replacement, which is all there is."""
        order = {"replacement": column.replacement, "replacement_options": column.replacement_options}
        return validate(HostConfig, {**order, "memory": PageCount(self.capacity(percent)), "seed": column.seed})

    def baseline_host(self, percent: int, host: HostConfig) -> HostConfig:
        """The same capacity; its order is the optimum, which no host can have."""
        return validate(HostConfig, {"memory": PageCount(self.capacity(percent)), "seed": host.seed})

    def ratio(self, percent: int, host: HostConfig) -> str:
        """The share of the trace's pages that fits in memory, an exact decimal."""
        return ratio_text(self.capacity(percent), self.simulate.pages, 2)

    def bytes_held(self, host: HostConfig) -> int:
        """Nothing: a trace has no bytes."""
        return 0


TAGS: Mapping[str, str] = {
    "fleet": "hosted",
    "life": "living",
    "trace": "simulated",
}  # no names of settings, so none shows in a message


def _tag(value: Any) -> str:
    if isinstance(value, BaseModel):
        return TAGS.get(getattr(value, "kind", ""), "")
    marks: dict[str, Kind] = {"simulate": "trace", "groups": "life"}
    given = (kind for key, kind in marks.items() if isinstance(value, Mapping) and key in value)
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
    description: str = Field(description="what it asks")
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
    claims: list[Claim] = Field(description="what is expected of it; keys below", default=[])
    scenarios: list[AnyScenario] = Field(description="what is run; keys below", min_length=1)

    @model_validator(mode="after")
    def _agree_in_names(self) -> Self:
        problems = doubles(self.claims) + [
            Problem(("columns", index), f"no metric is called '{name}'{suggest(name, list(REGISTRY))}")
            for index, name in enumerate(self.columns)
            if name not in REGISTRY
        ]
        if self.learned in ("leading", "apart") and not self.columns:
            text = f"'{self.learned}' compares the first of columns: name some"
            problems.append(Problem(("learned",), text, ("columns",)))
        if not self.presets and not self.variants:
            problems.append(Problem(("presets",), "give presets or variants", ("variants",)))
        if "host" not in self.model_fields_set and any(each.has_host for each in self.scenarios):
            problems.append(Problem(("host",), "is required by scenarios with a fleet", ("scenarios",)))
        columns = [(column(preset).name, preset) for preset in self.presets]
        for key, taken, given in (
            ("presets", [], columns),
            ("variants", columns, [(variant.name, variant.preset) for variant in self.variants]),
            ("scenarios", [], [(scenario.name, scenario.name) for scenario in self.scenarios]),
        ):
            for index, (name, value) in enumerate(given):
                before = next((other for known, other in [*taken, *given[:index]] if known == name), None)
                if before is not None:
                    both = f" ({before} and {value})" if before != value else ""
                    problems.append(Problem((key, index), f"'{name}' is given twice{both}"))
        if problems:
            raise Conflicts(problems)
        return self

    def shown(self) -> Shown:
        """What tables show of this suite's runs."""
        return Shown(columns=self.columns, learned=self.learned, claims=self.claims)

    def seeds_of(self, scenario: Named) -> list[int]:
        """The seeds that a scenario runs with."""
        return scenario.seeds or self.seeds

    def all_variants(self) -> list[Variant]:
        """Presets and variants alike, presets first."""
        return [*(column(preset) for preset in self.presets), *self.variants]

    def at(self, tier: TierName) -> "Suite":
        """The suite as this tier runs it; a tier the file does not mention changes nothing."""
        change = self.tiers.get(tier, Tier())
        host = {
            "memory": max(1, self.host.memory * change.memory_percent // 100),
            "swap": self.host.swap * change.memory_percent // 100,
        }
        return self.model_copy(
            update={
                "host": self.host.model_copy(update=host),
                "seeds": change.seeds or self.seeds,
                "scenarios": [
                    scenario.scaled(change).model_copy(update={"seeds": None if change.seeds else scenario.seeds})
                    for scenario in self.scenarios
                ],
            }
        )


def names() -> list[str]:
    """The suites that come with memvirt."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(suite: str | Path) -> Suite:
    """A suite by name, or from a TOML file; ConfigError with all that is wrong in it."""
    path = Path(suite)
    if path.suffix != ".toml":
        if str(suite) not in names():
            hint = suggest(str(suite), names())
            raise ConfigError(f"no suite is called '{suite}'{hint} (suites: {', '.join(names())})")
        path = FOLDER / f"{suite}.toml"
    data, source = read_toml(path)
    return validate(Suite, data, source)
