"""A VM of the engine beside a process of the kernel: the same memory, the same accesses, and what each side counts.

Faults of the engine are what its handlers served of a kind that the kernel would count; a mere refill of the translation
cache is none. Content is compared at the end of every story: a count that is right over bytes that are wrong is not.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memvirt import host as engine
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.tenant import Tenant
from memvirt.errors import ConfigError
from memvirt.inputs.corpus import Corpus
from memvirt.inputs.synthetic import synthetic
from memvirt.units import PAGE_SIZE
from memvirt.workloads.base import DISCARD, FILL, WRITE

CORPUS_PAGES = 2048
FREE = 8  # MADV_FREE, Linux 4.5
PAGEOUT = 21  # MADV_PAGEOUT, Linux 5.4
FAULTS = (
    "fault_zero",
    "fault_huge",
    "fault_cow",
    "fault_reuse",
    "fault_cached",
    "fault_same",
    "fault_zpool",
    "fault_swap",
)


@lru_cache(maxsize=2)
def contents(seed: int, pages: int = CORPUS_PAGES) -> Corpus:
    """What memory is filled with: the same on every machine."""
    return synthetic(pages, seed)


class Pair:
    """Both sides of one VM. With `beside` the VM is of that pair's host; else further keyword arguments are its host's. A
    `tenant` that is given holds the corpus already, and outlives the pair."""

    def __init__(
        self,
        pages: int,
        corpus: Corpus | None = None,
        *,
        beside: Pair | None = None,
        tenant: Tenant | None = None,
        frames: int | None = None,
        guest: bool = False,
        huge: bool = False,
        **settings: Any,
    ) -> None:
        self.pages = pages
        if beside is None:
            try:
                self.host = engine.Host(memory=(frames or 2 * pages + 2048) * PAGE_SIZE, corpus=corpus, **settings)
            except ConfigError as error:  # the settings are ours and good: this machine has no memory for it
                raise Missing(str(error)) from error
        else:
            self.host = beside.host
        try:
            self.vm = self.host.create_vm(f"vm-{len(self.host.vms)}", pages * PAGE_SIZE, guest=guest)
            self._borrowed = tenant is not None
            self.tenant = tenant or Tenant(None if corpus is None else np.ascontiguousarray(corpus.pages))
        except BaseException:
            self.host.close()
            raise
        try:
            self.tenant.ask("make", pages, self.vm.tag_base, huge)
        except BaseException:
            self.close()
            raise
        self._twins: dict[str, Any] = {"": self.vm}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None and self._borrowed:
            self.host.close()  # whoever owns the process ends it
        else:
            self.close()

    def close(self) -> None:
        """Both sides end; of a process that was given its memory."""
        if self._borrowed:
            self.tenant.ask("make", 1)
        else:
            self.tenant.close()
        self.host.close()

    def drive(
        self,
        pages: ArrayLike,
        ops: int | NDArray[np.uint8] = WRITE,
        sources: NDArray[np.uint32] | None = None,
        twin: str = "",
    ) -> tuple[int, int]:
        """(faults of the engine, minor faults of the kernel) of the same accesses, by the VM or a fork of it."""
        numbers = np.ascontiguousarray(pages, dtype=np.uint32)
        codes = np.full(len(numbers), ops, np.uint8) if isinstance(ops, int) else ops
        before = self.faults()
        outcome = self._twins[twin].access(numbers, codes, sources)
        if outcome.done != len(numbers):
            raise RuntimeError(f"the engine's host is too small: {outcome.reason} after {outcome.done} accesses")
        minor, _, _ = self._ask(twin, "drive", numbers, codes, sources)
        return self.faults() - before, minor

    def fill(self, sources: NDArray[np.uint32]) -> tuple[int, int]:
        """Fill all pages in order from these pages of the corpus; faults as of `drive`."""
        return self.drive(np.arange(self.pages), FILL, sources)

    def fork(self, name: str) -> None:
        """The VM is cloned, the process forks."""
        clone = self.vm.clone(name)
        self._twins[name] = clone
        self.tenant.ask("fork", name)
        self._ask(name, "tag", clone.tag_base, clone.writes_done)

    def end(self, name: str) -> None:
        """The fork ends on both sides."""
        self._twins.pop(name).destroy()
        self.tenant.ask("end", name)

    def clone_template(self) -> None:
        """The VM is a template from now on, and a clone of it the VM; the process maps its file privately."""
        self.vm.freeze()
        self.vm = self._twins[""] = self.vm.clone("clone")
        self.tenant.ask("map_template")
        self.tenant.ask("tag", self.vm.tag_base, self.vm.writes_done)

    def release(self, count: int, *, punched: bool = False) -> None:
        """Pages 0 to count - 1 are given up: by a balloon; by MADV_DONTNEED, or a hole in the file."""
        self.vm.access(np.arange(count), np.full(count, DISCARD, np.uint8))
        self.vm.balloon(count * PAGE_SIZE)
        if punched:
            self.tenant.ask("punch", 0, count)
        else:
            self.tenant.ask("advise", 0, count, mmap.MADV_DONTNEED)

    def give_up(self, count: int) -> None:
        """Pages 0 to count - 1 are given up lazily."""
        self.vm.discard(np.arange(count), lazy=True)
        try:
            self.tenant.ask("advise", 0, count, FREE)
            self.tenant.ask("advise", 0, 1, FREE)  # a call begins with what the last one put off
        except OSError as error:
            raise Missing(f"MADV_FREE is refused ({error.strerror}): Linux has it since 4.5") from error

    def page_out(self, count: int, gone: int) -> None:
        """The kernel is told that pages 0 to count - 1 are to go; of the engine's VM `gone` pages do."""
        self.host.engine.reclaim_from(self.vm.engine_vm, gone)
        try:
            self.tenant.ask("advise", 0, count, PAGEOUT)
        except OSError as error:
            raise Missing(f"MADV_PAGEOUT is refused ({error.strerror}): Linux has it since 5.4") from error

    def deflate(self) -> None:
        """The balloon gives back what it holds."""
        self.vm.balloon(0)

    def faults(self) -> int:
        """Faults that the engine has served."""
        counters = self.host.counters()
        return sum(counters[name] for name in FAULTS)

    def frames(self) -> int:
        """Frames of the engine's host that hold pages of VMs."""
        return self.host.usage()["guest"]

    def resident(self, twin: str = "") -> tuple[int, int]:
        """Of the process: (pages present, of these the ones that nobody else maps)."""
        present, own = self._ask(twin, "resident")
        return present, own

    def unequal(self, twins: Sequence[str] = ("",)) -> int:
        """Pages that the two sides do not read back alike."""
        every = np.arange(self.pages)
        return sum(
            int((self._twins[twin].read_pages(every) != self._ask(twin, "content")).any(axis=1).sum()) for twin in twins
        )

    def _ask(self, twin: str, call: str, *arguments: Any) -> Any:
        return self.tenant.ask("relay", twin, call, *arguments) if twin else self.tenant.ask(call, *arguments)
