"""Replay: the accesses come from a recorded trace instead of a generator.

A trace's pages are the memory that a program made its own: they lie behind the read-only part of the VM, in the order
in which they first appear. With `streams = "all"` every VM replays the whole trace; with "each" the VMs replay its
streams in turn, each stream's pages numbered by themselves.

With `times` the trace's time stamps drive simulated time: a touch is due so long after the beginning of the phase as it
came after the first of the trace, divided by the speed. A VM that is ahead sleeps until then; one that is behind goes on at
once, and the latency of a touch counts from when it was due. A stamp that goes back counts as the latest before it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from memvirt.engine.traces.renumber import Renumber
from memvirt.errors import CorpusError
from memvirt.inputs.files import file_sha256
from memvirt.inputs.traces import Trace, open_trace
from memvirt.inputs.traces.trace import MOST_PAGES

from .base import BATCH, WRITE, Batch, Share, Space, Stream, Workload

LONGEST_NS = 1 << 60  # some 36 years of simulated time

Speed = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]


def replay(pages: NDArray[np.integer], ops: NDArray[np.integer] | None = None) -> Iterator[Batch]:
    """Batches of recorded accesses; without `ops`, all are reads. ValueError for what cannot be an access."""
    if pages.ndim != 1 or not np.issubdtype(pages.dtype, np.integer):
        raise ValueError(f"page numbers must be one row of integers, not {pages.ndim} dimensions of {pages.dtype}")
    if len(pages) and not 0 <= int(pages.min()) <= int(pages.max()) < MOST_PAGES:
        raise ValueError(
            f"page numbers must lie in 0..{MOST_PAGES - 1}, not {int(pages.min())}..{int(pages.max())}; "
            "numpy.unique(pages, return_inverse=True)[1] has none but these"
        )
    if ops is None:
        ops = np.zeros(len(pages), dtype=np.uint8)
    if ops.shape != pages.shape or not np.issubdtype(ops.dtype, np.integer):
        raise ValueError(f"{len(pages)} page numbers need as many operations, not {ops.shape} of {ops.dtype}")
    if len(ops) and not 0 <= int(ops.min()) <= int(ops.max()) <= WRITE:
        raise ValueError("recorded operations are 0 (read) or 1 (write)")
    return _cut(pages.astype(np.uint32), ops.astype(np.uint8))


def _cut(pages: NDArray[np.uint32], ops: NDArray[np.uint8]) -> Iterator[Batch]:
    for start in range(0, len(pages), BATCH):
        yield Batch(pages[start : start + BATCH], ops[start : start + BATCH])


def due_after(time_ns: NDArray[np.uint64], first_ns: int, speed_percent: int) -> NDArray[np.int64]:
    """When touches with these stamps are due, in ns from the first one: at the speed, rounded down."""
    after = (time_ns - np.uint64(first_ns)).astype(np.int64)
    whole, part = np.divmod(after, np.int64(speed_percent))
    due: NDArray[np.int64] = whole * 100 + part * 100 // speed_percent
    return due


class Touches(NamedTuple):
    """Successive touches; due_ns counts from the first of the trace, None without times."""

    pages: NDArray[np.uint32]
    ops: NDArray[np.uint8]
    stream: NDArray[np.uint32]
    due_ns: NDArray[np.int64] | None


class RecordedTrace(Workload):
    """Accesses from a file: what 'memvirt trace import' wrote, or a .npy of page numbers (and, in a second row, 0 or 1)."""

    name = "trace"
    file: Path = Field(description="the trace file")
    streams: Literal["all", "each"] = Field(
        default="all", description="all: every VM replays the whole trace; each: the VMs replay its streams in turn"
    )
    percent: Share = Field(default=100, description="how much of it is replayed, from its beginning, in per cent")
    times: bool = Field(default=False, description="its time stamps say when each touch is due, in simulated time")
    speed_percent: Speed = Field(default=100, description="with times: the speed, in per cent of the recorded one")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.speed_percent != 100 and not self.times:
            raise ValueError("speed_percent means the trace's own times; set times = true as well")
        return self

    @property
    def timed(self) -> bool:
        return self.times

    def length(self) -> int:
        trace = open_trace(self.file)
        touches = self._kept(trace)
        return touches if self.streams == "all" else max(1, touches // max(1, len(trace.info.streams)))

    def scaled(self, percent: int) -> Self:
        """A shorter tier replays the beginning; a longer one has no more than there is."""
        return self.model_copy(update={"percent": min(100, max(1, self.percent * percent // 100))})

    def _kept(self, trace: Trace) -> int:
        return len(trace) * self.percent // 100 if self.percent < 100 else len(trace)

    def file_hashes(self) -> dict[str, str]:
        return {"file": file_sha256(self.file)}

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        trace = open_trace(self.file)
        self.check_times(trace)
        room = space.pages - space.read_only
        if self.streams == "each":
            return self._of_stream(trace, stream.vm % max(1, len(trace.info.streams)), space, room)
        if trace.info.pages > room:
            raise self._too_large(trace.info.pages, room)
        return self._batches(trace, space)

    def _batches(self, trace: Trace, space: Space) -> Iterator[Batch]:
        for chunk in self._first(trace):
            yield Batch(chunk.pages + np.uint32(space.read_only), chunk.ops, due_ns=chunk.due_ns)

    def _first(self, trace: Trace) -> Iterator[Touches]:
        """The part that is replayed."""
        left, latest = self._kept(trace), 0
        for chunk in trace.chunks(BATCH, times=self.times):
            if left <= 0:
                return
            due = None
            if self.times and chunk.time_ns is not None:
                due = due_after(chunk.time_ns[:left], trace.info.first_ns or 0, self.speed_percent)
                due = np.maximum.accumulate(np.maximum(due, latest))
                latest = int(due[-1])
            yield Touches(chunk.pages[:left], chunk.ops[:left], chunk.stream[:left], due)
            left -= len(chunk.pages)

    def check_times(self, trace: Trace) -> None:
        """CorpusError where it needs times and there are none, or a touch is due beyond what a clock holds."""
        if not self.times:
            return
        if trace.info.first_ns is None or trace.info.last_ns is None:
            raise CorpusError(
                f"trace {self.file}: it has no times that could say when touches are due; import it from a source that "
                "has them, or give a rate: pace = { per_second = 1000 }, with 'memvirt run' --per-second 1000"
            )
        last_ns = (trace.info.last_ns - trace.info.first_ns) * 100 // self.speed_percent
        if last_ns >= LONGEST_NS:
            raise CorpusError(
                f"trace {self.file}: at {self.speed_percent} % of its speed its last touch is due after {last_ns} ns; "
                f"{LONGEST_NS} is the most; replay it faster: speed_percent, or 'memvirt run' --speed"
            )

    def _of_stream(self, trace: Trace, number: int, space: Space, room: int) -> Iterator[Batch]:
        table = Renumber()
        for chunk in self._first(trace):
            own = np.flatnonzero(chunk.stream == number)
            if not len(own):
                continue
            pages = table.number(chunk.pages[own].astype(np.uint64))
            if table.pages > room:
                raise self._too_large(table.pages, room, f"stream {number} of ")
            due = None if chunk.due_ns is None else chunk.due_ns[own]
            yield Batch(pages + np.uint32(space.read_only), chunk.ops[own], due_ns=due)

    def _too_large(self, pages: int, room: int, whose: str = "") -> CorpusError:
        return CorpusError(
            f"trace {self.file}: {whose}the trace touches {pages} pages, the VM has {room} that may be written; give "
            "its scenario a larger fleet.memory (memvirt run SUITE --trace FILE does), or replay less of it: percent"
        )
