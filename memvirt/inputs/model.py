"""A content model: what the pages of a corpus are like, in a few hundred numbers, and pages made from them.

A model is fitted to a corpus, or to fingerprints of one (memvirt.inputs.fit), and holds no bytes of it. Pages made from
it are the same on every machine: integers and raw bits of Philox, whatever the codec's version. Of each class it says

    how many pages are zero, filled with one value, copies of others in the class, copies of pages of an earlier class
    how many are nearly another page, and in how many of their 64 blocks they differ
    how many change from one step to the next
    the *kinds* of the rest: (literals, alphabet, fresh, period, weight). Such a page has `literals` bytes of content,
    and zeros behind them. Of each `period` bytes the first `fresh` are drawn from an alphabet of that many values, the others
    are the same all over the page and its neighbours. Text and code are fresh throughout, arrays of pointers and numbers
    are not: zstd pays little for a match that repeats, lz4 three bytes; and that an alphabet is small only zstd sees

and how much of a page's literals the next page has too, though not at the same place: what makes units of 16 and 64 KiB
smaller than their pages. Shares are in millionths.
"""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from memvirt.errors import CorpusError
from memvirt.units import suggest
from memvirt.untrusted import json_value, require_plain

from .bits import Bits
from .corpus import PAGE_SIZE, Corpus, PageBytes, class_name_problem, table_of
from .measure import BLOCK, BLOCKS, same_filled

MILLION = 1_000_000
LONGEST_PERIOD = 8  # bytes
EXTENT = 16  # pages that share literals with the one before: 64 KiB
SHIFT = (
    120  # bytes by which a shared block lies elsewhere: a multiple of every period, and no multiple of BLOCK, so that
)
# pages do not seem alike
MOST_BYTES = 16 << 20  # of a model's file
MIXES = "mixes"

Share = Annotated[int, Field(ge=0, le=MILLION)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Kind = tuple[  # literals, alphabet, fresh, period, share
    Annotated[int, Field(ge=1, le=PAGE_SIZE)],
    Annotated[int, Field(ge=1, le=256)],
    Annotated[int, Field(ge=1, le=LONGEST_PERIOD)],
    Annotated[int, Field(ge=1, le=LONGEST_PERIOD)],
    Share,
]


class ClassModel(_Model):
    """One class. Shares are of its pages."""

    name: str
    weight: Annotated[int, Field(ge=1, le=1 << 40)]  # its share of the corpus is weight / sum of weights
    zero: Share = 0
    filled: Share = 0
    filled_values: Annotated[int, Field(ge=1, le=MILLION)] = 1  # different values, of a million filled pages
    copies: list[
        tuple[Annotated[int, Field(ge=2, le=1 << 24)], Share]
    ] = []  # (pages of one content, share of such pages)
    borrowed: list[tuple[str, Share]] = []  # (an earlier class, share of pages that are copies of its pages)
    near: Share = 0
    changed_blocks: Annotated[int, Field(ge=1, le=BLOCKS)] = (
        4  # of 64 with content, of a page that is near another or changed
    )
    volatile: Share = 0  # pages that change from one step to the next
    carried: Annotated[int, Field(ge=0, le=1000)] = 0  # thousandths of the literals that the page before has too
    kinds: list[Kind] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> "ClassModel":
        if problem := class_name_problem(self.name):
            raise ValueError(problem)
        special = self.zero + self.filled + self.near + sum(share for _, share in (*self.copies, *self.borrowed))
        if special > MILLION:
            raise ValueError(f"class '{self.name}': shares of special pages sum to {special} millionths")
        if not sum(weight for *_, weight in self.kinds):
            raise ValueError(f"class '{self.name}': no kind has a weight")
        return self


class ContentModel(_Model):
    """A model of a whole corpus."""

    format: Annotated[int, Field(ge=1, le=1)] = 1  # 1 - first version.
    name: str
    source: str  # what it was fitted to, or where its numbers are from
    classes: list[ClassModel] = Field(min_length=1, max_length=4096)

    @model_validator(mode="after")
    def _fits(self) -> "ContentModel":
        known: list[str] = []
        for entry in self.classes:
            if entry.name in known:
                raise ValueError(f"two classes are called '{entry.name}'")
            if foreign := [name for name, _ in entry.borrowed if name not in known]:
                raise ValueError(
                    f"class '{entry.name}' borrows from {', '.join(foreign)}, which does not come before it"
                )
            known.append(entry.name)
        return self

    def text(self) -> str:
        """The model as JSON, one class a line."""
        known = self.model_dump(mode="json")
        classes = ",\n  ".join(json.dumps(entry) for entry in known.pop("classes"))
        return json.dumps(known)[:-1] + f', "classes": [\n  {classes}\n]}}'


def read_model(text: str | bytes) -> ContentModel:
    """The model in a JSON text; CorpusError with everything that is wrong with it."""
    if len(text) > MOST_BYTES:
        raise CorpusError(f"{len(text)} bytes are no content model; the most is {MOST_BYTES}")
    try:
        json_value(text)
        return ContentModel.model_validate_json(text)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, problem['loc'])) or 'model'}: {problem['msg']}" for problem in error.errors()[:5]]
        raise CorpusError("no content model: " + "; ".join(found)) from error
    except ValueError as error:
        raise CorpusError(f"no content model: {error}") from None


