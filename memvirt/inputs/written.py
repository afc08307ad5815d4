"""A corpus that is written while it is captured: as fast as the sources give pages, in memory that does not grow with it.

Pages go through one buffer, which stays in the processor's caches: read into it, hashed there, and written from it, past the
page cache where the file system allows it. So no memory is touched for the first time, neither ours nor the page cache's,
which was most of what a capture took; and a machine whose memory is captured need not page it out for the sake of that.

The header stands in front of the pages and is known behind the last: it holds their hash, and what could not be read. Room
is left for the longest that it can become, and it is written when all else is. The hash begins with the class table. Where
pages could not be read that table is another one in the end, and the file is read once more for its hash.

Nothing is at its place before it is complete (memvirt.inputs.store).
"""

import errno
import fcntl
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from memvirt.errors import CorpusError
from memvirt.units import format_pages

from . import store
from .corpus import PAGE_SIZE, Corpus, PageBytes, PageClass, Progress, class_table_hash
from .sources import Taking

BUFFER_PAGES = 1024  # 4 MiB: what the caches hold, and enough for a disk to be busy with


def write(
    taking: Taking, path: Path | None, *, force: bool = False, progress: Progress | None = None
) -> tuple[Corpus, Path]:
    """Take pages of sources into a corpus file, all or nothing: the corpus, its pages mapped from the file, and the file.
    That lies at `path`, or without one in the cache folder, under the content's hash.

    CorpusError as Taking.read and store.save raise it, and beforehand where there is no room for so many pages.
    """
    target = path or store.kept_place("new", store.cache_folder())
    _require_space(target.parent, taking.pages)
    made: list[Corpus] = []

    def into_place(temporary: str, target: Path) -> None:
        if path is None:
            os.replace(temporary, store.kept_place(made[0].sha256, store.cache_folder()))
        else:
            store.mover(force)(temporary, target)

    store.write_beside(target, lambda file: made.append(_filled(file, taking, progress)), into_place)
    return made[0], path or store.kept_place(made[0].sha256, store.cache_folder())


def _require_space(folder: Path, pages: int) -> None:
    """CorpusError when a file system has less room; one that cannot tell will say so when it is full."""
    try:
        space = os.statvfs(folder)
    except OSError:
        return
    free = space.f_bavail * space.f_frsize // PAGE_SIZE
    if pages > free:
        raise CorpusError(
            f"capturing {format_pages(pages)} needs more room than the {format_pages(free)} that are free in {folder}; "
            "take a sample (--size), or give a place with more room (--out FILE)"
        )


def _filled(file: BinaryIO, taking: Taking, progress: Progress | None) -> Corpus:
    """Write the pages and the header into an empty file."""
    expected = taking.classes()
    longest = store.pages_header(taking.pages + 1, "0" * 64, expected, taking.longest_provenance())
    begin = len(store.front(store.PAGES_MAGIC, longest))
    pages = _Pages(file, begin, expected)
    past_the_cache(file.fileno(), True)
    classes, provenance = taking.read(pages, progress)
    pages.flush()
    past_the_cache(file.fileno(), False)
    sha256 = pages.digest.hexdigest() if classes == expected else _hashed(file, begin, classes)
    file.seek(0)
    file.write(store.front(store.PAGES_MAGIC, store.pages_header(pages.written, sha256, classes, provenance), begin))
    file.flush()
    rows = np.memmap(file, np.uint8, "r", begin, (pages.written, PAGE_SIZE))
    return Corpus(rows, classes, provenance, sha256)


class _Pages:
    """A destination: the pages of a corpus file from byte `begin` on, the zero page first."""

    def __init__(self, file: BinaryIO, begin: int, classes: list[PageClass]) -> None:
        self.digest = class_table_hash(classes)
        self.written = 0
        self._handle, self._begin = file.fileno(), begin
        # Anonymous memory, since what is written past the page cache has to begin on a page; it is zeros.
        self._buffer = np.frombuffer(mmap.mmap(-1, BUFFER_PAGES * PAGE_SIZE), np.uint8).reshape(-1, PAGE_SIZE)
        self._filled = 1

    def room(self, pages: int) -> PageBytes:
        if self._filled == len(self._buffer):
            self.flush()
        return self._buffer[self._filled : self._filled + pages]

    def keep(self, pages: int) -> None:
        self._filled += pages

    def flush(self) -> None:
        """Hash and write what is in the buffer."""
        filled = self._buffer[: self._filled].reshape(-1)
        self.digest.update(filled.data)
        done = 0
        while done < len(filled):
            done += self._write(filled[done:].data, self._begin + self.written * PAGE_SIZE + done)
        self.written, self._filled = self.written + self._filled, 0

    def _write(self, part: memoryview, at: int) -> int:
        try:
            return os.pwrite(self._handle, part, at)
        except OSError as error:
            if error.errno != errno.EINVAL or not past_the_cache(self._handle, False):
                raise
            return os.pwrite(self._handle, part, at)


def past_the_cache(handle: int, wanted: bool) -> bool:
    """Have a file written past the page cache, or not any more; whether that changed anything. Some file systems refuse,
    at once or when something is written."""
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    asked = flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT
    with suppress(OSError):
        fcntl.fcntl(handle, fcntl.F_SETFL, asked)
        return asked != flags
    return False


def _hashed(file: BinaryIO, begin: int, classes: list[PageClass]) -> str:
    """The content hash of a file's pages under this class table."""
    digest = class_table_hash(classes)
    file.seek(begin)
    while part := file.read(BUFFER_PAGES * PAGE_SIZE):
        digest.update(part)
    return digest.hexdigest()
