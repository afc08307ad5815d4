"""Corpus files, and the cache folder that keeps the default corpus.

A file is

    magic · u32 version · u32 header bytes · sha256 of the header · header (JSON) · zeros up to a page
    the payload: for "MVCORPUS" the pages, 4096 bytes each and aligned to their size, so that the file can be mapped;
                 for "MVPRINTS" the columns of fingerprints, one after the other (see memvirt.inputs.fingerprints)

all numbers little-endian. The header names and counts what follows, lists classes and provenance, and holds a hash of
the payload. Every byte is covered: magic, version and length by comparison, the header and the payload by their hashes,
the padding by being zero. So a damaged file is refused before anything is made of it, and nothing in a file is ever
executed. A file is written beside its place and moved there when complete; one that exists is replaced only when asked.
It can be read by its owner alone: the memory of a process may hold anything.
"""

import errno
import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memvirt.environment import memory_problem
from memvirt.errors import CorpusError
from memvirt.untrusted import json_value, require_plain

from .corpus import PAGE_SIZE, ClassTable, Corpus, PageClass
from .fingerprints import Column, Fingerprints, columns_of, from_columns

PAGES_MAGIC, PRINTS_MAGIC = b"MVCORPUS", b"MVPRINTS"
VERSION = 1  # 1 - first version.
PREFIX = struct.Struct("<8sII32s")
MAX_HEADER = 16 << 20
SUFFIX, PRINTS_SUFFIX = ".mvcorpus", ".mvprints"
POINTER = "default"

REMEDY = "capture a new one with 'memvirt corpus capture'"

Mover = Callable[[str, Path], None]  # puts a finished file, by its temporary name, into its place

_Kind = TypeVar("_Kind", Corpus, Fingerprints)


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    first: int
    pages: int


class _Header(BaseModel):
    """What both kinds of files say of themselves."""

    model_config = ConfigDict(extra="forbid", strict=True)
    pages: int = Field(ge=1, le=1 << 31)
    content_sha256: str
    classes: list[_Class]
    provenance: list[str]


class _PrintsHeader(_Header):
    """What a file of fingerprints says besides: the key's name, the codecs' routes, the columns in their order."""

    key_id: str = Field(pattern="^[0-9a-f]{16}$")
    routes: dict[str, str]
    columns: list[Column]


def save(corpus: ClassTable, path: Path, *, force: bool = False) -> None:
    """Write the corpus, or its fingerprints, to `path`: all or nothing.

    CorpusError if it cannot be written, and for a file that is there already unless `force` replaces it.
    """
    known = _known(len(corpus), corpus.sha256, corpus.classes, corpus.provenance)
    if isinstance(corpus, Fingerprints):
        columns, payload = columns_of(corpus)
        more: dict[str, Any] = {"key_id": corpus.key_id, "routes": corpus.routes, "columns": columns}
        text = _PrintsHeader(**known, **more).model_dump_json()
        _write_container(path, PRINTS_MAGIC, text.encode(), payload, force)
    elif isinstance(corpus, Corpus):
        text = _Header(**known).model_dump_json()
        _write_container(path, PAGES_MAGIC, text.encode(), [corpus.pages.data], force)
    else:
        raise TypeError(f"a {type(corpus).__name__} is neither a corpus nor fingerprints of one")


def pages_header(pages: int, sha256: str, classes: Sequence[PageClass], provenance: Sequence[str]) -> bytes:
    """The header of a file of pages."""
    return _Header(**_known(pages, sha256, classes, provenance)).model_dump_json().encode()


def _known(pages: int, sha256: str, classes: Sequence[PageClass], provenance: Sequence[str]) -> dict[str, Any]:
    """What both kinds of headers say."""
    return {
        "pages": pages,
        "content_sha256": sha256,
        "classes": [_Class(name=entry.name, first=entry.first, pages=entry.pages) for entry in classes],
        "provenance": list(provenance),
    }


def front(magic: bytes, header: bytes, room: int = 0) -> bytes:
    """What stands before the payload: whole pages, of `room` bytes where that is more than the header needs."""
    if room >= PREFIX.size + len(header) + PAGE_SIZE:
        header = header.ljust(room - PREFIX.size)
    prefix = PREFIX.pack(magic, VERSION, len(header), hashlib.sha256(header).digest())
    return prefix + header + bytes(-(len(prefix) + len(header)) % PAGE_SIZE)


