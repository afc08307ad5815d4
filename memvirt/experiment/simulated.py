"""A scenario without hosts: a trace of page numbers through the variants' orders of replacement, every access seen."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from memvirt.experiment.fleet_spec import Named
from memvirt.experiment.scenario import Tier, WorkloadTable
from memvirt.results.record import Kind, ratio_text
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import Conflicts, Problem, validate
from memvirt.settings.fields import DISTINCT, Model
from memvirt.settings.vm_config import VmConfig
from memvirt.units import PageCount
from memvirt.workloads import Workload


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
    has_vms: ClassVar[bool] = False
    needs_guest: ClassVar[tuple[str, ...]] = ()
    times_wall: ClassVar[bool] = False
    measures_workload: ClassVar[bool] = True
    baseline: ClassVar[str] = "belady"  # the offline optimum
    has_baseline: ClassVar[bool] = True
    host_settings: ClassVar[tuple[str, ...]] = ("replacement", "replacement_options", "seed")
    classes: ClassVar[tuple[str, ...]] = ()
    private: ClassVar[tuple[str, ...]] = ()

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

    def with_contents(self, classes: Mapping[str, Sequence[str]]) -> "Simulated":
        """The scenario itself: a trace has no VMs to fill."""
        return self

    def comparable_with(self, classes: tuple[str, ...]) -> "Simulated":
        """The scenario itself, too."""
        return self

    def vms(self, percent: int) -> list[VmConfig]:
        """None."""
        return []

    @property
    def readers(self) -> dict[tuple[str, ...], Workload]:
        """The workload that makes the trace, which may read files, by its keys."""
        return {("simulate", "workload"): self.simulate.workload}

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
