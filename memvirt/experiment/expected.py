"""What every VM must read back: the content of each page, kept beside the engine and compared after the record closed.

The shadow sees the same batches as the engine and nothing of its state. Three numbers define the content of a page: the
corpus page it was last filled from (or none: zeros), the tag of the last access write after that, and the word the tag is
in. The word follows from the page number alone (`word_of`). A discard gives the page up. A guest remembers that, and what
is read afterwards is zeros. Without a guest nothing below learns of it: the bytes stay where they are, but they are no
content any more.

    tag of the n-th write of a VM, n from 1:  (tag_base + n) & 0x7fffffff, or 1 where that is 0

Within a batch the last operation on a page wins; a write under a later fill or discard leaves nothing behind. A page
takes ten bytes, for hosts may be large. Batches are put together first, as far as nobody asks: many are short.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from memvirt.errors import ContentError, InvariantError
from memvirt.units import PAGE_SIZE
from memvirt.workloads.base import DISCARD, FILL, READ, WRITE

PAGE_WORDS = PAGE_SIZE // 8
NO_SOURCE = 0xFFFFFFFF
CHUNK_PAGES = 256  # pages compared at once: 1 MiB each of what is wanted and found, inside the cache
CHUNK_IDS = 8192  # the same where a page is an id
TOGETHER = 1 << 15  # operations put together, or the batch with which they become more

U32 = npt.NDArray[np.uint32]
IdsOf = Callable[[U32, U32, U32], npt.NDArray[np.uint64]]
I64 = npt.NDArray[np.int64]


class BatchLike(Protocol):
    """A batch as the engine takes it: pages, ops and, where there are fills, corpus page numbers."""

    @property
    def pages(self) -> Any: ...
    @property
    def ops(self) -> Any: ...
    @property
    def sources(self) -> Any: ...
    @property
    def due_ns(self) -> Any: ...
    def _replace(self, *, due_ns: Any) -> Any: ...


class _Pending(NamedTuple):
    pages: npt.NDArray[Any]
    ops: npt.NDArray[Any]
    sources: npt.NDArray[Any] | None

    def all_sources(self) -> npt.NDArray[Any]:
        return np.full(len(self.pages), NO_SOURCE, np.uint32) if self.sources is None else self.sources


def word_of(vpn: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The 8-byte word of a page that an access write stores its tag in."""
    hashed = np.asarray(vpn, dtype=np.uint64) * np.uint64(2654435761)
    return ((hashed & np.uint64(0xFFFFFFFF)) >> np.uint64(7)).astype(np.int64) & (PAGE_WORDS - 1)


def tag_of(tag_base: int, sequence: npt.ArrayLike) -> U32:
    """The tag of a VM's write number `sequence`, counted from 1; never 0."""
    tags = (np.asarray(sequence, dtype=np.int64) + tag_base) & 0x7FFFFFFF
    return np.where(tags == 0, 1, tags).astype(np.uint32)


class _Scratch(threading.local):
    """A number for each page of a VM, for the time of one call."""

    def __init__(self) -> None:
        self._places: I64 = np.zeros(0, np.int64)

    def of(self, pages: int) -> I64:
        if len(self._places) < pages:
            self._places = np.zeros(pages, np.int64)
        return self._places


_SCRATCH = _Scratch()


def _last(pages: npt.NDArray[np.intp], order: I64, which: npt.NDArray[np.bool_], places: I64) -> I64:
    """For each operation: which is the last of those on its page; -1 where there is none."""
    places[pages] = -1
    places[pages[which]] = order[which]
    return places[pages]


