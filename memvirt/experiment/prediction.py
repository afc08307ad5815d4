"""What a cell will cost this machine, before anything runs: seconds, and bytes of memory and disk.

Time goes to accesses that hit, pages that are filled, and accesses that miss; a miss costs a hundred hits, and how many
there are depends on the workload. So the beginning of one VM's stream is replayed through CLOCK, with the share of its
memory that the host can keep: that takes milliseconds. What a miss costs depends on where the page is.

The costs are processor time measured with suites of the quick and smoke tiers (bench/ has no row for them: they
need to be right within a factor of two, no better). Once cells have run, `Forecast` corrects the rest by what those took.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, cast

import numpy as np

from memvirt.experiment.fleet import Layout
from memvirt.experiment.living import Living
from memvirt.experiment.plan import Cell
from memvirt.experiment.scenario import Scenario
from memvirt.inputs.varied import KEPT_PAGES
from memvirt.results.record import Kind
from memvirt.settings.config import HostConfig
from memvirt.settings.vm_config import GuestOptions
from memvirt.simulation import simulate
from memvirt.units import PAGE_SIZE
from memvirt.workloads import Space, Stream

HOST_NS = 60_000_000  # a host made, its books closed
ACCESS_NS = 70  # a hit, with the making of its stream and of what is expected to be read back
FILL_NS = 2_500  # a page filled at boot and read back at the end
SWAP_NS = 3_500  # a miss whose page is on swap, with the eviction that makes room
POOL_NS = {"lz4": 6_000, "lz4hc": 65_000, "zstd": 20_000}  # ... is in the compressed cache
SCAN_NS = 1_500  # a page looked at by a scanner
GUEST_NS = 300  # more for a page of a guest
TOUCH_NS = 220  # a touch of a load: nearly all of them miss this machine's caches
DECISION_NS = 40_000  # a decider is asked
VIEW_NS = 7_000  # ... and shown a VM
AGES_NS = 25_000  # ... with the ages of its pages
SOURCE_NS = 40_000  # fingerprint content: a page of the corpus, or a variant of one, is hashed and compressed
CORPUS_PAGES = 1 << 13  # of a corpus, which a plan does not know
TRACE_NS = 40  # a request replayed through an order of replacement
SHARED = 0.75  # of the pages that are left when equal ones are merged
PILOT = 1 << 15  # accesses that are replayed
PROCESS_NS = 1_500_000_000  # a process of its own, in tier full

BASE_BYTES = 180 << 20  # Python, NumPy, the engine's code, a corpus
FRAME_BYTES = 64  # of the engine for each frame
PAGE_BYTES = 90  # for each page of a VM: entries, translations, what is expected to be read back


@dataclass(frozen=True, slots=True)
class Need:
    """What a cell takes of this machine."""

    memory_bytes: int
    disk_bytes: int  # files of swap and of guests' disks


def seconds(cell: Cell) -> float:
    """About how long the cell will run in a process of its own, on an idle core of 2 GHz."""
    return PREDICTIONS[cell.spec.kind].nanoseconds(cell) / 1e9


def seconds_after_another(cells: Sequence[Cell]) -> list[float]:
    """... how long each will run in a process that runs them all: the first of those that are filled from the same pages
    makes the tables of what is known of them, which the others copy."""
    seen, took = set(), []
    for cell in cells:
        variants = cast(Living, cell.spec).distinct_pages() if cell.spec.kind == "life" else 0
        filled_from = (variants, cell.host.codec, cell.host.codec_level)
        known = filled_from in seen and CORPUS_PAGES + variants <= KEPT_PAGES
        seen.add(filled_from)
        took.append(seconds(cell) - known * _sources_ns(cell, variants) / 1e9)
    return took


def need(cell: Cell) -> Need:
    """Memory and disk of this machine that the cell takes at its height."""
    return PREDICTIONS[cell.spec.kind].need(cell)


def _need_of_host(cell: Cell) -> Need:
    pages = sum(cell.sizes)
    memory = cell.bytes_needed() + FRAME_BYTES * cell.host.memory + PAGE_BYTES * pages + BASE_BYTES
    disk = (cell.host.swap_total + sum(_guest_disk(cell.guest, size) for size in cell.sizes)) * PAGE_SIZE
    return Need(memory, disk if cell.host.has_bytes else 0)


def _need_of_life(cell: Cell) -> Need:
    need, spec = _need_of_host(cell), cast(Living, cell.spec)
    files = spec.file_pages(cell.overcommit_percent)
    disk = files * PAGE_SIZE if cell.host.has_bytes else 0
    variants = PAGE_SIZE * spec.distinct_pages()
    return Need(need.memory_bytes + variants + (PAGE_BYTES + 8) * files + spec.trace_bytes(), need.disk_bytes + disk)


def timings_s(cells: Sequence[Cell], processes: int) -> float:
    """How long the samples of tier full will take: each runs a cell of the first seed in a process of its own."""
    first = min((cell.seed for cell in cells), default=0)
    hosted = [cell for cell in cells if cell.spec.times_wall and cell.seed == first]
    return sum(seconds(cell) + PROCESS_NS / 1e9 for cell in hosted) * processes


class Forecast:
    """How long a run goes on: what was predicted of the cells to come, corrected by what those before took."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._predicted = seconds_after_another(cells)
        self._noted = self._took = 0.0

    def note(self, index: int, took_s: float) -> None:
        """Cell number `index` has run."""
        self._noted += self._predicted[index]
        self._took += took_s

    def left_s(self, first: int) -> float:
        """Seconds for the cells from number `first` on."""
        factor = self._took / self._noted if self._noted else 1.0
        return sum(self._predicted[first:]) * factor


