"""What a page is like, in numbers: same-filled or not, its entropy, its size under each codec, a sketch of its content.

All of them are computed over arrays of pages, in chunks that stay in the cache. Sizes of single pages come from the
engine's own codec, so a run that is given them stores exactly what it would have stored of the bytes. Units of 16 and 64
KiB show what is gained where pages are compressed together (EROFS and btrfs do that, zram and zswap do not). Such a unit is
4 or 16 pages of one class that lie side by side; the last one may be shorter. Its size never counts as more than its bytes.

    entropy   of the bytes of a page, in 32nds of a bit: 0 (one value) to 255 (8 bits, less a trifle)
    sketch    8 values; the share of equal ones estimates the resemblance (Jaccard) of two pages' sets of 64-byte blocks.
              One-permutation minwise hashing (Li, Owen, Zhang: NIPS 2012): a block's hash names one of 8 bins, and each
              bin keeps the least of its hashes; EMPTY where it got none. 64-byte blocks are those of Difference Engine
              (Gupta et al., CACM 2010), which patches pages found alike by them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import ConfigError
from memvirt.names import CODECS

from .corpus import PAGE_SIZE, PageBytes, PageClass, Progress

if TYPE_CHECKING:
    from memvirt.engine.content.codec import Codec

BLOCK = 64  # bytes
BLOCKS = PAGE_SIZE // BLOCK
BINS = 8
EMPTY = np.uint32(0xFFFFFFFF)
CHUNK = 256  # pages: 1 MiB
UNIT_PAGES = (4, 16)  # 16 and 64 KiB
ENTROPY_STEPS = 32  # of a bit
DOES_NOT_FIT = PAGE_SIZE + 1  # as the engine has it: the codec's block is larger than a page

# n * log2(n) for n bytes of one value, in 2^-32: as integers, so that every machine rounds a sum in the same way.
_COUNTS = np.arange(PAGE_SIZE + 1, dtype=np.float64)
_SURPRISE = np.rint(np.multiply(_COUNTS, np.log2(_COUNTS, where=_COUNTS > 0, out=np.zeros_like(_COUNTS))) * 2.0**32)
_SURPRISE = _SURPRISE.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Compressed bytes under one codec at one level."""

    route: str  # the library that compressed, with its version
    page: NDArray[np.uint16]  # of each page; DOES_NOT_FIT for one that does not shrink
    tagged: NDArray[np.uint16]  # and with one word of it overwritten, as an access write does
    units: Mapping[int, NDArray[np.uint32]]  # pages of a unit -> of each unit, class after class


def codec_key(name: str, level: int) -> str:
    """What sizes are filed under: "zstd:1"."""
    return f"{name}:{level}"


