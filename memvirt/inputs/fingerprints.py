"""Fingerprints of a corpus: what a run needs to know of its pages, and none of their bytes.

Captured memory cannot be published: it holds keys, passwords and other people's text. But sharing needs no more of a
page than which other pages equal it, and compression no more than how small it gets. So of each page there is

    hash       64 bits of BLAKE2b under a key                 sharing, exactly
    flags      same-filled, and of zeros
    sizes      under each codec as it is, and with one word overwritten as an access write does;
               and of units of 16 and 64 KiB of neighbours   compression, exactly; after writes, nearly
    entropy    in 32nds of a bit
    sketch     of its 64-byte blocks, under the same key     how alike two pages are

Hosts with `content = "fingerprint"` run on that. After whole scans their sharing counts are those of the bytes but for one
case: two pages that differ in a single word, and then get the same value written there, become equal, and here it goes
unnoticed. How long a scan takes is the same, too, but for ksm's. Its trees are in the order of the bytes, and a comparison
costs what is read up to the first difference; here the order is another one, and the difference is taken to be in the first
step. So ksm's scans are cheaper (by a seventh in the tests), and in a run, where they go on while VMs write, a merge may
come sooner. Neither order nor place of a difference is published: they would tell what the bytes are.

Where the pages came from is not kept either, since paths and programs are names: only what a person notes on purpose.

**What can still be learnt.** The key is thrown away unless a person keeps it on purpose. Without it no hash can be
tested against a guess, and two sets of fingerprints cannot be compared. But within one set, it is visible which pages
are equal or alike and how often each is repeated, how large each class is, and where zero pages lie. And size under
several codecs and entropy are a weak hash of their own: they prove nothing of one page, but a file of many pages can
be recognised by the row of their sizes. They are not anonymous statistics. With the key any guess of a whole page or of
a 64-byte block can be tested: keep it as you would keep the capture.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from memvirt.errors import CorpusError

from .bits import Pages
from .corpus import ClassTable, Corpus, PageClass, Progress, class_table_hash
from .measure import BINS, DOES_NOT_FIT, UNIT_PAGES, Sizes, codec_key, measure, unit_count

KEY_BYTES, SIP_KEY = 32, 16
SAME_FILLED, ZERO = 1, 2  # flags

Table = tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint16], NDArray[np.uint16]]


class Column(BaseModel):
    """One array of a file of fingerprints."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    dtype: Literal["<u8", "<u4", "<u2", "|u1"]
    count: int = Field(ge=0, le=1 << 35)

    @property
    def nbytes(self) -> int:
        return self.count * np.dtype(self.dtype).itemsize


