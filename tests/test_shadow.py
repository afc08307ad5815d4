"""The shadow of a VM against a page-by-page oracle, and against a VM that lies."""

from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memvirt.errors import ContentError, InvariantError
from memvirt.experiment import expected
from memvirt.experiment.expected import DISCARD, FILL, NO_SOURCE, WRITE, Shadow, tag_of, word_of

PAGES = 6
CORPUS = np.arange(4 * 4096, dtype=np.uint32).astype(np.uint8).reshape(4, 4096) * np.array(
    [[0], [1], [3], [7]], np.uint8
)


class Batch(NamedTuple):
    pages: np.ndarray
    ops: np.ndarray
    sources: np.ndarray | None = None


class Memory:
    """What a VM's pages hold, one operation at a time. `content`: pages that have content."""

    def __init__(self, guest):
        self.rows = np.zeros((PAGES, 4096), np.uint8)
        self.content = set()
        self.guest = guest
        self.writes = 0

    def do(self, page, op, source):
        if op == WRITE:
            self.writes += 1
            self.rows[page].view("<u8")[int(word_of(page))] = int(tag_of(BASE, self.writes))
            self.content.add(page)
        elif op == FILL:
            self.rows[page] = CORPUS[source]
            self.content.add(page)
        elif op == DISCARD:
            self.content.discard(page)
            if self.guest:
                self.rows[page] = 0

    def read_pages(self, pages):
        return self.rows[pages]


BASE = 0x7FFFFFF0
operation = st.tuples(st.integers(0, PAGES - 1), st.integers(0, 3), st.integers(0, 3))
batches = st.lists(st.lists(operation, min_size=1, max_size=12), max_size=5)


def batch_of(rows):
    pages, ops, sources = (np.array(column, np.uint32) for column in zip(*rows, strict=True))
    return Batch(pages, ops.astype(np.uint8), sources)


@given(batches, st.booleans(), st.sampled_from([1, 5, expected.TOGETHER]), st.sets(st.integers(0, 4)))
def test_the_shadow_knows_every_byte(rows, guest, together, asked):
    """However many accesses are put together, and whenever somebody asks in between."""
    memory, shadow = Memory(guest), Shadow("vm", PAGES, BASE, guest=guest)
    with mock.patch.object(expected, "TOGETHER", together):
        for number, batch in enumerate(rows):
            shadow.apply(batch_of(batch))
            for step in batch:
                memory.do(*step)
            if number in asked:
                assert shadow.content_pages() == len(memory.content)
                shadow.verify(memory, CORPUS)
    assert shadow.writes == memory.writes and shadow.content_pages() == len(memory.content)
    assert shadow.verify(memory, CORPUS) == len({page for batch in rows for page, _, _ in batch})


@given(batches, st.data())
def test_a_stream_cut_short_counts_what_was_done(rows, data):
    memory, shadow = Memory(True), Shadow("vm", PAGES, BASE, guest=True)
    done = data.draw(st.integers(0, len(rows)))
    stream = shadow.watch(map(batch_of, rows))
    rest = 0
    for index, batch in enumerate(rows[: done + 1]):
        next(stream)
        rest = len(batch) if index < done else data.draw(st.integers(0, len(batch)))
        for step in batch[:rest]:
            memory.do(*step)
    shadow.commit(rest)
    assert shadow.writes == memory.writes
    shadow.verify(memory, CORPUS)


@pytest.mark.parametrize("word", [0, 17, 511])
def test_one_wrong_byte_is_found_and_named(word):
    memory, shadow = Memory(True), Shadow("web", PAGES, BASE)
    steps = [(page, FILL, 1) for page in range(PAGES)]
    shadow.apply(batch_of(steps))
    for step in steps:
        memory.do(*step)
    memory.rows = memory.rows.copy()
    memory.rows[3, word * 8 + 5] ^= 1
    with pytest.raises(ContentError, match=f"web: page 3 word {word} holds"):
        shadow.verify(memory, CORPUS)


def test_a_clone_goes_on_alone():
    parent = Shadow("a", PAGES, BASE)
    parent.apply(batch_of([(0, FILL, 2), (1, WRITE, 0)]))
    twin = parent.clone("b", 5, parent.writes)
    twin.apply(batch_of([(1, WRITE, 0)]))
    assert parent.tags(np.array([1])) != twin.tags(np.array([1])) and twin.writes == 2
    assert parent.sources()[0] == twin.sources()[0] == 2 and twin.sources()[1] == NO_SOURCE


def test_more_done_than_was_handed_on_is_a_bug():
    shadow = Shadow("a", PAGES, BASE)
    list(shadow.watch([batch_of([(0, WRITE, 0)])]))
    with pytest.raises(InvariantError, match="2 operations were done of a last batch of 1"):
        shadow.commit(2)


def test_tags_are_never_zero():
    assert tag_of(0, np.array([1, 0x80000000, 0x80000001])).tolist() == [1, 1, 1]


def test_one_wrong_id_is_found_and_named():
    class Prints:
        def read_ids(self, pages):
            return np.where(pages == 9700, 1, pages + 1).astype(np.uint64)

    shadow = Shadow("web", 10_000, BASE)
    shadow.apply(batch_of([(page, FILL, page + 1) for page in range(10_000)]))
    with pytest.raises(ContentError, match="web: page 9700 word 0 holds 0x1, it was given 0x25e5"):
        shadow.verify(Prints(), None, lambda sources, words, tags: sources.astype(np.uint64))
