"""Several workloads in one VM, interleaved access by access."""

from collections.abc import Iterator
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator

from .base import BATCH, Batch, Space, Stream, Workload
from .registry import parse

SLOTS = 1 << 16


class Part(BaseModel):
    """One ingredient: `weight` of the accesses come from `workload`, written like any other workload."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    weight: int = Field(ge=1, le=1000, description="share of this part, relative to the weights of the others")
    workload: SerializeAsAny[Workload] = Field(description="a table with the workload's name and parameters")

    @field_validator("workload", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return parse(value) if isinstance(value, dict) else value


class Mixed(Workload):
    """A weighted mixture: each access belongs to a part by chance; the first part to end ends it."""

    name = "mixed"
    parts: Annotated[tuple[Part, ...], Field(min_length=2, max_length=16, description="workloads and their weights")]

    def length(self) -> int:
        return sum(part.workload.length() for part in self.parts)

    def scaled(self, percent: int) -> Self:
        parts = [part.model_copy(update={"workload": part.workload.scaled(percent)}) for part in self.parts]
        return self.model_copy(update={"parts": tuple(parts)})

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        total = sum(part.weight for part in self.parts)
        bounds = np.cumsum([part.weight * SLOTS // total for part in self.parts])[:-1]
        named = [Stream(stream.seed, stream.vm, f"{stream.phase}/{i}") for i in range(len(self.parts))]
        taps = [Tap(part.workload.batches(space, named[i])) for i, part in enumerate(self.parts)]
        bits = stream.bits("mixed")
        running = True
        while running:
            choice = np.searchsorted(bounds, bits.u16(BATCH), side="right")
            batch = Batch(np.empty(BATCH, dtype=np.uint32), np.empty(BATCH, dtype=np.uint8))
            end = BATCH
            for i, tap in enumerate(taps):
                at = np.flatnonzero(choice == i)
                got = tap.fill(batch, at)
                if got < len(at):
                    end = min(end, int(at[got]))
                    running = False
            if end:
                yield Batch(batch.pages[:end], batch.ops[:end])


class Tap:
    """A stream from which any number of accesses can be drawn."""

    __slots__ = ("_batches", "_left")

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._left = Batch(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.uint8))

    def fill(self, target: Batch, at: NDArray[np.intp]) -> int:
        """Put the next accesses at the places `at` of the target; the number there were."""
        done = 0
        while done < len(at):
            if not len(self._left.pages):
                following = next(self._batches, None)
                if following is None:
                    break
                self._left = following
            take = min(len(at) - done, len(self._left.pages))
            places = at[done : done + take]
            target.pages[places] = self._left.pages[:take]
            target.ops[places] = self._left.ops[:take]
            self._left = Batch(self._left.pages[take:], self._left.ops[take:])
            done += take
        return done