def _guest_disk(guest: GuestOptions | None, pages: int) -> int:
    return 0 if guest is None else guest.swap + pages * guest.cache_percent // 100


def _nanoseconds_of_trace(cell: Cell) -> float:
    return HOST_NS / 10 + cell.accesses() * TRACE_NS


def _need_of_trace(cell: Cell) -> Need:
    return Need(BASE_BYTES + 64 * sum(cell.sizes), 0)


def _nanoseconds_of_life(cell: Cell) -> float:
    per_page = FILL_NS + (SCAN_NS if cell.host.sharing else 0)
    used = HOST_NS + cell.accesses() * TOUCH_NS + sum(cell.sizes) * per_page
    return used + _sources_ns(cell, cast(Living, cell.spec).distinct_pages()) + _deciding_ns(cell)


def _sources_ns(cell: Cell, variants: int = 0) -> float:
    """For the tables that a host whose content is fingerprints has of what its VMs are filled from."""
    return 0.0 if cell.host.has_bytes else (CORPUS_PAGES + variants) * SOURCE_NS


def _deciding_ns(cell: Cell) -> float:
    """For a decider that is asked at intervals of simulated time."""
    decider, spec = cell.host.decider(), cast(Living, cell.spec)
    if decider is None:
        return 0.0
    each = VIEW_NS + (AGES_NS if getattr(decider, "wants_ages", True) else 0)
    return spec.time.lasts / decider.interval_ns * (DECISION_NS + len(cell.sizes) * each)


def _nanoseconds_of_host(cell: Cell) -> float:
    spec = cast(Scenario, cell.spec)
    layout, vms, host, cloned = Layout.of(spec.fleet, cell.sizes[0]), len(cell.sizes), cell.host, spec.fleet.cloned
    filled = layout.touched * (1 if cloned else vms)
    touched = layout.touched * vms
    merged = SHARED if host.sharing and not cloned else 1.0  # what clones have in common is shared from the start
    kept = min(1.0, _held(host, filled if cloned else touched) / merged / touched)
    accesses = cell.accesses() - sum(cell.sizes)
    cycles = 1 if spec.aging is None else (spec.aging.cycles + spec.aging.measured_cycles) // 2
    misses = _missed(spec, cell.seed, layout, kept) * max(0, accesses) + max(0.0, 1 - kept) * filled * cycles
    per_page = FILL_NS + (GUEST_NS if cell.guest is not None else 0)
    per_page += SCAN_NS * (1 + spec.settle_passes) if host.sharing else 0
    return HOST_NS + _sources_ns(cell) + accesses * ACCESS_NS + filled * cycles * per_page + misses * _miss_ns(host)


def _held(host: HostConfig, touched: int) -> float:
    """Pages of VMs that the host keeps in frames."""
    pool = host.memory * host.zpool_percent / 100 if touched > host.memory else 0
    return host.memory * 0.97 - pool


def _miss_ns(host: HostConfig) -> float:
    if not host.zpool_percent:
        return SWAP_NS
    return POOL_NS[host.codec] + (SWAP_NS if host.swap_total else 0) / 4


def _missed(spec: Scenario, seed: int, layout: Layout, kept: float) -> float:
    """The share of one VM's accesses that miss when `kept` of the pages it touched are in memory."""
    if kept >= 1 or spec.measured is None:
        return 0.0 if kept >= 1 else 1 - kept
    space, stream = Space(layout.live, layout.image), Stream(seed, 0, "measured")
    first = list(islice(spec.measured.batches(space, stream), 1))
    if not first or not len(first[0].pages):
        return 0.0
    pages = np.asarray(first[0].pages[:PILOT], dtype=np.uint32)
    boot = np.arange(layout.live, dtype=np.uint32)
    missed = simulate("clock", np.concatenate([boot, pages]), max(1, int(layout.live * kept)))
    return max(0, missed - len(boot)) / len(pages)


class _Prediction(NamedTuple):
    """What a kind of scenario costs."""

    nanoseconds: Callable[[Cell], float]
    need: Callable[[Cell], Need]


PREDICTIONS: Mapping[Kind, _Prediction] = {
    "fleet": _Prediction(_nanoseconds_of_host, _need_of_host),
    "life": _Prediction(_nanoseconds_of_life, _need_of_life),
    "trace": _Prediction(_nanoseconds_of_trace, _need_of_trace),
}
