"""Dumps of memory that say which parts of the file are pages: ELF cores, of processes and of machines, and LiME.

    ELF core    of the kernel (ulimit -c), gcore, QEMU's dump-guest-memory, VirtualBox: each PT_LOAD segment is memory
                from p_offset on, p_filesz bytes of it; what p_memsz has more was not dumped. More than 65534 segments
                are counted in sh_info of section 0 (PN_XNUM). A note NT_FILE names the files behind addresses.
    LiME 1      a header of 32 bytes before each range: magic, version, first and last address (inclusive), reserved
                (504ensicsLabs/LiME, lime.h); unreadable pages were written as zeros

The tables are read by NumPy in one piece, checked against the size of the file, and nothing is believed: segments that
overlap give each byte once, so a small file cannot claim more pages than it has.
"""

import os
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError
from memvirt.inputs.corpus import PAGE_SIZE

from .files import File
from .process import LABELS, label_of

ELF_MAGIC, ET_CORE, PT_LOAD, PT_NOTE, PN_XNUM, NT_FILE = b"\x7fELF", 4, 1, 4, 0xFFFF, 0x46494C45
LIME_MAGIC, LIME_VERSION = 0x4C694D45, 1
LIME_HEADER = struct.Struct("<IIQQ8x")
MOST_RANGES = 1 << 16  # of a LiME dump: a machine has tens
MOST_NOTES, MOST_NOTE_BYTES, MOST_NOTE_SEGMENTS = 1 << 17, 64 << 20, 16  # a core has five or so for each thread
MOST_FILES = 1 << 20  # entries of NT_FILE; a process has at most vm.max_map_count mappings, 65530 unless it was raised

MOST_ADDRESS = (1 << 64) - 1

PARTIAL = "or parts of pages at the edges of segments left out"
AGAIN = "that another segment has too counted once"

