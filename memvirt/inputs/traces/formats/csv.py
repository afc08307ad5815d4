"""Requests as text with named columns: CSV, or another delimiter.

The first line names the columns. A request says where it goes by one of

    page       a page number             id       an object by any text: one page
    address    a byte address            block    a block of 512 bytes

and may have size (bytes), op, time, stream (who asks) and space (its address space). Usual names are known; a column
of another name is chosen by an option, KEY=NAME, or by its number from 1: KEY=3. A file whose columns are all numbers in
the first line has no head line. Numbers are decimal, or hexadecimal with 0x. A time may have a fraction; its unit is
that which ends the column's name (time_us), else the option `unit`.

An op is r, read, get, load, fetch or 0; w, write, put, set, store or 1; m, modify or update, which reads and writes.
Other ops touch nothing and are counted. Fields may be quoted, at the price of reading the lines one by one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from memvirt.errors import ConfigError, CorpusError
from memvirt.units import suggest
from memvirt.untrusted import whole

from ..registry import Certainty, Format, Head
from ..requests import MODIFY, PAGE_SHIFT, READ, U64, WRITE, Names, Reading, Requests, Where, span, span_of_sectors
from ..source import Source
from ..text import Block, Places, blocks

USUAL: dict[str, tuple[str, ...]] = {
    "page": ("page", "page_number", "vpn", "gfn"),
    "address": ("address", "addr", "vaddr", "paddr", "offset", "byte", "byte_offset"),
    "block": ("block", "lba", "lbn", "sector"),
    "id": ("id", "obj_id", "object", "object_id", "key", "name", "url"),
    "size": ("size", "bytes", "length", "len", "obj_size"),
    "op": ("op", "operation", "rw", "type", "opcode", "command"),
    "time": ("time", "timestamp", "ts", "clock_time", "time_ns", "time_us", "time_ms", "time_s", "real_time"),
    "stream": ("stream", "vm", "tenant", "thread", "tid", "client"),
    "space": ("space", "pid", "process", "disk", "volume", "dev", "device", "asu", "host"),
}
PLACES = ("page", "address", "block", "id")
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
QUOTE, APART = b'"', 0x1F  # ASCII's unit separator stands between fields that were quoted
OTHER = 3
OPS: dict[bytes, int] = {
    **dict.fromkeys((b"r", b"read", b"get", b"load", b"fetch", b"0"), READ),
    **dict.fromkeys((b"w", b"write", b"put", b"set", b"store", b"1"), WRITE),
    **dict.fromkeys((b"m", b"modify", b"update"), MODIFY),
}
LOWER = 0x2020202020202020

Unit = Literal["s", "ms", "us", "ns"]


@dataclass(frozen=True, slots=True)
class _Table:
    """Which column holds what, from 0; how many there must be; whether the first line names them."""

    columns: dict[str, int]
    width: int
    delimiter: int
    headed: bool
    unit: Unit


class Csv(Format):
    """Requests as CSV, or text with another delimiter, whose first line names the columns."""

    name = "csv"
    certainty = Certainty.GENERAL

    page: str = Field(default="", description="column of page numbers")
    address: str = Field(default="", description="column of byte addresses")
    block: str = Field(default="", description="column of blocks of 512 bytes")
    id: str = Field(default="", description="column of objects, any text")
    size: str = Field(default="", description="column of sizes in bytes")
    op: str = Field(default="", description="column of operations")
    time: str = Field(default="", description="column of times")
    stream: str = Field(default="", description="column of who asks")
    space: str = Field(default="", description="column of address spaces")
    delimiter: str = Field(default="", description="between fields; unless given: comma, semicolon, tab or blank")
    unit: Unit = Field(default="s", description="of times whose column does not say it")

    @classmethod
    def recognise(cls, head: Head) -> bool:
        lines = head.lines()
        if len(lines) < 2 or not head.is_text():
            return False
        try:
            found = cls()._table(lines[0])
        except (ConfigError, CorpusError):
            return False
        return found.headed

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        table = None
        for block in blocks(source):
            if table is None:
                table = self._table(block.text(0))
                reading.time_unit = table.unit if "time" in table.columns else ""
                if table.headed:
                    block = block.after(1)
            if len(block):
                yield _requests(block, table, reading)

    def _table(self, line: bytes) -> _Table:
        delimiter = self._delimiter(line)
        try:
            names = next(csv.reader([line.decode("utf-8")], delimiter=chr(delimiter), skipinitialspace=True))
        except (UnicodeDecodeError, csv.Error, StopIteration) as error:
            raise CorpusError(f"line 1 is no line of fields ({error})") from error
        names = [name.strip().strip("#").strip().lower() for name in names]
        asked = {key: str(getattr(self, key)).lower() for key in USUAL if getattr(self, key)}
        headed = not any(name.replace(".", "", 1).isdigit() for name in names if name)
        columns = {key: _column(key, wanted, names, headed) for key, wanted in asked.items()}
        for key, usual in USUAL.items() if headed else ():
            found = next((names.index(name) for name in usual if name in names), None)
            if key not in columns and found is not None and found not in columns.values():
                columns[key] = found
        places = [key for key in PLACES if key in columns]
        places = [key for key in places if key in asked] or places[:1]
        if len(places) != 1:
            raise ConfigError(
                f"the columns are {', '.join(names)}: {'name only one' if places else 'say which one'} that tells where a "
                f"request goes, --option {'|'.join(PLACES)}=COLUMN"
            )
        columns = {key: column for key, column in columns.items() if key not in PLACES or key in places}
        return _Table(columns, len(names), delimiter, headed, self._unit(names, columns))

    def _delimiter(self, line: bytes) -> int:
        if self.delimiter:
            if len(self.delimiter.encode()) != 1 or self.delimiter in '"\r\n':
                raise ConfigError(f"option delimiter: one character is needed, not {self.delimiter!r}")
            return ord(self.delimiter)
        return next((ord(mark) for mark in ",;\t " if mark.encode() in line.strip()), ord(","))

    def _unit(self, names: Sequence[str], columns: dict[str, int]) -> Unit:
        if "time" not in columns:
            return "ns"
        ending = names[columns["time"]].rpartition("_")[2]
        known: dict[str, Unit] = {"s": "s", "ms": "ms", "us": "us", "ns": "ns"}
        return known.get(ending, self.unit)


def _column(key: str, wanted: str, names: Sequence[str], headed: bool) -> int:
    """The column that an option names, from 0."""
    if wanted in names and headed:
        return names.index(wanted)
    if number := whole(wanted, len(names)):
        return number - 1
    raise ConfigError(
        f"option {key}: there is no column '{wanted}'{suggest(wanted, list(names))} (columns: {', '.join(names)})"
    )


def _requests(block: Block, table: _Table, reading: Reading) -> Requests:
    if QUOTE in block.raw:
        block, table = _unquoted(block, table)
    starts, ends = block.fields(table.delimiter, table.width)
    fields = {key: block.stripped(starts[place], ends[place]) for key, place in table.columns.items()}
    where = Where("line", block.line)
    reading.records += len(block)
    size = _number(block, *fields["size"], "size") if "size" in fields else None
    first, pages = _place(block, fields, size, reading, where)
    ops = _ops(block, *fields["op"], reading) if "op" in fields else None
    time = block.fixed(*fields["time"], UNITS[table.unit], "time") if "time" in fields else None
    stream = reading.by_name(block, *fields["stream"]) if "stream" in fields else None
    space = reading.by_name(block, *fields["space"], reading.spaces) if "space" in fields else None
    if ops is not None and (ops == OTHER).any():
        pages = np.ones(len(first), dtype=np.uint64) if pages is None else pages
        reading.skip("other operations", int(np.count_nonzero((ops == OTHER) & (pages > 0))))
        kept = np.flatnonzero((ops != OTHER) | (pages == 0))
        first, pages, ops = first[kept], pages[kept], np.where(ops[kept] == OTHER, READ, ops[kept]).astype(np.uint8)
        where = where.of(kept)
        time, stream, space = (None if column is None else column[kept] for column in (time, stream, space))  # type: ignore[assignment]
    return Requests(first, pages, ops, time, stream, space, where)


def _place(
    block: Block, fields: dict[str, tuple[Places, Places]], size: U64 | None, reading: Reading, where: Where
) -> tuple[U64, U64 | None]:
    """(first page or object, pages; None where each is one)."""
    if "id" in fields:
        if reading.labels is None:
            reading.labels = Names()
        names = block.strings(*fields["id"])
        first = np.fromiter(map(reading.labels.__getitem__, names), dtype=np.uint64, count=len(names))
        return first, None if size is None else (size > 0).astype(np.uint64)
    key = next(key for key in PLACES if key in fields)
    value = _number(block, *fields[key], key)
    if key == "page":
        short = np.uint64((1 << PAGE_SHIFT) - 1)
        return value, None if size is None else (size >> np.uint64(PAGE_SHIFT)) + ((size & short) > 0)
    one = np.ones(len(value), dtype=np.uint64) if size is None else size
    return span(value, one, where) if key == "address" else span_of_sectors(value, one, where)


def _number(block: Block, starts: Places, ends: Places, what: str) -> U64:
    """Decimal numbers, or hexadecimal ones after 0x."""
    hexadecimal = (ends - starts > 2) & (
        block.packed(starts, np.minimum(starts + 2, ends)) | np.uint64(0x2000) == 0x7830
    )
    if not hexadecimal.any():
        return block.number(starts, ends, what)
    values, good = block.hexadecimal(starts + 2, ends)
    others, fine = block.decimal(starts, ends)
    if not (right := np.where(hexadecimal, good, fine)).all():
        block.refuse(int(np.argmin(right)), f"the {what} is no whole number below 2^64")
    return np.where(hexadecimal, values, others)


def _ops(block: Block, starts: Places, ends: Places, reading: Reading) -> NDArray[np.uint8]:
    words = block.packed(starts, ends)
    lower = np.where(ends - starts > 8, words, words | (np.uint64(LOWER) & _letters(ends - starts)))
    ops = np.full(len(block), OTHER, dtype=np.uint8)
    for name, op in OPS.items():
        ops[lower == int.from_bytes(name, "little") | (LOWER & ((1 << 8 * len(name)) - 1))] = op
    return ops


def _letters(width: Places) -> U64:
    """All ones in as many low bytes as a field has."""
    bits = np.uint64(8) * np.clip(width, 0, 7).astype(np.uint64)
    return np.where(width >= 8, ~np.uint64(0), (np.uint64(1) << bits) - np.uint64(1))


def _unquoted(block: Block, table: _Table) -> tuple[Block, _Table]:
    """The same lines without quotes, their fields parted by a character that no field has."""
    lines = []
    for row in range(len(block)):
        try:
            text = block.text(row).decode("utf-8")
            fields = next(csv.reader([text], delimiter=chr(table.delimiter), strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            block.refuse(row, f"its quotes do not close on the line, or it is no UTF-8 ({error})")
        lines.append(chr(APART).join(field.replace(chr(APART), " ") for field in fields))
    plain = Block("".join(f"{line}\n" for line in lines).encode(), block.line)
    return plain, _Table(table.columns, table.width, APART, table.headed, table.unit)
