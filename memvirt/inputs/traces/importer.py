"""Import: a file in any format, to memvirt's own.

The source is read once, a piece at a time, and what comes out is written as it comes. Only the table that numbers pages
grows, with the footprint. The file appears when it is complete.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from memvirt.engine.traces.renumber import Renumber
from memvirt.errors import CorpusError, absence
from memvirt.untrusted import require_plain

from . import registry, source
from .registry import Format
from .requests import MOST_PAGES, Reading, Requests, touches
from .source import EXPAND_LIMIT, Source
from .trace import Chunk, TraceInfo, pyarrow
from .writer import TraceWriter, told


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a trace is to be imported."""

    format: str | None = None  # None: what the file looks like
    options: Mapping[str, Any] = field(default_factory=dict)
    fetches: bool = True
    most_pages: int = MOST_PAGES
    expand_limit: int = EXPAND_LIMIT
    map_file: Path | None = None  # where the map from page to what it was called goes


Progress = Callable[[Source, int], None]


def import_trace(file: str, out: Path, wanted: Wanted | None = None, progress: Progress | None = None) -> TraceInfo:
    """Read `file` ("-": standard input) and write it as memvirt's own to `out`, all or nothing.

    `progress` is called now and then with the source and the touches so far. CorpusError names the file, the place in
    it, and what to do; ConfigError what was asked wrongly.
    """
    wanted = wanted or Wanted()
    for path in (out, wanted.map_file):
        if path is not None:
            require_place(path, file)
    with source.opened(file, wanted.expand_limit) as opened:
        cls = registry.lookup(wanted.format) if wanted.format else registry.recognised(opened)
        form = registry.made(cls, wanted.options)
        reading = Reading(fetches=wanted.fetches, most_pages=wanted.most_pages)
        requests = form.read(opened, reading)

        def seen(done: int) -> None:
            if progress is not None:
                progress(opened, done)

        return convert(requests, reading, out, wanted.map_file, lambda: _about(opened, form, reading, wanted), seen)


def convert(
    requests: Iterable[Requests],
    reading: Reading,
    out: Path,
    map_file: Path | None,
    about: Callable[[], dict[str, Any]],
    progress: Callable[[int], None] = lambda done: None,
    empty: str = "is it in the format that was taken?",
) -> TraceInfo:
    """Write requests as a trace. `about` is asked at the end for what the file shall say of its source; `empty` is said
    to a user whose requests touch nothing."""
    table, streams = Renumber(), Renumber()
    chunks = _chunks(requests, reading, table, streams)
    first = next(chunks, None)
    if first is None:
        why = "; ".join(f"{reason}: {count}" for reason, count in sorted(reading.skipped.items()))
        raise CorpusError(f"nothing in it touches a page ({why or 'no records'}); {empty}")
    with TraceWriter(out, timed=first.time_ns is not None) as writer:
        writer.write(first)
        for chunk in chunks:
            if (chunk.time_ns is None) != (first.time_ns is None):
                raise CorpusError("some records have times and some have not")
            writer.write(chunk)
            progress(writer.touches)
        counted = {
            "pages": table.pages,
            "streams": _named(streams, reading.streams),
            "records": reading.records,
            "skipped": dict(sorted(reading.skipped.items())),
        }
        names = [name.decode("utf-8", "backslashreplace") for name in reading.spaces]
        if map_file is not None:
            _write_map(map_file, table, names, reading.labels)
        return writer.close({**counted, **about()})


def _named(streams: Renumber, names: Mapping[bytes, int]) -> list[str]:
    """The names of the streams that touched anything, in the order in which they first did."""
    known = list(names) or [b""]
    return [known[key].decode("utf-8", "backslashreplace") for key in streams.originals()[0].tolist()]


def _chunks(requests: Iterable[Requests], reading: Reading, table: Renumber, streams: Renumber) -> Iterator[Chunk]:
    for some in requests:
        for touched in touches(some, reading):
            if not len(touched.key):
                continue
            try:
                pages = table.number(touched.key, touched.space)
            except OverflowError as error:
                raise CorpusError(f"{error}; a trace can have no more") from error
            stream = np.zeros(len(pages), dtype=np.uint64) if touched.stream is None else touched.stream
            stream = streams.number(stream.astype(np.uint64))
            yield Chunk(pages, touched.ops, touched.time_ns, stream)


def _about(opened: Source, form: Format, reading: Reading, wanted: Wanted) -> dict[str, Any]:
    options = {key: str(value) for key, value in form.model_dump(mode="json", exclude_defaults=True).items()}
    return {
        "source": os.path.basename(opened.name),
        "source_sha256": opened.sha256(),
        "format": form.name,
        "options": options | ({} if wanted.fetches else {"fetches": "dropped"}),
        "time_unit": reading.time_unit or form.time_unit,
    }


def require_place(path: Path, source: str = "-") -> None:
    """CorpusError when a trace cannot be written there: known before long work. `source`: what is read meanwhile."""
    if why := absence(path.parent):
        raise CorpusError(f"there is no folder to write {path.name} into: {path.parent} {why}")
    if os.path.isdir(path):
        raise CorpusError(f"{path} is a folder; name a file")
    if not os.path.isdir(path.parent) or not os.access(path.parent, os.W_OK | os.X_OK):
        raise CorpusError(f"{path} cannot be written: nothing can be put into {path.parent}; name another place")
    if source != "-" and os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise CorpusError(f"{path} is the file that is read; write to another")
    if os.path.exists(path) and os.path.getsize(path) and not _is_ours(path):
        raise CorpusError(f"{path} is there already and is no trace; give another name")


def _is_ours(path: Path) -> bool:
    """Whether a file is one that is written here: Parquet, as traces and maps of pages are."""
    try:
        require_plain(path)
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def _write_map(path: Path, table: Renumber, spaces: list[str], labels: Mapping[bytes, int] | None) -> None:
    """Parquet with a row for each page: its number, what the source called it, and in which space."""
    arrow = pyarrow()
    keys, where = table.originals()
    columns: dict[str, Any] = {"page": np.arange(len(keys), dtype=np.uint32), "source": keys}
    if labels is not None:
        names = list(labels)
        columns["source"] = [names[key].decode("utf-8", "backslashreplace") for key in keys.tolist()]
    if len(spaces) > 1:
        columns["space"] = [spaces[space] for space in where.tolist()]
    with told(path):
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            arrow.parquet.write_table(arrow.table(columns), part, compression="zstd")
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
