"""What a workload is: a seeded stream of page accesses, made as it is consumed.

A stream is an iterator of `Batch`: parallel arrays of page numbers and operations, at most BATCH accesses long, so that
Python is entered once per 64 Ki accesses. Page numbers are virtual page numbers of one VM, counted from 0.

Determinism. Equal (seed, VM, phase) give equal streams on every machine and with every NumPy: bits come from Philox
4x64-10 (Salmon et al., SC'11), keyed directly and read raw, and every table made from them is computed in integers.
NumPy promises to keep the raw bits of a bit generator, but not what its distributions make of them.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

BATCH = 1 << 16

READ, WRITE, FILL, DISCARD = range(4)

Pages = NDArray[np.uint32]
Pick = Callable[[int, int], Pages]

Percent = Annotated[int, Field(ge=0, le=100)]
Share = Annotated[int, Field(ge=1, le=100)]


class Batch(NamedTuple):
    """Accesses in order. `sources` (corpus page per access) matters where the operation is FILL, and only there."""

    pages: Pages
    ops: NDArray[np.uint8]
    sources: Pages | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """The memory a workload works in: pages 0 to pages - 1, of which the first `read_only` are never written.

    The read-only part is program text and files: a fleet that boots one operating system image has it in common.
    """

    pages: int
    read_only: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.pages <= 1 << 31:
            raise ValueError(f"a workload needs between 1 and 2147483648 pages to work in, not {self.pages}")
        if not 0 <= self.read_only <= self.pages:
            raise ValueError(f"read-only pages must lie between 0 and all {self.pages}, not {self.read_only}")


class Bits:
    """Raw random bits for one purpose, named by what they are for: `Bits(seed, vm, phase)`.

    Two different names give independent streams. `child` names a stream below this one.
    """

    __slots__ = ("_bits", "_name")

    def __init__(self, *name: int | str) -> None:
        self._name = name
        digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"), counter=0)

    def child(self, *name: int | str) -> "Bits":
        return Bits(*self._name, *name)

    def u64(self, count: int) -> NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def u32(self, count: int) -> NDArray[np.uint32]:
        return self.u64((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count].astype(np.uint32, copy=False)

    def u16(self, count: int) -> NDArray[np.uint16]:
        return self.u64((count + 3) // 4).astype("<u8", copy=False).view("<u2")[:count].astype(np.uint16, copy=False)

    def below(self, bound: int, count: int) -> Pages:
        """Numbers in [0, bound), by multiply and shift: each is off its fair share by less than bound / 2**32."""
        wide = self.u32(count).astype(np.uint64)
        wide *= np.uint64(bound)
        wide >>= np.uint64(32)
        return wide.astype(np.uint32)

    def one_below(self, bound: int) -> int:
        return int(self.below(bound, 1)[0])

    def permutation(self, count: int) -> Pages:
        """0 to count - 1 in random order: the order of random 64-bit keys, equal keys as they stand."""
        return np.argsort(self.u64(count), kind="stable").astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Stream:
    """Whose stream this is. What has to stay put from warm-up to measured phase (which pages are hot) asks `layout`."""

    seed: int
    vm: int
    phase: str

    def bits(self, purpose: str) -> Bits:
        return Bits("stream", self.seed, self.vm, self.phase, purpose)

    def layout(self, purpose: str) -> Bits:
        return Bits("layout", self.seed, self.vm, purpose)


class Workload(BaseModel):
    """Parameters of one workload, validated; `batches` makes its stream. Subclasses carry their name in `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: ClassVar[str]

    @abstractmethod
    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        """The accesses of one VM in one phase."""
        raise NotImplementedError


class Accesses(Workload):
    """A workload that only differs in which page comes next; reads and writes are drawn apart, access by access."""

    accesses: int = Field(gt=0, le=1 << 40, description="accesses per VM")
    write_percent: Percent = Field(default=0, description="share of accesses that write; read-only pages stay reads")

    @abstractmethod
    def pick(self, space: Space, stream: Stream) -> Pick:
        """A function (accesses done, count) -> the next `count` pages, called in order."""
        raise NotImplementedError

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        pick = self.pick(space, stream)
        bits = stream.bits("operation")
        for done in range(0, self.accesses, BATCH):
            pages = pick(done, min(BATCH, self.accesses - done))
            yield Batch(pages, operations(pages, bits, self.write_percent, space.read_only))


def operations(pages: Pages, bits: Bits, write_percent: int, read_only: int) -> NDArray[np.uint8]:
    """READ or WRITE for each page: a write with the given chance (to 1 in 65536), never below `read_only`."""
    threshold = (write_percent << 16) // 100
    if threshold == 0:
        return np.zeros(len(pages), dtype=np.uint8)
    writes = bits.u16(len(pages)) < threshold if threshold < 1 << 16 else np.ones(len(pages), dtype=np.bool_)
    if read_only:
        writes &= pages >= read_only
    return writes.view(np.uint8)


def share_of(pages: int, percent: int) -> int:
    """`percent` of so many pages, rounded down, but at least one page."""
    return max(1, pages * percent // 100)