def mixes() -> dict[str, ContentModel]:
    """The published models by name: made from measurements that each one names."""
    folder = resources.files(__package__) / MIXES
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return {file.name.removesuffix(".json"): read_model(file.read_bytes()) for file in files}


def mix(name: str) -> ContentModel:
    """A published model; CorpusError for a name that none has."""
    known = mixes()
    if name not in known:
        raise CorpusError(f"no mix is called '{name}'{suggest(name, list(known))} (mixes: {', '.join(known)})")
    return known[name]


def load_model(path: Path) -> ContentModel:
    """The model in a file; CorpusError names the file and what is wrong."""
    try:
        require_plain(path)
        with open(path, "rb") as file:
            return read_model(file.read(MOST_BYTES + 1))
    except OSError as error:
        raise CorpusError(f"model {path} cannot be read: {error.strerror or error}") from error
    except CorpusError as error:
        raise CorpusError(f"model {path}: {error}") from error


def generate(model: ContentModel, pages: int, seed: int, step: int = 0) -> Corpus:
    """`pages` pages (and the zero page) from a model: the same bytes on every machine.

    `step`: how often the volatile pages have changed since step 0. CorpusError for fewer pages than classes, a negative
    seed or step.
    """
    if seed < 0 or step < 0:
        raise CorpusError(f"the seed and the step of a corpus must not be negative, but are {seed} and {step}")
    if not len(model.classes) <= pages <= 1 << 24:
        raise CorpusError(f"a corpus of this model has {len(model.classes)} to {1 << 24} pages, not {pages}")
    counts = apportioned([entry.weight for entry in model.classes], pages, least=1)
    rows = np.empty((pages + 1, PAGE_SIZE), np.uint8)
    rows[0] = 0
    at: dict[str, PageBytes] = {}
    first = 1
    for entry, count in zip(model.classes, counts, strict=True):
        part = at[entry.name] = rows[first : first + count]
        part[:] = make_class(entry, count, seed, at)
        first += count
    for entry in model.classes:  # once all are made: what was borrowed before does not change with its origin
        for each in range(step):
            _change(entry, at[entry.name], Bits("model", seed, entry.name, "step", each))
    told = f"content model {model.name}, {pages} pages, seed {seed}, step {step}; {model.source}"
    return Corpus(
        rows, table_of([(entry.name, count) for entry, count in zip(model.classes, counts, strict=True)]), [told]
    )