class Fingerprints(ClassTable):
    """Arrays over the pages of a corpus, its class table, and where it came from."""

    def __init__(
        self,
        classes: Sequence[PageClass],
        provenance: Sequence[str],
        *,
        hash: NDArray[np.uint64],
        flags: NDArray[np.uint8],
        entropy: NDArray[np.uint8],
        sketch: NDArray[np.uint32],
        sizes: Mapping[str, Sizes],
        key_id: str,
    ) -> None:
        super().__init__(len(hash), classes, provenance)
        self.hash, self.flags, self.entropy, self.sketch = hash, flags, entropy, sketch
        self.sizes = dict(sizes)
        self.key_id = key_id  # tells sets of one key from others, and nothing of the key
        if not flags[0] & ZERO:
            raise CorpusError("page 0 of a corpus must be the zero page")

    @property
    def same_filled(self) -> NDArray[np.bool_]:
        return (self.flags & SAME_FILLED).astype(np.bool_)

    @property
    def zero(self) -> NDArray[np.bool_]:
        return (self.flags & ZERO).astype(np.bool_)

    @property
    def routes(self) -> dict[str, str]:
        """codec -> the library that measured its sizes."""
        return {key: found.route for key, found in self.sizes.items()}

    @cached_property
    def canonical(self) -> Pages:
        _, first, which = np.unique(self.hash, return_index=True, return_inverse=True)
        return first[which].astype(np.uint32)

    @cached_property
    def sha256(self) -> str:
        digest = class_table_hash(self.classes)
        columns, payload = columns_of(self)
        digest.update(repr([(column.name, column.count) for column in columns]).encode())
        for part in payload:
            digest.update(part)
        return digest.hexdigest()

    def codec_problem(self, codec: str, level: int) -> str:
        """Why nothing can be compressed so; "" when its sizes were measured."""
        key = codec_key(codec, level)
        if key in self.sizes:
            return ""
        return (
            f"these fingerprints hold sizes under {', '.join(self.sizes)}, not {key}; choose one of them "
            f"(--set codec=..., --set codec_level=...), or take them again with --codecs {key}"
        )

    def table(self, codec: str, level: int) -> Table:
        """What content of fingerprints is made from; CorpusError for a codec or level that was not measured."""
        if problem := self.codec_problem(codec, level):
            raise CorpusError(problem)
        # The value of a page that is filled with one is not published; any will do that no tag can be, and that is its
        # own: its hash with the highest bit set. Zero is known.
        values = np.where(self.zero, np.uint64(0), self.hash | np.uint64(1 << 63))
        found = self.sizes[codec_key(codec, level)]
        return self.canonical, self.same_filled.astype(np.uint8), values, found.page, found.tagged


def fingerprints(
    corpus: Corpus,
    codecs: Sequence[tuple[str, int | None]],
    key: bytes | None = None,
    progress: Progress | None = None,
    note: str = "",
) -> Fingerprints:
    """Fingerprints of a corpus, with sizes under these codecs, each (name, level) with None for its default level.

    `note` is the provenance they have: the corpus's own names paths and programs, and is not published.
    `key`: 32 secret bytes, which two captures must share to be compared. Unless given they are new, and not kept.
    ConfigError for a codec that is not there.
    """
    key = secrets.token_bytes(KEY_BYTES) if key is None else key
    if len(key) != KEY_BYTES:
        raise CorpusError(f"a key has {KEY_BYTES} bytes, this one {len(key)}")
    found = measure(
        corpus.pages, corpus.classes, codecs, _derived(key, b"page"), _derived(key, b"block")[:SIP_KEY], progress
    )
    flags = found.same_filled * np.uint8(SAME_FILLED)
    flags |= (found.same_filled & (corpus.pages[:, 0] == 0)) * np.uint8(ZERO)
    return Fingerprints(
        corpus.classes,
        [note] if note else [],
        hash=found.hash,
        flags=flags,
        entropy=found.entropy,
        sketch=found.sketch,
        sizes=found.sizes,
        key_id=_derived(key, b"name")[:8].hex(),
    )