def load(path: Path, *, mapped: bool = False) -> Corpus | Fingerprints:
    """Read and verify a corpus, or the fingerprints of one. `mapped`: its pages stay in the file, and all processes that
    map it share them; so do those that this machine's memory has no room for. CorpusError names the file, what is wrong
    with it, and what to do."""
    try:
        require_plain(path)
        with open(path, "rb") as file:
            return _read(file, mapped)
    except OSError as error:
        raise CorpusError(f"corpus {path} cannot be read: {error.strerror or error}; {REMEDY}") from error
    except CorpusError as error:
        raise CorpusError(f"corpus {path}: {error}; {REMEDY}") from error


def _write_container(path: Path, magic: bytes, header: bytes, payload: Iterable[memoryview], force: bool) -> None:
    def write(file: BinaryIO) -> None:
        file.write(front(magic, header))
        for part in payload:
            file.write(part)

    write_beside(path, write, mover(force))


def _read(file: BinaryIO, mapped: bool) -> Corpus | Fingerprints:
    prefix = file.read(PREFIX.size)
    magic = prefix[: len(PAGES_MAGIC)]
    if not prefix or not any(known.startswith(magic) for known in (PAGES_MAGIC, PRINTS_MAGIC)):
        raise CorpusError("this is not a memvirt corpus")
    if len(prefix) < PREFIX.size:
        raise CorpusError(f"truncated: {len(prefix)} bytes, less than the {PREFIX.size} before its header")
    _, version, header_bytes, digest = PREFIX.unpack(prefix)
    if version != VERSION:
        raise CorpusError(f"format version {version}, but this memvirt reads version {VERSION}")
    if header_bytes > MAX_HEADER:
        raise CorpusError(f"damaged: it claims a header of {header_bytes} bytes, the most is {MAX_HEADER}")
    text = file.read(header_bytes)
    if len(text) < header_bytes:
        raise CorpusError(f"truncated in the header: {len(text)} of {header_bytes} bytes")
    if hashlib.sha256(text).digest() != digest:
        raise CorpusError("damaged: the header does not match its hash")
    try:
        json_value(text)
        header = (_Header if magic == PAGES_MAGIC else _PrintsHeader).model_validate_json(text)
    except ValidationError as error:
        raise CorpusError(f"damaged: the header is not valid ({error.error_count()} errors)") from error
    except ValueError as error:
        raise CorpusError(f"damaged: the header is not valid ({error})") from None
    padding = -(PREFIX.size + header_bytes) % PAGE_SIZE
    if file.read(padding) != bytes(padding):
        raise CorpusError("truncated or damaged between header and pages")
    return _read_prints(file, header) if isinstance(header, _PrintsHeader) else _read_pages(file, header, mapped)


def _payload(file: BinaryIO, wanted: int, what: str, mapped: bool = False) -> NDArray[np.uint8]:
    there = os.fstat(file.fileno()).st_size - file.tell()
    if there != wanted:
        how = "truncated" if there < wanted else "damaged"
        raise CorpusError(f"{how}: {there} bytes of pages, but {what} are {wanted}")
    if mapped:
        return np.memmap(file, dtype=np.uint8, mode="r", offset=file.tell(), shape=(wanted,))
    return np.fromfile(file, dtype=np.uint8, count=wanted)


def _read_pages(file: BinaryIO, header: _Header, mapped: bool) -> Corpus:
    wanted = header.pages * PAGE_SIZE
    mapped = mapped or bool(memory_problem(wanted))
    payload = _payload(file, wanted, f"{header.pages} pages", mapped)
    payload.flags.writeable = False  # else each host would copy it: somebody might write to it
    corpus = Corpus(payload.reshape(-1, PAGE_SIZE), _classes(header), header.provenance)
    return _matching(corpus, header)


def _read_prints(file: BinaryIO, header: _PrintsHeader) -> Fingerprints:
    raw = _payload(file, sum(column.nbytes for column in header.columns), "the columns of its fingerprints")
    prints = from_columns(raw, header.columns, _classes(header), header.provenance, header.key_id, header.routes)
    return _matching(prints, header)


def _classes(header: _Header) -> list[PageClass]:
    return [PageClass(entry.name, entry.first, entry.pages) for entry in header.classes]


def _matching(corpus: _Kind, header: _Header) -> _Kind:
    if corpus.sha256 != header.content_sha256 or len(corpus) != header.pages:
        raise CorpusError("damaged: the pages do not match their hash")
    return corpus


