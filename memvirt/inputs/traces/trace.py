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
import os
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memvirt.errors import CorpusError

from .requests import U8, U32, U64, WRITE

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

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
    first_ns: int | None = None  # of times; None where there are none
    last_ns: int | None = None
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
        import pyarrow
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
            info = TraceInfo.model_validate_json(self._metadata)
        except ValidationError as error:
            raise CorpusError(f"damaged: what it says of itself is not valid ({error.error_count()} errors)") from error
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


class TraceWriter:
    """Writes memvirt's file beside its place; it is moved there by `close`, and removed when that does not come."""

    def __init__(self, path: Path, timed: bool) -> None:
        """CorpusError when nothing can be written there."""
        self._arrow = pyarrow()
        self._path, self._timed = path, timed
        self._hash = ContentHash(timed)
        self.touches = self.writes = 0
        self._waiting: list[Chunk] = []
        self._times: list[int] = []
        try:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        except OSError as error:
            raise CorpusError(f"{path} cannot be written: {error.strerror or error}") from error
        self._part = Path(name)
        self._file = os.fdopen(handle, "wb")
        self._out = self._arrow.parquet.ParquetWriter(
            self._file,
            self._schema(),
            compression="zstd",
            compression_level=1,
            use_dictionary=["op", "stream"],
            column_encoding={"page": "PLAIN"} | ({"time_ns": "DELTA_BINARY_PACKED"} if timed else {}),
            write_page_checksum=True,
        )

    def _schema(self) -> pa.Schema:
        arrow = self._arrow
        fields = [("page", arrow.uint32()), ("op", arrow.uint8())]
        fields += [("time_ns", arrow.uint64())] if self._timed else []
        return arrow.schema([arrow.field(*field, nullable=False) for field in (*fields, ("stream", arrow.uint32()))])

    def write(self, chunk: Chunk) -> None:
        """Add the next touches."""
        if not len(chunk.pages):
            return
        self._hash.update(chunk)
        self._waiting.append(chunk)
        self.touches += len(chunk.pages)
        self.writes += int(np.count_nonzero(chunk.ops))
        if chunk.time_ns is not None:
            self._times = [*self._times[:2], int(chunk.time_ns.min()), int(chunk.time_ns.max())]
            self._times = [min(self._times), max(self._times)]
        if sum(len(each.pages) for each in self._waiting) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            columns = [np.concatenate(parts) for parts in zip(*self._columns(self._waiting), strict=True)]
            arrays = [self._arrow.array(column) for column in columns]
            self._out.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema()), row_group_size=ROWS)
            self._waiting = []

    def _columns(self, chunks: Sequence[Chunk]) -> Iterator[list[NDArray[Any]]]:
        for chunk in chunks:
            time = [chunk.time_ns] if self._timed else []
            yield [column for column in (chunk.pages, chunk.ops, *time, chunk.stream) if column is not None]

    def close(self, about: dict[str, Any]) -> TraceInfo:
        """Put the file in its place. `about`: the fields of TraceInfo that the writer does not know."""
        first, last = self._times or (None, None)
        info = TraceInfo(
            sha256=self._hash.hexdigest(),
            touches=self.touches,
            writes=self.writes,
            first_ns=first,
            last_ns=last,
            **about,
        )
        self._flush()
        self._out.add_key_value_metadata({KEY: info.model_dump_json(by_alias=True)})
        self._out.close()
        self._file.close()
        os.chmod(self._part, 0o666 & ~_umask())
        os.replace(self._part, self._path)
        return info

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(Exception):
            self._out.close()
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return text[:200] or type(error).__name__


def info_as_json(info: TraceInfo) -> dict[str, Any]:
    """The info as plain values."""
    loaded: dict[str, Any] = json.loads(info.model_dump_json(by_alias=True))
    return loaded
