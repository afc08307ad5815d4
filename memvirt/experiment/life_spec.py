"""The tables of a scenario whose fleet lives: groups of VMs, what they do all the time, when they come and go.

    [scenarios.time]            how long it settles and is measured, and how finely it is looked at
    [scenarios.loads.NAME]      how often parts of memory are used (memvirt.workloads.load)
    [[scenarios.groups]]        so many VMs of one size, with one load, one content, one promise
    [[scenarios.events]]        what happens to a group at a time

Times are simulated time from the beginning of the scenario, settling included. They never scale with memory: a host of
half the size still collects accessed marks every 30 s. What is filled or given up in a second does: half a host is filled in
the same time. A tier that lasts a fifth as long has the same story: who comes, goes and what happens is five times as soon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from memvirt.experiment.fleet_spec import Percent
from memvirt.inputs.bits import Bits
from memvirt.settings.diagnose import Conflicts, Problem, validate
from memvirt.settings.fields import Interval, Lasting, Model, Name, Pages, Shares
from memvirt.settings.vm_config import GuestOptions, VmConfig
from memvirt.units import PageCount, format_time, suggest
from memvirt.workloads.load import HUNDRED, SECOND_NS, Load, Part
from memvirt.workloads.recorded import Recorded, Recording

Share = Annotated[int, Field(strict=True, ge=1, le=100)]
ServiceLevel = Literal["gold", "silver", "bronze"]

LEAST_PAGES = 64  # of a VM, however small a tier makes it
DRAWN = 1 << 32  # random numbers below that are drawn
HARVEST_EPOCHS = 5  # epochs there must be between two harvests: a longer epoch makes warm pages look cold


class Time(Model):
    """The table [scenarios.time]."""

    settle: Interval = Field(default=0, description="before the measured phase, under the same loads")
    duration: Lasting = Field(description="of the measured phase")
    epoch: Lasting = Field(
        default=2 * SECOND_NS,
        description="a page is touched at most about once in it; at most a fifth of harvest_interval",
    )
    window: Lasting = Field(default=SECOND_NS, description="slowdown is told for every VM and window")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        if self.duration < self.window:
            problems.append(
                Problem(("duration",), f"is shorter than a window, {format_time(self.window)}", ("window",))
            )
        if self.epoch < self.window:
            text = f"is shorter than a window, {format_time(self.window)}: pages are given to VMs window by window"
            problems.append(Problem(("epoch",), text, ("window",)))
        if problems:
            raise Conflicts(problems)
        return self

    @property
    def lasts(self) -> int:
        """All of it, ns."""
        return self.settle + self.duration

    def uses_of(self, recording: Recording) -> Recorded:
        """What of a trace is given to VMs in this time."""
        return recording.uses(self.epoch, self.window, self.lasts)

    def scaled(self, percent: int) -> Time:
        """`percent` as long; what lies in between stays what it is."""
        lasts = {name: getattr(self, name) * percent // 100 for name in ("settle", "duration")}
        return self.model_copy(update={**lasts, "duration": max(self.window, lasts["duration"])})


class BootTimes(Model):
    """The table `boot` of a group: when its VMs come."""

    at: Interval = Field(default=0, description="the first")
    every: Interval = Field(default=0, description="each one after the one before")
    per_second: Pages | None = Field(default=None, description="memory that a VM fills in a second; else at once")

    def scaled(self, memory_percent: int, time_percent: int) -> BootTimes:
        """Of VMs of another size, in a scenario of another length."""
        rate = self.per_second
        filled = None if rate is None else max(1, rate * memory_percent // 100)
        times = {name: getattr(self, name) * time_percent // 100 for name in ("at", "every")}
        return self.model_copy(update={**times, "per_second": filled})


class GroupContent(Model):
    """The table `content` of a group, in per cent of what a VM fills while booting; the rest is its own."""

    image: tuple[str, ...] = Field(default=("libraries", "source"), min_length=1, description="classes of the image")
    private: tuple[str, ...] = Field(default=("heap", "numeric"), min_length=1, description="classes of the rest")
    image_percent: Percent = Field(default=20, description="equal in all VMs of the same image classes")
    zero_percent: Percent = Field(default=10, description="pages of zeros")
    within_percent: Percent = Field(default=0, description="equal to others of the same VM, and to none of another's")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        shared = self.image_percent + self.zero_percent + self.within_percent
        if shared > 100:
            text = f"image_percent, zero_percent and within_percent come to {shared} %; 100 % is all there is"
            raise ValueError(text)
        return self


class Lifetime(Model):
    """The table `lifetime` of a group: how long its VMs stay, drawn for each."""

    mean: Lasting = Field(description="of an exponential distribution: half of them leave within seven tenths of it")

    def drawn_ns(self, seed: int, group: str, number: int) -> int:
        """That of VM `number`: exact, by comparing random numbers alone (von Neumann, "Various techniques used in
        connection with random digits", 1951)."""
        bits = Bits("lifetime", seed, group, number)
        whole = 0
        while True:
            first = last = bits.one_below(DRAWN)
            length = 1
            while (drawn := bits.one_below(DRAWN)) < last:
                last = drawn
                length += 1
            if length % 2:
                return max(1, self.mean * (whole * DRAWN + first) // DRAWN)
            whole += 1


class Files(Model):
    """The table `files` of a group: files that every VM of it reads through the page cache of its guest, as many as its
    memory holds or more. They are the same in all VMs of the same classes, and nobody writes to them."""

    size: Pages = Field(description="of all of them")
    every: Lasting | None = Field(default=None, description="mean time between two uses of a page of them; or parts")
    parts: list[Part] = Field(
        default=[], description="in its place: so many per cent of the files are used once in so long"
    )
    classes: tuple[str, ...] = Field(default=("libraries", "source"), min_length=1, description="what they hold")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.every is None) == (not self.parts):
            text = "give either every, for all of them, or parts"
            raise Conflicts([Problem(("every",), text, ("parts",))])
        if (named := sum(part.percent for part in self.parts)) > HUNDRED:
            text = f"come to {named} % of the files; 100 % is all there is"
            raise Conflicts([Problem(("parts",), text)])
        return self

    @property
    def used(self) -> list[Part]:
        """How often what part of them is."""
        return self.parts if self.every is None else [Part(percent=HUNDRED, every=self.every)]


class Group(Model):
    """A table [[scenarios.groups]]: VMs that are alike."""

    name: Name = Field(description="of the group; its VMs are called NAME-0, NAME-1, ...")
    vms: int = Field(strict=True, ge=1, le=4096, description="VMs at ratio 1.0")
    fixed: bool = Field(default=False, description="as many at every ratio")
    memory: Pages = Field(description="configured size of each")
    load: Name = Field(description="what they do: a table [scenarios.loads.NAME]")
    level: ServiceLevel = Field(
        default="silver", description="service level that tables tell apart: gold, silver, bronze"
    )
    shares: Shares = Field(default=1000, description="relative weight of each")
    slowdown_at_most: Annotated[int, Field(strict=True, ge=100, le=100_000)] | None = Field(
        default=None, description="objective, %: 105 is kept in a window in which a VM is slower by 5 % or less"
    )
    reservation_percent: Percent = Field(default=0, description="host memory that is guaranteed to each, of its size")
    limit_percent: Share | None = Field(default=None, description="most host memory that each gets, of its size")
    touched_percent: Share = Field(default=80, description="of the configured memory, filled while booting")
    ballooned_percent: Percent = Field(
        default=0,
        description="of the configured memory, in the balloon when it comes: what its guest's way can give by then",
    )
    content: GroupContent = Field(default=GroupContent(), description="what it is filled with; keys below")
    files: Files | None = Field(default=None, description="that their guests read; keys below")
    boot: BootTimes = Field(default=BootTimes(), description="when they come; keys below")
    stay: Lasting | None = Field(default=None, description="how long each stays; else to the end")
    lifetime: Lifetime | None = Field(default=None, description="how long each stays, drawn; keys below")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.stay is not None and self.lifetime is not None:
            raise Conflicts([Problem(("lifetime",), "give either stay or lifetime", ("stay",))])
        if self.limit_percent is not None and self.reservation_percent > self.limit_percent:
            text = f"{self.reservation_percent} % is above the limit, {self.limit_percent} %"
            raise Conflicts([Problem(("reservation_percent",), text, ("limit_percent",))])
        return self

    def count(self, percent: int) -> int:
        """Its VMs at a ratio."""
        return self.vms if self.fixed else max(1, self.vms * percent // 100)

    def vm_name(self, number: int) -> str:
        return f"{self.name}-{number}"

    @property
    def image_pages(self) -> int:
        """Of each VM's image."""
        return max(1, self.memory * self.touched_percent // 100) * self.content.image_percent // 100

    def limit(self, percent: int | None) -> PageCount | None:
        """A limit of so many per cent of its size, pages; None: none."""
        return None if percent is None else PageCount(max(1, self.memory * percent // 100))

    def scaled(self, percent: int, time_percent: int) -> Group:
        """VMs, and files, of so many per cent of the size, that come, and go, in a scenario so many per cent as long."""
        files, stay, lifetime = self.files, self.stay, self.lifetime
        if files is not None:
            files = files.model_copy(update={"size": max(1, files.size * percent // 100)})
        if lifetime is not None:
            lifetime = lifetime.model_copy(update={"mean": max(1, lifetime.mean * time_percent // 100)})
        changed = {
            "memory": max(LEAST_PAGES, self.memory * percent // 100),
            "files": files,
            "boot": self.boot.scaled(percent, time_percent),
            "stay": None if stay is None else max(1, stay * time_percent // 100),
            "lifetime": lifetime,
        }
        return self.model_copy(update=changed)

    def vm(
        self,
        number: int,
        guest: GuestOptions | None = None,
        limit_percent: int | None = None,
        files: bool = True,
    ) -> VmConfig:
        """VM number `number` with what it is promised; `limit_percent` in place of the group's, once it has changed. Not
        `files`: without those of its guest."""
        settings: dict[str, Any] = {"name": self.vm_name(number), "memory": PageCount(self.memory), "guest": guest}
        settings |= {"shares": self.shares, "reservation": PageCount(self.memory * self.reservation_percent // 100)}
        settings["files"] = PageCount(self.files.size if files and self.files is not None else 0)
        settings["limit"] = self.limit(limit_percent or self.limit_percent)
        return validate(VmConfig, settings)

    def comes_ns(self, number: int) -> int:
        return self.boot.at + number * self.boot.every

    def goes_ns(self, number: int, seed: int) -> int | None:
        """When VM number `number` leaves; None: it stays."""
        stay = self.stay if self.lifetime is None else self.lifetime.drawn_ns(seed, self.name, number)
        return None if stay is None else self.comes_ns(number) + stay


class Event(Model):
    """A table [[scenarios.events]]: something that happens to a group."""

    at: Interval = Field(description="when it begins")
    what: Literal["set-load", "set-limit", "set-balloon", "rewrite-image", "restart"] = Field(
        description="set-load: another load; set-limit: another limit, which makes pages go at once; set-balloon: another "
        "size for the balloon, which its worker moves to; rewrite-image: every page of the image is replaced by another, the "
        "same in all VMs, as a patch does; restart: the VM ends and boots again, with its load, its limit and its patches"
    )
    group: Name = Field(description="whom it happens to")
    percent: Share = Field(default=100, description="of the group's VMs, the first ones")
    spread: Interval = Field(default=0, description="from the first VM to the last")
    load: Name | None = Field(default=None, description="of set-load: the other load")
    limit_percent: Share | None = Field(default=None, description="of set-limit: the other limit, of each VM's size")
    balloon_percent: Percent | None = Field(
        default=None,
        description="of set-balloon: what the balloon is to hold, of each VM's size",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        for key, what in (("load", "set-load"), ("limit_percent", "set-limit"), ("balloon_percent", "set-balloon")):
            value = getattr(self, key)
            if (value is not None) != (self.what == what):
                text = f"{what} needs it" if value is None else f"is what {what} sets; {self.what} has none"
                problems.append(Problem((key,), text, ("what",)))
        if problems:
            raise Conflicts(problems)
        return self

    def scaled(self, percent: int) -> Event:
        """In a scenario so many per cent as long."""
        return self.model_copy(update={name: getattr(self, name) * percent // 100 for name in ("at", "spread")})

    def happens(self, vms: int) -> Iterator[tuple[int, int]]:
        """(number of a VM, when) for every VM of the group that it happens to."""
        count = max(1, vms * self.percent // 100)
        for number in range(count):
            yield number, self.at + self.spread * number // count


def disagreements(
    time: Time, loads: dict[str, Load], groups: Sequence[Group], events: Sequence[Event]
) -> list[Problem]:
    """What the tables of a scenario say that cannot be together."""
    found = []
    names = [group.name for group in groups]
    ends_ns = time.settle + time.duration
    for index, group in enumerate(groups):
        if group.name in names[:index]:
            found.append(Problem(("groups", index, "name"), f"'{group.name}' is given twice"))
        if group.load not in loads:
            text = f"no load is called '{group.load}'{suggest(group.load, list(loads))}"
            found.append(Problem(("groups", index, "load"), text, ("loads",)))
        if group.boot.at >= ends_ns:
            text = f"no VM of it ever comes: the scenario ends at {format_time(ends_ns)}, settling included"
            found.append(Problem(("groups", index, "boot", "at"), text, ("time",)))
    for index, event in enumerate(events):
        if event.group not in names:
            text = f"no group is called '{event.group}'{suggest(event.group, names)}"
            found.append(Problem(("events", index, "group"), text, ("groups",)))
        elif event.limit_percent is not None:
            reserved = groups[names.index(event.group)].reservation_percent
            if reserved > event.limit_percent:
                text = f"{event.limit_percent} % is below what the group reserves, {reserved} %"
                found.append(Problem(("events", index, "limit_percent"), text, ("groups",)))
        if event.load is not None and event.load not in loads:
            text = f"no load is called '{event.load}'{suggest(event.load, list(loads))}"
            found.append(Problem(("events", index, "load"), text, ("loads",)))
        if event.at + event.spread >= ends_ns:
            text = f"the scenario ends at {format_time(ends_ns)}, settling included"
            found.append(Problem(("events", index, "at"), text, ("time",)))
    return [*found, *_out_of_order(events)]


def _out_of_order(events: Sequence[Event]) -> Iterator[Problem]:
    """Events of one kind and group that go back in time, or begin while the one before still goes on."""
    last: dict[tuple[str, str], Event] = {}
    for index, event in enumerate(events):
        before = last.get((event.what, event.group))
        if before is not None and event.at < before.at:
            text = f"goes back: the {event.what} of {event.group} before it begins at {format_time(before.at)}"
            yield Problem(("events", index, "at"), text)
        elif before is not None and event.at <= before.at + before.spread and before.spread:
            ends = format_time(before.at + before.spread)
            text = f"overlaps: the {event.what} of {event.group} before it goes on until {ends}"
            yield Problem(("events", index, "at"), text)
        last[event.what, event.group] = event
