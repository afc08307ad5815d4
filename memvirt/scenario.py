"""What a suite runs: scenarios, each a fleet of VMs with workloads in three phases, on a host of a given size.

Fill gives every VM its content, warm-up brings the system into its state, and only the measured phase is reported.
All proportions are whole per cent, all sizes pages: a scenario must come out the same everywhere.
"""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from memvirt.config import Count, Guest, GuestOptions, Model, Name, Nanoseconds, Pages, Percent, VmConfig
from memvirt.diagnose import Conflicts, Problem, validate
from memvirt.units import format_pages

HUGE_PAGES = 512  # computed VM sizes are multiples of 2 MiB, so that whole leaf tables are theirs

Positive = Annotated[int, Field(strict=True, ge=1, lt=1 << 63)]
Overcommit = Annotated[int, Field(strict=True, ge=1, le=100_000)]


class _Workload(Model):
    write_percent: Percent = 30
    working_set_percent: Annotated[int, Field(strict=True, ge=1, le=100)] = 100  # of the VM's memory


class Uniform(_Workload):
    """Every page of the working set alike."""

    kind: Literal["uniform"] = "uniform"


class Zipf(_Workload):
    """Page of rank r with weight 1 / r^(skew / 100)."""

    kind: Literal["zipf"] = "zipf"
    skew_percent: Annotated[int, Field(strict=True, ge=1, le=300)] = 100


class Sequential(_Workload):
    """The working set from its first page to its last, over and over."""

    kind: Literal["sequential"] = "sequential"
    stride_pages: Positive = 1


class PhaseChange(_Workload):
    """Zipf over a working set that moves on to other pages `moves` times in the measured phase."""

    kind: Literal["phase-change"] = "phase-change"
    working_set_percent: Annotated[int, Field(strict=True, ge=1, le=100)] = 25
    skew_percent: Annotated[int, Field(strict=True, ge=1, le=300)] = 100
    moves: Positive = 3


class CloneStorm(_Workload):
    """Clones are made of the VM at even distances in the measured phase; each then runs zipf and diverges."""

    kind: Literal["clone-storm"] = "clone-storm"
    skew_percent: Annotated[int, Field(strict=True, ge=1, le=300)] = 100
    clones: Positive = 4


WorkloadSpec = Annotated[Uniform | Zipf | Sequential | PhaseChange | CloneStorm, Field(discriminator="kind")]
WORKLOADS: dict[str, type[_Workload]] = {
    cls.model_fields["kind"].default: cls for cls in (Uniform, Zipf, Sequential, PhaseChange, CloneStorm)
}


class Phases(Model):
    """How long each phase is, for each VM."""

    fill_percent: Percent = 100  # of the VM's pages that get content
    warmup_accesses: Count = 0
    measured_accesses: Positive


class VmGroup(Model):
    """`count` like VMs. Without `memory` they get their part, by `weight`, of what the overcommit ratio promises."""

    name: Name
    count: Annotated[int, Field(strict=True, ge=1, le=4096)] = 1
    memory: Pages | None = None
    weight: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 1
    shares: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 1000
    reservation_percent: Percent = 0  # of the VM's memory
    limit_percent: Percent | None = None
    guest: Guest = False
    cloned: bool = False  # the VMs after the first are clones of it
    content: Annotated[str, Field(min_length=1)] = "mixed"  # class of the corpus that fills them
    workload: WorkloadSpec

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.limit_percent is not None and self.reservation_percent > self.limit_percent:
            text = f"{self.reservation_percent}% is above limit_percent, {self.limit_percent}%"
            raise Conflicts([Problem(("reservation_percent",), text, ("limit_percent",))])
        return self


class Scenario(Model):
    """A host size, the ratios to try, and who lives there."""

    name: Name
    description: str = ""
    memory: Pages
    overcommit_percent: list[Overcommit] = Field(default=[100], min_length=1)
    phases: Phases
    quantum: Nanoseconds = 1_000_000
    vm: list[VmGroup] = Field(min_length=1)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        names = [group.name for group in self.vm]
        for index, name in enumerate(names):
            if name in names[:index]:
                problems.append(Problem(("vm", index, "name"), f"'{name}' is taken by an earlier group"))
        if self.quantum == 0:
            problems.append(Problem(("quantum",), "is zero; did you mean 1ms?"))
        for percent in self.overcommit_percent:
            if any(self._group_pages(group, percent) < HUGE_PAGES for group in self.vm if group.memory is None):
                text = f"at {percent}% a VM would get less than 2MiB of a host of {format_pages(self.memory)}"
                problems.append(Problem(("overcommit_percent",), text, ("memory",)))
        if problems:
            raise Conflicts(problems)
        return self

    def fleet(self, overcommit_percent: int, guest: bool | GuestOptions = False) -> list[tuple[VmConfig, VmGroup]]:
        """The VMs at one ratio, in the order of creation, each with the group it belongs to.

        `guest` is what the preset asks of VMs whose group does not ask for a guest itself.
        """
        fleet = []
        for group in self.vm:
            memory = group.memory or self._group_pages(group, overcommit_percent)
            names = [group.name if group.count == 1 else f"{group.name}-{i}" for i in range(1, group.count + 1)]
            for name in names:
                settings = {
                    "name": name,
                    "memory": format_pages(memory),
                    "shares": group.shares,
                    "reservation": format_pages(memory * group.reservation_percent // 100),
                    "guest": group.guest or guest,
                    "clone_of": names[0] if group.cloned and name != names[0] else None,
                }
                if group.limit_percent is not None:
                    settings["limit"] = format_pages(max(1, memory * group.limit_percent // 100))
                fleet.append((validate(VmConfig, settings), group))
        return fleet

    def _group_pages(self, group: VmGroup, overcommit_percent: int) -> int:
        """Memory of one VM of the group, rounded down to 2 MiB."""
        fixed = sum(other.count * other.memory for other in self.vm if other.memory is not None)
        weights = sum(other.count * other.weight for other in self.vm if other.memory is None)
        promised = max(0, self.memory * overcommit_percent // 100 - fixed)
        return promised * group.weight // weights // HUGE_PAGES * HUGE_PAGES


Element = TypeVar("Element", str, int)


def _unique(values: list[Element]) -> list[Element]:
    twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    return values


class SuiteConfig(Model):
    """A named experiment: every scenario at every ratio, under every preset, with every seed."""

    name: Name
    description: str
    presets: Annotated[list[str], AfterValidator(_unique)] = Field(min_length=1)
    seeds: Annotated[list[Count], AfterValidator(_unique)] = Field(default=[1], min_length=1)
    scenario: list[Scenario] = Field(min_length=1)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        names = [scenario.name for scenario in self.scenario]
        for index, name in enumerate(names):
            if name in names[:index]:
                problems.append(Problem(("scenario", index, "name"), f"'{name}' is taken by an earlier scenario"))
        if problems:
            raise Conflicts(problems)
        return self
