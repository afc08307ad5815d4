"""What comes from outside, as the engine takes it: numbers, arrays and paths, or an error in words.

Arrays are looked at here for what NumPy would cut without a word (a negative page number, an op of 256 or 0.7). The
engine copies them, and checks what depends on the VM in its copy.

What fingerprint content knows of the pages of a corpus takes 30 us a page to find out, which is most of what a small host
takes to make. So it is kept for the next host on the same corpus, for as long as the corpus is there.
"""

from collections.abc import Iterable, Iterator, Mapping
from mmap import mmap
from os import PathLike
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memvirt.engine.content import content as contents
from memvirt.errors import ConfigError
from memvirt.settings.config import HostConfig
from memvirt.settings.vm_config import GuestOptions
from memvirt.units import MAX_TIME, PAGE_SIZE, shown, suggest

if TYPE_CHECKING:
    from memvirt.engine.content.codec import Codec
    from memvirt.engine.content.fingerprints import Fingerprints
    from memvirt.engine.content.source_table import SourceTable

PageBytes = np.ndarray[Any, np.dtype[np.uint8]]
TableKey = tuple[int, str, int, str]  # the id of a corpus's pages; the codec's name, level and route

DISCARD, DISCARD_LAZILY = 3, 4  # ops; the last that there are
FEWEST_ROWS, MOST_ROWS = 3, 1 << 20  # of samples; a row is half a KiB, and more with many VMs
KEPT_SOURCES = 1 << 19  # in all tables that are kept, their spare ones included: 50 MB
A_BATCH = "(pages, ops[, sources[, work_ns[, due_ns]]])"


def whole(what: str, value: int, bits: int) -> int:
    """A number of at most that many bits; ConfigError for any other."""
    if not isinstance(value, int | np.integer) or not 0 <= value < 1 << bits:
        raise ConfigError(f"{what}: {shown(value)}; 0 to {(1 << bits) - 1} is the range")
    return int(value)


def sample_step(rows: int, step_ns: int) -> tuple[int, int]:
    """How many samples there may be, and how far apart in simulated time; ConfigError for what cannot be."""
    rows, step_ns = whole("rows", rows, 32), whole("step_ns", step_ns, 63)
    if not FEWEST_ROWS <= rows <= MOST_ROWS or not 1 <= step_ns <= MAX_TIME:
        raise ConfigError(
            f"samples: {rows} rows, {step_ns} ns apart; {FEWEST_ROWS} to {MOST_ROWS} rows and 1 to {MAX_TIME} ns are the "
            "ranges"
        )
    return rows, step_ns


def page_numbers(pages: ArrayLike) -> NDArray[np.uint32]:
    """Page numbers as the engine takes them (it copies them); ConfigError for what is none."""
    array = np.asarray(pages)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):  # a timedelta64 is an np.integer
        raise ConfigError(
            f"page numbers: an array of {array.dtype} with {array.ndim} dimensions; one of integers is needed"
        )
    if array.size and array.dtype != np.uint32 and (int(array.min()) < 0 or int(array.max()) >= 1 << 32):
        raise ConfigError(f"page numbers: {int(array.min())} to {int(array.max())}; 0 to {2**32 - 1} is the range")
    return np.ascontiguousarray(array, dtype=np.uint32)


def op_codes(ops: ArrayLike) -> NDArray[np.uint8]:
    """Op codes, or a bool per access, as the engine takes them (it copies them); ConfigError for what is none. Floats
    are taken where they are whole: numpy makes them of ones() and zeros()."""
    array = np.asarray(ops)
    if array.ndim != 1:
        raise ConfigError(f"ops: an array with {array.ndim} dimensions; one op or bool per access is needed")
    if array.dtype in (np.uint8, np.bool_):
        return np.ascontiguousarray(array).view(np.uint8)
    if array.size and array.dtype.kind not in "iuf":
        raise ConfigError(f"ops: an array of {array.dtype}; one op or bool per access is needed")
    wrong = ~((array >= 0) & (array <= DISCARD_LAZILY) & (array == np.floor(array))) if array.size else array
    if wrong.any():
        at = int(wrong.argmax())
        raise ConfigError(f"ops[{at}] is {array[at]}; 0 read, 1 write, 2 fill, 3 discard, 4 discard lazily")
    return array.astype(np.uint8)


