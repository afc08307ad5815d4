"""The buddy allocator against a naive oracle: a set of free blocks, searched and merged by the book."""

import random

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memvirt.engine.memory.buddy import Buddy
from memvirt.engine.testing.memory import BuddyProbe
from memvirt.errors import InvariantError

MAX_ORDER = 10
SIZES = [1, 2, 3, 63, 64, 65, 511, 513, 1023, 1025, 2048 + 64, 4096 + 1024 + 7]


class Oracle:
    """Free blocks as a set of (order, first page); nothing clever."""

    def __init__(self, nr_pages):
        self.nr_pages = nr_pages
        self.free = set()
        for page in range(nr_pages):
            self.give(page, 0)

    def take(self, order):
        fitting = [block for block in self.free if block[0] >= order]
        if not fitting:
            return None
        block_order, page = min(fitting)
        self.carve(block_order, page, page, order)
        return page

    def carve(self, block_order, block, page, order):
        self.free.remove((block_order, block))
        while block_order > order:
            block_order -= 1
            upper = block + (1 << block_order)
            self.free.add((block_order, block if page >= upper else upper))
            block = upper if page >= upper else block

    def take_at(self, page, order):
        for block_order in range(order, MAX_ORDER + 1):
            block = page >> block_order << block_order
            if (block_order, block) in self.free:
                self.carve(block_order, block, page, order)
                return True
        return False

    def give(self, page, order):
        while order < MAX_ORDER and (order, page ^ 1 << order) in self.free:
            self.free.remove((order, page ^ 1 << order))
            page &= ~(1 << order)
            order += 1
        self.free.add((order, page))

    def counts(self):
        return [sum(block[0] == order for block in self.free) for order in range(MAX_ORDER + 1)]

    def free_pages(self):
        return {page + i for order, page in self.free for i in range(1 << order)}


def agree(buddy, oracle):
    buddy.check()
    assert buddy.free_counts() == oracle.counts()
    assert buddy.nr_free == sum(1 << order for order, _ in oracle.free)


class AgainstTheOracle(RuleBasedStateMachine):
    @initialize(nr_pages=st.sampled_from(SIZES))
    def begin(self, nr_pages):
        self.buddy, self.oracle = BuddyProbe(Buddy(nr_pages)), Oracle(nr_pages)
        self.held = []

    @rule(order=st.integers(0, MAX_ORDER))
    def take(self, order):
        page = self.buddy.take_block(order)
        assert page == self.oracle.take(order)
        if page is not None:
            self.held.append((page, order))

    @rule(order=st.integers(0, MAX_ORDER), at=st.integers(0, 1 << 20))
    def take_at(self, order, at):
        nr_blocks = self.buddy.nr_pages >> order
        if nr_blocks == 0:
            return
        page = at % nr_blocks << order
        taken = self.buddy.take_block_at(page, order)
        assert taken == self.oracle.take_at(page, order)
        if taken:
            self.held.append((page, order))

    @rule(n=st.one_of(st.integers(0, 70), st.integers(0, 3000)))
    def take_pages(self, n):
        pages = self.buddy.take_pages(n).tolist()
        singles = [self.oracle.take(0) for _ in range(min(n, len(pages) + 1))]
        assert pages == [page for page in singles if page is not None]
        self.held += [(page, 0) for page in pages]

    @rule(pick=st.randoms(use_true_random=False))
    def give(self, pick):
        if self.held:
            block = self.held.pop(pick.randrange(len(self.held)))
            self.buddy.give_block(*block)
            self.oracle.give(*block)

    @rule(pick=st.randoms(use_true_random=False), share=st.integers(1, 8), rising=st.booleans())
    def give_pages(self, pick, share, rising):
        pick.shuffle(self.held)
        kept = len(self.held) - len(self.held) // share
        blocks, self.held = self.held[kept:], self.held[:kept]
        pages = [page + i for page, order in blocks for i in range(1 << order)]
        if rising:
            pages.sort()
        else:
            pick.shuffle(pages)
        self.buddy.give_pages(pages)
        for page in pages:
            self.oracle.give(page, 0)

    @rule(n=st.integers(1, 3), want=st.integers(1, 5))
    def a_refused_take(self, n, want):
        self.buddy.fail_after(n)
        pages = self.buddy.take_pages(want).tolist()
        assert pages == [self.oracle.take(0) for _ in pages]
        assert len(pages) <= n - 1 if want >= n else len(pages) <= want
        self.held += [(page, 0) for page in pages]
        self.buddy.fail_after(0)

    @invariant()
    def same(self):
        agree(self.buddy, self.oracle)

    def teardown(self):
        for page, order in self.held:
            self.buddy.give_block(page, order)
        assert self.buddy.nr_free == self.buddy.nr_pages
        assert self.buddy.free_counts() == Buddy(self.buddy.nr_pages).free_counts()


