"""The bytes of a trace file, read once from front to back, whatever they are packed in.

A source is plain bytes, or a stream of gzip, zlib, Zstandard, xz, bzip2 or LZ4 frames, known by their first bytes and not
by the name of the file. Compressed data are expanded a piece at a time, so memory does not go with the file. What
expands without measure is refused: once more than `limit` bytes have come out, they may be no more than RATIO times
the bytes that went in. What the file itself holds is hashed on the way, so that a record can name it.

A frame that ends early, bytes behind the last frame, and memory beyond MOST_WINDOW for one frame are errors. Those name
the place in the file; places in expanded bytes are the reader's to add.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from memvirt.errors import CorpusError
from memvirt.units import format_bytes

PIECE = 1 << 20
HEAD = 1 << 16
FED = 1 << 14  # compressed bytes that a decoder is given at a time; Zstandard expands each to 32 KiB at most
MAGIC = 16  # bytes that are enough to know a frame by
RATIO = 250
EXPAND_LIMIT = 1 << 30
MOST_WINDOW = 1 << 28


class Decoder(Protocol):
    """One frame: eof when it is complete, then unused_data is what follows it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """gzip members and zlib streams, with the interface of the other decoders."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)
        self._full = False
        self._left = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._left + data, max_length)
        self._left = self._inner.unconsumed_tail
        self._full = len(out) == max_length
        return out

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._left and not self._full  # what came out whole may have more behind it


class _Zstd:
    """A Zstandard frame. The library has no bound on what one call gives back: it is fed a little at a time."""

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            raise CorpusError("it is compressed with Zstandard: pip install 'memvirt[inputs]'") from None
        self._inner = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW).decompressobj()
        self._left = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        data = self._left + data
        step = max(1, max_length >> 15)  # a block of four bytes can stand for 128 KiB
        self._left = data[step:]
        out: bytes = self._inner.decompress(data[:step])
        return out

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + self._left

    @property
    def needs_input(self) -> bool:
        return not self._left


def _xz() -> Decoder:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_WINDOW)


def _lz4() -> Decoder:
    import lz4.frame  # type: ignore[import-untyped]

    decoder: Decoder = lz4.frame.LZ4FrameDecompressor()
    return decoder


PACKINGS: dict[str, tuple[re.Pattern[bytes], Callable[[], Decoder]]] = {
    "gzip": (re.compile(rb"\x1f\x8b\x08[\0-\x1f]"), lambda: _Zlib(31)),
    "Zstandard": (re.compile(rb"\x28\xb5\x2f\xfd"), _Zstd),
    "xz": (re.compile(rb"\xfd7zXZ\0"), _xz),
    "bzip2": (re.compile(rb"BZh[1-9]1AY&SY"), bz2.BZ2Decompressor),
    "LZ4": (re.compile(rb"\x04\x22\x4d\x18"), _lz4),
    "zlib": (re.compile(rb"\x78[\x01\x9c\xda]"), lambda: _Zlib(15)),
}


class Source:
    """Bytes of one file. `offset` counts those that were read, `taken` those that came out of the file itself."""

    def __init__(self, file: BinaryIO, name: str, size: int | None = None, limit: int = EXPAND_LIMIT) -> None:
        """`size` is that of the file, where it is known; beyond `limit` expanded bytes the ratio is watched."""
        self.name, self.size = name, size
        self.packing: str | None = None
        self.offset = 0
        self.taken = 0
        self._file, self._limit = file, limit
        self._sha = hashlib.sha256()
        self._ahead: list[bytes] = []
        first = self._take(HEAD)
        self.packing = _packing(first)
        self._pieces = self._expanded(first) if self.packing else self._plain(first)

    def read(self, count: int) -> bytes:
        """The next bytes: `count` of them, fewer only where the file ends."""
        parts, wanted = [], count
        while wanted:
            piece = self._ahead.pop() if self._ahead else next(self._pieces, b"")
            if not piece:
                break
            parts.append(piece[:wanted])
            if len(piece) > wanted:
                self._ahead.append(piece[wanted:])
            wanted -= len(parts[-1])
        self.offset += count - wanted
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def peek(self, count: int) -> bytes:
        """What `read` will give next, without reading it."""
        seen = self.read(count)
        self.offset -= len(seen)
        if seen:
            self._ahead.append(seen)
        return seen

    def sha256(self) -> str:
        """Of the file's own bytes; what was not yet read is read now."""
        while self._take(PIECE):
            pass
        return self._sha.hexdigest()

    def path(self) -> Path | None:
        """The file, where its bytes are what is read and can be mapped."""
        plain = Path(self.name)
        return plain if self.packing is None and self.size is not None and os.path.isfile(plain) else None

    def _take(self, count: int) -> bytes:
        try:
            data = self._file.read(count)
        except OSError as error:
            raise CorpusError(f"cannot be read at byte {self.taken}: {error.strerror or error}") from error
        self.taken += len(data)
        self._sha.update(data)
        return data

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield data
            data = self._take(PIECE)

    def _expanded(self, data: bytes) -> Iterator[bytes]:
        """The bytes of all frames, one after the other."""
        make = PACKINGS[self.packing or ""][1]
        out = 0
        while True:
            decoder, fed = make(), data
            while not decoder.eof:
                if decoder.needs_input or fed:
                    fed = fed or self._take(FED)
                    if not fed:
                        raise CorpusError(f"the {self.packing} data end within a frame, at byte {self.taken}")
                piece, fed = self._decoded(decoder, fed), b""
                out += len(piece)
                if out > self._limit and out > RATIO * self.taken:
                    raise CorpusError(
                        f"{self.taken} bytes expand to more than {format_bytes(out)}, over {RATIO} times as many; "
                        f"if that is what you have, raise the limit: --expand-limit {format_bytes(4 * self._limit)}"
                    )
                if piece:
                    yield piece
            data = decoder.unused_data or b""
            data += self._take(FED) if len(data) < MAGIC else b""
            if not data.strip(b"\0"):  # padding up to a block of a tape
                while data := self._take(PIECE):
                    if data.strip(b"\0"):
                        raise CorpusError(
                            f"there is something behind the {self.packing} data, before byte {self.taken}"
                        )
                return
            if not PACKINGS[self.packing or ""][0].match(data):
                raise CorpusError(f"there is something behind the {self.packing} data, before byte {self.taken}")

    def _decoded(self, decoder: Decoder, data: bytes) -> bytes:
        try:
            return decoder.decompress(data, PIECE)
        except (CorpusError, MemoryError):
            raise
        except Exception as error:  # five libraries, each with errors of its own
            raise CorpusError(
                f"the {self.packing} data are damaged before byte {self.taken}, or want more than "
                f"{format_bytes(MOST_WINDOW)} of memory ({str(error).strip() or type(error).__name__})"
            ) from error


def _packing(head: bytes) -> str | None:
    """What the bytes are packed in."""
    name = next((name for name, (magic, _) in PACKINGS.items() if magic.match(head)), None)
    if name == "zlib":  # two bytes, with which other files begin too
        try:
            return name if zlib.decompressobj().decompress(head, 1) else None
        except zlib.error:
            return None
    return name


@contextmanager
def opened(name: str, limit: int = EXPAND_LIMIT) -> Iterator[Source]:
    """The source that a user names: a file, or "-" for standard input. CorpusErrors get the file's name in front."""
    try:
        if name == "-":
            yield Source(sys.stdin.buffer, "standard input", None, limit)
            return
        with open(name, "rb") as file:
            about = os.fstat(file.fileno())
            size = about.st_size if stat.S_ISREG(about.st_mode) else None
            yield Source(file, name, size, limit)
    except (OSError, CorpusError) as error:
        raise named(name, error) from error


def named(name: Any, error: OSError | CorpusError) -> CorpusError:
    """The error, with the file that it is about."""
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return CorpusError(text if text.startswith("trace ") else f"trace {name}: {text}")
