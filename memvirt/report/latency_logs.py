"""Fault latencies as an HdrHistogram interval log, which the tools around that library read (plotters, mergers, wrk2's).

An interval is the measured phase of one cell, a line for each kind of fault, tagged CELL.KIND. Values are simulated
nanoseconds. A record's buckets are log-linear as the library's are: with two significant digits its buckets are finer
than ours, and each of our lower bounds begins one, so no count moves.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib import import_module

from memvirt.errors import ConfigError
from memvirt.report.escape import plain
from memvirt.results.record import Histogram, Record

LARGEST_NS = 1 << 47  # the engine's last bucket begins below
DIGITS = 2  # significant: 128 buckets for each power of two, twice the engine's
NS_PER_MS = 10**6


def dumps(records: Sequence[Record]) -> str:
    """The log of the records that have faults. ConfigError without the library."""
    try:
        log, histograms = import_module("hdrh.log"), import_module("hdrh.histogram")
    except ImportError as error:
        raise ConfigError(f"format 'hdr' needs hdrhistogram: pip install memvirt[report] ({error})") from None
    out = io.StringIO()
    writer = log.HistogramLogWriter(out)
    writer.output_comment("[memvirt: simulated ns of every fault of the measured phase; tag: cell.kind]")
    writer.output_comment("[Interval_Max: ns]")
    writer.output_log_format_version()
    writer.output_legend()
    for record in records:
        begin_ns, end_ns = _phase(record)
        for kind, pairs in record.histograms.items():
            histogram = histograms.HdrHistogram(1, LARGEST_NS, DIGITS, b64_wrap=True)
            _fill(histogram, pairs)
            histogram.set_start_time_stamp(begin_ns / NS_PER_MS)
            histogram.set_end_time_stamp(end_ns / NS_PER_MS)
            out.write(f"Tag={plain(record.cell)}.{plain(kind)},")
            writer.output_interval_histogram(histogram, max_value_unit_ratio=1)  # it divides to whole units
    return out.getvalue()


def _fill(histogram: object, pairs: Histogram) -> None:
    for value, count in pairs:
        histogram.record_value(value, count)  # type: ignore[attr-defined]


def _phase(record: Record) -> tuple[int, int]:
    """When the measured phase began and ended, in the cell's simulated time; from 0 where it has no time line."""
    rows = record.timeline.of_phase("measured")
    if not rows:
        return 0, max((vm["sim_ns"] for vm in record.vms.values()), default=0)
    return record.timeline.sim_ns[rows.start], record.timeline.sim_ns[rows.stop - 1]
