"""Loads: how often each part of a VM's memory is used per simulated time.

A VM of gigabytes makes millions of accesses a second, and most of them say nothing new: the page is in memory, and its
accessed mark is set. So a load does not say which access follows which. It names *parts* of the memory and how often each
is used, and the engine is given a page at most once per *epoch*. Leaving repeats out changes nothing as long as the epoch
is shorter than what anyone can see: a fifth of the interval at which accessed marks are collected, and the time that a
page stays in memory. (Leaving accesses out by chance, one in ten, is wrong by orders of magnitude: warm pages look cold.)

How nearly nothing: fleets that differ by nothing but what is left out (tests/test_every_use.py), VMs of 64 MiB, 3 of
every 4 pages of them in memory, 240 s, the hot pages used every 200 ms. Under swap with its two lists, over twelve
seeds, epochs of 1 s have faults 0.08 % and stall 0.15 % off, of 10 s 0.6 and 0.1 %. A seed by itself lies up to 1.5 %
off, and so do two full streams: which of two pages goes decides in what order all later faults come (a 95 % interval is
0.3 points at 1 s, 0.5 at 10 s; with a compressed cache 1.2 of faults, and no difference is seen). Orders that follow
each use more closely see more: `clock` 0.3 and 0.4 % at 1 s, at 10 s -0.7 % of major faults and -1.6 % of stall; `lru`
0.4 % at 1 s, of which 0.1 is left where the parts of a window lie in the order of time, and not one after the other.

    part        so many per cent of the pages, all of them used once every so often: the mean time between two uses of a
                page. Where that is shorter than an epoch it is an epoch
    cycle       one such round. The blocks of a part are gone through in an order of their own in each cycle, so the time
                between two uses of a page lies between nothing and twice the mean
    work        the share of its time that a VM computes, spread over the touches: what it waits for memory is added

    trace       in the place of parts: the time stamps of a recording say what is used when (memvirt.workloads.recorded)

    request     an open loop beside it: requests arrive at even distances, whether the VM has served the last one or not,
                and each touches some pages and computes. A page of a part that is used more often is asked for more often

Touches are a function of (seed, VM, part, cycle) alone: neither the order in which VMs were created nor how time is cut
into intervals changes which pages are touched when. A VM is (name of its group, number in it), so another VM more, or
another group, changes nobody's touches.

VMs whose days, bursts and seconds shall not begin together are spread by a sequence of low discrepancy (van der Corput
1935): the first n of them lie about evenly, whatever n is, and VM k has its place whoever comes after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from memvirt.settings.diagnose import Conflicts, Problem
from memvirt.settings.fields import Interval, Lasting, Model
from memvirt.settings.fields import Pages as Size
from memvirt.units import format_time

from .instances import Instances
from .recorded import Recording

SECOND_NS = 10**9
HUNDRED = 100
WHOLE = 1 << 32  # of which a place is a part
PLACE_BITS = 32

Share = Annotated[int, Field(strict=True, ge=1, le=HUNDRED)]
ShareOrNone = Annotated[int, Field(strict=True, ge=0, le=HUNDRED)]


class Part(Model):
    """A part of a VM's memory."""

    percent: Share = Field(description="of the memory that is filled while booting")
    every: Lasting = Field(description="mean time between two uses of a page of it")


class Day(Model):
    """The table `day` of a load: it is busiest once per period and calmest half a period later."""

    period: Lasting = Field(default=24 * 3600 * SECOND_NS, description="from one busiest hour to the next")
    low_percent: ShareOrNone = Field(default=30, description="of the load that is left when it is calmest")
    spread: bool = Field(default=False, description="VMs are busiest at different times, evenly spread over the period")


class Bursts(Model):
    """The table `bursts` of a load: from time to time all of it, in between little."""

    every: Lasting = Field(description="from the beginning of a burst to that of the next")
    last: Lasting = Field(description="how long a burst lasts")
    low_percent: ShareOrNone = Field(default=10, description="of the load that is left in between")
    spread: bool = Field(default=True, description="VMs have their bursts at different times, evenly spread")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.last >= self.every:
            text = f"bursts of {format_time(self.last)} every {format_time(self.every)} overlap"
            raise Conflicts([Problem(("last",), text, ("every",))])
        return self


class Growth(Model):
    """The table `grow` of a load: memory that is filled beyond what was filled while booting, and not used again."""

    per_second: Size = Field(description="filled in a second: a leak, a cache that nobody bounds")
    to_percent: Share = Field(default=HUNDRED, description="of the configured memory, where it ends")


class Shrinking(Model):
    """The table `shrink` of a load: memory that the VM gives up, what it grew by first. A guest frees it; without one
    nobody below learns of it, and it goes cold."""

    per_second: Size = Field(description="given up in a second")
    to_percent: ShareOrNone = Field(description="of the configured memory, where it ends")


class Requests(Model):
    """The table `requests` of a load: an open loop beside its parts. Requests come at even distances, whether the VM has
    served the last one or not; the latency of each counts from when it was due."""

    per_second: Annotated[int, Field(strict=True, ge=1, le=100_000)] = Field(description="when it is busiest")
    touches: Annotated[int, Field(strict=True, ge=1, le=4096)] = Field(
        description="pages that each uses, of each part in proportion to how often it is used"
    )
    work: Interval = Field(default=0, description="time that each computes")


