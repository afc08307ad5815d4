"""Traces that are ready to be replayed: memvirt's own files, and .npy arrays.

memvirt's file is Parquet with a row for every page touched, in order:

    page       uint32    dense, numbered from 0 by first appearance
    op         uint8     0 read, 1 write
    time_ns    uint64    nanoseconds, as the source counts them; absent where it has no times
    stream     uint32    who touched it, numbered from 0 by first appearance

and one entry of metadata, "memvirt", with a TraceInfo as JSON. A .npy file holds page numbers in one row, or page
numbers and operations in two; these must be dense already.

What a trace says is named by a hash that does not depend on how it is stored: SHA-256 over the name and the SHA-256 of
each column, little-endian, in the order above. So a trace has one name as .npy, as Parquet, and packed otherwise.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memvirt.errors import CorpusError
from memvirt.untrusted import json_value, require_plain

from .requests import U8, U32, U64, WRITE

SCHEMA = 1  # 1 - first version.
ROWS = 1 << 20  # of a row group, and of a chunk unless asked otherwise
MOST_PAGES = 1 << 31
KEY = b"memvirt"
IMPORT_IT = "'memvirt trace import FILE -o OUT.parquet' numbers pages of any number"


class Chunk(NamedTuple):
    """Successive touches of a trace; time_ns is None where there are no times."""

    pages: U32
    ops: U8
    time_ns: U64 | None
    stream: U32


class TraceInfo(BaseModel):
    """What is known of a trace. Counts are of pages touched, but for `records`, which are the source's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_: int = Field(default=SCHEMA, alias="schema", ge=1, le=SCHEMA)
    sha256: str = Field(pattern="[0-9a-f]{64}")
    touches: int = Field(ge=0)
    writes: int = Field(ge=0)
    pages: int = Field(ge=0, le=MOST_PAGES)  # different ones: page numbers are below
    streams: list[str]  # by number; a name may be empty
    first_ns: int | None = Field(default=None, ge=0, lt=1 << 64)  # of times; None where there are none
    last_ns: int | None = Field(default=None, ge=0, lt=1 << 64)
    source: str = ""
    source_sha256: str = ""
    format: str = "npy"
    options: dict[str, str] = {}
    time_unit: str = ""  # of the source
    records: int = Field(default=0, ge=0)
    skipped: dict[str, int] = {}

    @property
    def reads(self) -> int:
        return self.touches - self.writes


class ContentHash:
    """The hash of a trace, built chunk by chunk."""

    def __init__(self, timed: bool) -> None:
        self._columns = {"page": "<u4", "op": "u1"} | ({"time_ns": "<u8"} if timed else {}) | {"stream": "<u4"}
        self._hashes = {name: hashlib.sha256() for name in self._columns}

    def update(self, chunk: Chunk) -> None:
        """Add the next touches."""
        columns = {"page": chunk.pages, "op": chunk.ops, "time_ns": chunk.time_ns, "stream": chunk.stream}
        for name, kind in self._columns.items():
            self._hashes[name].update(np.ascontiguousarray(columns[name], dtype=kind).data)

    def hexdigest(self) -> str:
        parts = "".join(f"{name}:{digest.hexdigest()}\n" for name, digest in self._hashes.items())
        return hashlib.sha256(parts.encode()).hexdigest()


def pyarrow() -> Any:
    """pyarrow with its Parquet module; CorpusError says what to install."""
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise CorpusError("Parquet needs pyarrow, which is not installed: pip install 'memvirt[inputs]'") from None
    return pyarrow