class Shadow:
    """The expected content of one VM's pages."""

    def __init__(self, name: str, pages: int, tag_base: int, writes: int = 0, *, guest: bool = False) -> None:
        self.name = name
        self.guest = guest
        self.tag_base = tag_base
        self.operations = 0  # done so far
        self._writes = writes  # access writes applied so far: the next has sequence writes + 1
        self._waiting = 0  # operations done and not applied yet
        self._finished: list[_Pending] = []  # done, and not applied yet
        self._source: U32 = np.full(pages, NO_SOURCE, np.uint32)
        self._tag: U32 = np.zeros(pages, np.uint32)
        self._named: npt.NDArray[np.bool_] = np.zeros(pages, np.bool_)
        self._content: npt.NDArray[np.bool_] = np.zeros(pages, np.bool_)
        self._nr_content: int | None = 0  # None: to be counted again
        self._settled = 0  # pages below that are named and have content: accesses that write at most change neither
        self._pending: deque[_Pending] = deque()

    def clone(self, name: str, tag_base: int, writes: int = 0) -> Shadow:
        """The shadow of a VM cloned from this one now: the same content, a write sequence of its own."""
        self._catch_up()
        twin = Shadow(name, len(self._source), tag_base, writes, guest=self.guest)
        twin.operations = self.operations
        for field in ("_source", "_tag", "_named", "_content"):
            setattr(twin, field, getattr(self, field).copy())
        twin._nr_content, twin._settled = self._nr_content, self._settled
        return twin

    def watch(self, stream: Iterable[BatchLike]) -> Iterator[BatchLike]:
        """Hand on a stream's batches and remember them until `commit` says how much of them was done."""
        for batch in stream:
            sources = None if batch.sources is None else np.asarray(batch.sources)
            self._pending.append(_Pending(np.asarray(batch.pages), np.asarray(batch.ops), sources))
            if len(self._pending) > 1:
                # A batch is asked for only once the one before it was done whole.
                self._done(self._pending.popleft())
            yield batch

    def commit(self, rest: int, go_on: bool = False) -> None:
        """Apply the first `rest` operations of the batch handed on last: what the run did of it. `go_on`: the stream goes
        on later, with what is left of it."""
        last = self._pending.popleft() if self._pending else None
        size = 0 if last is None else len(last.pages)
        if not 0 <= rest <= size:
            raise InvariantError(f"{self.name}: {rest} operations were done of a last batch of {size}")
        if last is not None and rest:
            sources = None if last.sources is None else last.sources[:rest]
            self._done(_Pending(last.pages[:rest], last.ops[:rest], sources))
        if last is not None and go_on:
            sources = None if last.sources is None else last.sources[rest:]
            self._pending.append(_Pending(last.pages[rest:], last.ops[rest:], sources))

    def apply(self, batch: BatchLike) -> None:
        """Take over a batch that was done whole."""
        sources = None if batch.sources is None else np.asarray(batch.sources)
        self._done(_Pending(np.asarray(batch.pages), np.asarray(batch.ops), sources))

    @property
    def writes(self) -> int:
        """Access writes done so far."""
        self._catch_up()
        return self._writes

    def _done(self, batch: _Pending) -> None:
        self.operations += len(batch.pages)
        self._waiting += len(batch.pages)
        self._finished.append(batch)
        if self._waiting >= TOGETHER:
            self._catch_up()

    def _catch_up(self) -> None:
        """Apply what was put together."""
        if not self._finished:
            return
        batches, self._finished, self._waiting = self._finished, [], 0
        sources = None
        if any(batch.sources is not None for batch in batches):
            sources = np.concatenate([batch.all_sources() for batch in batches])
        self._apply(
            _Pending(
                np.concatenate([each.pages for each in batches]),
                np.concatenate([each.ops for each in batches]),
                sources,
            )
        )

    def _apply(self, batch: _Pending) -> None:
        done, last = len(batch.pages), batch.ops.max(initial=READ)
        known = not done or batch.pages.max() < self._settled
        if not known:
            self._named[batch.pages] = True
        changing = (batch.ops != READ).nonzero()[0]  # a read leaves nothing behind
        pages = batch.pages[changing].astype(np.intp)
        if last <= WRITE:
            self._tag[pages] = self._next_tags(len(pages))
            if known:
                return
            self._content[pages] = True
        else:
            sources = None if batch.sources is None else batch.sources[changing]
            has_content = self._change(pages, batch.ops[changing], sources)
            self._content[pages] = has_content
            if not has_content.all():
                self._settled = 0
        self._nr_content = None
        self._settle()

    def _next_tags(self, count: int) -> U32:
        """Of the VM's next writes."""
        tags = tag_of(self.tag_base, self._writes + 1 + np.arange(count))
        self._writes += count
        return tags

    def _settle(self) -> None:
        """Look how much further the pages reach that all have content."""
        rest = self._content[self._settled :]
        if len(rest):
            without = int(rest.argmin())
            self._settled += len(rest) if rest[without] else without

    def _change(
        self, pages: npt.NDArray[np.intp], ops: npt.NDArray[Any], sources: npt.NDArray[Any] | None
    ) -> npt.NDArray[np.bool_]:
        """Fills, discards and writes, of which the last on a page wins. For each: whether its page has content then."""
        order, discards, writes = np.arange(len(pages)), ops == DISCARD, ops == WRITE
        resets = (ops == FILL) | discards if self.guest else ops == FILL
        fresh = np.full(len(pages), NO_SOURCE, np.uint32)
        if sources is not None:
            fresh[~discards] = sources[~discards]
        places = _SCRATCH.of(len(self._source))
        reset_at, given_up_at, written_at = (_last(pages, order, which, places) for which in (resets, discards, writes))
        self._source[pages[resets]] = fresh[resets]
        self._tag[pages[resets]] = 0
        tags = np.zeros(len(pages), np.uint32)
        tags[writes] = self._next_tags(int(np.count_nonzero(writes)))
        stay = writes & (order > reset_at)
        self._tag[pages[stay]] = tags[stay]
        held = (given_up_at < 0) | (np.maximum(reset_at, written_at) > given_up_at)
        return np.asarray(held & ((self._source[pages] != NO_SOURCE) | (self._tag[pages] != 0)))

    def tags(self, pages: npt.NDArray[Any]) -> U32:
        """The tag each of `pages` must hold in its word; 0 where no write is newer than the last fill or discard."""
        self._catch_up()
        return np.asarray(self._tag[pages])

    def sources(self) -> U32:
        """The corpus page under each page, NO_SOURCE for zeros."""
        self._catch_up()
        return self._source

    def content_pages(self) -> int:
        """Pages that have content: filled or written, and not given up since."""
        self._catch_up()
        if self._nr_content is None:
            self._nr_content = int(np.count_nonzero(self._content))
        return self._nr_content

    def expected(self, pages: npt.NDArray[Any], corpus: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
        """The bytes of `pages`, one row each."""
        sources = self.sources()[pages]
        empty = sources == NO_SOURCE
        if empty.all():
            rows = np.zeros((len(pages), PAGE_SIZE), np.uint8)
        elif corpus is None:
            raise InvariantError(f"{self.name}: pages were filled from a corpus, but there is none to compare with")
        else:
            rows = corpus[np.where(empty, 0, sources)]
            rows[empty] = 0
        tags = self.tags(pages)
        tagged = np.flatnonzero(tags)
        rows.view("<u8")[tagged, word_of(pages[tagged])] = tags[tagged]
        return rows

    def expected_ids(self, pages: npt.NDArray[Any], ids_of: IdsOf) -> npt.NDArray[np.uint64]:
        """The same where content is fingerprints: the id of each of `pages`."""
        sources = self.sources()[pages]
        filled = np.where(sources == NO_SOURCE, 0, sources).astype(np.uint32)
        return ids_of(filled, word_of(pages).astype(np.uint32), self.tags(pages))

    def verify(self, vm: Any, corpus: npt.NDArray[np.uint8] | None, ids_of: IdsOf | None = None) -> int:
        """Read back every page the VM ever named and compare all its bytes; how many pages that were.

        `ids_of` where content is fingerprints: the id of each (source, word, tag). Ids are read where they lie, for such a
        host may be large; bytes by accesses, as its owner would. Raises ContentError at the first page that differs.
        """
        self._catch_up()
        named = np.flatnonzero(self._named).astype(np.uint32)
        chunk = CHUNK_IDS if ids_of else CHUNK_PAGES
        for start in range(0, len(named), chunk):
            pages = named[start : start + chunk]
            if ids_of is None:
                wanted: npt.NDArray[Any] = self.expected(pages, corpus).view("<u8")
                found = np.ascontiguousarray(vm.read_pages(pages)).reshape(len(pages), PAGE_SIZE).view("<u8")
            else:
                wanted = self.expected_ids(pages, ids_of)[:, np.newaxis]
                found = vm.read_ids(pages)[:, np.newaxis]
            if not np.array_equal(wanted, found):
                raise ContentError(self._difference(pages, wanted, found))
        return len(named)

    def _difference(self, pages: npt.NDArray[Any], wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> str:
        row, word = (int(where[0]) for where in np.nonzero(wanted != found))
        ours, theirs = int(wanted[row, word]), int(found[row, word])
        return f"{self.name}: page {pages[row]} word {word} holds {theirs:#x}, it was given {ours:#x}"
