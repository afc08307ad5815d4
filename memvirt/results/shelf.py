"""Where a run keeps run.json and its records: a file each, or all in one compressed file for shared file systems.

    DIR/run.json, DIR/cells/<cell>.json      Files: what people and programs read without more ado
    DIR/run.jsonl.gz                         Pack (--pack): one file a run, that grows by one write a cell

The pack is a row of gzip members, each one line of JSON: the first is run.json, every other one a record, named in its
header by the file that it would be. `zcat run.jsonl.gz` prints all of them. Of two records of a cell the later counts.

A member is appended in one go and flushed to the device. A crash leaves the members before it whole, and at most a torn
one behind them. That is no record, and --resume cuts it off. Every member has a checksum. A damaged one in the middle is
an error when the records are read; --resume leaves it out, keeps those before and behind it, and runs its cell again.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from memvirt.environment import memory_problem
from memvirt.errors import FolderError, RecordError
from memvirt.results.record import Record, dumps_line, loads, read, write_atomically
from memvirt.results.record import dumps as dumps_record
from memvirt.untrusted import Excess, file_bytes, gzip_member, gzip_size, json_value

MANIFEST = "run.json"
CELLS = "cells"
PACK = "run.jsonl.gz"
MOST_MANIFEST = 64 << 20  # bytes that a run.json in a pack may have; one of 100,000 cells has a fifth of it
MOST_RECORD = 256 << 20  # the same of a record; of 1,000 VMs, looked at as often as may be, it has a third of it
HEAD = b"\x1f\x8b\x08\x08\0\0\0\0"  # of every member: gzip, deflate, with a name, no time


class Shelf(Protocol):
    """Records by the name of their cell, and the text of run.json."""

    def begin(self, manifest: str) -> None:
        """Make it, with run.json and no record. RecordError when it cannot be written."""

    def mend(self) -> None:
        """Before it is written into again: leave out what is damaged."""

    def manifest(self) -> bytes:
        """The text of run.json; OSError when it cannot be read."""

    def names(self) -> set[str]:
        """The cells of which there is a record, whole or not."""

    def place(self, cell: str) -> str:
        """Where the record of a cell is, for messages."""

    def read(self, cell: str) -> Record:
        """The record of a cell; RecordError for one that is missing or damaged."""

    def write(self, record: Record) -> Path:
        """Keep a record, whole or not at all; the file it is in. RecordError when it cannot be written."""


class Files:
    """A file for each record."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, manifest: str) -> None:
        (self._folder / CELLS).mkdir(exist_ok=True)
        write_atomically(self._folder / MANIFEST, manifest)

    def mend(self) -> None:
        pass

    def manifest(self) -> bytes:
        return file_bytes(self._folder / MANIFEST)

    def names(self) -> set[str]:
        try:
            files = os.listdir(self._folder / CELLS)
        except OSError as error:
            raise FolderError(f"{self._folder / CELLS}: cannot be read: {error.strerror}") from None
        return {name.removesuffix(".json") for name in files if name.endswith(".json") and name[0] != "."}

    def place(self, cell: str) -> str:
        return str(self._path(cell))

    def read(self, cell: str) -> Record:
        return read(self._path(cell))

    def write(self, record: Record) -> Path:
        path = self._path(record.cell)
        write_atomically(path, dumps_record(record))
        return path

    def _path(self, cell: str) -> Path:
        return self._folder / CELLS / f"{cell}.json"


@dataclass(frozen=True, slots=True)
class _Member:
    """A whole member of a pack."""

    name: str
    start: int
    end: int