# The first bytes of what is no dump that can be read here, and what to do about it.
REFUSED = (
    (b"KDUMP   ", "a kdump-compressed dump; dump it again without compression: 'dump-guest-memory FILE' in QEMU's monitor"),
    (b"makedumpfile", "a flattened kdump; dump it again without compression: 'dump-guest-memory FILE' in QEMU's monitor"),
    (b"QFI\xfb", "a qcow2 image; make it raw: 'qemu-img convert -O raw FILE OUT'"),
    (struct.pack("<Q", 0x0710198486640000), "Firecracker's state, not its memory; give the memory file of the snapshot"),
    (struct.pack("<Q", 0x07101984AAAA0000), "Firecracker's state, not its memory; give the memory file of the snapshot"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
    (b"\xfd7zXZ\0", "compressed with xz; unpack it first"),
    (b"\x04\x22\x4d\x18", "compressed with lz4; unpack it first"),
)  # fmt: skip


class Segment(NamedTuple):
    """A PT_LOAD: where it lies in the file, and the address it was at."""

    offset: int
    address: int
    bytes: int


class _Elf(NamedTuple):
    order: str  # "<" or ">"
    wide: bool  # 64-bit

    def header(self) -> np.dtype[np.void]:
        n = self.order
        address = n + ("u8" if self.wide else "u4")
        return np.dtype(
            [("type", n + "u2"), ("machine", n + "u2"), ("version", n + "u4"), ("entry", address), ("phoff", address),
             ("shoff", address), ("flags", n + "u4"), ("ehsize", n + "u2"), ("phentsize", n + "u2"), ("phnum", n + "u2"),
             ("shentsize", n + "u2"), ("shnum", n + "u2"), ("shstrndx", n + "u2")]
        )  # fmt: skip

    def program_header(self) -> np.dtype[np.void]:
        n, address = self.order, self.order + ("u8" if self.wide else "u4")
        names = ["offset", "vaddr", "paddr", "filesz", "memsz"]
        middle = [(name, address) for name in names]
        if self.wide:
            return np.dtype([("type", n + "u4"), ("flags", n + "u4"), *middle, ("align", address)])
        return np.dtype([("type", n + "u4"), *middle, ("flags", n + "u4"), ("align", address)])


def recognise(handle: int) -> str:
    """ "elf-core", "lime", or "raw" for what is neither; CorpusError for what is known and cannot be read."""
    start = os.pread(handle, 64, 0)
    if start[:4] == ELF_MAGIC and len(start) >= 18:
        order = ">" if start[5] == 2 else "<"
        return "elf-core" if struct.unpack_from(f"{order}H", start, 16)[0] == ET_CORE else "raw"
    if start[:4] == struct.pack("<I", LIME_MAGIC):
        return "lime"
    for magic, what in REFUSED:
        if start.startswith(magic):
            raise CorpusError(f"this is {what} (or take its bytes as they are with --format raw)")
    return "raw"


def open_elf_core(path: Path, handle: int) -> File:
    """The memory of an ELF core; labels by the files behind it, "memory" for a machine's."""
    elf, table = _program_headers(handle)
    size = os.fstat(handle).st_size
    loads = [
        Segment(int(row["offset"]), int(row["vaddr"]), int(row["filesz"])) for row in table[table["type"] == PT_LOAD]
    ]
    for number, load in enumerate(loads):
        if load.offset + load.bytes > size:
            raise CorpusError(
                f"truncated: segment {number} ends at {load.offset + load.bytes}, but the file has {size} bytes; dump it "
                "again, without a limit on its size (ulimit -c unlimited)"
            )
    names, machine = _notes(handle, elf, table[table["type"] == PT_NOTE])
    labels = ("memory",) if machine else LABELS
    left_out: Counter[str] = Counter()
    left_out["not in the dump"] = int((table["memsz"] - np.minimum(table["memsz"], table["filesz"]))[
        table["type"] == PT_LOAD].sum() // PAGE_SIZE)  # fmt: skip
    parts = []
    reached = 0
    for load in sorted(loads):
        for offset, address, length in _pieces(load, reached, names):
            first = offset + -address % PAGE_SIZE
            pages = max(0, offset + length - first) // PAGE_SIZE
            left_out[PARTIAL] += length > pages * PAGE_SIZE
            if pages:
                label = 0 if machine else LABELS.index(_label(names, address))
                parts.append((first, pages, label))
        left_out[AGAIN] += min(load.bytes, max(0, reached - load.offset)) // PAGE_SIZE
        reached = max(reached, load.offset + load.bytes)
    return File(path, handle, parts, labels, "ELF core", left_out)


def open_lime(path: Path, handle: int) -> File:
    """The memory of a LiME dump."""
    size, at = os.fstat(handle).st_size, 0
    left_out: Counter[str] = Counter()
    parts: list[tuple[int, int, int]] = []
    for number in range(MOST_RANGES + 1):
        if at == size:
            return File(path, handle, parts, ("memory",), "LiME", left_out)
        raw = os.pread(handle, LIME_HEADER.size, at)
        if len(raw) < LIME_HEADER.size:
            raise CorpusError(f"truncated in the header of range {number}, at offset {at}; dump it again")
        magic, version, first, last = LIME_HEADER.unpack(raw)
        if magic != LIME_MAGIC or version != LIME_VERSION:
            raise CorpusError(f"no LiME header of version 1 at offset {at}, where range {number} begins; dump it again")
        at += LIME_HEADER.size
        length = last - first + 1
        if length < 1 or length > size - at:
            raise CorpusError(
                f"range {number} at offset {at} has {length} bytes, of which {size - at} are there; dump it again"
            )
        skipped = -first % PAGE_SIZE
        pages = max(0, length - skipped) // PAGE_SIZE
        left_out[PARTIAL] += length > pages * PAGE_SIZE
        if pages:
            parts.append((at + skipped, pages, 0))
        at += length
    raise CorpusError(f"more than {MOST_RANGES} ranges; no machine has that many")


def _program_headers(handle: int) -> tuple[_Elf, NDArray[np.void]]:
    start = os.pread(handle, 64, 0)
    if start[4:5] not in (b"\1", b"\2") or start[5:6] not in (b"\1", b"\2"):
        raise CorpusError("neither a 32-bit nor a 64-bit ELF file, or of no known byte order")
    elf = _Elf("<" if start[5] == 1 else ">", start[4] == 2)
    (header,) = _table(handle, 16, 1, elf.header(), "the ELF header")
    count = int(header["phnum"])
    if count == PN_XNUM:
        wide = 44 if elf.wide else 28  # sh_info within a section header
        info = np.dtype({"names": ["info"], "formats": [elf.order + "u4"], "offsets": [wide]})
        count = int(_table(handle, int(header["shoff"]), 1, info, "section 0")[0]["info"])
    kind = elf.program_header()
    if count and int(header["phentsize"]) != kind.itemsize:
        raise CorpusError(f"program headers of {header['phentsize']} bytes, where they have {kind.itemsize}")
    return elf, _table(handle, int(header["phoff"]), count, kind, "the program headers")


def _table(handle: int, at: int, count: int, kind: np.dtype[np.void], what: str) -> NDArray[np.void]:
    """Rows of a structure in the file; CorpusError where it ends too early."""
    size = os.fstat(handle).st_size
    if at + count * kind.itemsize > size:
        raise CorpusError(f"truncated: {what} end at {at + count * kind.itemsize}, but the file has {size} bytes")
    raw = os.pread(handle, count * kind.itemsize, at)
    return np.frombuffer(raw, kind, count)


class _Names(NamedTuple):
    """Address ranges that files are mapped to, by start."""

    starts: NDArray[np.uint64]
    ends: NDArray[np.uint64]
    labels: list[str]
    edges: NDArray[np.uint64]  # all starts and ends, ascending

    @classmethod
    def of(cls, files: list[tuple[int, int, str]]) -> "_Names":
        files.sort()
        starts, ends = (np.array([file[i] for file in files], np.uint64) for i in (0, 1))
        return cls(starts, ends, [file[2] for file in files], np.unique(np.concatenate([starts, ends])))


def _notes(handle: int, elf: _Elf, table: NDArray[np.void]) -> tuple[_Names, bool]:
    """What NT_FILE says, and whether this is a machine's memory: then a note is QEMU's, or no note tells of a process."""
    files: list[tuple[int, int, str]] = []
    process = False
    for row in table[:MOST_NOTE_SEGMENTS]:
        length, at = min(int(row["filesz"]), MOST_NOTE_BYTES), min(int(row["offset"]), os.fstat(handle).st_size)
        for name, kind, content in islice(_each_note(os.pread(handle, length, at), elf.order), MOST_NOTES):
            if name == b"QEMU":
                return _Names.of([]), True
            process = process or name in (b"CORE", b"LINUX")
            if kind == NT_FILE:
                files += _mapped_files(content, elf)
    return _Names.of(files), not process


def _each_note(raw: bytes, order: str) -> Iterator[tuple[bytes, int, bytes]]:
    """(name, type, content) of each note that is there whole; each begins on a multiple of four."""
    at = 0
    while at + 12 <= len(raw):
        name_bytes, content_bytes, kind = struct.unpack_from(f"{order}III", raw, at)
        name_at = at + 12
        content_at = name_at + -(-name_bytes // 4) * 4
        at = content_at + -(-content_bytes // 4) * 4
        if content_at + content_bytes > len(raw):
            return
        yield raw[name_at : name_at + name_bytes].rstrip(b"\0"), kind, raw[content_at : content_at + content_bytes]


def _mapped_files(content: bytes, elf: _Elf) -> list[tuple[int, int, str]]:
    """(start, end, label) of NT_FILE: count, page size, then start, end, offset of each, then their paths."""
    word = np.dtype(elf.order + ("u8" if elf.wide else "u4"))
    if len(content) < 2 * word.itemsize:
        return []
    count = int(np.frombuffer(content, word, 1)[0])
    if count > MOST_FILES or (2 + 3 * count) * word.itemsize > len(content):
        return []
    spans = np.frombuffer(content, word, 3 * count, 2 * word.itemsize).reshape(-1, 3)
    paths = content[(2 + 3 * count) * word.itemsize :].split(b"\0", count)[:count]
    return [
        (int(start), int(end), label_of(path.decode(errors="replace")) or "files")
        for (start, end, _), path in zip(spans.tolist(), paths, strict=False)
    ]


def _pieces(load: Segment, reached: int, names: _Names) -> Iterator[tuple[int, int, int]]:
    """(offset, address, bytes) of what a segment adds to the file read up to `reached`, cut where another file begins."""
    begin = max(load.offset, reached)
    end = load.offset + load.bytes
    if begin >= end:
        return
    shift = load.address - load.offset
    low, high = (np.uint64(min(at + shift, MOST_ADDRESS)) for at in (begin, end))
    inside = slice(np.searchsorted(names.edges, low, side="right"), np.searchsorted(names.edges, high, side="left"))
    cuts = [edge - shift for edge in names.edges[inside].tolist()]
    for one, other in zip([begin, *cuts], [*cuts, end], strict=True):
        yield one, one + shift, other - one


def _label(names: _Names, address: int) -> str:
    index = int(np.searchsorted(names.starts, np.uint64(min(address, MOST_ADDRESS)), side="right")) - 1
    if index >= 0 and address < int(names.ends[index]):
        return names.labels[index]
    return "anonymous"
