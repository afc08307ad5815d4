"""The tables [scenarios.fleet] and [scenarios.aging]: how many VMs, how large, with which promises, filled with what; and
what scenarios of all kinds have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from memvirt.errors import ConfigError
from memvirt.settings.diagnose import Conflicts, Problem, validate
from memvirt.settings.fields import DISTINCT, Count, Lasting, Model, Name, Pages, PagesOrZero, Shares
from memvirt.settings.vm_config import GuestOptions, VmConfig
from memvirt.units import PageCount

Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
InTurn = Annotated[tuple[Percent, ...], Field(min_length=1, max_length=64)]


class Sizes(Model):
    """A table `host` of a suite: the host of all scenarios, or of one; everything else about it is the variant's."""

    memory: Pages = Field(description="host memory")
    swap: PagesOrZero = Field(default=0, description="of the host's swap area, where a preset has one")
    harvest_interval: Lasting | None = Field(
        default=None, description="time between two collections of accessed marks, where a preset gives none"
    )

    def scaled(self, percent: int) -> Sizes:
        """A host of so many per cent of the memory; times stay what they are."""
        return self.grown(lambda pages: pages * percent // 100)

    def grown(self, changed: Callable[[int], int]) -> Sizes:
        """The host with what is made of its sizes (pages)."""
        return self.model_copy(update={"memory": max(1, changed(self.memory)), "swap": changed(self.swap)})


class Named(Model):
    """What scenarios of all kinds have. Its own host and columns are told in a cell's host, so a cell does not repeat
    them."""

    name: Name = Field(description="of the scenario; its ratio is appended")
    description: str = Field(description="one sentence, printed above its table")
    seeds: Annotated[list[Count], DISTINCT] | None = Field(
        default=None, description="in place of the suite's, unless the tier names some", exclude=True
    )
    presets: Annotated[list[str], DISTINCT] | None = Field(
        default=None, description="columns, in place of the suite's", exclude=True, min_length=1
    )
    own_host: Sizes | None = Field(
        default=None, alias="host", description="in place of the suite's; keys as there", exclude=True
    )


class FleetSpec(Model):
    """The table [scenarios.fleet]. Percentages are of a VM's configured memory. Lists go by the VM: its first value is
    that of the first VM, and so on, and over again."""

    origin: Literal["boot", "clone"] = Field(
        default="boot", description="boot: every VM boots by itself; clone: the first one boots, the others are clones"
    )
    grow: Literal["vms", "memory"] = Field(default="vms", description="what a larger overcommit ratio means")
    vms: int = Field(strict=True, ge=1, le=4096, description="VMs at ratio 1.0")
    memory: Pages = Field(description="configured size of each VM at ratio 1.0")
    image: tuple[str, ...] = Field(default=("libraries", "source"), min_length=1, description="classes of the image")
    private: tuple[str, ...] = Field(default=("heap", "numeric"), min_length=1, description="classes of private memory")
    compared_with: tuple[str, ...] | None = Field(
        default=None,
        description="private classes of scenarios whose VMs have to boot alike; else those of the suite's others",
    )
    image_percent: Percent = Field(default=40, description="operating system image, the same in every VM")
    touched_percent: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        default=90, description="filled while booting, image included"
    )
    freed_percent: Percent = Field(default=15, description="of that, freed again by the guest")
    arriving_percent: Percent = Field(
        default=0, description="beyond that, read from a device in the measured phase: files, the same in every VM"
    )

    mix_percent: (
        Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=10_000)], ...], Field(min_length=1)] | None
    ) = Field(default=None, description="sizes of the VMs in turn, in per cent of `memory`; else all are alike")
    shares: Annotated[tuple[Shares, ...], Field(min_length=1)] | None = Field(
        default=None, description="relative weights of the VMs in turn; else 1000 each"
    )
    reservation_percent: InTurn | None = Field(
        default=None, description="host memory the VMs are guaranteed, in turn; else nothing"
    )
    limit_percent: InTurn | None = Field(default=None, description="most host memory the VMs get, in turn; else all")
    tenants: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = Field(
        default=None, description="domains that the VMs belong to in turn, for the sharing option salting; else one"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.image_percent + self.freed_percent >= self.touched_percent:
            raise ValueError(
                f"image_percent {self.image_percent} and freed_percent {self.freed_percent} leave nothing of "
                f"touched_percent {self.touched_percent} to work in"
            )
        if self.touched_percent + self.arriving_percent > 100:
            raise ValueError(
                f"touched_percent {self.touched_percent} leaves no room for arriving_percent {self.arriving_percent}"
            )
        problems = []
        pairs = in_turn(self.reservation_percent or (0,), self.limit_percent or (100,))
        for reservation, limit in pairs:
            if limit == 0:
                problems.append(
                    Problem(("limit_percent",), "a VM of limit 0 could not run; leave the key out for no limit")
                )
            elif reservation > limit:
                text = f"{reservation} % is above the same VM's limit, {limit} %"
                problems.append(Problem(("reservation_percent",), text, ("limit_percent",)))
        alike = {"mix_percent": self.mix_percent} | self.promised
        for key in (key for key, values in alike.items() if self.cloned and len(set(values or ())) > 1):
            text = 'clones have what their parent has: give one value, or origin = "boot"'
            problems.append(Problem((key,), text, ("origin",)))
        if problems:
            raise Conflicts(list(dict.fromkeys(problems)))
        return self

    @property
    def cloned(self) -> bool:
        """Whether every VM but the first is a clone of it."""
        return self.origin == "clone"

    @property
    def promised(self) -> dict[str, tuple[int, ...]]:
        """What VMs are promised, by setting, where the fleet says so."""
        given = {"shares": self.shares, "reservation_percent": self.reservation_percent}
        given |= {"limit_percent": self.limit_percent}
        return {key: values for key, values in given.items() if values is not None}

    def vm(self, index: int, configured: int, guest: GuestOptions | None = None) -> VmConfig:
        """VM number `index` of `configured` pages, with what it is promised; ConfigError for what cannot be."""
        own = {key: values[index % len(values)] for key, values in self.promised.items()}
        sizes = {key: configured * own[key] // 100 for key in own if key != "shares"}
        if "limit_percent" in sizes:
            sizes["limit_percent"] = max(1, sizes["limit_percent"])
        settings: dict[str, Any] = {key.removesuffix("_percent"): PageCount(pages) for key, pages in sizes.items()}
        settings |= {key: value for key, value in own.items() if key == "shares"}
        settings |= {"name": vm_name(index), "memory": PageCount(configured), "guest": guest}
        return validate(VmConfig, settings | {"domain": index % (self.tenants or 1)})

    def sizes(self, overcommit_percent: int) -> list[int]:
        """Configured pages of each VM at this ratio; ConfigError where it does not come out even."""
        count, each = self.vms, self.memory
        if self.grow == "memory":
            each = self.memory * overcommit_percent // 100
        else:
            count, rest = divmod(self.vms * overcommit_percent, 100)
            if rest or not count:
                raise ConfigError(
                    f"{self.vms} VMs at overcommit ratio {overcommit_percent / 100:g} are not a whole number; "
                    'choose ratios that fit, or grow = "memory"'
                )
        if self.mix_percent is None:
            return [each] * count
        mix = [self.mix_percent[index % len(self.mix_percent)] for index in range(count)]
        if sum(mix) != 100 * count:
            raise ConfigError(
                f"mix_percent makes {count} VMs at overcommit ratio {overcommit_percent / 100:g} {sum(mix) / count:g} % "
                "of `memory` on average, not 100; choose a mix of mean 100, and a number of VMs it divides"
            )
        return [max(1, each * percent // 100) for percent in mix]


class AgingSpec(Model):
    """The table [scenarios.aging]: in place of a measured workload, the VMs come and go.

    They do so until free memory has settled (memvirt.results.derived.settled), which takes some presets longer than
    others, and then for as many cycles more under every preset: those are measured.
    """

    cycles: int = Field(
        strict=True,
        ge=1,
        le=10_000,
        description="most rounds of booting, growing, shrinking, stopping until it settles",
    )
    measured_cycles: int = Field(default=10, strict=True, ge=1, le=10_000, description="rounds after that")
    resident_percent: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        default=70, description="most of the fleet's memory at ratio 1.0 that the VMs fill together"
    )


def in_turn(one: Sequence[int], other: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The pairs that VMs come to whose values go in turn."""
    for index in range(len(one) * len(other)):
        yield one[index % len(one)], other[index % len(other)]


def vm_name(index: int) -> str:
    return f"vm{index}"