def times(what: str, values: ArrayLike) -> NDArray[np.int64]:
    """Simulated times in ns, one or a row of them; ConfigError for what is none."""
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ConfigError(f"{what}: an array of {array.dtype} with {array.ndim} dimensions; whole ns are needed")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < 1 << 63:
        raise ConfigError(f"{what}: {int(array.min())} to {int(array.max())} ns; no time is negative")
    return np.ascontiguousarray(array, dtype=np.int64)


def of_vms(streams: Mapping[Any, Iterable[Any]]) -> Mapping[Any, Iterable[Any]]:
    """What a run is told; ConfigError for what is no dict."""
    if not isinstance(streams, Mapping):
        raise ConfigError(
            f"run: an object of type {type(streams).__name__} does not say which VM does what; {{vm: stream}} does"
        )
    return streams


class Batches(Iterator[tuple[Any, Any, Any, int, Any]]):
    """What a stream yields: page numbers, ops, sources or None, work after each access, due times or None. No generator,
    which is over once anything was raised in it: a stream that has raised, or whose batch was refused, is asked again."""

    def __init__(self, what: str, stream: Iterable[Any]) -> None:
        if not (hasattr(stream, "__iter__") or hasattr(stream, "__getitem__")):
            raise ConfigError(
                f"{what}: an object of type {type(stream).__name__} is no stream; an iterable of batches {A_BATCH} is"
            )
        self._stream = iter(stream)

    def __next__(self) -> tuple[Any, Any, Any, int, Any]:
        batch = next(self._stream)
        size = len(batch) if hasattr(batch, "__len__") else 1
        if not 2 <= size <= 5:
            raise ConfigError(f"a batch of {size} parts, of type {type(batch).__name__}; {A_BATCH} is one")
        parts: list[Any] = [*batch, *(None, 0, None)[size - 2 :]]
        pages, ops, sources, work_ns, due_ns = parts
        return (
            page_numbers(pages),
            op_codes(ops),
            None if sources is None else page_numbers(sources),
            whole("work_ns", work_ns, 63),
            None if due_ns is None else times("due_ns", due_ns),
        )


def _is_fixed(owner: Any) -> bool:
    """Whether nobody can write to an array's memory, through itself or through what it is a view of."""
    match owner:
        case None | bytes():
            return True
        case np.ndarray():
            return not owner.flags.writeable and _is_fixed(owner.base)
        case memoryview():
            return owner.readonly and _is_fixed(owner.obj)
        case mmap():
            return memoryview(owner).readonly
    return False


def corpus_pages(corpus: Any) -> PageBytes:
    """The pages of a corpus, read-only, so that what was looked at is what is used; ConfigError for what is none. They
    are copied unless their memory is read-only: a frozen array, bytes, a file mapped for reading."""
    pages = np.asarray(getattr(corpus, "pages", corpus))
    if pages.ndim != 2 or pages.shape[1] != PAGE_SIZE or pages.dtype != np.uint8 or not len(pages) or pages[0].any():
        raise ConfigError(
            f"corpus: an array of {pages.dtype} of shape {pages.shape}; uint8 [n, {PAGE_SIZE}] with a zero page first "
            f"is needed"
        )
    if not _is_fixed(pages) or not pages.flags.c_contiguous:
        pages = pages.copy()
        pages.flags.writeable = False
    return pages


