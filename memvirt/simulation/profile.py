"""What a trace is like: how much it touches, who shares it, when it comes back to a page, and when it changes.

A Profiler is fed the touches in order, part by part, and keeps the page numbers (four bytes a touch) and counts.

Working set (Denning, CACM 11(5), 1968): the different pages touched within a window. The trace is cut into at most
INTERVALS windows of equally many touches, and each has its working set, and how much of it was never touched before.

Reuse distances: see memvirt.simulation.reuse; here counted in octaves.

Phases (after Sherwood, Sair and Calder, ISCA 2003). A window's signature is the share of its touches in each region of
the footprint: as pages are numbered by first appearance, a region holds what came up together. Two signatures differ
by half the sum of the differences of their shares, 0 for the same and 1 for nothing in common. Each window joins the
phase whose mean signature is nearest, if that is within PHASE_DISTANCE, else it begins a phase; so a phase that comes
back is known again. A window like no other, as in a scan, belongs to no phase: PASSING. Regions are so few that chance
alone makes two windows of one phase differ by less than 0.06: for m touches in R regions that is about sqrt(R / (pi m)),
and R is at most m / 100.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memvirt.errors import ConfigError
from memvirt.simulation.curve import Curve
from memvirt.simulation.reuse import counts_of
from memvirt.simulation.trace import Pages

INTERVALS = 100
FEWEST_TOUCHES = 1000  # of an interval, unless there is one only
REGIONS = 1024
TOUCHES_PER_REGION = 100
PASSING = "-"
PHASE_DISTANCE = 0.25  # beyond it two windows are of different phases; four times what chance does
MOST_PAIRS = 1 << 27  # of page and stream, 1 GiB: the sharing between streams is counted up to here


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A window of the trace."""

    start: int  # touches before it
    touches: int
    writes: int
    pages: int  # its working set: different pages touched in it
    new_pages: int  # of them, those never touched before
    start_ns: int | None  # time of its first touch; None where the trace has no times


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPart:
    """What one stream does."""

    name: str
    touches: int
    writes: int
    pages: int
    own_pages: int  # of them, those that no other stream touches


@dataclass(frozen=True, slots=True, kw_only=True)
class Octave:
    """Touches whose reuse distance lies within low .. high pages."""

    low: int
    high: int
    touches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Successive intervals of one phase, or of none (PASSING); the same name again is the same phase."""

    name: str
    start: int  # touches before it
    touches: int
    pages: int  # mean working set of its intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a trace is like. Counts are of touches, sizes in pages."""

    touches: int
    reads: int
    writes: int
    pages: int  # footprint: different pages touched
    span_ns: int | None  # from the first touch to the last; None where the trace has no times
    streams: tuple[StreamPart, ...]
    pages_by_streams: tuple[int, ...]  # pages that exactly 1, 2, … streams touch
    intervals: tuple[Interval, ...]
    first_touches: int
    reuse: tuple[Octave, ...]
    phases: tuple[Phase, ...]
    curves: tuple[Curve, ...] = ()


