"""Memory benchmarks with names of their own, as the pages that they touch.

A kernel that goes through a page word by word is one touch of it: what follows within the page costs the translation
nothing more. All work behind the read-only memory, since they write.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field

from memvirt.errors import ConfigError, CorpusError
from memvirt.inputs import masim
from memvirt.inputs.bits import Pages
from memvirt.inputs.files import file_sha256
from memvirt.untrusted import file_bytes

from .base import BATCH, READ, WRITE, Accesses, Batch, Percent, Pick, Share, Space, Stream, Workload, share_of

A, B, C = range(3)
# STREAM's kernels (McCalpin): the arrays in the order in which an element's are touched, the last one written.
KERNELS = {"copy": (A, C), "scale": (C, B), "add": (A, B, C), "triad": (B, C, A)}


class Hotspot(Accesses):
    """A hot set that takes most accesses, uniform within and without: YCSB's hotspot distribution."""

    name = "hotspot"
    hot_percent: Share = Field(default=20, description="share of the pages that is hot")
    hot_access_percent: Percent = Field(default=80, description="share of the accesses that go there")

    def pick(self, space: Space, stream: Stream) -> Pick:
        order = stream.layout("hotspot").permutation(space.pages)
        hot = share_of(space.pages, self.hot_percent)
        which, where = stream.bits("hotspot"), stream.bits("page")
        threshold = (self.hot_access_percent << 16) // 100

        def pick(done: int, count: int) -> Pages:
            in_hot = which.u16(count).astype(np.uint32) < threshold
            cold = np.uint32(hot) + where.below(max(1, space.pages - hot), count)
            place = np.where(in_hot | np.bool_(hot == space.pages), where.below(hot, count), cold)
            pages: Pages = order[place]
            return pages

        return pick


