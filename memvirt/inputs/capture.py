"""Capture a corpus of this machine's own pages.

Files are taken whole, in an order drawn from the seed, their last page padded with zeros as in the page cache. So zero
pages and duplicates appear in the share they really have. What is captured depends on the machine; the choice, for
equal files, on the seed alone; the heap is a live process, whose addresses the kernel randomises.
"""

import os
import stat
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from memvirt.environment import memory_problem
from memvirt.errors import CorpusError
from memvirt.units import format_pages, suggest

from .bits import Bits
from .corpus import PAGE_SIZE, Corpus, PageBytes
from .heap import READY
from .sources.process import Process
from .sources.runs import Asked, take

DEFAULT_PAGES = 16384  # 64 MiB
LEAST_PAGES, MOST_PAGES = 96, 1 << 24
COPIES = 3  # of the corpus there are in memory at one time: classes, their whole, and what a class is made from
HEAP_SECONDS = 120
DEPTH = 2  # folders below the usual ones that are looked into; deeper lie other systems' trees
FILE_SHARE = 8  # one file makes up at most an eighth of its class

_Part = tuple[PageBytes, list[str]]


def capture(target_pages: int = DEFAULT_PAGES, seed: int = 1, classes: Sequence[str] | None = None) -> Corpus:
    """A corpus of about `target_pages` pages in these classes (all, unless named).

    A class falls short where the machine has less of it. CorpusError for an unknown class, one of which the machine has
    nothing, and sizes that are too small or beyond this machine's memory.
    """
    chosen = tuple(classes or SHARES)
    if found := problems(target_pages, seed, chosen):
        raise CorpusError("\n".join(found))
    total = sum(SHARES[name] for name in chosen)
    parts, provenance = [], []
    for name in chosen:
        pages, origins = SOURCES[name](target_pages * SHARES[name] // total, seed)
        if not len(pages):
            raise CorpusError(f"nothing to capture for class '{name}' on this machine; leave it out with --classes")
        parts.append((name, pages))
        provenance += [f"{name}: {origin}" for origin in origins]
    return Corpus.of(parts, provenance)


def problems(target_pages: int, seed: int, classes: Sequence[str]) -> list[str]:
    """Everything that forbids such a capture."""
    known = list(SHARES)
    found = [
        f"unknown class '{name}'{suggest(name, known)} (classes are {', '.join(known)})"
        for name in classes
        if name not in SHARES
    ]
    found += [f"class '{name}' is named twice" for name in dict.fromkeys(classes) if classes.count(name) > 1]
    if not LEAST_PAGES <= target_pages <= MOST_PAGES:
        sizes = f"{format_pages(LEAST_PAGES)} to {format_pages(MOST_PAGES)}, not {format_pages(target_pages)}"
        found.append(f"a corpus has {sizes}")
    elif problem := memory_problem(COPIES * target_pages * PAGE_SIZE):
        found.append(f"capturing {format_pages(target_pages)} {problem}; make the corpus smaller")
    if seed < 0:
        found.append(f"the seed of a corpus must not be negative, but is {seed}")
    return found


def from_files(kind: str, folders: Iterable[str], wanted: Callable[[str], bool], target: int, seed: int) -> _Part:
    """Whole files, in an order drawn from the seed, until there are `target` pages."""
    roots = {os.path.realpath(folder) for folder in folders}
    files = sorted({os.path.realpath(file) for root in roots for file in _files(root) if wanted(file)})
    pages, origins, total = [np.empty((0, PAGE_SIZE), dtype=np.uint8)], [], 0
    for index in Bits("capture", seed, kind).permutation(len(files)):
        if total >= target:
            break
        limit = min(target - total, max(1, target // FILE_SHARE))
        raw = _read(files[index], limit * PAGE_SIZE)
        if raw:
            padded = raw + bytes(-len(raw) % PAGE_SIZE)
            pages.append(np.frombuffer(padded, dtype=np.uint8).reshape(-1, PAGE_SIZE))
            origins.append(files[index])
            total += len(pages[-1])
    return np.concatenate(pages), origins


def libraries(target: int, seed: int) -> _Part:
    """Shared libraries of the system and of this interpreter."""
    folders = [sysconfig.get_path("platstdlib"), sysconfig.get_path("platlib"), "/usr/lib", "/usr/lib64", "/lib"]
    return from_files("libraries", folders, lambda file: ".so" in os.path.basename(file), target, seed)


def executables(target: int, seed: int) -> _Part:
    """Programs: ELF files in the usual folders, and this interpreter."""
    folders = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin", os.path.dirname(sys.executable)]
    return from_files("executables", folders, lambda file: _read(file, 4) == b"\x7fELF", target, seed)


def source(target: int, seed: int) -> _Part:
    """Text: Python's library, C headers, documentation."""
    folders = [sysconfig.get_path("stdlib"), "/usr/include", "/usr/share/doc"]
    endings = (".py", ".h", ".txt", ".rst", ".md", ".html", "copyright")
    return from_files("source", folders, lambda file: file.endswith(endings), target, seed)


def heap(target: int, seed: int) -> _Part:
    """The live heap of a Python process made for this: its heap and its anonymous memory, in extents drawn from all."""
    command = [sys.executable, "-m", "memvirt.inputs.heap", str(target), str(seed)]
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": paths}
    environment.pop("LD_PRELOAD", None)  # a sanitizer's allocator would leave its own pages on the heap, or refuse
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as child:
            late = threading.Timer(HEAP_SECONDS, child.kill)
            late.start()
            try:
                if child.stdout is None or child.stdout.readline().strip() != READY:
                    last = child.communicate()[1].strip().rpartition("\n")[2]
                    raise CorpusError(last or f"its process ended with {child.returncode}")
                pages = _heap_of(child.pid, target, seed)
            finally:
                late.cancel()
                child.kill()
    except (OSError, CorpusError) as error:
        raise CorpusError(f"the heap cannot be captured: {error}; leave class 'heap' out") from error
    return pages, [f"a CPython {sys.version.split()[0]} process"]


def _heap_of(pid: int, target: int, seed: int) -> PageBytes:
    process = Process(pid)
    try:
        wanted = [process.labels.index(label) for label in ("heap", "anonymous")]
        process.runs = process.runs[np.isin(process.runs["label"], wanted)]
        return take([Asked(process, "heap")], target, seed).pages[1:]
    finally:
        process.close()


def numeric(target: int, seed: int) -> _Part:
    """Arrays of 64-bit numbers, a quarter each: normal floats, a random walk, sorted integers, small integers."""
    bits = Bits("capture", seed, "numeric")
    quarter, words = -(-target // 4), -(-target // 4) * (PAGE_SIZE // 8)
    # The sum of twelve uniform numbers, less its mean, is normal for all that compression can tell.
    normal = sum((bits.u32(words) / 2.0**32 for _ in range(12)), start=np.full(words, -6.0))
    walk = np.cumsum(bits.below(2001, words).astype(np.int64) - 1000)
    arrays = [normal, walk, np.sort(bits.u32(words).astype(np.int64)), bits.below(1000, words).astype(np.int64)]
    pages = [array.view(np.uint8).reshape(quarter, PAGE_SIZE) for array in arrays]
    return np.stack(pages, axis=1).reshape(-1, PAGE_SIZE)[:target], [
        "made here: float64 normal, int64 random walk, sorted, small"
    ]


def noise(target: int, seed: int) -> _Part:
    """Incompressible pages, as encrypted or packed data are."""
    words = Bits("capture", seed, "random").u64(target * (PAGE_SIZE // 8))
    return words.view(np.uint8).reshape(target, PAGE_SIZE), ["made here: raw bits of Philox"]


# Parts of 16: what a fleet is mostly filled with gets most.
SHARES = {"libraries": 3, "executables": 1, "source": 2, "heap": 6, "numeric": 3, "random": 1}
SOURCES: dict[str, Callable[[int, int], _Part]] = {
    "libraries": libraries,
    "executables": executables,
    "source": source,
    "heap": heap,
    "numeric": numeric,
    "random": noise,
}


def _files(folder: str) -> Iterator[str]:
    """All files up to DEPTH folders below this one; folders that cannot be read are passed over."""
    for root, folders, names in os.walk(folder):
        if root.count(os.sep) - folder.count(os.sep) >= DEPTH:
            folders.clear()
        for name in names:
            yield os.path.join(root, name)


def _read(file: str, limit: int) -> bytes:
    """The beginning of a regular file; nothing where it cannot be read."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as stream:
        try:
            return stream.read(limit) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
        except OSError:
            return b""
