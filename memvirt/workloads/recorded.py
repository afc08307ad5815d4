"""The table `trace` of a load: the time stamps of a recorded trace say which pages are used when.

A trace holds every touch, and a load gives the engine a page at most once per epoch (memvirt.workloads.load says why that
is enough). So within an epoch, counted from the trace's beginning, one use of a page stands for all of them:

    which      its first one in one of the windows in which it is used. Which of these windows is drawn, from the page and
               the epoch alone: always the first would leave the later windows of an epoch with nothing to do
    writes     it writes if any of them does
    when       as long after the VM began with its load as it came after the first touch of the trace, at the speed. A
               window's touches begin at up to 64 moments of it: a wait for every single one would cost five times as much
    work       each touch of the trace, whatever became of it, computes for so long that the window with most touches in it
               computes for busy_percent of its time. A window without any is idle; one whose uses were all drawn elsewhere
               reads the VM's first page, which it computes after

A VM that is behind goes on with the window that it finds, as under any load: what is due meanwhile is left out.

Pages lie behind the image, in the order in which they first appear; with streams = "each" those of every stream by
themselves. What a cell needs of a trace is read once, as far as its time reaches, and kept for all VMs of the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from memvirt.engine.traces.renumber import Renumber
from memvirt.errors import CorpusError
from memvirt.inputs.files import file_sha256
from memvirt.inputs.traces import Trace, open_trace
from memvirt.settings.fields import Model

from .base import READ, Batch, Space
from .trace import Speed, due_after

HUNDRED = 100
SLICES = 64  # moments of a window at which touches begin
KEPT = 4  # traces that are kept
RAW = 1 << 22  # touches of an epoch that are held before one use of each page and window is left of them
USE_BYTES = 13  # of a use that is kept
LAST = (1 << 64) - 1  # of stamps
U64 = np.uint64


class Recording(Model):
    """The table `trace` of a load: a trace says, in the place of parts, which pages are used when."""

    file: Path = Field(description="what 'memvirt trace import' wrote, with times; relative to the suite's file")
    streams: Literal["all", "each"] = Field(
        default="all",
        description="all: every VM does all of it; each: VM n of a group does stream n, and over again from the first",
    )
    speed_percent: Speed = Field(default=HUNDRED, description="the speed, in per cent of the recorded one")
    at_end: Literal["idle", "again"] = Field(
        default="idle",
        description="idle: a VM is idle beyond the last touch; again: with the next window it begins from the first",
    )

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of the file, by the key that names it."""
        return {"file": file_sha256(self.file)}

    def uses(self, epoch_ns: int, window_ns: int, lasts_ns: int) -> Recorded:
        """What is given to VMs within that time. CorpusError where the trace cannot say that."""
        try:
            stamp = self.file.stat()
        except OSError as error:
            raise CorpusError(f"trace {self.file}: {error.strerror}; its name counts from the suite's file") from error
        at = Grid(epoch_ns, window_ns, lasts_ns, self.speed_percent, self.streams == "each")
        return _read(self.file, (stamp.st_mtime_ns, stamp.st_size), at)


class Grid(NamedTuple):
    """How a trace is cut."""

    epoch_ns: int
    window_ns: int
    lasts_ns: int  # touches after that are not looked at
    speed_percent: int
    each: bool


@dataclass(frozen=True, slots=True)
class Uses:
    """Of one stream, in order of time."""

    pages: NDArray[np.uint32]
    ops: NDArray[np.uint8]
    due_ns: NDArray[np.int64]  # from the trace's beginning
    begins: NDArray[np.int64]  # [windows + 1] the first use of each window
    raw: NDArray[np.int64]  # [windows] touches of the trace in each

    @property
    def footprint(self) -> int:
        """Different pages."""
        return int(self.pages.max()) + 1 if len(self.pages) else 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A trace, as far as a scenario's time reaches."""

    streams: tuple[Uses, ...]
    window_ns: int
    period_ns: int  # whole windows, the one of the last touch included
    most: int  # touches in the window that has most

    def of(self, number: int) -> Uses:
        """What VM `number` of a group does."""
        return self.streams[number % len(self.streams)]

    def touches(self, number: int, lasts_ns: int, again: bool) -> int:
        """About how many uses VM `number` is given in that time."""
        uses = self.of(number)
        rounds, rest_ns = divmod(lasts_ns, self.period_ns) if again else (0, lasts_ns)
        return rounds * len(uses.pages) + int(np.searchsorted(uses.due_ns, rest_ns))

    def work_ns(self, uses: Uses, window: int, busy_percent: int) -> int:
        """How long a VM with that stream computes in a window."""
        return self.window_ns * busy_percent // HUNDRED * int(uses.raw[window]) // self.most

    def busiest(self, number: int, busy_percent: int, hit_ns: int) -> tuple[int, int, int]:
        """The window that takes VM `number` longest, where a touch takes `hit_ns`: which, its touches, its work."""
        uses = self.of(number)
        touches = np.diff(uses.begins)
        work = self.window_ns * busy_percent // HUNDRED * (uses.raw / self.most)  # no more than a choice depends on it
        at = int(np.argmax(touches * hit_ns + work))
        return at, int(touches[at]), self.work_ns(uses, at, busy_percent)

    @property
    def held_bytes(self) -> int:
        """What it takes of this machine's memory."""
        return sum(USE_BYTES * len(uses.pages) + 16 * len(uses.raw) for uses in self.streams)