def cache_folder() -> Path:
    """$MEMVIRT_CACHE, else $XDG_CACHE_HOME/memvirt, else ~/.cache/memvirt."""
    if own := os.environ.get("MEMVIRT_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "memvirt"


def kept_place(sha256: str, folder: Path, suffix: str = SUFFIX) -> Path:
    """Where a folder keeps a corpus of this content hash."""
    return folder / f"corpus-{sha256[:16]}{suffix}"


def keep(corpus: ClassTable, folder: Path) -> Path:
    """Store a corpus in a folder under its content hash; the file. One there that is damaged is written again."""
    suffix = PRINTS_SUFFIX if isinstance(corpus, Fingerprints) else SUFFIX
    path = kept_place(corpus.sha256, folder, suffix)
    try:
        whole = os.path.exists(path) and load(path).sha256 == corpus.sha256
    except CorpusError:
        whole = False
    if not whole:
        make_folder(folder)
        save(corpus, path, force=True)
    return path


def receive(file: bytes, sha256: str, path: Path) -> None:
    """Put a corpus file that came from elsewhere into place, whole and of this content hash or not at all. CorpusError."""

    def move(temporary: str, target: Path) -> None:
        if load(Path(temporary)).sha256 != sha256:
            raise CorpusError(f"{target.name}: came with another content than was asked for")
        os.replace(temporary, target)

    make_folder(path.parent)
    write_beside(path, lambda handle: _write_bytes(handle, file), move)


def make_folder(folder: Path) -> None:
    """The cache folder, with those above it: the only ones that are made unasked. CorpusError when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "make its folder writable, or set MEMVIRT_CACHE to one that is"
        raise CorpusError(f"{folder} cannot be written: {error.strerror or error}; {remedy}") from error


def require_makeable(folder: Path) -> None:
    """CorpusError when a cache folder cannot be there; makes none."""
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        raise _not_written(folder, OSError(None, f"{there} is no folder that can be written to"))


def require_writable(path: Path, *, force: bool = False) -> None:
    """CorpusError when `path` cannot be written, or is there and `force` is not given: known before pages are captured
    for it."""
    if not force and os.path.lexists(path):
        raise _exists(path)
    if os.path.isdir(path):
        raise _not_written(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    write_beside(path, lambda file: None, lambda temporary, _: os.unlink(temporary))


def default_corpus(capture: Callable[[], Corpus], folder: Path | None = None) -> Corpus | Fingerprints:
    """The corpus all runs on this machine use: what `capture` gives at the first call, the stored one from then on.

    A damaged default is an error and not captured anew in silence: records made before would no longer be repeatable.
    """
    folder = folder or cache_folder()
    pointer = folder / POINTER
    if not os.path.exists(pointer):
        make_folder(folder)
        require_writable(pointer, force=True)
        name = keep(capture(), folder).name
        write_beside(pointer, lambda file: _write_text(file, name), _link_first)
    try:
        name = pointer.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise CorpusError(f"{pointer}, which names the default corpus, cannot be read: {why}; remove it") from error
    if not name or Path(name).name != name:
        raise CorpusError(f"{pointer} does not name a corpus in its folder; remove it, and a new one is captured")
    try:
        return load(folder / name)
    except CorpusError as error:
        raise CorpusError(f"{error}, after removing {pointer}") from error


def has_default(folder: Path | None = None) -> bool:
    """Whether a corpus for all runs on this machine has been captured."""
    return os.path.exists((folder or cache_folder()) / POINTER)


def make_default(path: Path) -> None:
    """Let the pointer beside the corpus file name it as the default."""
    write_beside(path.parent / POINTER, lambda file: _write_text(file, path.name), os.replace)


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a text file, all or nothing; CorpusError as `save` raises it."""
    write_beside(path, lambda file: _write_text(file, text), mover(force))


def _write_bytes(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _write_text(file: BinaryIO, text: str) -> None:
    file.write(f"{text}\n".encode())


def _link_first(source: str, target: Path) -> None:
    """Move into place unless another process was first: then its file stands."""
    with suppress(FileExistsError):
        os.link(source, target)
    os.unlink(source)


def mover(force: bool) -> Mover:
    """How a finished file gets to its place: over one that is there, or not."""
    return os.replace if force else _link_new


def _link_new(source: str, target: Path) -> None:
    """Move into place where nothing is: a link fails if something came in between, a rename would not."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise _exists(target) from None
        os.replace(source, target)
        return
    os.unlink(source)


def _exists(path: Path) -> CorpusError:
    return CorpusError(f"{path} is there already; give another name, or --force to replace it")


def _not_written(path: Path, error: OSError) -> CorpusError:
    if isinstance(error, FileNotFoundError):
        return CorpusError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    if path.parent == cache_folder() or path == cache_folder():
        remedy = "make its folder writable, or set MEMVIRT_CACHE to one that is"
    else:
        remedy = "give a place that is writable and has room"
    return CorpusError(f"{path} cannot be written: {error.strerror or error}; {remedy}")


def write_beside(path: Path, write: Callable[[BinaryIO], None], move: Mover) -> None:
    """Write a file beside `path`, which also names it in errors, and move it into its place: all or nothing."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    except BaseException as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise _not_written(path, error) from error
        raise