class Pack:
    """All records in one compressed file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PACK
        self._texts: dict[str, bytes] = {}  # name of the file that it would be -> its compressed member
        self._known_size = -1

    def begin(self, manifest: str) -> None:
        line = json.dumps(json_value(manifest), ensure_ascii=False) + "\n"
        kept = b""
        if os.path.exists(self.path):
            self._look()
            kept = b"".join(member for name, member in self._texts.items() if name != MANIFEST)
        write_atomically(self.path, _member(MANIFEST, line.encode()) + kept)
        self._known_size = -1

    def mend(self) -> None:
        data = self._bytes()
        members = list(_members(data))
        if not members or members[0].name != MANIFEST:
            raise FolderError(f"{self.path}: damaged: its first line, which says what the run is; use another --out")
        if sum(each.end - each.start for each in members) != len(data):
            write_atomically(self.path, b"".join(data[each.start : each.end] for each in members))

    def manifest(self) -> bytes:
        data = self._bytes()
        try:
            text, end = gzip_member(data, 0, MOST_MANIFEST)
        except Excess as error:
            raise FolderError(
                f"{self.path}: damaged: its first line, which says what the run is: {error}; use another --out"
            ) from None
        except ValueError:
            return b""
        return text if _name(data, 0, end) == MANIFEST else b""

    def names(self) -> set[str]:
        self._look()
        return {name.removesuffix(".json") for name in self._texts if name != MANIFEST}

    def place(self, cell: str) -> str:
        return f"{self.path} ({cell})"

    def read(self, cell: str) -> Record:
        self._look()
        if f"{cell}.json" not in self._texts:
            raise RecordError(f"{self.place(cell)}: is not there")
        text, _ = gzip_member(self._texts[f"{cell}.json"], 0, MOST_RECORD)  # whole, as `_look` has found
        return loads(text, self.place(cell))

    def write(self, record: Record) -> Path:
        name, size = f"{record.cell}.json", self.path.stat().st_size
        text = dumps_line(record).encode()
        if len(text) > MOST_RECORD:
            raise RecordError(f"{self.path}: a record of {len(text)} bytes is not kept: {MOST_RECORD} are the most")
        packed = _member(name, text)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            view = memoryview(packed)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, size)
            raise RecordError(f"{self.path}: cannot be written: {error.strerror}; nothing was changed") from error
        finally:
            os.close(handle)
        if self._known_size == size:
            self._texts[name], self._known_size = packed, size + len(packed)
        return self.path

    def _bytes(self) -> bytes:
        size = os.path.getsize(self.path)
        if problem := memory_problem(size):
            raise FolderError(f"{self.path}: to be read it {problem}")
        return file_bytes(self.path, max(size, MOST_RECORD))

    def _look(self) -> None:
        """Read the file if it has changed. FolderError for damage that is followed by a whole member; what is torn at the
        end is not there."""
        if self._known_size == self.path.stat().st_size:
            return
        data = self._bytes()
        members = list(_members(data))
        gaps = [one.end for one, other in pairwise(members) if one.end != other.start]
        if gaps or not members or members[0].start or members[0].name != MANIFEST:
            where = gaps[0] if gaps else 0
            raise FolderError(f"{self.path}: damaged at byte {where}; --resume leaves it out and runs its cell again")
        self._texts = {each.name: data[each.start : each.end] for each in members}
        self._known_size = len(data)


def shelf_of(folder: Path) -> Files | Pack | None:
    """What the folder of a run keeps its records in; None: it is not one."""
    if os.path.exists(folder / PACK):
        return Pack(folder)
    return Files(folder) if os.path.exists(folder / MANIFEST) else None


def _member(name: str, text: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=out, mtime=0) as file:
        file.write(text)
    return out.getvalue()


def _members(data: bytes) -> Iterator[_Member]:
    """The whole members of a pack, in order; whatever is between or behind them is left out."""
    start = data.find(HEAD)
    while start >= 0:
        found = _whole(data, start)
        if found is not None:
            yield found
        start = data.find(HEAD, start + 1 if found is None else found.end)


def _whole(data: bytes, start: int) -> _Member | None:
    """The member that begins there, if its checksum says that it is one, and it is no larger than one may be."""
    try:
        _, end = gzip_size(data, start, MOST_RECORD)
    except ValueError:
        return None
    name = _name(data, start, end)
    return None if name is None else _Member(name, start, end)


def _name(data: bytes, start: int, end: int) -> str | None:
    """What a member calls itself."""
    at = start + 10  # after what zlib calls xfl and os
    name_end = data.find(b"\0", at, end)
    return None if name_end < 0 else data[at:name_end].decode("latin-1")