class Profiler:
    """Takes the touches of a trace in order."""

    def __init__(self, touches: int, streams: Sequence[str] = ("",)) -> None:
        """touches: how many there will be; streams: the names of the streams, by number."""
        self.pages: Pages = np.empty(touches, np.uint32)
        self._names = list(streams)
        self._taken = 0
        count = max(1, min(INTERVALS, touches // FEWEST_TOUCHES))
        self._starts = [touches * i // count for i in range(count)] if touches else []
        self._writes = np.zeros(len(self._starts), np.int64)
        self._times: dict[int, int] = {}
        self._last_ns: int | None = None
        self._stream_touches = np.zeros(len(self._names), np.int64)
        self._stream_writes = np.zeros(len(self._names), np.int64)
        self._pairs: npt.NDArray[np.uint64] = np.empty(0, np.uint64)

    def add(
        self,
        pages: Pages,
        ops: npt.NDArray[np.uint8] | None = None,
        stream: npt.NDArray[np.uint32] | None = None,
        time_ns: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """The next touches; ops: 1 for a write. Raises ConfigError when there are more than was said."""
        first, count = self._taken, len(pages)
        if first + count > len(self.pages):
            raise ConfigError(f"the trace has more than the {len(self.pages)} touches it was said to have")
        self.pages[first : first + count] = pages
        self._taken += count
        wrote = np.zeros(count, bool) if ops is None else ops != 0
        interval = np.searchsorted(self._starts, np.arange(first, first + count), side="right") - 1
        self._writes += np.bincount(interval[wrote], minlength=len(self._starts))
        if time_ns is not None and count:
            begun = [i for i, start in enumerate(self._starts) if first <= start < first + count]
            self._times.update((i, int(time_ns[self._starts[i] - first])) for i in begun)
            self._last_ns = int(time_ns[-1])
        who = np.zeros(count, np.uint32) if stream is None else stream
        self._stream_touches += np.bincount(who, minlength=len(self._names))
        self._stream_writes += np.bincount(who[wrote], minlength=len(self._names))
        if len(self._names) > 1:
            pairs = np.unique(pages.astype(np.uint64) * np.uint64(len(self._names)) + who)
            self._pairs = np.union1d(self._pairs, pairs)
            if len(self._pairs) > MOST_PAIRS:
                raise ConfigError(
                    f"more than {MOST_PAIRS} pairs of a page and a stream that touches it, too many to count; "
                    "import fewer streams"
                )

    def profile(self, curves: Iterable[Curve] = ()) -> Profile:
        """All that was found. Raises ConfigError when touches are missing."""
        if self._taken != len(self.pages):
            raise ConfigError(f"the trace has {self._taken} touches, not the {len(self.pages)} it was said to have")
        ids = int(self.pages.max()) + 1 if self.pages.size else 1
        counts = counts_of(self.pages, ids)
        intervals = self._intervals(ids)
        writes, begin = int(self._stream_writes.sum()), self._times.get(0)
        streams, shared = self._streams(int(counts[0]))
        return Profile(
            touches=self._taken,
            reads=self._taken - writes,
            writes=writes,
            pages=int(counts[0]),
            span_ns=None if begin is None or self._last_ns is None else self._last_ns - begin,
            streams=streams,
            pages_by_streams=shared,
            intervals=intervals,
            first_touches=int(counts[0]),
            reuse=octaves(counts),
            phases=self._phases(intervals, ids),
            curves=tuple(curves),
        )

    def _ends(self) -> list[int]:
        return [*self._starts[1:], self._taken] if self._starts else []

    def _intervals(self, ids: int) -> tuple[Interval, ...]:
        seen, found = np.zeros(ids, bool), []
        for i, (start, end) in enumerate(zip(self._starts, self._ends(), strict=True)):
            here = np.unique(self.pages[start:end])
            new = int(np.count_nonzero(~seen[here]))
            seen[here] = True
            found.append(
                Interval(
                    start=start,
                    touches=end - start,
                    writes=int(self._writes[i]),
                    pages=len(here),
                    new_pages=new,
                    start_ns=self._times.get(i),
                )
            )
        return tuple(found)

    def _streams(self, footprint: int) -> tuple[tuple[StreamPart, ...], tuple[int, ...]]:
        """Each stream, and the pages that exactly 1, 2, … of them touch."""
        n = len(self._names)
        shared: tuple[int, ...] = (footprint,)
        if n == 1:
            pages = own = np.array([footprint])
        else:
            page, who = self._pairs // np.uint64(n), (self._pairs % np.uint64(n)).astype(np.int64)
            _, at, users = np.unique(page, return_inverse=True, return_counts=True)
            pages = np.bincount(who, minlength=n)
            own = np.bincount(who[users[at] == 1], minlength=n)
            shared = tuple(int(count) for count in np.bincount(users)[1:])
        parts = [
            StreamPart(
                name=name,
                touches=int(self._stream_touches[i]),
                writes=int(self._stream_writes[i]),
                pages=int(pages[i]),
                own_pages=int(own[i]),
            )
            for i, name in enumerate(self._names)
        ]
        return tuple(parts), shared

    def _phases(self, intervals: tuple[Interval, ...], ids: int) -> tuple[Phase, ...]:
        if not intervals:
            return ()
        regions = max(1, min(REGIONS, ids, min(each.touches for each in intervals) // TOUCHES_PER_REGION))
        signatures = []
        for each in intervals:
            pages = self.pages[each.start : each.start + each.touches].astype(np.uint64)
            counts = np.bincount((pages * np.uint64(regions) // np.uint64(ids)).astype(np.int64), minlength=regions)
            signatures.append(counts / each.touches)
        names = phase_names(signatures)
        found: list[Phase] = []
        start = 0
        for i in range(1, len(names) + 1):
            if i == len(names) or names[i] != names[start]:
                own = intervals[start:i]
                found.append(
                    Phase(
                        name=names[start],
                        start=own[0].start,
                        touches=sum(each.touches for each in own),
                        pages=round(sum(each.pages for each in own) / len(own)),
                    )
                )
                start = i
        return tuple(found)


def phase_names(signatures: Sequence[npt.NDArray[np.float64]]) -> list[str]:
    """The phase of each window: A, B, …, Z, AA, … by first appearance; PASSING for one that is like no other."""
    means: list[npt.NDArray[np.float64]] = []
    members: list[int] = []
    labels: list[int] = []
    for signature in signatures:
        apart = [float(np.abs(signature - mean).sum()) / 2 for mean in means]
        label = int(np.argmin(apart)) if apart else 0
        if not apart or apart[label] > PHASE_DISTANCE:
            label = len(means)
            means.append(signature.copy())
            members.append(0)
        members[label] += 1
        means[label] += (signature - means[label]) / members[label]
        labels.append(label)
    alone = len(labels) > 1
    lasting = [label for label in range(len(means)) if members[label] > 1 or not alone]
    letters = {label: _letters(number) for number, label in enumerate(lasting)}
    return [letters.get(label, PASSING) for label in labels]


def _letters(number: int) -> str:
    """0 is A, 25 Z, 26 AA."""
    text = ""
    while number >= 0:
        text = chr(ord("A") + number % 26) + text
        number = number // 26 - 1
    return text


def octaves(counts: npt.NDArray[np.uint64]) -> tuple[Octave, ...]:
    """Distance counts (see distance_counts) summed over 1, 2 .. 3, 4 .. 7 and so on."""
    found = []
    low = 1
    while low < len(counts):
        found.append(Octave(low=low, high=2 * low - 1, touches=int(counts[low : 2 * low].sum())))
        low *= 2
    return tuple(found)


def curve_sizes(footprint: int) -> tuple[int, ...]:
    """Sizes to draw a curve at: a 64th of the footprint and its doubles, three quarters of it, all of it."""
    sizes = [footprint * part // 64 for part in (1, 2, 4, 8, 16, 32, 48, 64)]
    return tuple(sorted({max(1, size) for size in sizes}))