def content(config: HostConfig, corpus: Any, codec: Any) -> Any:
    """The engine's content over a corpus, or over what is known of one."""
    from memvirt.engine.content.fingerprints import Fingerprints

    if hasattr(corpus, "table"):
        if config.has_bytes:
            raise ConfigError("content: the corpus is fingerprints, which have no bytes; set content to 'fingerprint'")
        return Fingerprints(config.memory, codec=codec, table=corpus.table(codec.name, codec.level))
    pages = None if corpus is None else corpus_pages(corpus)
    # An array that the caller froze can be thawed. Of a corpus nobody changes the pages: it is known by their hash.
    if pages is getattr(corpus, "pages", None) and pages is not None and not config.has_bytes:
        return _of_known_pages(config.memory, pages, codec)
    kind = contents.Bytes if config.has_bytes else Fingerprints
    return kind(config.memory, None if pages is None else pages[1:], codec)


def domains_of(domains: Mapping[str, int], vms: Mapping[str, object]) -> Mapping[str, int]:
    """VMs' domains; ConfigError for a VM that is not there, and for what is no domain."""
    for name, domain in domains.items():
        if name not in vms:
            raise ConfigError(f"domains: there is no VM '{name}'{suggest(name, list(vms))}")
        if isinstance(domain, bool) or not isinstance(domain, int) or not 0 <= domain < 1 << 31:
            raise ConfigError(f"domains: {shown(domain)} of VM '{name}'; a domain is a number from 0 to 2^31 - 1")
    return domains


_tables: "dict[TableKey, tuple[ref[PageBytes], SourceTable]]" = {}  # oldest first; none has been in a host


def _of_known_pages(nr_frames: int, pages: PageBytes, codec: "Codec") -> "Fingerprints":
    """Fingerprints over pages that never change, with a copy of the table that an earlier host's were made with."""
    from memvirt.engine.content.fingerprints import Fingerprints

    key = (id(pages), codec.name, codec.level, codec.route)
    of, known = _tables.get(key, (None, None))
    if of is not None and of() is pages:
        return Fingerprints(nr_frames, pages[1:], codec, known)
    made = Fingerprints(nr_frames, pages[1:], codec)
    _keep_table(key, pages, made.sources.copied())
    return made


def _keep_table(key: TableKey, pages: PageBytes, table: "SourceTable") -> None:
    """Until the pages go, or newer tables need the room."""
    from memvirt.engine.content.source_table import SPARE_SOURCES

    room = KEPT_SOURCES - table.nr_all - SPARE_SOURCES
    if room < 0:
        return
    while sum(kept.nr_all + SPARE_SOURCES for _, kept in list(_tables.values())) > room:
        _tables.pop(next(iter(_tables)), None)
    _tables[key] = (ref(pages, lambda _: _tables.pop(key, None)), table)


def swap_path(path: object, config: HostConfig) -> str | None:
    """The name of the file of `swap` as text; ConfigError where it is none, or there is no `swap`."""
    if path is None:
        return None
    name = path if isinstance(path, str | bytes) else path.__fspath__() if isinstance(path, PathLike) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"swap_path: {path!r} is no path; write text such as '/tmp/swap', or a pathlib.Path")
    if not config.swap:
        raise ConfigError(f"swap_path: {name!r} would be the file of `swap`, and this host has none; set swap")
    return name


def guest_arguments(options: GuestOptions, pages: int) -> dict[str, Any]:
    """The engine's arguments for a guest of a VM of `pages` pages."""
    return {
        "cache_border": pages - pages * options.cache_percent // 100,
        "swap_slots": options.swap,
        "kernel_pages": options.kernel_of(pages),
        "low_pages": options.low_pages,
        "high_pages": options.high_pages,
        "balloon_floor": options.balloon_floor,
        "oom_deflate_pages": options.oom_deflate_pages,
        "report_order": options.report_order,
        "elastic": options.elastic,
        "partition": options.partition or 0,
        "driver": options.driver,
        "base": pages * options.base_percent // 100,
        "report_delay_ns": options.report_delay,
        "replacement": options.replacement,
        "replacement_options": options.replacement_options,
        "swappiness": options.swappiness,
    }