class Trace(ABC):
    """A trace file. `timed`: it has times; `streams`: how many there are."""

    timed: bool = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        """Pages touched."""
        return self.info.touches

    @cached_property
    @abstractmethod
    def info(self) -> TraceInfo:
        """What is known of it. A .npy file is read through for it."""

    @abstractmethod
    def _chunks(self, rows: int, times: bool) -> Iterator[Chunk]: ...

    @abstractmethod
    def _backwards(self) -> Iterator[Chunk]: ...

    def chunks(self, rows: int = ROWS, times: bool = True) -> Iterator[Chunk]:
        """The touches in order, at most `rows` at a time; without `times` these are not read. CorpusError where the
        file is damaged."""
        try:
            yield from self._chunks(rows, times)
        except CorpusError as error:
            raise CorpusError(f"trace {self.path}: {error}") from error

    def backwards(self) -> Iterator[Chunk]:
        """The same touches, the last chunk first; within a chunk they stand in their order."""
        try:
            yield from self._backwards()
        except CorpusError as error:
            raise CorpusError(f"trace {self.path}: {error}") from error

    def sha256(self) -> str:
        """The hash of what the file holds now; CorpusError where it claims another."""
        found = ContentHash(self.timed)
        for chunk in self.chunks():
            found.update(chunk)
        if found.hexdigest() != self.info.sha256:
            raise CorpusError(f"trace {self.path}: damaged: its content does not match its hash; import it again")
        return found.hexdigest()


class ParquetTrace(Trace):
    """memvirt's own file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        arrow = pyarrow()
        try:
            self._file = arrow.parquet.ParquetFile(path, page_checksum_verification=True, memory_map=False)
            schema, metadata = self._file.schema_arrow, self._file.metadata.metadata or {}
            self._rows = int(self._file.metadata.num_rows)
        except Exception as error:  # of a damaged file pyarrow lets errors of many kinds pass
            raise CorpusError(f"the file is no Parquet file, or a damaged one ({_first_line(error)})") from error
        if KEY not in metadata:
            raise CorpusError(f"this Parquet file is no trace of memvirt's; {IMPORT_IT}")
        wanted = {"page": arrow.uint32(), "op": arrow.uint8(), "time_ns": arrow.uint64(), "stream": arrow.uint32()}
        self.timed = "time_ns" in schema.names
        if {name: schema.field(name).type for name in schema.names} != {
            name: kind for name, kind in wanted.items() if name != "time_ns" or self.timed
        }:
            raise CorpusError(f"its columns are not those of a trace: {', '.join(schema.names)}")
        self._metadata = metadata[KEY]
        _ = self.info

    @cached_property
    def info(self) -> TraceInfo:
        try:
            json_value(self._metadata)
            info = TraceInfo.model_validate_json(self._metadata)
        except ValidationError as error:
            raise CorpusError(f"damaged: what it says of itself is not valid ({error.error_count()} errors)") from error
        except ValueError as error:
            raise CorpusError(f"damaged: what it says of itself is not valid ({error})") from None
        if info.touches != self._rows:
            raise CorpusError(f"damaged: {self._rows} rows, but it speaks of {info.touches}")
        return info

    def _backwards(self) -> Iterator[Chunk]:
        for group in reversed(range(self._file.num_row_groups)):
            yield from reversed(list(self._batches(ROWS, True, [group])))

    def _chunks(self, rows: int, times: bool) -> Iterator[Chunk]:
        yield from self._batches(rows, times, None)

    def _batches(self, rows: int, times: bool, groups: list[int] | None) -> Iterator[Chunk]:
        columns = ["page", "op", *(["time_ns"] if self.timed and times else []), "stream"]
        batches = self._file.iter_batches(batch_size=rows, row_groups=groups, columns=columns, use_threads=False)
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                if any(column.null_count for column in batch.columns):
                    raise CorpusError("damaged: a column has gaps")
                got = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in columns}
            except CorpusError:
                raise
            except Exception as error:
                raise CorpusError(f"damaged: {_first_line(error)}; import it again") from error
            chunk = Chunk(got["page"], got["op"], got.get("time_ns"), got["stream"])
            self._check(chunk)
            yield chunk

    def _check(self, chunk: Chunk) -> None:
        bounds = (("page", chunk.pages, self.info.pages), ("op", chunk.ops, 2))
        for name, column, bound in (*bounds, ("stream", chunk.stream, len(self.info.streams))):
            if len(column) and int(column.max()) >= bound:
                raise CorpusError(f"damaged: {name} {int(column.max())}, but they are below {bound}; import it again")


class NpyTrace(Trace):
    """A .npy file of dense page numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        rows = mapped(path)
        self._pages: NDArray[np.integer] = rows if rows.ndim == 1 else rows[0]
        self._ops: NDArray[np.integer] | None = None if rows.ndim == 1 else rows[1]

    @cached_property
    def info(self) -> TraceInfo:
        found, most, writes = ContentHash(False), -1, 0
        for chunk in self.chunks():
            found.update(chunk)
            most = max(most, int(chunk.pages.max()))
            writes += int(np.count_nonzero(chunk.ops))
        return TraceInfo(
            sha256=found.hexdigest(), touches=len(self._pages), writes=writes, pages=most + 1, streams=[""]
        )

    def __len__(self) -> int:
        return len(self._pages)

    def sha256(self) -> str:
        return self.info.sha256

    def _chunks(self, rows: int, times: bool) -> Iterator[Chunk]:
        yield from self._from(range(0, len(self._pages), rows), rows)

    def _backwards(self) -> Iterator[Chunk]:
        yield from self._from(reversed(range(0, len(self._pages), ROWS)), ROWS)

    def _from(self, starts: Iterable[int], rows: int) -> Iterator[Chunk]:
        for start in starts:
            pages = np.asarray(self._pages[start : start + rows])
            ops = np.zeros(len(pages), np.uint8) if self._ops is None else np.asarray(self._ops[start : start + rows])
            if not 0 <= int(pages.min()) <= int(pages.max()) < MOST_PAGES:
                raise CorpusError(
                    f"page numbers must lie in 0..{MOST_PAGES - 1}, not {int(pages.min())}..{int(pages.max())}; "
                    f"{IMPORT_IT}"
                )
            if not 0 <= int(ops.min()) <= int(ops.max()) <= WRITE:
                raise CorpusError(
                    f"recorded operations are 0 (read) or 1 (write), not {int(ops.min())}..{int(ops.max())}"
                )
            yield Chunk(pages.astype(np.uint32), ops.astype(np.uint8), None, np.zeros(len(pages), np.uint32))


