"""A scenario with hosts: a fleet, the ratios to try, and what it does; and what a tier makes of it.

The other kind of scenario, a trace without a host, is memvirt.experiment.simulated. Both offer the same properties and
methods, so that whoever plans, counts or runs cells asks the scenario and not for its kind. Where the kind decides how
a thing is done, a table says by which function (memvirt.experiment.cell.RUNNERS).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from memvirt.errors import ConfigError
from memvirt.experiment.fleet_spec import AgingSpec, FleetSpec, Named
from memvirt.experiment.pace import Pace
from memvirt.results.record import Kind, ratio_text
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import Conflicts, Problem, changed, validate
from memvirt.settings.fields import DISTINCT, Count, Model
from memvirt.settings.vm_config import VmConfig
from memvirt.units import PAGE_SIZE, PageCount
from memvirt.workloads import Workload, parse

BASELINE_SPARE_PAGES = 4096  # beyond half as much again as all VMs: tables, watermarks and a scattered last block

TierName = Literal["smoke", "quick", "full"]
Scale = Annotated[int, Field(strict=True, ge=1, le=100_000)]


def _workload(value: Any) -> Any:
    return parse(value) if isinstance(value, dict) else value


WorkloadTable = Annotated[SerializeAsAny[Workload], BeforeValidator(_workload)]


class Tier(Model):
    """How a tier differs: memory of host and VMs, accesses, seeds."""

    memory_percent: Scale = Field(default=100, description="of the memory of host and VMs")
    accesses_percent: Scale = Field(
        default=100, description="of the accesses of every phase, and of the time that a pace lets it last"
    )
    seeds: Annotated[list[Count], DISTINCT] | None = Field(default=None, description="in place of the suite's")


class Scenario(Named):
    """A fleet, the ratios to try, and what it does."""

    kind: ClassVar[Kind] = "fleet"
    has_vms: ClassVar[bool] = True
    needs_guest: ClassVar[tuple[str, ...]] = ()
    times_wall: ClassVar[bool] = True  # processes of tier full time its measured phase
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
        promises = {**dict.fromkeys(self.fleet.promised), **promised}
        return self.model_copy(update={"fleet": changed(self.fleet, **promises)}) if promises else self

    def with_contents(self, classes: Mapping[str, Sequence[str]]) -> "Scenario":
        """The scenario whose VMs are filled from other classes: of "image", of "private", or of both."""
        given = {name: tuple(each) for name, each in classes.items()}
        return self.model_copy(update={"fleet": changed(self.fleet, **given)}) if given else self

    def comparable_with(self, classes: tuple[str, ...]) -> "Scenario":
        """The scenario whose VMs boot as those do that are filled from these private classes; one that names others
        itself stays as it is."""
        if self.fleet.compared_with is not None:
            return self
        return self.model_copy(update={"fleet": self.fleet.model_copy(update={"compared_with": classes})})

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

    @property
    def private(self) -> tuple[str, ...]:
        """The classes that its VMs have pages of their own from."""
        return self.fleet.private

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
    def readers(self) -> dict[tuple[str, ...], Workload]:
        """What may read files, by its keys."""
        return {(name,): load for name, load in self.workloads.items()}

    @property
    def measures_workload(self) -> bool:
        """Whether its measured phase is a workload, in whose place another one could stand."""
        return self.measured is not None

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
        return host.memory * PAGE_SIZE if host.has_bytes else 0
