"""Corpus files, and the cache folder that keeps the default corpus.

A file is

    magic "MVCORPUS" · u32 version · u32 header bytes · sha256 of the header · header (JSON) · zeros up to a page
    the pages, 4096 bytes each, aligned to their size, so that the file can be mapped

all numbers little-endian. The header counts the pages, lists classes and provenance, and holds the content hash. Every
byte is covered: magic, version and length by comparison, the header and the pages by their hashes, the padding by being
zero. A file is written beside its place and moved there when complete.
"""

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memvirt.errors import CorpusError

from .corpus import PAGE_SIZE, Corpus, PageClass

MAGIC = b"MVCORPUS"
VERSION = 1  # 1 - first version.
PREFIX = struct.Struct("<8sII32s")
MAX_HEADER = 16 << 20
SUFFIX = ".mvcorpus"
POINTER = "default"

REMEDY = "capture a new one with 'memvirt corpus capture'"


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    first: int
    pages: int


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    pages: int = Field(ge=1, le=1 << 31)
    content_sha256: str
    classes: list[_Class]
    provenance: list[str]


def save(corpus: Corpus, path: Path) -> None:
    """Write the corpus to `path`, all or nothing. CorpusError if it cannot be written."""
    header = _Header(
        pages=len(corpus),
        content_sha256=corpus.sha256,
        classes=[_Class(name=entry.name, first=entry.first, pages=entry.pages) for entry in corpus.classes],
        provenance=list(corpus.provenance),
    ).model_dump_json()
    text = header.encode()
    prefix = PREFIX.pack(MAGIC, VERSION, len(text), hashlib.sha256(text).digest())

    def write(file: BinaryIO) -> None:
        file.write(prefix + text + bytes(-(len(prefix) + len(text)) % PAGE_SIZE))
        file.write(corpus.pages.data)

    _write_beside(path, write, os.replace)


def load(path: Path) -> Corpus:
    """Read and verify a corpus. CorpusError names the file, what is wrong with it, and what to do."""
    try:
        with open(path, "rb") as file:
            return _read(file)
    except OSError as error:
        raise CorpusError(f"corpus {path} cannot be read: {error.strerror or error}; {REMEDY}") from error
    except CorpusError as error:
        raise CorpusError(f"corpus {path}: {error}; {REMEDY}") from error


def _read(file: BinaryIO) -> Corpus:
    prefix = file.read(PREFIX.size)
    if prefix[: len(MAGIC)] != MAGIC[: len(prefix)] or not prefix:
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
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise CorpusError(f"damaged: the header is not valid ({error.error_count()} errors)") from error
    padding = -(PREFIX.size + header_bytes) % PAGE_SIZE
    if file.read(padding) != bytes(padding):
        raise CorpusError("truncated or damaged between header and pages")
    return _read_pages(file, header)


def _read_pages(file: BinaryIO, header: _Header) -> Corpus:
    there = os.fstat(file.fileno()).st_size - file.tell()
    wanted = header.pages * PAGE_SIZE
    if there != wanted:
        what = "truncated" if there < wanted else "damaged"
        raise CorpusError(f"{what}: {there} bytes of pages, but {header.pages} pages are {wanted}")
    pages = np.fromfile(file, dtype=np.uint8, count=wanted).reshape(-1, PAGE_SIZE)
    classes = [PageClass(entry.name, entry.first, entry.pages) for entry in header.classes]
    corpus = Corpus(pages, classes, header.provenance)
    if corpus.sha256 != header.content_sha256:
        raise CorpusError("damaged: the pages do not match their hash")
    return corpus


def cache_folder() -> Path:
    """$MEMVIRT_CACHE, else $XDG_CACHE_HOME/memvirt, else ~/.cache/memvirt."""
    if own := os.environ.get("MEMVIRT_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "memvirt"


def keep(corpus: Corpus, folder: Path) -> Path:
    """Store a corpus in a folder under its content hash; the file. One there that is damaged is written again."""
    path = folder / f"corpus-{corpus.sha256[:16]}{SUFFIX}"
    try:
        whole = path.exists() and load(path).sha256 == corpus.sha256
    except CorpusError:
        whole = False
    if not whole:
        save(corpus, path)
    return path


def require_writable(folder: Path) -> None:
    """CorpusError when nothing can be written there: known before pages are captured for it."""
    _write_beside(folder / POINTER, lambda file: None, lambda temporary, _: os.unlink(temporary))


def default_corpus(capture: Callable[[], Corpus], folder: Path | None = None) -> Corpus:
    """The corpus all runs on this machine use: what `capture` gives at the first call, the stored one from then on.

    A damaged default is an error and not captured anew in silence: records made before would no longer be repeatable.
    """
    folder = folder or cache_folder()
    pointer = folder / POINTER
    if not pointer.exists():
        require_writable(folder)
        name = keep(capture(), folder).name
        _write_beside(pointer, lambda file: _write_text(file, name), _link_first)
    try:
        name = pointer.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{pointer}, which names the default corpus, cannot be read: {error}; remove it") from error
    if not name or Path(name).name != name:
        raise CorpusError(f"{pointer} does not name a corpus in its folder; remove it, and a new one is captured")
    try:
        return load(folder / name)
    except CorpusError as error:
        raise CorpusError(f"{error}, after removing {pointer}") from error


def make_default(path: Path) -> None:
    """Let the pointer beside the corpus file name it as the default."""
    _write_beside(path.parent / POINTER, lambda file: _write_text(file, path.name), os.replace)


def _write_text(file: BinaryIO, name: str) -> None:
    file.write(f"{name}\n".encode())


def _link_first(source: str, target: Path) -> None:
    """Move into place unless another process was first: then its file stands."""
    with suppress(FileExistsError):
        os.link(source, target)
    os.unlink(source)


def _write_beside(path: Path, write: Callable[[BinaryIO], None], move: Callable[[str, Path], None]) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    except BaseException as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise CorpusError(
                f"{path} cannot be written: {error.strerror or error}; "
                "make its folder writable, or set MEMVIRT_CACHE to one that is"
            ) from error
        raise
