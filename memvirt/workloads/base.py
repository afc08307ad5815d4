"""What a workload is: a seeded stream of page accesses, made as it is consumed.

A stream is an iterator of `Batch`: parallel arrays of page numbers and operations, at most BATCH accesses long, so that
Python is entered once per 64 Ki accesses. Page numbers are virtual page numbers of one VM, counted from 0.

Equal (seed, VM, phase) give equal streams on every machine and with every NumPy: see memvirt.inputs.bits.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from memvirt.inputs.bits import Bits, Pages

BATCH = 1 << 16

READ, WRITE, FILL, DISCARD = range(4)

Pick = Callable[[int, int], Pages]

Percent = Annotated[int, Field(ge=0, le=100)]
Share = Annotated[int, Field(ge=1, le=100)]


class Batch(NamedTuple):
    """Accesses in order. `sources` (corpus page per access) matters where the operation is FILL, and only there. After each
    access the VM computes for `work_ns`. `due_ns`: one time a part, for parts of equal length: when it begins, in ns
    from the beginning of the phase, ascending; None: as soon as what was before is done."""

    pages: Pages
    ops: NDArray[np.uint8]
    sources: Pages | None = None
    work_ns: int = 0
    due_ns: NDArray[np.int64] | None = None


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

    @property
    def timed(self) -> bool:
        """Whether its accesses have due times of their own."""
        return False

    def length(self) -> int:
        """About how many accesses a VM makes: what durations are predicted from."""
        return int(getattr(self, "accesses", 0))

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of the content of every file it reads, by the parameter that names the file."""
        return {}

    def scaled(self, percent: int) -> Self:
        """The same workload, `percent` as long: accesses, and periods counted in them, at least 1 of each."""
        counts = {key: getattr(self, key) for key in ("accesses", "period") if key in type(self).model_fields}
        return self.model_copy(update={key: max(1, count * percent // 100) for key, count in counts.items()})

    @model_serializer(mode="wrap")
    def _with_name(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"workload": self.name, **dump(self)}


class Accesses(Workload):
    """A workload that only differs in which page comes next; reads and writes are drawn apart, access by access."""

    accesses: int = Field(gt=0, le=1 << 40, description="accesses per VM")
    write_percent: Percent = Field(default=0, description="share of accesses that write; read-only pages stay reads")

    @abstractmethod
    def pick(self, space: Space, stream: Stream) -> Pick:
        """A function (accesses done, count) -> the next `count` pages, called in order."""

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
    """`percent` of `pages`, rounded down, but at least one page."""
    return max(1, pages * percent // 100)
