"""Replay: the accesses come from a recorded trace instead of a generator.

A trace's pages are the memory that a program made its own: they lie behind the read-only part of the VM, in the order
in which they first appear. With `streams = "all"` every VM replays the whole trace; with "each" the VMs replay its
streams in turn, each stream's pages numbered by themselves.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from memvirt.engine.traces.renumber import Renumber
from memvirt.errors import CorpusError
from memvirt.inputs.files import file_sha256
from memvirt.inputs.traces import Chunk, Trace, open_trace

from .base import BATCH, WRITE, Batch, Share, Space, Stream, Workload
from .registry import register

MOST_PAGES = 1 << 31


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


@register
class RecordedTrace(Workload):
    """Accesses from a file: what 'memvirt trace import' wrote, or a .npy of page numbers (and, in a second row, 0 or 1)."""

    name = "trace"
    file: Path = Field(description="the trace file")
    streams: Literal["all", "each"] = Field(
        default="all", description="all: every VM replays the whole trace; each: the VMs replay its streams in turn"
    )
    percent: Share = Field(default=100, description="replay the first so many per cent of it")

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
        room = space.pages - space.read_only
        if self.streams == "each":
            return self._of_stream(trace, stream.vm % max(1, len(trace.info.streams)), space, room)
        if trace.info.pages > room:
            raise self._too_large(trace.info.pages, room)
        return self._batches(trace, space)

    def _batches(self, trace: Trace, space: Space) -> Iterator[Batch]:
        for chunk in self._first(trace):
            yield Batch(chunk.pages + np.uint32(space.read_only), chunk.ops)

    def _first(self, trace: Trace) -> Iterator[Chunk]:
        """The chunks of the part that is replayed."""
        left = self._kept(trace)
        for chunk in trace.chunks(BATCH, times=False):
            if left <= 0:
                return
            yield Chunk(chunk.pages[:left], chunk.ops[:left], None, chunk.stream[:left])
            left -= len(chunk.pages)

    def _of_stream(self, trace: Trace, number: int, space: Space, room: int) -> Iterator[Batch]:
        table = Renumber()
        for chunk in self._first(trace):
            own = np.flatnonzero(chunk.stream == number)
            if not len(own):
                continue
            pages = table.number(chunk.pages[own].astype(np.uint64))
            if table.pages > room:
                raise self._too_large(table.pages, room, f"stream {number} of ")
            yield Batch(pages + np.uint32(space.read_only), chunk.ops[own])

    def _too_large(self, pages: int, room: int, whose: str = "") -> CorpusError:
        return CorpusError(
            f"trace {self.file}: {whose}the trace touches {pages} pages, the VM has {room} that may be written; give "
            "its scenario a larger fleet.memory (memvirt run SUITE --trace FILE does), or replay less of it: percent"
        )
