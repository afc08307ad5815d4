"""Settings of a VM and of its guest, validated once like those of a host, and what a fleet of them must keep to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from memvirt.settings import orders as order_table
from memvirt.settings.config import HostConfig, order_problems
from memvirt.settings.diagnose import Conflicts, Problem, report
from memvirt.settings.fields import (
    Count,
    Interval,
    Model,
    Name,
    Pages,
    PagesOrZero,
    Percent,
    Replacement,
    Shares,
    form,
    none_from_text,
)
from memvirt.units import format_pages

MOST_PAGES = 1 << 31  # the engine's numbers of a VM's pages, taken twice over, have 32 bits
BLOCK_PAGES = 512  # of 2 MiB, in which memory is unplugged
BASE_PERCENT = 10


class GuestOptions(Model):
    """How a VM's own memory manager is set up."""

    cache_percent: Percent = Field(default=25, description="of the guest's virtual pages, the part that is page cache")
    swap: PagesOrZero = Field(default=0, description="the guest's own swap, on a disk of its own; 0 = none")
    kernel: PagesOrZero = Field(default=0, description="what its kernel keeps for itself")
    kernel_percent: Percent = Field(
        default=0,
        description="beside that, of the VM's memory: tables whose size follows from the memory it booted with",
    )
    low_pages: Count = Field(default=0, description="free pages below which it reclaims")
    high_pages: Count = Field(default=0, description="free pages up to which it reclaims")
    balloon_floor: PagesOrZero = Field(default=0, description="what the balloon leaves the guest")
    oom_deflate_pages: Count = Field(default=256, description="pages the balloon gives back to a guest that has none")
    report_order: Annotated[int, Field(strict=True, ge=0, le=10)] | None = Field(
        default=None,
        description="free page reporting: order of the free blocks that the guest names (Linux: 9); none = off",
    )
    hinting: bool = Field(
        default=False,
        strict=True,
        description="free page hinting: of what it reports the host takes nothing until it is short of frames, then that "
        "first and for nothing, as after madvise(MADV_FREE); what is written again by then stays; false = at once",
    )
    elastic: Literal["balloon", "balloon-huge", "virtio-mem", "hyperalloc", "squeezy"] | None = Field(
        default=None,
        description="how it gives memory: pages, 2 MiB blocks, blocks it empties first, blocks the host takes in its "
        "allocator, partitions whose instances have ended; messages, moves and frames freed are counted; none = pages, and "
        "those are not counted",
    )
    partition: Pages | None = Field(
        default=None,
        description="of squeezy: memory of each instance, a multiple of 2 MiB. So much of the address space is an "
        "instance, from its end down; it has its pages in its partition alone, which is plugged when it begins",
    )
    base_percent: Percent = Field(
        default=BASE_PERCENT,
        description="of squeezy: of the VM's memory, the least that is in no partition: page cache, files, the kernel, "
        "what runs beside the instances",
    )
    driver: Literal["beside", "vcpu"] = Field(
        default="beside",
        description="where the driver in the guest works that gives memory: beside the VM, in no time of its; or on its "
        "processor, so that it goes on later. What the host does for it is beside the VM in any case",
    )
    report_delay: Interval = Field(
        default=2_000_000_000, description="simulated time from a free block to the pass that reports it; Linux: 2 s"
    )
    replacement: Replacement = Field(default="clock", description="order in which its pages go")
    replacement_options: dict[str, int | str] = Field(default={}, description="options of that order")
    swappiness: int = Field(
        default=60,
        strict=True,
        ge=0,
        le=200,
        description="0: page cache goes first, 100: both alike, 200: anonymous pages go",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = order_problems(self.replacement, self.replacement_options)
        if self.low_pages > self.high_pages:
            text = f"{self.low_pages} is above high_pages, {self.high_pages}"
            problems.append(Problem(("low_pages",), text, ("high_pages",)))
        if self.report_delay == 0:
            problems.append(Problem(("report_delay",), "is zero; did you mean 2s?"))
        problems += self._partition_problems()
        if self.hinting and self.report_order is None:
            problems.append(
                Problem(("hinting",), "is of blocks that are reported: set report_order", ("report_order",))
            )
        if self.hinting and self.elastic == "hyperalloc":
            text = "the host of hyperalloc has taken what it reads in the guest's allocator, and needs no hint"
            problems.append(Problem(("hinting",), text, ("elastic",)))
        if problems:
            raise Conflicts(problems)
        every = order_table.resolved(self.replacement, self.replacement_options)
        object.__setattr__(self, "replacement_options", every)  # filled in before anyone has seen it
        return self

    def shared_of(self, memory: int) -> int:
        """Of a VM of so many pages, those that are in no partition, at least."""
        return max(self.kernel_of(memory) + memory * self.cache_percent // 100, memory * self.base_percent // 100)

    def kernel_of(self, memory: int) -> int:
        """What the kernel of a VM of so many pages keeps."""
        return self.kernel + memory * self.kernel_percent // 100

    def partitions_of(self, memory: int) -> int:
        """How many such a VM has."""
        free = memory // BLOCK_PAGES * BLOCK_PAGES - self.shared_of(memory)
        return 0 if self.partition is None else max(0, free) // self.partition

    def _partition_problems(self) -> Iterator[Problem]:
        if self.elastic != "squeezy":
            if self.partition is not None:
                text = 'is of elastic = "squeezy" alone; leave it out, or set that'
                yield Problem(("partition",), text, ("elastic",))
            if self.base_percent != BASE_PERCENT:
                text = 'is of elastic = "squeezy" alone; leave it out, or set that'
                yield Problem(("base_percent",), text, ("elastic",))
            return
        if self.partition is None:
            yield Problem(("partition",), 'is what elastic = "squeezy" needs; give a size, as 64MiB', ("elastic",))
        elif self.partition % BLOCK_PAGES:
            more = format_pages((self.partition // BLOCK_PAGES + 1) * BLOCK_PAGES)
            text = f"{format_pages(self.partition)} is no multiple of 2 MiB; did you mean {more}?"
            yield Problem(("partition",), text)
        if self.swap:
            text = "pages of instances stay in their partitions (elastic squeezy); leave it out"
            yield Problem(("swap",), text, ("elastic",))


PLAIN_GUEST = GuestOptions(cache_percent=0)  # what `guest = true` stands for

# As a preset asks for it: none, a plain one, or a table.
Guest = Annotated[
    Annotated[bool, Field(strict=True), Tag("word")] | Annotated[GuestOptions, Tag("table")], Discriminator(form)
]


def guest_of(asked: bool | GuestOptions) -> GuestOptions | None:
    """The options that a guest asked for stands for; None for no guest."""
    return asked if isinstance(asked, GuestOptions) else PLAIN_GUEST if asked else None


def _by_value(asked: object) -> object:
    return guest_of(asked) if isinstance(asked, bool) else asked


class VmConfig(Model):
    """The keyword arguments of Host.create_vm, but in pages."""

    name: Name
    memory: Pages
    shares: Shares = 1000
    reservation: PagesOrZero = 0
    limit: Annotated[Pages | None, BeforeValidator(none_from_text)] = None  # above memory it has no effect
    guest: Annotated[GuestOptions | None, BeforeValidator(_by_value)] = None
    files: PagesOrZero = 0  # that its guest can have in its page cache, beyond its memory: addresses, no memory
    domain: Annotated[int, Field(strict=True, ge=0, lt=1 << 31)] = 0  # the tenant; see the sharing option salting

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        if self.memory > MOST_PAGES:
            text = f"{self.memory} pages; the most of a VM is {MOST_PAGES} ({format_pages(MOST_PAGES)})"
            problems.append(Problem(("memory",), text))
        if self.reservation > self.memory:
            text = f"{format_pages(self.reservation)} is more than the VM's memory, {format_pages(self.memory)}"
            problems.append(Problem(("reservation",), text, ("memory",)))
        if self.limit is not None and self.reservation > self.limit:
            text = f"{format_pages(self.reservation)} is above the limit, {format_pages(self.limit)}"
            problems.append(Problem(("reservation",), text, ("limit",)))
        if self.files and self.guest is None:
            problems.append(Problem(("files",), "are read by a guest, and the VM has none: give guest", ("guest",)))
        if self.memory <= MOST_PAGES < self.memory + self.files:
            text = f"{format_pages(self.memory + self.files)} with its memory; the most is {format_pages(MOST_PAGES)}"
            problems.append(Problem(("files",), text, ("memory",)))
        if self.guest is not None:
            problems += [Problem(("guest", *found.place), found.message) for found in self._guest_problems(self.guest)]
        if problems:
            raise Conflicts(problems)
        return self

    def _guest_problems(self, guest: GuestOptions) -> list[Problem]:
        problems = []
        if guest.kernel_of(self.memory) >= self.memory:
            place = "kernel" if guest.kernel >= self.memory else "kernel_percent"
            problems.append(Problem((place,), f"takes all of the VM's memory, {format_pages(self.memory)}"))
        if guest.high_pages >= self.memory:
            text = f"{guest.high_pages} leaves a VM of {self.memory} pages of memory none to use"
            problems.append(Problem(("high_pages",), text))
        if guest.elastic == "hyperalloc" and guest.report_order not in (None, 9):
            text = f"{guest.report_order}; the host takes blocks of order 9 in the guest's allocator"
            problems.append(Problem(("report_order",), text, ("guest", "elastic")))
        if guest.partition is not None and not guest.partitions_of(self.memory):
            text = (
                f"{format_pages(guest.partition)} is more than a VM of {format_pages(self.memory)} has beside its kernel, "
                f"page cache and base_percent: {format_pages(max(0, self.memory - guest.shared_of(self.memory)))}"
            )
            problems.append(Problem(("partition",), text, ("memory",)))
        if guest.balloon_floor > self.memory:
            problems.append(Problem(("balloon_floor",), f"is more than the VM's memory, {format_pages(self.memory)}"))
        return problems


class CloneConfig(Model):
    """What is new about a clone; all else it has from its parent."""

    name: Name


def check_fleet(host: HostConfig, vms: Sequence[VmConfig]) -> None:
    """ConfigError naming all that cannot be of these VMs on this host. Too little memory is not an error: admission
    answers for it."""
    problems = []
    seen: dict[str, VmConfig] = {}
    for index, vm in enumerate(vms):
        if vm.name in seen:
            problems.append(Problem(("vms", index, "name"), f"'{vm.name}' is taken by an earlier VM"))
        if vm.reservation > host.memory:
            text = f"{format_pages(vm.reservation)} is above the host's memory, {format_pages(host.memory)}"
            problems.append(Problem(("vms", index, "reservation"), text))
        seen.setdefault(vm.name, vm)
    reserved = sum(vm.reservation for vm in vms)
    if reserved > host.memory and not any(vm.reservation > host.memory for vm in vms):
        text = f"reservations sum to {format_pages(reserved)}, above the host's memory, {format_pages(host.memory)}"
        problems.append(Problem(("vms",), text))
    if problems:
        raise report(problems)
