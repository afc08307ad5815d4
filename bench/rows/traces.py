"""Importing traces: the time of one record, from a file in the page cache to a trace in memvirt's own format.

Beside it stands what is demanded, as a fixed time: 5 million records a second of binary formats and 1.5 million of text.
libcachesim converts the same vscsi file to its oracleGeneral, one object a request; ours splits requests into pages, numbers
these, and hashes and compresses what it writes.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import Absent, Measure, Reference, Row, compare

from memvirt.inputs.traces import Wanted, import_trace
from memvirt.inputs.traces.formats.oracle_general import RECORD
from memvirt.inputs.traces.formats.vscsi import RECORDS
from rows.common import Pages, zipf

PAGES, LONG, SHORT = 1_000_000, 2_000_000, 1_000_000
BINARY_NS, TEXT_NS = 1e9 / 5e6, 1e9 / 1.5e6
HASHED = np.uint64(0x9E3779B97F4A7C15)


def rows(repeats: int) -> Iterator[Row]:
    pages = zipf(PAGES, LONG, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for form, make, records, demanded in FORMATS:
            source = place / form
            make(pages[:records], source)
            said = f"{1e3 / demanded:.1f} M records/s, as demanded"
            references = [Reference(name=said, measure=lambda demanded=demanded: demanded, target=1.0)]
            if form == "vscsi":
                references.append(
                    Reference(name="libcachesim converts", measure=converted(source, records), target=None)
                )
            what = f"trace import {form}, {records // 10**6} M records"
            yield from compare(what, imported(source, form, records), references, unit="ns/record", repeats=repeats)


def imported(source: Path, form: str, records: int) -> Measure:
    def measure() -> float:
        began = time.perf_counter()
        info = import_trace(str(source), source.with_suffix(".parquet"), Wanted(format=form))
        took = time.perf_counter() - began
        assert info.records == records
        return took * 1e9 / records

    return measure


def converted(source: Path, records: int) -> Measure:
    def measure() -> float:
        try:
            import libcachesim  # type: ignore[import-untyped]
        except ImportError:
            raise Absent("libcachesim is not installed") from None
        reader: Any = libcachesim.TraceReader(str(source), libcachesim.TraceType.VSCSI_TRACE)
        began = time.perf_counter()
        libcachesim.Util.convert_to_oracleGeneral(reader._reader, str(source.with_suffix(".oracle")))
        return (time.perf_counter() - began) * 1e9 / records

    return measure


def _oracle_general(pages: Pages, path: Path) -> None:
    rows = np.zeros(len(pages), dtype=RECORD)
    rows["time"], rows["id"], rows["size"], rows["next"] = np.arange(len(pages)) // 1000, pages * HASHED, 4096, -1
    rows.tofile(path)


def _vscsi(pages: Pages, path: Path) -> None:
    rows = np.zeros(len(pages), dtype=RECORDS[1])
    rows["bytes"], rows["command"], rows["version"], rows["time"] = 4096, 0x28, 0x100, np.arange(len(pages))
    rows["block"] = pages.astype(np.uint64) * np.uint64(8)
    rows.tofile(path)


def _lines(write: Callable[[int, int], str]) -> Callable[[Pages, Path], None]:
    def make(pages: Pages, path: Path) -> None:
        path.write_text("".join(write(number, page) for number, page in enumerate(pages.tolist())))

    return make


def _lackey(number: int, page: int) -> str:
    kind = ("I ", " L", " S", " L")[number % 4]
    return f"{kind} {0x7F0000000000 + 4096 * page:08x},8\n"


def _msr(number: int, page: int) -> str:
    return f"{128166372003061629 + number},srv,0,{('Read', 'Write')[number % 3 == 0]},{4096 * page},4096,913\n"


FORMATS: tuple[tuple[str, Callable[[Pages, Path], None], int, float], ...] = (
    ("oracle-general", _oracle_general, LONG, BINARY_NS),
    ("vscsi", _vscsi, LONG, BINARY_NS),
    ("lackey", _lines(_lackey), SHORT, TEXT_NS),
    ("msr", _lines(_msr), SHORT, TEXT_NS),
)
