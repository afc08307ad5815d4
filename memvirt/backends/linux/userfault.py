"""memvirt's own policies on real frames: the engine decides, the kernel maps, and no right of root is needed.

Each VM of an engine's host has a window (memvirt.backends.linux.governed), a page of which is exactly as the engine holds
it: absent, protected, or writable, on the frame of the engine's number. A trace is replayed in the window until the kernel
tells of an event. Then the engine is given the accesses up to there and that one, the entries of all VMs are compared with
those before, and what changed is done to real memory, content included; the replay goes on with the same access.

    absent ← backed       the bytes were taken out of the frame: one word, a block of the codec, or a page in a file
    frame ← backed        they are put into a frame again
    frame ← other frame   copied (a copy-on-write break), or found equal byte for byte (a merge)
    frame ← nothing       a frame of zeros

A frame that nobody names any more is a hole in the file of frames. So there are three things that could differ and must not:
an access that is an event for one side alone, a frame held by one side alone, and a byte.

A store can be two faults of the engine. An absent page comes back protected, and is then made writable or copied. Or a page
that is to be copied goes itself, when a frame is looked for, and has to come back first. The entry between the two cannot be
seen from outside, so real memory goes through it, too, until the event.

Within one fault pages may go through a full compressed cache on to swap, and are not seen in it. Of those that are on swap
then, as many are compressed as the engine has, and written decompressed.

The engine must change nothing between two faults, or the kernel would not be told: no background reclaimer (min, low and
high are one mark), and scans are asked for by hand.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from memvirt import host as engine
from memvirt.backends.linux import kernel
from memvirt.backends.linux.governed import (
    STATE_BACKED,
    STATE_PRESENT,
    STATE_WHERE,
    STATE_WRITABLE,
    Watch,
    Window,
    states,
)
from memvirt.backends.linux.kernel import Missing
from memvirt.engine.content.codec import open_codec
from memvirt.environment import swap_folder
from memvirt.errors import ConfigError
from memvirt.inputs.corpus import Corpus
from memvirt.units import PAGE_SIZE
from memvirt.vm import Vm

READ_BACK = 3  # op of a window
SAME, COMPRESSED, SWAPPED = 1, 2, 3  # kinds of backing records
ABSENT_FAULTS = ("fault_zero", "fault_cached", "fault_same", "fault_zpool", "fault_swap")
STORE_FAULTS = ("fault_cow", "fault_reuse")

States = NDArray[np.uint32]
Change = tuple[str, int, int, int, int]  # VM, page, entry before, entry now, kind of record now


def watch() -> Watch:
    """A userfaultfd; Missing where there is none to be had."""
    try:
        return Watch()
    except OSError as error:
        if error.errno == 1:
            why = "a filter of system calls forbids it, as containers have one" if os.geteuid() else "it is forbidden"
        elif error.errno == 38:
            why = "this kernel has none (CONFIG_USERFAULTFD)"
        elif error.errno in (22, 95):
            why = (
                "this kernel is too old for user-mode faults, SIGBUS mode or protection of files in memory (Linux 5.19)"
            )
        else:
            why = str(error)
        raise Missing(f"userfaultfd cannot be had: {why}") from error


class _Store:
    """Contents that are out of memory, by the engine's backing record: on real memory, and in a real file."""

    def __init__(self) -> None:
        self._codec = open_codec("lz4")
        folder = swap_folder()
        try:
            self._file = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Missing(f"{folder} takes no file without a name: {error.strerror}") from error
        self._held: dict[int, int | bytes | tuple[int]] = {}  # one word, a block, or (slot,) of the file
        self._free: list[int] = []
        self._slots = 0
        self.counted: Counter[str] = Counter()

    def take(self, record: int, kind: int, content: bytes) -> None:
        """Keep this content for the record, which may be one that held another before."""
        self._drop(record)
        if kind == SAME:
            if content != content[:8] * (PAGE_SIZE // 8):
                raise AssertionError(f"record {record}: the engine says one word, and the frame holds more")
            self._held[record] = int.from_bytes(content[:8], "little")
        elif kind == COMPRESSED:
            block = self._codec.pack(content)
            if block is None:
                raise AssertionError(f"record {record}: the engine compressed what the codec cannot")
            self._held[record] = block
            self.counted["compressed"] += 1
        else:
            if not self._free:
                self._free.append(self._slots)
                self._slots += 1
            slot = self._free.pop()
            try:
                os.pwrite(self._file, content, slot * PAGE_SIZE)
            except OSError as error:
                raise Missing(f"a page cannot be written to a file in {swap_folder()}: {error.strerror}") from error
            self._held[record] = (slot,)
            self.counted["written"] += 1

    def packed(self, content: bytes) -> bytes | None:
        """The content, compressed and decompressed; None where it does not compress."""
        if (block := self._codec.pack(content)) is not None:
            self.counted["compressed"] += 1
        return block and self._codec.unpack(block)

    def give(self, record: int) -> bytes:
        """The content of a record."""
        held = self._held[record]
        if isinstance(held, int):
            return held.to_bytes(8, "little") * (PAGE_SIZE // 8)
        if isinstance(held, tuple):
            return os.pread(self._file, PAGE_SIZE, held[0] * PAGE_SIZE)
        page = self._codec.unpack(held)
        assert page is not None
        return page

    def keep(self, records: set[int]) -> None:
        """Forget all others."""
        for record in self._held.keys() - records:
            self._drop(record)

    def _drop(self, record: int) -> None:
        held = self._held.pop(record, None)
        if isinstance(held, tuple):
            self._free.append(held[0])

    def close(self) -> None:
        os.close(self._file)


class Governed:
    """A host of the engine, and real memory that follows it. Keyword arguments are the host's."""

    def __init__(self, frames: int, corpus: Corpus, **settings: Any) -> None:
        marks = {"min": 8, "low": 8, "high": 8}
        with ExitStack() as opened:
            self._watch = watch()
            opened.callback(self._watch.close)
            self._file = kernel.memory_file("memvirt-frames")
            opened.callback(os.close, self._file)
            os.ftruncate(self._file, frames * PAGE_SIZE)
            self._store = _Store()
            opened.callback(self._store.close)
            try:
                self.host = engine.Host(
                    memory=frames * PAGE_SIZE, corpus=corpus, watermarks=marks, readahead=0, **settings
                )
            except ConfigError as error:
                raise Missing(str(error)) from error
            opened.callback(self.host.close)
            self._opened = opened.pop_all()
        self._corpus = np.ascontiguousarray(corpus.pages)
        self._sides: dict[str, tuple[Vm, Window]] = {}
        self._held: dict[str, States] = {}
        self.events: Counter[str] = Counter()  # of the kernel: "absent" and "store"
        self.apart = 0  # accesses that were an event for one side alone
        self.unequal_merges = 0
        self._stored = 0  # pages that the engine had compressed by the last change

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sides.clear()
        self._opened.close()

    def create(self, name: str, pages: int) -> None:
        """A VM."""
        self._open(self.host.create_vm(name, pages * PAGE_SIZE))

    def clone(self, parent: str, name: str) -> None:
        """A copy-on-write clone."""
        self._open(self._sides[parent][0].clone(name))
        self.follow()

    def _open(self, vm: Vm) -> None:
        window = Window(self._watch, vm.pages, self._file, vm.tag_base, vm.writes_done)
        self._sides[vm.name] = vm, window
        self._held[vm.name] = np.zeros((vm.pages, 2), np.uint32)

    def replay(
        self,
        name: str,
        pages: NDArray[np.uint32],
        ops: NDArray[np.uint8],
        sources: NDArray[np.uint32] | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> None:
        """The same accesses on both sides. With `out`, ops are READ_BACK, which the engine is told as reads."""
        vm, window = self._sides[name]
        told = np.zeros_like(ops) if out is not None else ops
        done = 0  # of the engine
        while done < len(pages):
            at = window.replay(pages, ops, sources, self._corpus, out, done)
            if at > done:  # hits
                self.apart += self._engine(vm, pages, told, sources, done, at) != 0
            if at == len(pages):
                break
            absent = not self._held[name][pages[at], 0] & STATE_PRESENT
            self.events["absent" if absent else "store"] += 1
            before = self.faults(ABSENT_FAULTS), self.faults(STORE_FAULTS)
            self.apart += self._engine(vm, pages, told, sources, at, at + 1) == 0
            self.follow()
            upto = at + 1
            parts = pages[:upto], ops[:upto], None if sources is None else sources[:upto]
            kept = None if out is None else out[:upto]
            between = [self.faults(ABSENT_FAULTS) - before[0], self.faults(STORE_FAULTS) - before[1]]
            between[not absent] -= 1
            for kind in self._between(name, int(pages[at]), *between):
                self.events[kind] += window.replay(*parts, self._corpus, kept, at) == at
            done = window.replay(*parts, self._corpus, kept, at)
            if done == at:
                raise RuntimeError(f"page {pages[at]} of '{name}' is an event again")

    def _between(self, name: str, page: int, absents: int, stores: int) -> Iterator[str]:
        """Put real memory into each state that the engine passed through within one access, as long as the caller looks at
        it; in the end it is what the engine holds."""
        window, entry = self._sides[name][1], int(self._held[name][page, 0])
        writable = bool(entry & STATE_WRITABLE)
        for _ in range(absents):
            window.place(page, -1, False)
            yield "absent"
            window.place(page, entry & STATE_WHERE, writable)
        for _ in range(stores):
            window.protect(page, True)
            yield "store"
            window.protect(page, not writable)

    def _engine(
        self,
        vm: Vm,
        pages: NDArray[np.uint32],
        ops: NDArray[np.uint8],
        sources: NDArray[np.uint32] | None,
        first: int,
        last: int,
    ) -> int:
        """These accesses in the engine; how many faults they were."""
        before = self.faults()
        part = slice(first, last)
        outcome = vm.access(pages[part], ops[part], None if sources is None else sources[part])
        if outcome.done != last - first:
            raise RuntimeError(f"the engine's host is too small: {outcome.reason}")
        return self.faults() - before

    def faults(self, names: tuple[str, ...] = ABSENT_FAULTS + STORE_FAULTS) -> int:
        """Faults that the engine has served, of these kinds."""
        counters = self.host.counters()
        return sum(counters[name] for name in names)

    def scan(self) -> None:
        """A full pass of the sharing scanner."""
        self.host.scan()
        self.follow()

    def frames(self) -> tuple[int, int]:
        """Frames that hold pages of VMs: the engine's, and the blocks of the file."""
        return self.host.usage()["guest"], os.fstat(self._file).st_blocks * 512 // PAGE_SIZE

    @property
    def counted(self) -> Counter[str]:
        """What was compressed, and written to the file, in pages."""
        return self._store.counted

    def read_back(self, name: str) -> int:
        """How many pages of a VM's window are not what the engine reads of it."""
        vm, _ = self._sides[name]
        wrong = 0
        # One by one: what was just read is there, and reading it in the engine changes nothing.
        for page in range(vm.pages):
            out = np.empty((1, PAGE_SIZE), np.uint8)
            self.replay(name, np.array([page], np.uint32), np.array([READ_BACK], np.uint8), None, out)
            wrong += not np.array_equal(vm.read_pages([page]), out)
        return wrong

    # ---- what changed in the engine is done to memory

    def follow(self) -> None:
        """Real memory becomes what the engine holds."""
        now = {
            name: np.frombuffer(states(vm.engine_vm), np.uint32).reshape(-1, 2) for name, (vm, _) in self._sides.items()
        }
        changes = [
            (name, int(page), int(self._held[name][page, 0]), int(new[page, 0]), int(new[page, 1]))
            for name, new in now.items()
            for page in np.flatnonzero(new[:, 0] != self._held[name][:, 0])
        ]
        if not changes:
            return
        stay = _kept(self._held, now, STATE_PRESENT)
        filled = self._filled(changes, stay)
        leaving = self._leaving(changes, _kept(self._held, now, STATE_BACKED))
        stored = self.host.counters()["evicted_zpool"]
        through = stored - self._stored - sum(kind == COMPRESSED for kind, _ in leaving.values())
        self._stored = stored
        for record, (kind, content) in leaving.items():
            if kind == SWAPPED and through and (packed := self._store.packed(content)):
                content, through = packed, through - 1
            self._store.take(record, kind, content)
        for frame, content in filled.items():
            os.pwrite(self._file, content, frame * PAGE_SIZE)
        for name, page, old, new, _ in changes:
            self._place(self._sides[name][1], page, old, new)
        self._free(now)
        self._held = now

    def _leaving(self, changes: list[Change], stay: set[int]) -> dict[int, tuple[int, bytes]]:
        """What is to go into the store, by record, with its kind. Everything is read before anything is written: frames and
        records may be given back and taken again in one step."""
        found: dict[int, tuple[int, bytes]] = {}
        for _, _, old, new, kind in changes:
            record = new & STATE_WHERE
            if not new & STATE_PRESENT and new & STATE_BACKED and record not in stay and record not in found:
                found[record] = kind, self._content(old)
        return found

    def _filled(self, changes: list[Change], stay: set[int]) -> dict[int, bytes]:
        """What frames are to hold that do not hold it yet."""
        found: dict[int, bytes] = {}
        for _, _, old, new, _ in changes:
            frame = new & STATE_WHERE
            if not new & STATE_PRESENT or (
                frame in stay and (not old or (old & STATE_PRESENT and old & STATE_WHERE == frame))
            ):
                continue  # absent, shared by a clone, or the same as before
            content = self._content(old)
            if frame in stay:  # others hold it already: a merge
                self.unequal_merges += content != self._frame(frame)
            elif found.setdefault(frame, content) != content:
                self.unequal_merges += 1
        return found

    def _content(self, entry: int) -> bytes:
        """Of a page as it was before."""
        if entry & STATE_PRESENT:
            return self._frame(entry & STATE_WHERE)
        return self._store.give(entry & STATE_WHERE) if entry & STATE_BACKED else bytes(PAGE_SIZE)

    def _frame(self, frame: int) -> bytes:
        return os.pread(self._file, PAGE_SIZE, frame * PAGE_SIZE)

    def _place(self, window: Window, page: int, old: int, new: int) -> None:
        if not new & STATE_PRESENT:
            if old & STATE_PRESENT:
                window.place(page, -1, False)
        elif old & STATE_PRESENT and (old ^ new) & STATE_WHERE == 0:
            window.protect(page, not new & STATE_WRITABLE)
        else:
            window.place(page, new & STATE_WHERE, bool(new & STATE_WRITABLE))

    def _free(self, now: dict[str, States]) -> None:
        """Frames and contents that nobody names are given back."""
        for frame in _named(self._held, STATE_PRESENT) - _named(now, STATE_PRESENT):
            kernel.punch_hole(self._file, frame * PAGE_SIZE, PAGE_SIZE)
        self._store.keep(_named(now, STATE_BACKED))


def _named(held: dict[str, States], kind: int) -> set[int]:
    """Frames, or records, that entries name."""
    found: set[int] = set()
    for rows in held.values():
        entries = rows[:, 0]
        mask = entries & STATE_PRESENT if kind == STATE_PRESENT else entries & STATE_BACKED & ~(entries >> 1)
        found.update((entries[mask != 0] & STATE_WHERE).tolist())
    return found


def _kept(before: dict[str, States], now: dict[str, States], kind: int) -> set[int]:
    """Frames, or records, that a page names before and now: their content stays where it is."""
    found: set[int] = set()
    for name, rows in now.items():
        old, new = before[name][:, 0], rows[:, 0]
        both = old & new & STATE_PRESENT if kind == STATE_PRESENT else old & new & STATE_BACKED & ~((old | new) >> 1)
        found.update((new[(both != 0) & ((old ^ new) & STATE_WHERE == 0)] & STATE_WHERE).tolist())
    return found