AgainstTheOracle.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstTheOracle = AgainstTheOracle.TestCase


@pytest.mark.parametrize("nr_pages", SIZES)
def test_a_long_walk_equals_the_oracle(nr_pages):
    rng = random.Random(nr_pages)
    buddy, oracle, held = BuddyProbe(Buddy(nr_pages)), Oracle(nr_pages), []
    agree(buddy, oracle)
    for step in range(400):
        filling = step // 80 % 2 == 0
        if rng.random() < (0.7 if filling else 0.3):
            order = min(MAX_ORDER, int(rng.expovariate(0.5)))
            page = buddy.take_block(order)
            assert page == oracle.take(order)
            if page is not None:
                held.append((page, order))
        elif held:
            block = held.pop(rng.randrange(len(held)))
            buddy.give_block(*block)
            oracle.give(*block)
        agree(buddy, oracle)
    assert {page for page in range(nr_pages) if buddy.page_is_free(page)} == oracle.free_pages()


def test_taking_everything_then_one_more():
    buddy = BuddyProbe(Buddy(1025))
    assert buddy.take_pages(5000).tolist() == [1024, *range(1024)]  # the smallest block goes first
    assert buddy.take_block() is None
    assert buddy.take_pages(1).size == 0
    assert buddy.nr_free == 0
    buddy.check()
    buddy.give_pages(np.arange(1025, dtype=np.uint32))
    assert buddy.free_counts() == [1] + [0] * 9 + [1]


def test_a_split_keeps_the_lower_half_and_give_restores():
    buddy = BuddyProbe(Buddy(1024))
    assert buddy.take_block(3) == 0
    assert buddy.free_counts() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]
    assert buddy.take_block(0) == 8  # order 3 is the smallest that fits
    buddy.give_block(8)
    buddy.give_block(0, 3)
    assert buddy.free_counts() == [0] * 10 + [1]


def test_a_block_may_be_given_in_parts():
    buddy = BuddyProbe(Buddy(1024))
    buddy.take_block(10)
    for page in range(0, 1024, 2):
        buddy.give_block(page)
    assert buddy.free_counts() == [512] + [0] * 10
    for page in range(1, 1024, 2):
        buddy.give_block(page)
    assert buddy.free_counts() == [0] * 10 + [1]


# -- fragmentation: golden values by hand ------------------------------------------------------------------------------


def with_free(nr_pages, free):
    buddy = BuddyProbe(Buddy(nr_pages))
    buddy.take_pages(nr_pages)
    buddy.give_pages(free)
    return buddy