class Load(Model):
    """The table [scenarios.loads.NAME]: what the VMs of a group do all the time. It has parts, or a trace."""

    busy_percent: Share = Field(description="of its time that a VM computes when it is busiest; it waits beside that")
    parts: list[Part] = Field(
        default=[],
        description="parts of its memory; what no part names is not used. Required, unless there is a trace",
        min_length=1,
    )
    trace: Recording | None = Field(
        default=None,
        description="in the place of parts: a trace's own times say what is used when, each page at most once per epoch. It "
        "is busiest in the window with most touches, idle in those without; who is behind leaves windows out; keys below",
    )
    write_percent: ShareOrNone = Field(
        default=20, description="of the uses of a page that write; the image is only read"
    )
    day: Day | None = Field(default=None, description="how it rises and falls; else it is always at its busiest")
    bursts: Bursts | None = Field(default=None, description="short times of all of it; keys below")
    grow: Growth | None = Field(default=None, description="memory that is filled as time passes")
    shrink: Shrinking | None = Field(default=None, description="memory that is given up as time passes; keys below")
    instances: Instances | None = Field(
        default=None, description="functions that come, fill a part of the memory each, and end; keys below"
    )
    requests: Requests | None = Field(default=None, description="an open loop beside its parts; keys below")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        named = sum(part.percent for part in self.parts)
        if named > HUNDRED:
            text = f"the parts come to {named} % of the memory; 100 % is all there is"
            problems.append(Problem(("parts",), text))
        problems += self._problems_of_trace()
        if self.grow is not None and self.shrink is not None:
            text = "memory either grows or shrinks; give one, and another load that a set-load event changes to"
            problems.append(Problem(("shrink",), text, ("grow",)))
        if self.instances is not None and (self.grow is not None or self.shrink is not None):
            text = "instances fill and free the memory that grow and shrink speak of; give one"
            problems.append(Problem(("instances",), text, ("grow", "shrink")))
        if self.requests is not None and self.work_ns > SECOND_NS:
            text = (
                f"{self.work_ns / SECOND_NS:.3g} times what a processor can serve: per_second × work, and busy_percent, "
                f"come to {format_time(self.work_ns)} in a second"
            )
            problems.append(Problem(("requests", "per_second"), text, ("busy_percent",)))
        if problems:
            raise Conflicts(problems)
        return self

    def _problems_of_trace(self) -> Iterator[Problem]:
        """Where a trace says what other keys say, too."""
        if self.trace is None and not self.parts:
            yield Problem(("parts",), "is required: how often which part is used, or a trace that says it", ("trace",))
        if self.trace is None:
            return
        for key, why in (
            ("parts", "the trace says what is used"),
            ("write_percent", "the trace says which uses write"),
            ("day", "the trace's own times say when there is little to do"),
            ("bursts", "the trace's own times say when there is little to do"),
            ("requests", "they use parts, and a trace has none"),
        ):
            if key in self.model_fields_set and getattr(self, key) is not None:
                yield Problem((key,), f"{why}; leave it out, or the trace", ("trace",))

    def scaled(self, percent: int) -> Load:
        """Of a VM of so many per cent of the size: what it grows or shrinks by in a second is as much of it as before."""
        changed: dict[str, Any] = {
            key: rate.model_copy(update={"per_second": max(1, rate.per_second * percent // HUNDRED)})
            for key, rate in (("grow", self.grow), ("shrink", self.shrink))
            if rate is not None
        }
        if self.instances is not None:
            changed["instances"] = self.instances.scaled(percent)
        return self.model_copy(update=changed)

    @property
    def work_ns(self) -> int:
        """How long a VM computes in a second, when it is busiest."""
        asked_ns = 0 if self.requests is None else self.requests.per_second * self.requests.work
        return asked_ns + self.busy_percent * SECOND_NS // HUNDRED

    def touches(self, pages: int, epoch_ns: int, lasts_ns: int) -> int:
        """About how many touches its parts and requests make in that time, of a VM with so many filled pages, when it is
        busiest."""
        each = (pages * part.percent * lasts_ns // max(part.every, epoch_ns) // HUNDRED for part in self.parts)
        asked = 0 if self.requests is None else self.requests.per_second * self.requests.touches
        return sum(each) + asked * lasts_ns // SECOND_NS

    def used(self, pages: int, lasts_ns: int) -> int:
        """Pages that its parts use in that time, each counted once, of a VM with so many filled pages."""
        return sum(pages * part.percent * min(lasts_ns, part.every) // (part.every * HUNDRED) for part in self.parts)


def level_percent(load: Load, now_ns: int, number: int) -> int:
    """How much of its load VM `number` of a group has at that time, in per cent."""
    level = HUNDRED if load.day is None else _of_day(load.day, now_ns, number)
    return level if load.bursts is None else level * _of_bursts(load.bursts, now_ns, number) // HUNDRED


def _of_day(day: Day, now_ns: int, number: int) -> int:
    """It rises and falls in a straight line."""
    shift_ns = day.period * corput(number) // WHOLE if day.spread else 0
    into_ns = (now_ns + shift_ns) % day.period
    from_top_ns = min(into_ns, day.period - into_ns)  # 0 when busiest, half a period when calmest
    return HUNDRED - (HUNDRED - day.low_percent) * 2 * from_top_ns // day.period


def _of_bursts(bursts: Bursts, now_ns: int, number: int) -> int:
    shift_ns = bursts.every * corput(number) // WHOLE if bursts.spread else 0
    return HUNDRED if (now_ns + shift_ns) % bursts.every < bursts.last else bursts.low_percent


def corput(number: int) -> int:
    """Element `number` of van der Corput's sequence to base 2, in 2^32nds: its binary digits mirrored at the point."""
    return int(f"{number:0{PLACE_BITS}b}"[::-1], 2)


def name_number(group: str, number: int | None = None) -> int:
    """64 bits that stand for a VM by its name, or for its group."""
    text = group if number is None else f"{group}/{number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def place(group: str, number: int) -> int:
    """Where a VM begins of what VMs divide among them, in 2^32nds: groups anywhere, its VMs spread."""
    return (name_number(group) + corput(number)) % WHOLE