class Replay:
    """What one VM does of a trace since `since_ns`: in the place of memvirt.workloads.touches.Touches."""

    def __init__(
        self, recorded: Recorded, recording: Recording, number: int, space: Space, busy_percent: int, since_ns: int
    ) -> None:
        self.resident = space.pages
        self._uses = recorded.of(number)
        self._recorded = recorded
        self._again = recording.at_end == "again"
        self._image = space.read_only
        self._busy_percent = busy_percent
        self._since_ns = since_ns

    def window(self, begins_ns: int) -> Iterator[Batch]:
        """What is used in the window that begins then; nothing, when it is idle."""
        uses, window_ns = self._uses, self._recorded.window_ns
        into_ns = begins_ns - self._since_ns
        number = (into_ns % self._recorded.period_ns if self._again else into_ns) // window_ns
        if number >= len(uses.raw):
            return
        part = slice(uses.begins[number], uses.begins[number + 1])
        pages, ops = uses.pages[part] + np.uint32(self._image), uses.ops[part]
        due_ns = begins_ns + uses.due_ns[part] - number * window_ns
        if self.resident < self._image + uses.footprint:
            kept = pages < self.resident
            pages, ops, due_ns = pages[kept], ops[kept], due_ns[kept]
        work_ns = self._recorded.work_ns(uses, number, self._busy_percent)
        if not len(pages):
            if work_ns:
                yield Batch(np.zeros(1, np.uint32), np.full(1, READ, np.uint8), None, work_ns, np.array([begins_ns]))
            return
        work_ns //= len(pages)
        length = -(-len(pages) // SLICES)
        whole = len(pages) // length * length  # what begins together is of one length
        for first, end in ((0, whole), (whole, len(pages))):
            if first < end:
                yield Batch(pages[first:end], ops[first:end], None, work_ns, due_ns[first:end:length])


@lru_cache(maxsize=KEPT)
def _read(file: Path, stamp: tuple[int, int], grid: Grid) -> Recorded:
    """`stamp`: when the file was changed last, and its size."""
    trace = open_trace(file)
    first_ns, last_ns = trace.info.first_ns, trace.info.last_ns
    if first_ns is None or last_ns is None:
        raise CorpusError(
            f"trace {file}: it has no times that could say when pages are used; import it from a source that has them, or "
            "say how often parts of memory are used: parts"
        )
    lasts_ns = (last_ns - first_ns) * HUNDRED // grid.speed_percent
    windows = min(lasts_ns, grid.lasts_ns - 1) // grid.window_ns + 1
    streams = [_Stream(grid, windows) for _ in (trace.info.streams if grid.each else [""])]
    for epoch, whose, some in _by_epoch(trace, first_ns, last_ns, grid):
        for number in np.unique(whose).tolist() if grid.each else [0]:
            mine = whose == number
            streams[number].add(epoch, _Some(*(column[mine] for column in some)) if grid.each else some)
    uses = tuple(stream.close() for stream in streams)
    most = max(1, *(int(each.raw.max()) for each in uses))
    return Recorded(uses, grid.window_ns, (lasts_ns // grid.window_ns + 1) * grid.window_ns, most)


def _by_epoch(trace: Trace, first_ns: int, last_ns: int, grid: Grid) -> Iterator[tuple[int, NDArray[np.uint32], _Some]]:
    """Successive touches of one epoch each, with its number and their streams."""
    done, latest = 0, first_ns
    ends_ns = min(first_ns + -(-grid.lasts_ns * grid.speed_percent // HUNDRED), LAST)  # from that stamp on
    for chunk in trace.chunks():
        assert chunk.time_ns is not None
        before = np.concatenate([np.array([latest], U64), chunk.time_ns[:-1]])
        back = np.flatnonzero(chunk.time_ns < before)
        if len(back):
            at = int(back[0])
            raise CorpusError(
                f"trace {trace.path}: touch {done + at} (from 0) goes back in time, by {before[at] - chunk.time_ns[at]} ns; "
                "sort its source by time and import it again"
            )
        done, latest = done + len(chunk.pages), int(chunk.time_ns[-1])
        if latest > last_ns:
            raise CorpusError(f"trace {trace.path}: damaged: a time after what it calls its last; import it again")
        due_ns = due_after(chunk.time_ns[: np.searchsorted(chunk.time_ns, U64(ends_ns))], first_ns, grid.speed_percent)
        epochs = due_ns // grid.epoch_ns
        ends = np.flatnonzero(np.diff(epochs, append=-1)) + 1
        for begin, end in zip([0, *ends.tolist()], ends.tolist(), strict=False):
            part = slice(begin, end)
            yield int(epochs[begin]), chunk.stream[part], _Some(chunk.pages[part], chunk.ops[part], due_ns[part])
        if len(due_ns) < len(chunk.pages):
            return


class _Stream:
    """One stream, while its trace is read epoch by epoch."""

    def __init__(self, grid: Grid, windows: int) -> None:
        self._window_ns = grid.window_ns
        self._table = Renumber() if grid.each else None
        self._raw = np.zeros(windows, np.int64)
        self._epoch = 0
        self._open: list[_Some] = []  # of the epoch that is read
        self._held = 0
        self._done: list[_Some] = []

    def add(self, epoch: int, some: _Some) -> None:
        if epoch != self._epoch:
            self._end_epoch()
            self._epoch = epoch
        if self._table is not None:
            some = some._replace(pages=self._table.number(some.pages.astype(U64)))
        self._raw += np.bincount(some.due_ns // self._window_ns, minlength=len(self._raw))
        self._open.append(some)
        self._held += len(some.pages)
        if self._held > RAW:
            self._open = [once_a_window(_joined(self._open), self._window_ns)]
            self._held = 0

    def _end_epoch(self) -> None:
        if self._open:
            self._done.append(once(once_a_window(_joined(self._open), self._window_ns), self._epoch))
        self._open, self._held = [], 0

    def close(self) -> Uses:
        self._end_epoch()
        found = _joined(self._done)
        begins = np.searchsorted(found.due_ns, np.arange(len(self._raw) + 1) * self._window_ns)
        return Uses(found.pages, found.ops, found.due_ns, begins.astype(np.int64), self._raw)


class _Some(NamedTuple):
    """Touches in order of time."""

    pages: NDArray[np.uint32]
    ops: NDArray[np.uint8]
    due_ns: NDArray[np.int64]


def _joined(parts: list[_Some]) -> _Some:
    if not parts:
        return _Some(np.zeros(0, np.uint32), np.zeros(0, np.uint8), np.zeros(0, np.int64))
    return _Some(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def once_a_window(some: _Some, window_ns: int) -> _Some:
    """The first use of each page in each window; it writes if one of them there does."""
    order = np.lexsort((some.due_ns // window_ns, some.pages))  # stable: the first comes first
    pages, windows = some.pages[order], some.due_ns[order] // window_ns
    begins = np.flatnonzero((np.diff(pages, prepend=pages[0]) != 0) | (np.diff(windows, prepend=-1) != 0))
    writes = np.maximum.reduceat(some.ops[order], begins)
    return _taken(some, order[begins], writes)


def once(some: _Some, epoch: int) -> _Some:
    """One of the uses of each page, drawn; it writes if any of them does."""
    order = np.argsort(some.pages, kind="stable")
    pages = some.pages[order]
    begins = np.flatnonzero(np.concatenate([[True], pages[1:] != pages[:-1]]))
    counts = np.diff(begins, append=len(pages))
    writes = np.maximum.reduceat(some.ops[order], begins)
    drawn = (_mixed(pages[begins], epoch) % counts.astype(U64)).astype(np.int64)
    return _taken(some, order[begins + drawn], writes)


def _taken(some: _Some, places: NDArray[np.int64], ops: NDArray[np.uint8]) -> _Some:
    back = np.argsort(places)
    places = places[back]
    return _Some(some.pages[places], ops[back], some.due_ns[places])


def _mixed(pages: NDArray[np.uint32], epoch: int) -> NDArray[np.uint64]:
    """A hash of page and epoch."""
    mixed = pages.astype(U64) * U64(0x9E3779B97F4A7C15) + U64(epoch * 0xC2B2AE35 % (1 << 64))
    mixed ^= mixed >> U64(30)
    mixed *= U64(0xBF58476D1CE4E5B9)  # of the SplitMix64 finalizer (Steele, Lea, Flood 2014)
    return mixed >> U64(32)