@pytest.mark.parametrize(
    ("free", "order", "external", "unusable"),
    [
        # 512 singles: 1000 - (1000 + 512*1000/512) / 512 = 1000 - 2000/512 = 1000 - 3
        (range(0, 1024, 2), 9, 997, 1000),
        # 4 singles: 1000 - (1000 + 4000/512) / 4 = 1000 - (1000 + 7)/4 = 1000 - 251
        (range(0, 8, 2), 9, 749, 1000),
        # 1 single: 1000 - (1000 + 1000/512) / 1 = 1000 - 1001: memory is what lacks, hence below 0
        ([0], 9, -1, 1000),
        # 1 single at order 1: 1000 - (1000 + 500) / 1
        ([0], 1, -500, 1000),
        # 300 singles at order 4: 1000 - (1000 + 300000/16) / 300 = 1000 - 19750/300 = 1000 - 65
        (range(0, 600, 2), 4, 935, 1000),
        # blocks of 4, 2 and 1 pages, order 2 is there: -1000; of 7 pages 3 are in smaller blocks: 3000/7 = 428
        ([0, 1, 2, 3, 8, 9, 16], 2, -1000, 428),
        # the same at order 3: 1000 - (1000 + 7000/8) / 3 = 1000 - 1875/3
        ([0, 1, 2, 3, 8, 9, 16], 3, 375, 1000),
        # a block of 512 and 488 singles, order 9: 488 of 1000 pages do not serve
        ([*range(512), *range(512, 512 + 976, 2)], 9, -1000, 488),
        # the same at order 10: 1000 - (1000 + 1000*1000/1024) / 489 = 1000 - 1976/489 = 1000 - 4
        ([*range(512), *range(512, 512 + 976, 2)], 10, 996, 1000),
        # everything is free: nothing is unusable, and order 10 is there
        (range(2048), 10, -1000, 0),
        # nothing is free: no block, so external is 0 by definition, and all is unusable
        ([], 9, 0, 1000),
        ([], 0, 0, 1000),
    ],
)
def test_indices_by_hand(free, order, external, unusable):
    found = with_free(2048, list(free)).fragmentation()
    assert found["external"][order] == external
    assert found["unusable"][order] == unusable


@pytest.mark.parametrize("nr_pages", [1, 63, 64, 129, 4096, 5001])
def test_runs_and_largest_equal_a_plain_count(nr_pages):
    rng = random.Random(nr_pages)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        taken = [rng.random() < share for _ in range(nr_pages)]
        buddy = BuddyProbe(Buddy(nr_pages))
        for page in range(nr_pages):
            if taken[page]:
                assert buddy.take_block_at(page)
        runs = [len(run) for run in "".join(" " if t else "x" for t in taken).split()]
        found = buddy.fragmentation()
        assert found["free_runs"] == [sum(r.bit_length() == k + 1 for r in runs) for k in range(nr_pages.bit_length())]
        assert found["largest_free_run"] == max(runs, default=0)
        blocks = [order for order, count in enumerate(buddy.free_counts()) if count]
        assert found["largest_free_block"] == (1 << max(blocks) if blocks else 0)
        assert found["nr_free"] == taken.count(False) == sum(runs)


# -- what may not be done ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nr_pages", [0, -1, 2**32 - 1, 2**32])
def test_a_size_out_of_range(nr_pages):
    with pytest.raises(ValueError, match=str(nr_pages)):
        Buddy(nr_pages)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.take_block(11), "order 11 is out of range: orders are 0 to 10"),
        (lambda b: b.take_block(-1), "order -1 is out of range"),
        (lambda b: b.take_block_at(0, 11), "order 11"),
        (lambda b: b.give_block(0, 11), "order 11"),
        (lambda b: b.take_block_at(513), "page 513 is out of range: the pages are 0 to 512"),
        (lambda b: b.take_block_at(-1), "page -1"),
        (lambda b: b.take_block_at(512, 1), "ends at 514, beyond nr_pages 513"),
        (lambda b: b.take_block_at(4, 3), r"page 4 is not aligned to its order 3 \(8 pages\)"),
        (lambda b: b.give_block(513), "page 513 is out of range"),
        (lambda b: b.give_block(6, 2), "page 6 is not aligned"),
        (lambda b: b.give_block(512, 1), "beyond nr_pages 513"),
        (lambda b: b.give_pages([0, 513]), "page 513"),
        (lambda b: b.page_is_free(513), "page 513"),
        (lambda b: b.take_pages(-1), "n is -1"),
        (lambda b: b.fail_after(-1), "n is -1"),
    ],
)
def test_bad_arguments_name_number_and_bound_and_change_nothing(call, message):
    buddy = BuddyProbe(Buddy(513))
    buddy.take_pages(513)
    with pytest.raises(ValueError, match=message):
        call(buddy)
    assert buddy.nr_free == 0
    buddy.check()