def apportioned(weights: Sequence[int], total: int, least: int = 0) -> list[int]:
    """`total` in parts by weight, each off by less than one and at least `least`: largest remainders first."""
    whole = sum(weights)
    spare = total - least * len(weights)
    parts = [weight * spare // whole for weight in weights]
    rest = sorted(range(len(weights)), key=lambda index: (-(weights[index] * spare % whole), index))
    for index in rest[: spare - sum(parts)]:
        parts[index] += 1
    return [part + least for part in parts]


def make_class(entry: ClassModel, count: int, seed: int, earlier: dict[str, PageBytes]) -> PageBytes:
    """The pages of one class; `earlier` has those of the classes before it."""
    bits = Bits("model", seed, entry.name)
    pages = plain_pages(entry, bits.child("plain"), count)
    slots = _Slots(bits.permutation(count), count)
    pages[slots.take(entry.zero)] = 0
    filled = slots.take(entry.filled)
    values = bits.u64(max(1, (entry.filled_values * len(filled) + MILLION // 2) // MILLION)) | np.uint64(1)
    pages.view("<u8")[filled] = values[np.arange(len(filled)) % len(values)][:, None]
    for name, share in entry.borrowed:
        places = slots.take(share)
        plain = np.flatnonzero(~same_filled(earlier[name]))
        origins = plain if len(plain) else np.arange(len(earlier[name]))
        pages[places] = earlier[name][origins[bits.below(len(origins), len(places))]]
    for copies, share in entry.copies:
        places = slots.take(share)
        whole = len(places) // copies * copies
        groups = places[:whole].reshape(-1, copies)
        pages[groups[:, 1:]] = pages[groups[:, :1]]
        pages[places[whole:]] = pages[places[whole : whole + 1]]
    near = slots.take(entry.near)
    parents = slots.rest() if len(slots.rest()) else near
    chosen = parents[bits.below(max(1, len(parents)), len(near))]
    _mix(pages, near, pages[chosen], entry.changed_blocks, bits.child("near"))
    return pages


class _Slots:
    """Places of a class in random order, given out by share."""

    def __init__(self, order: NDArray[np.uint32], count: int) -> None:
        self._order, self._count, self._given, self._asked = order, count, 0, 0

    def take(self, share: int) -> NDArray[np.uint32]:
        """`share` millionths of the places, as indices; what is lost by rounding is added to the next share."""
        self._asked += share
        until = min(self._count, (self._asked * self._count + MILLION // 2) // MILLION)
        given = self._order[self._given : until]
        self._given = until
        return given

    def rest(self) -> NDArray[np.uint32]:
        return self._order[self._given :]


def plain_pages(entry: ClassModel, bits: Bits, count: int) -> PageBytes:
    """Pages of the kinds of a class, each kind as often as its weight says; neighbours are of kinds that stand together."""
    number = np.repeat(np.arange(len(entry.kinds)), apportioned([weight for *_, weight in entry.kinds], count))
    extents = bits.permutation(-(-count // EXTENT)).astype(np.int64)
    order = (extents[:, None] * EXTENT + np.arange(EXTENT)).reshape(-1)
    number = number[order[order < count]]
    same = bits.u64(len(extents)).astype("<u8").view(np.uint8).reshape(-1, LONGEST_PERIOD)
    same = np.repeat(same, EXTENT, axis=0)  # what is not fresh is the same in a whole extent
    literals = np.array([kind[0] for kind in entry.kinds])[number]
    alphabet = np.array([kind[1] for kind in entry.kinds], np.uint32)[number]
    fresh, period = (np.array([kind[place] for kind in entry.kinds])[number] for place in (2, 3))
    pages = np.empty((count, PAGE_SIZE), np.uint8)
    for start in range(0, count, 1024):
        part = slice(start, min(count, start + 1024))
        drawn = bits.u16((part.stop - start) * PAGE_SIZE).reshape(-1, PAGE_SIZE)
        # An odd factor permutes the bytes: an alphabet is scattered over all values.
        made = (((drawn * alphabet[part, None] >> 16) * 167 + 1) & 0xFF).astype(np.uint8)
        place = np.arange(PAGE_SIZE) % period[part, None]
        pages[part] = np.where(place < fresh[part, None], made, np.take_along_axis(same[part], place, axis=1))
    _carry(pages, entry.carried, bits.child("carried"))
    for start in range(0, count, 1024):
        part = slice(start, min(count, start + 1024))
        pages[part][np.arange(PAGE_SIZE) >= literals[part, None]] = 0
    return pages


def _carry(pages: PageBytes, thousandths: int, bits: Bits) -> None:
    """Let a part of the blocks of each page be bytes of the page before it within an extent, SHIFT bytes further on."""
    if not thousandths:
        return
    chosen = bits.below(1000, len(pages) * BLOCKS).reshape(-1, BLOCKS) < thousandths
    for place in range(1, EXTENT):
        here = np.arange(place, len(pages), EXTENT)
        moved = np.roll(pages[here - 1], -SHIFT, axis=1).reshape(-1, BLOCKS, BLOCK)
        mine = pages[here].reshape(-1, BLOCKS, BLOCK)
        pages[here] = np.where(chosen[here, :, None], moved, mine).reshape(-1, PAGE_SIZE)


def _mix(pages: PageBytes, places: NDArray[Any], parents: PageBytes, changed: int, bits: Bits) -> None:
    """Make pages copies of their parents, but for some blocks, which stay as they were: `changed` of 64 that have content."""
    mine, theirs = (each.reshape(-1, BLOCKS, BLOCK) for each in (pages[places], parents))
    order = bits.u32(len(places) * BLOCKS).reshape(-1, BLOCKS) >> np.uint32(1)
    content = mine.any(axis=2) | theirs.any(axis=2)
    order |= ~content * np.uint32(1 << 31)
    rank = np.argsort(np.argsort(order, axis=1, kind="stable"), axis=1, kind="stable")
    keeps = rank < np.maximum(1, content.sum(axis=1, keepdims=True) * changed // BLOCKS)
    pages[places] = np.where(keeps[:, :, None], mine, theirs).reshape(-1, PAGE_SIZE)


def _change(entry: ClassModel, pages: PageBytes, bits: Bits) -> None:
    """One step: volatile pages get new bytes in some of their blocks."""
    count = (len(pages) * entry.volatile + MILLION // 2) // MILLION
    places = bits.permutation(len(pages))[:count]
    before = pages[places].copy()
    pages[places] = plain_pages(entry, bits.child("new"), count) if count else before
    _mix(pages, places, before, entry.changed_blocks, bits.child("which"))
