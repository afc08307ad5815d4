"""Export: a trace as another program reads it.

csv               time_ns (where there are times), page, op (r or w), stream (where there are several, or a name). Read in
                  again, it is the same trace to the digit.
oracle-general    libCacheSim's records of 24 bytes; an object is a page of 4096 bytes. They have no operations and no
                  streams, and count whole seconds: from the first touch on, where 32 bits cannot hold them otherwise.
                  The number of the next request of the same page is worked out from the end of the trace to its
                  beginning, a piece at a time, with one number in memory for each page.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import ConfigError, CorpusError
from memvirt.units import PAGE_SIZE, suggest

from .formats.oracle_general import RECORD, SECOND
from .trace import Chunk, Trace, pyarrow

NEVER = -1


def export_trace(trace: Trace, out: Path, form: str, progress: Callable[[int], None] = lambda done: None) -> list[str]:
    """Write a trace in the format of that name, all or nothing; what was lost by it, a sentence each."""
    if form not in EXPORTS:
        raise ConfigError(f"cannot export to '{form}'{suggest(form, list(EXPORTS))} (formats: {', '.join(EXPORTS)})")
    if os.path.exists(out) and out.samefile(trace.path):
        raise CorpusError(f"{out} is the trace that is exported; write to another file")
    return EXPORTS[form](trace, out, progress)


def _csv(trace: Trace, out: Path, progress: Callable[[int], None]) -> list[str]:
    arrow = pyarrow()
    from pyarrow import csv  # type: ignore[import-untyped]

    labels = _labels(trace.info.streams)
    names, quoted = arrow.array(labels), any(mark in name for name in labels for mark in ',"')
    columns = [("time_ns", arrow.uint64())] if trace.timed else []
    columns += [("page", arrow.uint32()), ("op", arrow.string())]
    columns += [("stream", arrow.string())] if trace.info.streams not in ([], [""]) else []
    schema, kinds, done = arrow.schema(columns), arrow.array(["r", "w"]), 0
    with _beside(out) as part, open(part, "wb") as file:
        # "needed" puts every text into quotes, and quoted files are read slowly.
        options = csv.WriteOptions(quoting_style="needed" if quoted else "none", quoting_header="none")
        with csv.CSVWriter(file, schema, write_options=options) as writer:
            for chunk in trace.chunks():
                made = {
                    "time_ns": chunk.time_ns,
                    "page": chunk.pages,
                    "op": kinds.take(arrow.array(chunk.ops)),
                    "stream": names.take(arrow.array(chunk.stream)) if "stream" in schema.names else None,
                }
                writer.write_table(arrow.table([made[name] for name in schema.names], schema=schema))
                done += len(chunk.pages)
                progress(done)
    return []


def _labels(names: list[str]) -> list[str]:
    """The streams' names as a line of text can hold them, all different: else their numbers."""
    plain = [name for name in names if name.isprintable() and name == name.strip()]
    return names if len(set(plain)) == len(names) else [f"stream {number}" for number in range(len(names))]


def _oracle_general(trace: Trace, out: Path, progress: Callable[[int], None]) -> list[str]:
    info = trace.info
    first = info.first_ns or 0
    origin = first if (info.last_ns or 0) // SECOND >= 1 << 32 else 0
    if ((info.last_ns or 0) - origin) // SECOND >= 1 << 32:
        raise CorpusError("the trace lasts longer than 2^32 seconds, which oracleGeneral cannot say; export to csv")
    seen = np.full(info.pages, NEVER, dtype=np.int64)
    end = len(trace)
    with _beside(out) as part, open(part, "r+b") as file:
        if end:
            os.posix_fallocate(file.fileno(), 0, end * RECORD.itemsize)
        for chunk in trace.backwards():
            end -= len(chunk.pages)
            rows = np.zeros(len(chunk.pages), dtype=RECORD)
            if chunk.time_ns is not None:
                rows["time"] = (chunk.time_ns - np.uint64(origin)) // np.uint64(SECOND)
            rows["id"], rows["size"], rows["next"] = chunk.pages, PAGE_SIZE, _next(chunk, seen, end)
            file.seek(end * RECORD.itemsize)
            file.write(rows.tobytes())
            progress(len(trace) - end)
    lost = (
        [f"{info.writes} writes became requests like the others: oracleGeneral has no operations"]
        if info.writes
        else []
    )
    lost += [f"{len(info.streams)} streams became one: oracleGeneral has none"] if len(info.streams) > 1 else []
    lost += ["times count whole seconds"] if trace.timed else ["all times are 0: the trace has none"]
    return lost + (["times count from the first touch: seconds have 32 bits"] if origin else [])


def _next(chunk: Chunk, seen: NDArray[np.int64], begin: int) -> NDArray[np.int64]:
    """For each touch, the number of the next one of its page; `seen` has that of each page's first one behind the chunk,
    and is brought to before it."""
    order = np.argsort(chunk.pages, kind="stable")
    pages = chunk.pages[order]
    last = np.append(pages[1:] != pages[:-1], True)
    following = np.empty(len(pages), dtype=np.int64)
    following[order] = np.where(last, seen[pages], begin + np.append(order[1:], 0))
    first = np.append(True, last[:-1])
    seen[pages[first]] = begin + order[first]
    return following


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A file beside `out` that takes its place when all is written, and is removed otherwise."""
    try:
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part")
    except OSError as error:
        raise CorpusError(f"{out} cannot be written: {error.strerror or error}") from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(out)
    except OSError as error:
        raise CorpusError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


EXPORTS = {"oracle-general": _oracle_general, "csv": _csv}
