"""Pages of files: one file (a memory image, a disk image, a part of a dump), or all regular files below a folder.

The last page of a file is padded with zeros, as in the page cache. Blocks that a sparse file does not have are no pages:
nothing ever wrote them. In a memory file that a hypervisor keeps sparse they are memory the guest never touched. In a
Firecracker *diff* snapshot they are pages that did not change. Either way they are left out, and counted.

The raw forms need no more than that: QEMU's pmemsave, the memory file of a Firecracker snapshot (guest regions one after
another, the gaps for devices not stored), VMware's .vmem, a raw disk. Dumps with a structure tell which parts of the file
are pages (memvirt.inputs.sources.dumps), and are read in the same way.
"""

import errno
import os
import stat
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from memvirt.errors import CorpusError
from memvirt.inputs.corpus import PAGE_SIZE, PageBytes

from .runs import Runs, make_runs

HOLES = "that the file has no blocks for left out"


class File:
    """A source: parts of one file. `at` is an offset in it."""

    def __init__(
        self,
        path: Path,
        handle: int,
        parts: Sequence[tuple[int, int, int]] | None = None,
        labels: Sequence[str] = ("file",),
        kind: str = "raw",
        left_out: Counter[str] | None = None,
    ) -> None:
        """`parts`: (offset, pages, label), in order and apart from one another; the whole file unless given. The file is
        open as `handle`, which this object closes."""
        self._handle = handle
        self._path = path
        self.size = os.fstat(handle).st_size
        self.name = f"{path} ({kind})"
        self.labels = labels
        self.left_out = left_out or Counter()
        whole = [(0, -(-self.size // PAGE_SIZE), 0)] if self.size else []
        self.runs, holes = without_holes(whole if parts is None else parts, data_ranges(handle, self.size))
        self.left_out[HOLES] += holes

    def close(self) -> None:
        os.close(self._handle)

    def read(self, at: int, rows: PageBytes) -> int:
        return read_padded(self._handle, self._path, self.size, at, rows)


class Folder:
    """A source: all regular files below a folder, in the order of their paths, each file once. Links are not followed.

    `at` counts bytes over all files, each rounded up to whole pages.
    """

    labels = ("files",)

    def __init__(self, path: Path) -> None:
        self.name = f"{path} (folder)"
        self.left_out: Counter[str] = Counter()
        self._open: tuple[int, int, Path, int] | None = None  # number, handle, path, size
        self._files: list[Path] = []
        seen = set()
        starts, pages = [], []
        total = 0
        for file in sorted(_files(path, self.left_out)):
            found = os.lstat(file)
            if not stat.S_ISREG(found.st_mode) or not found.st_size or (found.st_dev, found.st_ino) in seen:
                continue
            count = -(-found.st_size // PAGE_SIZE)
            if not os.access(file, os.R_OK):
                self.left_out["of files that this user may not read"] += count
                continue
            seen.add((found.st_dev, found.st_ino))
            self._files.append(file)
            starts.append(total * PAGE_SIZE)
            pages.append(count)
            total += count
        self._starts = starts
        self.runs: Runs = make_runs([(start, count, 0) for start, count in zip(starts, pages, strict=True)])

    def close(self) -> None:
        if self._open:
            os.close(self._open[1])
            self._open = None

    def read(self, at: int, rows: PageBytes) -> int:
        # Neighbouring files are read as one run: take what belongs to the first, the rest is asked for again.
        got = 0
        while got < len(rows):
            number = bisect_right(self._starts, at + got * PAGE_SIZE) - 1
            end = self._starts[number + 1] if number + 1 < len(self._starts) else at + rows.nbytes
            here = min(len(rows) - got, (end - at) // PAGE_SIZE - got)
            done = self._read_one(number, at + got * PAGE_SIZE - self._starts[number], rows[got : got + here])
            got += done
            if done < here:
                break
        return got

    def _read_one(self, number: int, at: int, rows: PageBytes) -> int:
        if self._open is None or self._open[0] != number:
            self.close()
            path = self._files[number]
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                return 0  # it went away, or became something else
            self._open = number, handle, path, os.fstat(handle).st_size
        _, handle, path, size = self._open
        return read_padded(handle, path, size, at, rows)


def open_regular(path: Path) -> int:
    """A handle on a regular file; CorpusError for what is none or cannot be opened."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe must not wait for a writer
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise CorpusError(f"{path} is no regular file; copy what is in it into one")


def read_padded(handle: int, path: Path, size: int, at: int, rows: PageBytes) -> int:
    """Fill rows from a file of this size; pages read. CorpusError when the file shrank or the disk fails."""
    wanted = max(0, min(rows.nbytes, size - at))
    flat = rows.reshape(-1)
    done = 0
    while done < wanted:
        try:
            got = os.preadv(handle, [flat[done:wanted].data], at + done)
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read at offset {at + done}: {error.strerror or error}") from error
        if not got:
            raise CorpusError(f"{path} shrank while it was read: {size} bytes before, no more than {at + done} now")
        done += got
    pages = -(-wanted // PAGE_SIZE)
    flat[wanted : pages * PAGE_SIZE] = 0
    return pages


def data_ranges(handle: int, size: int) -> list[tuple[int, int]]:
    """The parts [start, end) of a file that have blocks; all of it where the file system does not know."""
    found = []
    at = 0
    while at < size:
        try:
            start = os.lseek(handle, at, os.SEEK_DATA)
            at = os.lseek(handle, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data from here on
                break
            return [(0, size)]
        found.append((start, min(at, size)))
    return found


def without_holes(parts: Sequence[tuple[int, int, int]], data: Sequence[tuple[int, int]]) -> tuple[Runs, int]:
    """The runs of pages in which the file has data, and how many pages have none. Both lists are in order."""
    found: list[tuple[int, int, int]] = []
    holes = 0
    which = 0
    for at, pages, label in parts:
        end, kept_to = at + pages * PAGE_SIZE, 0  # pages of this part that are settled
        while which and data[which - 1][1] > at:
            which -= 1
        while which < len(data) and data[which][0] < end:
            start, stop = data[which]
            first = max(kept_to, (max(start, at) - at) // PAGE_SIZE)
            last = min(pages, -(-(stop - at) // PAGE_SIZE))
            if last > first:
                holes += first - kept_to
                found.append((at + first * PAGE_SIZE, last - first, label))
                kept_to = last
            if stop >= end:
                break
            which += 1
        holes += pages - kept_to
    return make_runs(found), holes


def _files(folder: Path, left_out: Counter[str]) -> list[Path]:
    """All files below a folder; folders that cannot be read are counted."""

    def failed(error: OSError) -> None:
        if error.filename == os.fspath(folder):
            raise CorpusError(f"{folder} cannot be read: {error.strerror or error}") from error
        left_out["or more of a folder that cannot be read"] += 1

    return [Path(root, name) for root, _, names in os.walk(folder, onerror=failed) for name in names]