def mapped(path: Path) -> NDArray[np.integer]:
    """The array of a .npy file: one row of integers, or two; CorpusError for anything else."""
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise CorpusError(f"this is no .npy file, which begins with \\x93NUMPY; {IMPORT_IT}, from many formats")
    try:
        with warnings.catch_warnings(action="ignore"):  # that Python 2 wrote it
            rows: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged header NumPy lets errors of many kinds pass
        raise CorpusError(f"this .npy file is damaged, cut, or holds no plain array ({_first_line(error)})") from error
    if not np.issubdtype(rows.dtype, np.integer):
        raise CorpusError(f"page numbers are integers, but the array holds {rows.dtype}")
    if rows.ndim != 1 and not (rows.ndim == 2 and len(rows) == 2):
        raise CorpusError(
            f"its shape is {'x'.join(map(str, rows.shape)) or 'that of a single number'}; wanted is one row of page "
            "numbers, or a row of them and one of operations"
        )
    return rows


def open_trace(path: Path | str) -> Trace:
    """The trace in a file, known by its first bytes. CorpusError names the file, what is wrong, and what to do."""
    path = Path(path)
    try:
        require_plain(path)
        with open(path, "rb") as file:
            magic = file.read(4)
        return ParquetTrace(path) if magic == b"PAR1" else NpyTrace(path)
    except OSError as error:
        raise CorpusError(f"trace {path}: {error.strerror or error}") from error
    except CorpusError as error:
        raise CorpusError(f"trace {path}: {error}") from error


def content_sha256(path: Path | str) -> str:
    """The hash of what a trace file holds, whatever kind of file it is; CorpusError when it cannot be replayed."""
    return open_trace(path).sha256()


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return text[:200] or type(error).__name__


def info_as_json(info: TraceInfo) -> dict[str, Any]:
    """The info as plain values."""
    loaded: dict[str, Any] = json.loads(info.model_dump_json(by_alias=True))
    return loaded