def test_double_free_wrong_order_and_never_given():
    buddy = BuddyProbe(Buddy(64))
    with pytest.raises(InvariantError, match="page 5 is already free"):  # never taken
        buddy.give_block(5)
    page = buddy.take_block(2)
    with pytest.raises(InvariantError, match=r"give of page 0, order 3: page 4 is already free \(60 of 64 are\)"):
        buddy.give_block(page, 3)
    buddy.give_block(page, 2)
    with pytest.raises(InvariantError, match="page 0 is already free"):
        buddy.give_block(page, 2)
    whole = BuddyProbe(Buddy(1024))
    whole.take_block(9)
    with pytest.raises(InvariantError, match="page 512 is already free"):  # more than a word of pages
        whole.give_block(0, 10)
    whole.check()


def test_a_page_twice_in_one_bulk_give_changes_nothing():
    buddy = BuddyProbe(Buddy(64))
    buddy.take_pages(10)
    with pytest.raises(InvariantError, match="page 3 is given 2 times"):
        buddy.give_pages([1, 3, 2, 3])
    with pytest.raises(InvariantError, match="page 10 is already free"):
        buddy.give_pages([1, 10])
    assert buddy.nr_free == 54
    buddy.check()


@pytest.mark.parametrize(
    ("part", "index", "message"),
    [
        ("page", 700, "nr_free is"),  # a taken page turns free
        ("page", 5000, "at or beyond nr_pages 5000"),
        ("full", 0, "_full says True for word 0"),
        ("nr_free", 0, "nr_free is 2445, 2444 pages are free"),
        ("nr_blocks", 2, "do not sum to nr_free"),
        ("lowest", 0, "order 0: a free block in word 1, below the lowest, 2"),
        ("places", 0, "order 0: word 39 has a free block and no mark"),
        ("summary", 0, "order 0: level 1 of the summaries"),
    ],
)
def test_check_sees_each_false_item(part, index, message):
    buddy = BuddyProbe(Buddy(5000))
    buddy.take_pages(5000)
    buddy.give_pages([100, *range(2557, 5000)])
    buddy.give_block(buddy.take_block())  # the search settles on word 1, which needs no mark any more
    buddy.check()
    for _ in range(2 if part == "places" else 1):  # words 1 and 39 are marked
        buddy.spoil(part, index)
    with pytest.raises(InvariantError, match=message):
        buddy.check()


# -- forced failure ----------------------------------------------------------------------------------------------------


def test_the_nth_take_is_refused_once():
    for n in range(1, 6):
        buddy = BuddyProbe(Buddy(64))
        buddy.fail_after(n)
        assert [buddy.take_block() is None for _ in range(8)] == [i == n - 1 for i in range(8)]
        buddy.check()


def test_targeted_and_bulk_takes_count_too():
    buddy = BuddyProbe(Buddy(64))
    buddy.fail_after(2)
    assert buddy.take_block_at(40)
    assert not buddy.take_block_at(41)
    assert buddy.take_block_at(41)
    buddy.fail_after(4)
    assert buddy.take_pages(10).size == 3
    assert buddy.take_pages(10).size == 10
    buddy.fail_after(1)
    buddy.fail_after(0)
    assert buddy.take_block() is not None
    buddy.check()