class PointerChase(Accesses):
    """Dependent loads along cycles of all pages in random order: no page comes again before all others of its cycle.

    With several chains their loads take turns, as independent pointers that are followed side by side.
    """

    name = "pointer-chase"
    chains: int = Field(default=1, ge=1, le=1024, description="cycles that are followed side by side")

    def pick(self, space: Space, stream: Stream) -> Pick:
        ring = stream.layout("pointer-chase").permutation(space.pages)
        chains = min(self.chains, space.pages)
        length = space.pages // chains  # the pages that are left over are in no chain

        def pick(done: int, count: int) -> Pages:
            number = np.arange(done, done + count, dtype=np.int64)
            pages: Pages = ring[number % chains * length + number // chains % length]
            return pages

        return pick


class StreamKernels(Workload):
    """STREAM: three arrays, each a third of the memory, copied, scaled, added and combined, from end to end."""

    name = "stream"
    accesses: int = Field(gt=0, le=1 << 40, description="pages touched per VM")
    kernel: Literal["all", "copy", "scale", "add", "triad"] = Field(
        default="all", description="one of STREAM's kernels, or all in turn"
    )

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        pages = (space.pages - space.read_only) // 3
        if pages == 0:
            raise ConfigError("stream needs at least three pages that may be written, one for each array")
        chosen = list(KERNELS.values()) if self.kernel == "all" else [KERNELS[self.kernel]]
        # A lap of all chosen kernels as one sequence: where each kernel begins, then page by page its arrays.
        widths = np.array([len(kernel) for kernel in chosen], dtype=np.int64)
        begins = np.concatenate(([0], np.cumsum(widths * pages)))
        arrays = np.array([[*kernel, 0][:3] for kernel in chosen], dtype=np.int64)
        for done in range(0, self.accesses, BATCH):
            place = np.arange(done, min(done + BATCH, self.accesses), dtype=np.int64) % begins[-1]
            kernel = np.searchsorted(begins, place, side="right") - 1
            element, turn = np.divmod(place - begins[kernel], widths[kernel])
            touched = space.read_only + arrays[kernel, turn] * pages + element
            yield Batch(touched.astype(np.uint32), np.where(turn == widths[kernel] - 1, WRITE, READ).astype(np.uint8))


class Gups(Workload):
    """GUPS: updates of words anywhere in memory, each a read and a write of a page drawn uniformly."""

    name = "gups"
    accesses: int = Field(gt=0, le=1 << 40, description="pages touched per VM, two for each update")

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        writable = space.pages - space.read_only
        if writable == 0:
            raise ConfigError("gups needs pages that may be written; all of them are read-only")
        bits = stream.bits("gups")
        for done in range(0, self.accesses, BATCH):
            count = min(BATCH, self.accesses - done)
            pages = np.repeat(bits.below(writable, (count + 1) // 2) + np.uint32(space.read_only), 2)[:count]
            yield Batch(pages, (np.arange(count) & 1).astype(np.uint8))


class ForkAndModify(Workload):
    """A fork that walks through what it inherited and modifies a share of it, in runs: a snapshot that is worked on.

    It goes through its writable memory from end to end. Every page is read; those of the runs that it modifies are
    written, too. Which runs these are differs from VM to VM, and stays from lap to lap: so exactly `dirty_percent` of the
    runs get private in the first lap.
    """

    name = "fork-and-modify"
    accesses: int = Field(gt=0, le=1 << 40, description="pages touched per VM")
    dirty_percent: Share = Field(default=25, description="share of the runs that the fork modifies")
    run_pages: int = Field(default=16, ge=1, le=1 << 20, description="pages of a run")

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        writable = space.pages - space.read_only
        if writable == 0:
            raise ConfigError("a fork that modifies needs pages that may be written; all of them are read-only")
        runs = -(-writable // self.run_pages)
        dirty = np.zeros(runs, dtype=np.bool_)
        dirty[stream.layout("fork-and-modify").permutation(runs)[: share_of(runs, self.dirty_percent)]] = True
        page = np.arange(writable, dtype=np.int64)
        written = dirty[page // self.run_pages]
        begins = np.cumsum(1 + written) - 1 - written  # of each page's touches in a lap
        lap = writable + int(np.count_nonzero(written))
        for done in range(0, self.accesses, BATCH):
            place = np.arange(done, min(done + BATCH, self.accesses), dtype=np.int64) % lap
            at = np.searchsorted(begins, place, side="right") - 1
            yield Batch((space.read_only + at).astype(np.uint32), (place - begins[at]).astype(np.uint8))


class MasimPhases(Workload):
    """The phases of a masim configuration: see memvirt.inputs.masim."""

    name = "masim"
    file: Path = Field(description="the configuration")
    per_ms: int = Field(default=1000, ge=1, le=10**6, description="accesses in a millisecond of a phase")

    def length(self) -> int:
        return self._config().ms * self.per_ms

    def scaled(self, percent: int) -> Self:
        return self.model_copy(update={"per_ms": max(1, min(10**6, self.per_ms * percent // 100))})

    def file_hashes(self) -> dict[str, str]:
        return {"file": file_sha256(self.file)}

    def _config(self) -> masim.Config:
        try:
            return masim.parse(file_bytes(self.file))
        except OSError as error:
            raise CorpusError(f"masim configuration {self.file}: {error.strerror or error}") from error
        except CorpusError as error:
            raise CorpusError(f"masim configuration {self.file}: {error}") from error

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        config, room = self._config(), space.pages - space.read_only
        if config.pages > room:
            raise CorpusError(
                f"masim configuration {self.file}: its regions have {config.pages} pages, the VM has {room} that may be "
                "written; give its scenario a larger fleet.memory"
            )
        return self._batches(config, space, stream)

    def _batches(self, config: masim.Config, space: Space, stream: Stream) -> Iterator[Batch]:
        for accesses in config.accesses(self.per_ms, stream.bits("masim")):
            both = accesses.ops == masim.BOTH
            rows = np.repeat(np.arange(len(both)), 1 + both)
            second = np.concatenate(([False], rows[1:] == rows[:-1]))
            ops = np.where(both[rows], second, accesses.ops[rows] == masim.WRITE).astype(np.uint8)
            pages = accesses.pages[rows] + np.uint32(space.read_only)
            for start in range(0, len(pages), BATCH):
                yield Batch(pages[start : start + BATCH], ops[start : start + BATCH])