def _derived(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose: what is published under one says nothing of another."""
    return hashlib.blake2b(purpose, key=key, digest_size=KEY_BYTES).digest()


def columns_of(prints: Fingerprints) -> tuple[list[Column], list[memoryview]]:
    """The columns of a file, and their bytes."""
    arrays: list[tuple[str, NDArray[np.generic]]] = [
        ("hash", prints.hash),
        ("flags", prints.flags),
        ("entropy", prints.entropy),
        ("sketch", prints.sketch.reshape(-1)),
    ]
    for key, sizes in prints.sizes.items():
        arrays += [(f"{key}/page", sizes.page), (f"{key}/tagged", sizes.tagged)]
        arrays += [(f"{key}/units{unit}", sizes.units[unit]) for unit in UNIT_PAGES]
    little = [(name, array.astype(array.dtype.newbyteorder("<"), copy=False)) for name, array in arrays]
    columns = [Column(name=name, dtype=array.dtype.str, count=len(array)) for name, array in little]
    return columns, [np.ascontiguousarray(array).data.cast("B") for _, array in little]


def from_columns(
    raw: NDArray[np.uint8],
    columns: Sequence[Column],
    classes: Sequence[PageClass],
    provenance: Sequence[str],
    key_id: str,
    routes: Mapping[str, str],
) -> Fingerprints:
    """The reverse of `columns_of`; CorpusError for columns that are missing, unknown or of the wrong length."""
    pages = classes[-1].first + classes[-1].pages if classes else 0
    units = {unit: unit_count(tuple(classes), unit) for unit in UNIT_PAGES}
    wanted = {
        "hash": ("<u8", pages),
        "flags": ("|u1", pages),
        "entropy": ("|u1", pages),
        "sketch": ("<u4", pages * BINS),
    }
    for key in routes:
        wanted |= {f"{key}/page": ("<u2", pages), f"{key}/tagged": ("<u2", pages)}
        wanted |= {f"{key}/units{unit}": ("<u4", count) for unit, count in units.items()}
    if {column.name: (column.dtype, column.count) for column in columns} != wanted or len(columns) != len(wanted):
        raise CorpusError(f"damaged: its columns are not those of fingerprints of {pages} pages")
    found, at = {}, 0
    for column in columns:
        part = raw[at : at + column.nbytes].view(column.dtype)
        found[column.name] = part.astype(part.dtype.newbyteorder("="), copy=False)
        at += column.nbytes
    sizes = {
        key: Sizes(
            route,
            found[f"{key}/page"],
            found[f"{key}/tagged"],
            {unit: found[f"{key}/units{unit}"] for unit in UNIT_PAGES},
        )
        for key, route in routes.items()
    }
    _check_sizes(sizes)
    return Fingerprints(
        classes,
        provenance,
        hash=found["hash"],
        flags=found["flags"],
        entropy=found["entropy"],
        sketch=found["sketch"].reshape(-1, BINS),
        sizes=sizes,
        key_id=key_id,
    )


def _check_sizes(sizes: Mapping[str, Sizes]) -> None:
    for key, found in sizes.items():
        for array in (found.page, found.tagged):
            if not 1 <= int(array.min()) <= int(array.max()) <= DOES_NOT_FIT:
                raise CorpusError(f"damaged: sizes under {key} are outside 1 to {DOES_NOT_FIT}")


def merged(parts: Sequence[tuple[str, Fingerprints]]) -> Fingerprints:
    """Several sets as one, classes called LABEL/CLASS: what is equal between them then shows.

    CorpusError unless all were taken under one key and have a codec in common.
    """
    if len({prints.key_id for _, prints in parts}) > 1:
        raise CorpusError(
            "these fingerprints were taken under different keys, so it is unknown which of their pages are equal; "
            "take them under one: keep it with --keep-key FILE, and give it the others with --key FILE"
        )
    shared = [key for key in parts[0][1].sizes if all(key in prints.sizes for _, prints in parts)]
    if not shared:
        raise CorpusError("these fingerprints have no codec in common; take them again with the same --codecs")
    classes, at = [parts[0][1].classes[0]], 1
    for label, prints in parts:
        for entry in prints.classes[1:]:
            classes.append(PageClass(f"{label}/{entry.name}", at, entry.pages))
            at += entry.pages

    def pages(*arrays: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([arrays[0][:1], *(array[1:] for array in arrays)])

    every = [prints for _, prints in parts]
    sizes = {
        key: Sizes(
            every[0].sizes[key].route,
            pages(*(prints.sizes[key].page for prints in every)),
            pages(*(prints.sizes[key].tagged for prints in every)),
            {unit: np.concatenate([prints.sizes[key].units[unit] for prints in every]) for unit in UNIT_PAGES},
        )
        for key in shared
    }
    return Fingerprints(
        classes,
        [line for prints in every for line in prints.provenance],
        hash=pages(*(prints.hash for prints in every)),
        flags=pages(*(prints.flags for prints in every)),
        entropy=pages(*(prints.entropy for prints in every)),
        sketch=pages(*(prints.sketch for prints in every)),
        sizes=sizes,
        key_id=every[0].key_id,
    )
