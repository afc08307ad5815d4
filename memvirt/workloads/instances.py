"""Instances of functions that come and end in one VM: each has a part of its memory to itself, fills it, and frees all of it.

    filled while booting | rest | place 0 | place 1 | ...  | the last place |       as many of one size as there is room for

    place k    begins at k × every     fills it in an even pace until fill has passed     has ended when stay has passed

What has been filled follows from the time alone, looked at from window to window: those that fill at the same time do so by
turns, a window's worth each, and a guest that gives them pages in the order in which it is asked has theirs side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from memvirt.settings.diagnose import Conflicts, Problem
from memvirt.settings.fields import Lasting, Model
from memvirt.settings.fields import Pages as Size
from memvirt.units import format_time

HUNDRED = 100


class Instances(Model):
    """The table `instances` of a load: functions that come and end. A guest learns what they free; without one nobody
    does."""

    size: Size = Field(description="of each, from the end of the VM's memory down to what was filled while booting")
    every: Lasting = Field(description="from the beginning of one to that of the next")
    fill: Lasting = Field(description="from the beginning of one until it has filled its memory")
    stay: Lasting = Field(description="from the beginning of one to its end")
    again: Lasting | None = Field(
        default=None, description="from the beginning of one to that of another in its place; else there is no other"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        if self.stay < self.fill:
            text = f"is shorter than it takes to fill its memory, {format_time(self.fill)}"
            problems.append(Problem(("stay",), text, ("fill",)))
        if self.again is not None and self.again < self.stay:
            text = f"is before the one in its place has ended, {format_time(self.stay)} after its beginning"
            problems.append(Problem(("again",), text, ("stay",)))
        if problems:
            raise Conflicts(problems)
        return self

    def scaled(self, percent: int) -> Instances:
        """Of a VM of so many per cent of the size: as large as they are, so many more or fewer, in the same time."""
        return self.model_copy(update={"every": max(1, self.every * HUNDRED // percent)})


class Places:
    """The places of one VM, and what of each is filled."""

    def __init__(self, instances: Instances, touched: int, memory: int) -> None:
        self._of = instances
        self._filled = [0] * ((memory - touched) // instances.size)
        self._round = [0] * len(self._filled)
        self._first = memory - len(self._filled) * instances.size

    def ended(self, at_ns: int) -> Iterator[tuple[int, int]]:
        """Pages first .. end - 1 of each instance that has ended by then."""
        for place, filled in enumerate(self._filled):
            number, pages = self._at(place, at_ns)
            if filled and (number != self._round[place] or not pages):
                self._filled[place] = 0
                yield self._pages(place, 0, filled)

    def grown(self, at_ns: int) -> Iterator[tuple[int, int]]:
        """Pages first .. end - 1 that each one fills until then; those that have ended are done with."""
        for place, filled in enumerate(self._filled):
            self._round[place], pages = self._at(place, at_ns)
            if pages > filled:
                self._filled[place] = pages
                yield self._pages(place, filled, pages)

    def _pages(self, place: int, first: int, end: int) -> tuple[int, int]:
        begin = self._first + place * self._of.size
        return begin + first, begin + end

    def _at(self, place: int, at_ns: int) -> tuple[int, int]:
        """Which instance a place has then, and how many pages that has filled; 0 where it has ended, or none has come."""
        spec = self._of
        number, into_ns = 0, at_ns - place * spec.every
        if into_ns < 0:
            return 0, 0
        if spec.again is not None:
            number, into_ns = divmod(into_ns, spec.again)
        return number, spec.size * min(into_ns, spec.fill) // spec.fill if into_ns < spec.stay else 0