def same_filled(pages: PageBytes) -> NDArray[np.bool_]:
    """Whether all 8-byte words of a page are equal."""
    words = pages.view("<u8")
    same: NDArray[np.bool_] = (words[:, 0] == words[:, -1]) & (words[:, 0] == words[:, words.shape[1] // 2])
    rows = np.flatnonzero(same)  # few: only these are looked at whole
    same[rows] = (words[rows] == words[rows, :1]).all(axis=1)
    return same


def entropy(pages: PageBytes) -> NDArray[np.uint8]:
    """Shannon entropy of each page's bytes, in 32nds of a bit, rounded down, at most 255."""
    found = np.empty(len(pages), np.uint8)
    rows = np.arange(CHUNK, dtype=np.int64)[:, None] << 8
    for start in range(0, len(pages), CHUNK):
        part = pages[start : start + CHUNK]
        counts = np.bincount((part + rows[: len(part)]).reshape(-1), minlength=len(part) << 8).reshape(-1, 256)
        # H = log2(4096) - sum(n log2 n) / 4096
        bits = (12 << 32) - (_SURPRISE[counts].sum(axis=1) >> 12)
        found[start : start + CHUNK] = np.minimum(bits * ENTROPY_STEPS >> 32, 255)
    return found


def hashes(pages: PageBytes, key: bytes) -> NDArray[np.uint64]:
    """A 64-bit hash of each page: BLAKE2b (RFC 7693) under a key, so a guess cannot be tested without it."""
    raw = b"".join([hashlib.blake2b(page.data, key=key, digest_size=8).digest() for page in pages])
    return np.frombuffer(raw, dtype="<u8").astype(np.uint64)


def siphash(messages: NDArray[np.uint64], key: bytes) -> NDArray[np.uint64]:
    """SipHash-2-4 (Aumasson and Bernstein, INDOCRYPT 2012) of each row of little-endian words, under a key of 16 bytes.

    A keyed hash made for short messages, here over thousands of them at once: 64 calls of a library for each page would
    take more time than all else that is measured of it.
    """
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    state = [np.full(len(messages), word ^ half, np.uint64) for word, half in zip(_SIP, (k0, k1, k0, k1), strict=True)]
    end = np.full(len(messages), (messages.shape[1] * 8 & 0xFF) << 56, np.uint64)
    for word in (*messages.T, end):
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= np.uint64(0xFF)
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


# "somepseudorandomlygeneratedbytes", the constants of SipHash
_SIP = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def _rounds(v: list[NDArray[np.uint64]], rounds: int) -> None:
    for _ in range(rounds):
        v[0] += v[1]
        v[1] = _rotated(v[1], 13) ^ v[0]
        v[0] = _rotated(v[0], 32)
        v[2] += v[3]
        v[3] = _rotated(v[3], 16) ^ v[2]
        v[0] += v[3]
        v[3] = _rotated(v[3], 21) ^ v[0]
        v[2] += v[1]
        v[1] = _rotated(v[1], 17) ^ v[2]
        v[2] = _rotated(v[2], 32)


def _rotated(words: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))


def sketches(pages: PageBytes, key: bytes) -> NDArray[np.uint32]:
    """The sketch of each page, BINS values of 32 bits, from hashes under a key of 16 bytes."""
    blocks = siphash(pages.view("<u8").reshape(-1, BLOCK // 8), key).reshape(len(pages), BLOCKS)
    values = np.minimum(blocks >> np.uint64(32), np.uint64(EMPTY - 1)).astype(np.uint32)
    bins = blocks & np.uint64(BINS - 1)
    return np.stack([np.where(bins == each, values, EMPTY).min(axis=1) for each in range(BINS)], axis=1)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that is measured of pages, one row each."""

    hash: NDArray[np.uint64]
    same_filled: NDArray[np.bool_]
    entropy: NDArray[np.uint8]
    sketch: NDArray[np.uint32]
    sizes: dict[str, Sizes]


def measure(
    pages: PageBytes,
    classes: Sequence[PageClass],
    codecs: Sequence[tuple[str, int | None]],
    page_key: bytes,
    block_key: bytes,
    progress: Progress | None = None,
) -> Measured:
    """Measure all pages, with sizes under each codec (name, level or None). ConfigError for a codec that is not there.

    `progress` is called with the pages done and the pages in all, where each codec goes over all of them once more.
    """
    from memvirt.engine.content.codec import open_codec

    opened = [open_codec(name, level) for name, level in codecs]
    n, total = len(pages), len(pages) * (1 + len(opened))
    found = Measured(
        np.empty(n, np.uint64), np.empty(n, np.bool_), np.empty(n, np.uint8), np.empty((n, BINS), np.uint32), {}
    )
    for start in range(0, n, CHUNK):
        part = slice(start, min(n, start + CHUNK))
        found.hash[part] = hashes(pages[part], page_key)
        found.same_filled[part] = same_filled(pages[part])
        found.entropy[part] = entropy(pages[part])
        found.sketch[part] = sketches(pages[part], block_key)
        if progress:
            progress(part.stop, total)
    for turn, codec in enumerate(opened, start=1):

        def done(of_this: int, turn: int = turn) -> None:
            if progress:
                progress(turn * n + of_this, total)

        found.sizes[codec_key(codec.name, codec.level)] = _sizes(pages, classes, codec, done)
    return found


def _sizes(pages: PageBytes, classes: Sequence[PageClass], codec: "Codec", done: Callable[[int], None]) -> Sizes:
    from memvirt.engine.content.sources import measured

    page, tagged = np.empty(len(pages), np.uint16), np.empty(len(pages), np.uint16)
    for start in range(0, len(pages), CHUNK):
        part = slice(start, start + CHUNK)
        page[part], tagged[part] = measured(pages[part], codec, start)
        done(start // 2)
    units = {unit: _unit_sizes(pages, classes, unit, codec.name, codec.level) for unit in UNIT_PAGES}
    done(len(pages))
    return Sizes(codec.route, page, tagged, units)


def unit_count(classes: Sequence[PageClass], unit: int) -> int:
    """Units of `unit` pages that the classes are cut into, the zero page's left out."""
    return sum(-(-entry.pages // unit) for entry in classes[1:])


def _unit_sizes(pages: PageBytes, classes: Sequence[PageClass], unit: int, name: str, level: int) -> NDArray[np.uint32]:
    if name not in COMPRESSORS:
        raise ConfigError(f"sizes under codec {name!r} cannot be measured in units")
    compress = COMPRESSORS[name](level)
    found = np.empty(unit_count(classes, unit), np.uint32)
    at = 0
    for entry in classes[1:]:
        for first in range(entry.first, entry.first + entry.pages, unit):
            part = pages[first : min(first + unit, entry.first + entry.pages)]
            found[at] = min(part.nbytes, len(compress(part.data)))
            at += 1
    return found


Compressor = Callable[[memoryview], bytes]


def _lz4(level: int) -> Compressor:
    import lz4.block  # type: ignore[import-untyped]

    return lambda data: bytes(lz4.block.compress(data, mode="fast", acceleration=level, store_size=False))


def _lz4hc(level: int) -> Compressor:
    import lz4.block

    return lambda data: bytes(lz4.block.compress(data, mode="high_compression", compression=level, store_size=False))


def _zstd(level: int) -> Compressor:
    import zstandard

    return zstandard.ZstdCompressor(level=level, write_content_size=False).compress


# What compresses more than a page at a level, by codec.
COMPRESSORS: Mapping[str, Callable[[int], Compressor]] = {"lz4": _lz4, "lz4hc": _lz4hc, "zstd": _zstd}


def available(names: Iterable[str] = CODECS) -> list[str]:
    """The codecs that this installation has."""
    from memvirt.engine.content.codec import open_codec

    found = []
    for name in names:
        try:
            open_codec(name)
        except ConfigError:
            continue
        found.append(name)
    return found
