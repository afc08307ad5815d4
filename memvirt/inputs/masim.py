"""The configurations of masim, a simulator of memory accesses: which pages they touch, in which order.

A configuration is paragraphs. The first names regions: name, bytes[, file]. Every other one is a phase: its name, its
length in ms, then a line for each pattern: region, random, stride in bytes, weight[, ro | wo | rw]. Lines that begin with #
are comments. Source: masim's README.

masim makes as many accesses as the machine can. Here a phase makes `per_ms` of them a millisecond. Each belongs to a
pattern by chance, in proportion to its weight. A random pattern touches any page of its region; a sequential one goes on
by its stride and begins anew at the end. A pattern that does not say how writes, as in masim; "rw" reads, then writes.
Regions lie one behind the other, each from a page on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError
from memvirt.units import PAGE_SIZE

from .bits import Bits, Pages

MOST_TEXT = 1 << 20
MOST_BYTES = 1 << 43  # of all regions: 2^31 pages
MOST_MS = 1 << 40
MOST_WEIGHT = 10_000
READ, WRITE, BOTH = range(3)
MODES = {"ro": READ, "wo": WRITE, "rw": BOTH}
DRAWS = 1 << 16  # accesses made at a time
NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Region:
    """A range of memory, from page `first` on."""

    name: str
    bytes: int
    first: int

    @property
    def pages(self) -> int:
        return -(-self.bytes // PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Pattern:
    """How a phase uses one region."""

    region: Region
    random: bool
    stride: int
    weight: int
    mode: int


@dataclass(frozen=True, slots=True)
class Phase:
    """What happens for a number of milliseconds."""

    name: str
    ms: int
    patterns: tuple[Pattern, ...]


class Accesses(NamedTuple):
    """Some accesses in order: page, READ, WRITE or BOTH, and nanoseconds since the beginning."""

    pages: Pages
    ops: NDArray[np.uint8]
    time_ns: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration."""

    regions: tuple[Region, ...]
    phases: tuple[Phase, ...]

    @property
    def pages(self) -> int:
        """Pages of all regions."""
        return sum(region.pages for region in self.regions)

    @property
    def ms(self) -> int:
        """Milliseconds of all phases."""
        return sum(phase.ms for phase in self.phases)

    def accesses(self, per_ms: int, bits: Bits) -> Iterator[Accesses]:
        """All accesses; equal bits give equal ones on every machine."""
        begin = 0
        for number, phase in enumerate(self.phases):
            yield from _phase(phase, begin, per_ms, bits.child(number))
            begin += phase.ms * NS_PER_MS


def _phase(phase: Phase, begin_ns: int, per_ms: int, bits: Bits) -> Iterator[Accesses]:
    total = sum(pattern.weight for pattern in phase.patterns)
    bounds = np.cumsum([pattern.weight for pattern in phase.patterns])[:-1]
    which, where = bits.child("pattern"), bits.child("page")
    offsets = [0] * len(phase.patterns)
    for done in range(0, phase.ms * per_ms, DRAWS):
        count = min(DRAWS, phase.ms * per_ms - done)
        chosen = np.searchsorted(bounds, which.below(total, count), side="right")
        pages, ops = np.empty(count, dtype=np.uint32), np.empty(count, dtype=np.uint8)
        for index, pattern in enumerate(phase.patterns):
            own = np.flatnonzero(chosen == index)
            region = pattern.region
            if pattern.random:
                pages[own] = where.below(region.pages, len(own))
            else:
                stride = pattern.stride % region.bytes
                steps = (offsets[index] + stride * np.arange(len(own), dtype=np.int64)) % region.bytes
                pages[own] = steps // PAGE_SIZE
                offsets[index] = (offsets[index] + stride * len(own)) % region.bytes
            pages[own] += np.uint32(region.first)
            ops[own] = pattern.mode
        number = np.arange(done, done + count, dtype=np.uint64)
        whole, rest = number // np.uint64(per_ms), number % np.uint64(per_ms)
        time = np.uint64(begin_ns) + whole * np.uint64(NS_PER_MS) + rest * np.uint64(NS_PER_MS) // np.uint64(per_ms)
        yield Accesses(pages, ops, time)


def parse(data: bytes) -> Config:
    """The configuration in a text; CorpusError names the line (from 1) that cannot be one."""
    if len(data) > MOST_TEXT:
        raise CorpusError(f"a masim configuration has at most {MOST_TEXT} bytes")
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CorpusError(f"byte {error.start} is no UTF-8 text") from error
    paragraphs: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        if line.strip():
            paragraphs[-1].append((number, line.strip()))
        elif paragraphs[-1]:
            paragraphs.append([])
    paragraphs = [paragraph for paragraph in paragraphs if paragraph]
    if len(paragraphs) < 2:
        raise CorpusError("a masim configuration has a paragraph of regions and one for each phase; there are not both")
    regions = _regions(paragraphs[0])
    phases = tuple(_read_phase(paragraph, {region.name: region for region in regions}) for paragraph in paragraphs[1:])
    if sum(phase.ms for phase in phases) > MOST_MS:
        raise CorpusError(f"the phases last longer than {MOST_MS} ms")
    return Config(regions, phases)


def _regions(lines: list[tuple[int, str]]) -> tuple[Region, ...]:
    regions: list[Region] = []
    for number, line in lines:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) not in (2, 3) or not fields[0]:
            raise CorpusError(f"line {number}: a region is name, bytes[, file], not {line[:60]!r}")
        if fields[0] in [region.name for region in regions]:
            raise CorpusError(f"line {number}: a region is called {fields[0]!r} already")
        size = _count(number, fields[1], "bytes of a region", 1, MOST_BYTES)
        first = regions[-1].first + regions[-1].pages if regions else 0
        regions.append(Region(fields[0], size, first))
    if sum(region.pages for region in regions) * PAGE_SIZE > MOST_BYTES:
        raise CorpusError(f"the regions are larger than {MOST_BYTES} bytes")
    return tuple(regions)


def _read_phase(lines: list[tuple[int, str]], regions: dict[str, Region]) -> Phase:
    if len(lines) < 3:
        raise CorpusError(f"line {lines[0][0]}: a phase is a name, a length in ms, and at least one pattern")
    (_, name), (number, length), *rest = lines
    ms = _count(number, length, "ms of a phase", 1, MOST_MS)
    return Phase(name, ms, tuple(_pattern(number, line, regions) for number, line in rest))


def _pattern(number: int, line: str, regions: dict[str, Region]) -> Pattern:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) not in (4, 5):
        raise CorpusError(f"line {number}: a pattern is region, random, stride, weight[, ro|wo|rw], not {line[:60]!r}")
    if fields[0] not in regions:
        raise CorpusError(f"line {number}: there is no region {fields[0]!r} (regions: {', '.join(regions)})")
    if len(fields) == 5 and fields[4] not in MODES:
        raise CorpusError(f"line {number}: the mode is ro, wo or rw, not {fields[4][:20]!r}")
    random = _count(number, fields[1], "randomness", 0, 1) == 1
    stride = _count(number, fields[2], "stride", 0, MOST_BYTES)
    weight = _count(number, fields[3], "weight", 1, MOST_WEIGHT)
    return Pattern(regions[fields[0]], random, stride, weight, MODES[fields[4]] if len(fields) == 5 else WRITE)


def _count(number: int, text: str, what: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or not least <= int(text) <= most:
        raise CorpusError(f"line {number}: {what}: a whole number from {least} to {most} is needed, not {text[:30]!r}")
    return int(text)
