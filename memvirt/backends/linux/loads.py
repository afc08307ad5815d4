"""Accesses that are given to both sides: generated, or those of a recorded trace.

A load is filled first, page by page, with contents of which none is one word over and over: those never reach a device.
Then come its accesses, of which the first part warms up and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import ConfigError
from memvirt.inputs.bits import Bits
from memvirt.inputs.corpus import Corpus
from memvirt.inputs.traces import open_trace
from memvirt.workloads.base import WRITE
from memvirt.workloads.zipf import alias_table

TIMES = 8  # accesses a page
WARM = 4  # one part of so many warms up
MOST_TOUCHES = 1 << 22  # of a trace
LEAST_TRACE_PAGES = 64  # with fewer the kernel's batches of 32 are most of what there is

Pages = NDArray[np.uint32]
Pattern = Callable[[Bits, int, int], Pages]


def plain_pages(corpus: Corpus) -> Pages:
    """Pages of the corpus whose words are not all alike."""
    words = corpus.pages.view("<u8")
    return np.flatnonzero((words != words[:, :1]).any(axis=1)).astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Load:
    """Accesses to `pages` pages, of which `warm` come before anything is counted."""

    pages: int
    order: Pages
    ops: NDArray[np.uint8]
    warm: int
    sources: Pages


def load_of(pattern: str, pages: int, seed: int, corpus: Corpus, times: int = TIMES) -> Load:
    """So many accesses a page, of which a fifth write."""
    bits = Bits("validate", seed, "limit", pattern)
    count = times * pages
    order = PATTERNS[pattern](bits, pages, count)
    ops = (bits.below(5, count) == 0).astype(np.uint8)
    plain = plain_pages(corpus)
    return Load(pages, order, ops, count // WARM, plain[bits.below(len(plain), pages)])


def recorded(path: Path, seed: int, corpus: Corpus) -> Load:
    """The accesses of a trace, at most so many; ConfigError where they are no load."""
    trace = open_trace(path)
    left, order, ops = MOST_TOUCHES, [], []
    for chunk in trace.chunks(times=False):
        order.append(chunk.pages[:left])
        ops.append(chunk.ops[:left])
        left -= len(order[-1])
        if not left:
            break
    touched = np.concatenate(order) if order else np.zeros(0, np.uint32)
    pages = int(touched.max()) + 1 if len(touched) else 0
    if pages < LEAST_TRACE_PAGES:
        raise ConfigError(f"trace {path}: {pages} pages; a load under a limit needs {LEAST_TRACE_PAGES} or more")
    plain = plain_pages(corpus)
    sources = plain[Bits("validate", seed, "trace").below(len(plain), pages)]
    written = (np.concatenate(ops) == WRITE).astype(np.uint8)
    return Load(pages, touched.astype(np.uint32), written, len(touched) // WARM, sources)


def _uniform(bits: Bits, pages: int, count: int) -> Pages:
    return bits.below(pages, count)


def _zipf(bits: Bits, pages: int, count: int) -> Pages:
    """The hot pages scattered."""
    threshold, alias = alias_table(pages, 990)
    column = bits.below(pages, count).astype(np.int64)
    rank = np.where(bits.u32(count) < threshold[column], column, alias[column])
    return bits.permutation(pages)[rank.astype(np.int64)]


def _loop(bits: Bits, pages: int, count: int) -> Pages:
    return (np.arange(count) % pages).astype(np.uint32)


def _phases(bits: Bits, pages: int, count: int) -> Pages:
    """Four working sets of a quarter each, one after the other; each takes nine of ten accesses while it lasts."""
    quarter = pages // 4
    base = (np.arange(count) * 4 // count).astype(np.uint32) * np.uint32(quarter)
    inside = base + bits.below(quarter, count)
    return np.where(bits.below(10, count) == 0, bits.below(pages, count), inside).astype(np.uint32)


def _hot_and_scan(bits: Bits, pages: int, count: int) -> Pages:
    """Four of five accesses go to three tenths of the pages; the others are one scan of all, again and again."""
    hot = bits.permutation(pages)[: pages * 3 // 10]
    scanning = bits.below(5, count) == 0
    scan = np.cumsum(scanning) % pages
    return np.where(scanning, scan, hot[bits.below(len(hot), count)]).astype(np.uint32)


PATTERNS: Mapping[str, Pattern] = {
    "zipf": _zipf,
    "uniform": _uniform,
    "loop": _loop,
    "phases": _phases,
    "hot and scan": _hot_and_scan,
}
