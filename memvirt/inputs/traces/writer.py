"""Writing memvirt's own trace file, chunk by chunk: see memvirt.inputs.traces.trace for what is in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError

from .trace import KEY, ROWS, Chunk, ContentHash, TraceInfo, pyarrow

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]


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
        with told(path):
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
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
            table = self._arrow.Table.from_arrays(arrays, schema=self._schema())
            with told(self._path):
                self._out.write_table(table, row_group_size=ROWS)
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
        with told(self._path):
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


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What goes wrong while a file is written is a CorpusError that names it, and not the file that is read."""
    try:
        yield
    except OSError as error:  # of which pyarrow makes some without strerror
        why = os.strerror(error.errno) if error.errno else str(error).rpartition("] ")[2]
        raise CorpusError(f"{path} cannot be written: {why}; give a place that is writable and has room") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
