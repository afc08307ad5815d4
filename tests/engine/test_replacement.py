"""Replacement orders through their passive interface, step by step against naive restatements."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memvirt.engine.replacement.order import Order
from memvirt.engine.replacement.registry import ORDERS, make_order
from memvirt.engine.replacement.replay import replay_order
from memvirt.engine.testing.orders import Probe
from memvirt.errors import ConfigError, InvariantError
from oracle import naive_adaptive, naive_orders

IDS, CAPACITY, KEYS = 9, 5, 12


def with_options(naive, **options):
    return partial(naive, **options), options


CASES = {
    "random": (naive_orders.NaiveRandom, {}),
    "fifo": (naive_orders.Naive, {}),
    "clock": (naive_orders.NaiveClock, {}),
    "lru": (naive_orders.NaiveLru, {}),
    "twolist": (naive_orders.NaiveTwoList, {}),
    "mglru": (naive_orders.NaiveMgLru, {}),
    "sieve": (naive_orders.NaiveSieve, {}),
    "s3fifo": (naive_orders.NaiveS3Fifo, {}),
    "s3fifo paper": (partial(naive_orders.NaiveS3Fifo, paper=True), {"variant": "paper"}),
    "2q": (naive_orders.NaiveTwoQ, {}),
    "2q paper": (naive_orders.NaiveTwoQ, {"variant": "paper"}),
    "arc": (naive_orders.NaiveArc, {}),
    "lfu": (naive_orders.NaiveLfu, {}),
    "slru": (naive_adaptive.NaiveSlru, {}),
    "slru two": with_options(naive_adaptive.NaiveSlru, segments=2),
    "mq": (naive_adaptive.NaiveMq, {}),
    "mq short": with_options(naive_adaptive.NaiveMq, queues=3, lifetime=4, ghost_percent=60),
    "lirs": (naive_adaptive.NaiveLirs, {}),
    "lirs wide": with_options(naive_adaptive.NaiveLirs, hir_percent=40),
    "clock-pro": (naive_adaptive.NaiveClockPro, {}),
    "clock-pro wide": with_options(naive_adaptive.NaiveClockPro, cold_percent=50),
    "w-tinylfu": (naive_adaptive.NaiveWTinyLfu, {}),
    "w-tinylfu wide": with_options(naive_adaptive.NaiveWTinyLfu, window_percent=40),
}
OPERATIONS = ("page", "page", "page", "touch", "candidate", "spare", "spare any", "evict", "take", "forget", "drop key")
steps = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, IDS - 1), st.none() | st.integers(0, KEYS - 1)),
    min_size=1,
    max_size=120,
)


def probe(case, ids=IDS, capacity=CAPACITY, keys=KEYS, *, seed=0, bounded=False):
    return Probe(make_order(case.split()[0], ids, capacity, keys, CASES[case][1], seed, bounded))


def apply(order, naive, held, operation, id, key):
    """One step on both; what is not possible now is skipped."""
    if operation == "page" and id not in held:
        order.insert(id, key)
        naive.insert(id, key)
        held.add(id)
    elif operation in ("page", "touch") and id in held:
        order.touch(id)
        naive.touch(id)
    elif operation in ("candidate", "spare", "evict"):
        victim = order.candidate()
        assert victim == naive.candidate()
        assert victim == order.candidate(), "asking twice changes the answer"
        assert (victim in held) == bool(held)
        if victim is not None and operation == "spare":
            order.spare(victim)
            naive.spare(victim)
        elif victim is not None and operation == "evict":
            order.take(victim, key)
            naive.take(victim, key)
            held.remove(victim)
    elif operation == "spare any" and id in held:
        order.spare(id)
        naive.spare(id)
    elif operation == "take" and id in held:
        order.take(id, key)
        naive.take(id, key)
        held.remove(id)
    elif operation == "forget" and id in held:
        order.forget(id)
        naive.forget(id)
        held.remove(id)
    elif operation == "drop key":
        order.forget_key(key)
        naive.forget_key(key)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_steps_agree_with_the_naive_order(case, steps):
    order, naive, held = probe(case), CASES[case][0](CAPACITY), set()
    for operation, id, key in steps:
        apply(order, naive, held, operation, id, key)
        order.check()
        assert order.order.nr_resident == len(held)
        assert all(order.holds(id) == (id in held) for id in range(IDS))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("capacity", [1, 25])
@pytest.mark.parametrize("bounded", [False, True])
def test_long_random_run_agrees_with_the_naive_order(case, capacity, bounded):
    """Long enough to wrap the rings, fill them with holes and go through many generations. Bounded, some rings have no
    room for holes, and are full most of the time."""
    rng = np.random.default_rng(7)
    order, naive = probe(case, ids=40, capacity=capacity, keys=60, bounded=bounded), CASES[case][0](capacity)
    held = set()
    for step, choice in enumerate(rng.integers(0, len(OPERATIONS), 5000)):
        key = int(rng.integers(0, 60)) if rng.integers(0, 8) else None
        id, operation = int(rng.integers(0, 40)), OPERATIONS[choice]
        if bounded and len(held) == capacity and operation == "page" and id not in held:
            apply(order, naive, held, "evict", id, key)
        apply(order, naive, held, operation, id, key)
        if step % 16 == 0:
            order.check()
    order.check()


@pytest.mark.parametrize("case", CASES)
def test_candidate_ends_when_everything_is_referenced_or_spared(case):
    order = probe(case, ids=50, capacity=50)
    for id in range(50):
        order.insert(id)
    for _ in range(3):
        for id in range(50):
            order.touch(id)
        assert order.candidate() is not None
    seen = set()
    for _ in range(400):
        victim = order.candidate()
        seen.add(victim)
        order.spare(victim)
        order.check()
    assert len(seen) > 10, "spare does not move on"


@pytest.mark.parametrize("case", CASES)
def test_nobody_to_go(case):
    order = probe(case)
    assert order.candidate() is None
    order.insert(3, 4)
    assert order.candidate() == 3
    order.spare(3)
    assert order.candidate() == 3, "the only resident stays the candidate"
    order.forget(3)
    assert order.candidate() is None
    order.check()


@pytest.mark.parametrize("case", CASES)
def test_replay_is_the_passive_interface_in_a_loop(case):
    rng = np.random.default_rng(11)
    pages = np.minimum(rng.integers(0, 200, 4000), rng.integers(0, 200, 4000)).astype(np.uint32)
    for capacity in (20, 63):
        order, misses = probe(case, ids=200, capacity=capacity, keys=200, bounded=True), 0
        for page in pages.tolist():
            if order.holds(page):
                order.touch(page)
                continue
            misses += 1
            order.expect(page)
            if order.order.nr_resident == capacity:
                victim = order.candidate()
                order.take(victim, victim)
            order.insert(page, page)
        assert replay_order(probe(case, ids=200, capacity=capacity, keys=200).order, pages) == misses


@pytest.mark.parametrize("case", CASES)
def test_misuse_raises(case):
    order = probe(case, bounded=True)
    order.insert(2, 7)
    for call, message in [
        (lambda: order.insert(2), "resident already"),
        (lambda: order.touch(3), "not resident"),
        (lambda: order.spare(3), "not resident"),
        (lambda: order.take(3, 1), "not resident"),
        (lambda: order.forget(3), "not resident"),
        (lambda: order.insert(IDS), f"0 .. {IDS - 1}"),
        (lambda: order.insert(-1), f"0 .. {IDS - 1}"),
        (lambda: order.insert("2"), "not an int"),
        (lambda: order.insert(3, KEYS), f"0 .. {KEYS - 1}"),
        (lambda: order.forget_key(-1), f"0 .. {KEYS - 1}"),
        (lambda: replay_order(order.order, np.zeros(1, np.uint32)), "empty order"),
        (lambda: replay_order(probe(case).order, np.array([IDS], np.uint32)), "not below"),
    ]:
        with pytest.raises(InvariantError, match=message):
            call()
    for id in (0, 1, 3, 4):
        order.insert(id)
    with pytest.raises(InvariantError, match="most that were promised"):
        order.insert(5)
    order.check()


@pytest.mark.parametrize("case", CASES)
def test_check_finds_a_miscount(case):
    order = probe(case)
    order.insert(2, 7)
    order.check()
    order.miscount()
    with pytest.raises(InvariantError):
        order.check()


@pytest.mark.parametrize("case", ["s3fifo", "2q", "arc", "twolist", "mglru", "mq", "lirs", "clock-pro", "w-tinylfu"])
def test_no_keys_means_no_ghosts(case):
    order = probe(case, keys=0)
    for round_ in range(3):
        for id in range(IDS):
            if id % 3 == round_ and order.holds(id):
                order.take(id)
            elif not order.holds(id):
                order.insert(id)
        order.check()
    with pytest.raises(InvariantError):
        order.insert(0, 0)


@pytest.mark.parametrize(
    "case", ["s3fifo", "s3fifo paper", "2q", "2q paper", "arc", "mq", "lirs", "clock-pro", "w-tinylfu"]
)
def test_expected_key_forgotten_before_it_comes(case):
    """forget_key after expect: the page that then comes in without history is a new one."""
    order, plain = probe(case, capacity=8), probe(case, capacity=8)
    for each in (order, plain):
        for id in range(4):
            each.insert(id, id)
        each.take(each.candidate(), 0)
    order.expect(0)
    order.forget_key(0)
    plain.forget_key(0)
    for each in (order, plain):
        each.insert(8)
        each.check()
    while plain.candidate() is not None:
        victim = plain.candidate()
        assert order.candidate() == victim
        order.take(victim)
        plain.take(victim)


def test_recent_refaults_of_generations():
    order = probe("mglru")
    order.insert(0, 5)
    order.take(order.candidate(), 5)
    order.insert(0, 5)
    assert (order.order.nr_refaults, order.order.nr_recent) == (1, 1)
    order.take(order.candidate(), 5)
    for id in range(1, 9):
        order.insert(id)
        order.forget(order.candidate())
    order.insert(0, 5)
    assert (order.order.nr_refaults, order.order.nr_recent) == (2, 1)
    order.check()


def test_random_follows_its_seed():
    def victims(seed):
        order = probe("random", ids=100, seed=seed)
        for id in range(100):
            order.insert(id)
        taken = []
        while (victim := order.candidate()) is not None:
            order.take(victim)
            taken.append(victim)
        return taken

    assert victims(1) == victims(1) != victims(2)
    assert sorted(victims(3)) == list(range(100))


def test_every_order_has_a_case():
    assert {case.split()[0] for case in CASES} == set(ORDERS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_order("clok", 4, 2), "unknown value 'clok'; did you mean 'clock'"),
        (lambda: make_order("zzz", 4, 2), r"\(known: random, fifo"),
        (lambda: make_order("lru", 0, 2), "ids=0 must be an int in 1"),
        (lambda: make_order("lru", 2**32 - 1, 2), "ids=4294967295"),
        (lambda: make_order("lru", 4, 0), "capacity=0"),
        (lambda: make_order("lru", 4, 2.5), "capacity=2.5"),
        (lambda: make_order("lru", 4, 2, -1), "keys=-1"),
        (
            lambda: make_order("lru", 4, 2, 0, {"variant": "paper"}),
            "variant: replacement 'lru' has no option 'variant'",
        ),
        (lambda: make_order("2q", 4, 2, 0, {"variant": "mine"}), "variant: unknown value 'mine'"),
        (lambda: make_order("s3fifo", 4, 2, 0, {"variant": "mine"}), "variant: unknown value 'mine'"),
        (lambda: make_order("random", 4, 2, 0, None, -1), "seed=-1"),
    ],
)
def test_settings_that_cannot_be(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=60, deadline=None)
@given(steps=steps, moves=st.lists(st.tuples(st.integers(0, IDS - 1), st.integers(0, 2 * IDS - 1)), max_size=120))
def test_renamed_residents_keep_their_place(case, steps, moves):
    """An order whose residents change their numbers says the same as one whose do not."""
    plain, moving, held = probe(case, IDS), probe(case, 2 * IDS), set()
    number = list(range(IDS))  # what `moving` calls each id

    class Moved:
        """`moving` under the ids of `plain`."""

        def __getattr__(self, name):
            def call(id, *rest):
                return getattr(moving, name)(number[id], *rest)

            return call

        def candidate(self):
            victim = moving.candidate()
            return None if victim is None else number.index(victim)

        def forget_key(self, key):
            moving.forget_key(key)

    for (operation, id, key), (who, new) in zip(steps, moves, strict=False):
        apply(plain, Moved(), held, operation, id, key)
        if who in held and new not in number:
            moving.rename(number[who], new)
            number[who] = new
        moving.check()
        assert all(moving.holds(number[id]) == (id in held) for id in range(IDS))


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_a_copy_is_what_a_round_of_asking_gives(case, steps):
    originals, copies, held = [probe(case), probe(case)], [probe(case), probe(case)], set()
    for operation, id, key in steps:
        apply(*originals, held, operation, id, key)
    copies[0].copy_from(originals[0])
    copies[1].copy_from(originals[1], by_asking=True)
    for order in (*originals, *copies):
        order.check()
        assert {id for id in range(IDS) if order.holds(id)} == held
    for fast, asked in (originals, copies):  # the round is the original's, too
        gone = []
        for _ in held:
            gone.append(fast.candidate())
            assert asked.candidate() == gone[-1]
            fast.take(gone[-1])
            asked.take(gone[-1])
        assert set(gone) == held


def test_a_copy_needs_an_empty_order_of_its_size():
    order = probe("clock")
    for other in (probe("lru"), probe("clock", ids=IDS + 1)):
        with pytest.raises(InvariantError, match=f"{IDS + (other.order.ids > IDS)} ids needs an empty order"):
            order.copy_from(other)
    order.insert(0)
    with pytest.raises(InvariantError, match="needs an empty order"):
        order.copy_from(probe("clock"))


def test_the_base_keeps_no_order():
    order = Order(4, 2, 0)
    assert not Probe(order).holds(1)
    for call in (lambda: Probe(order).insert(1), lambda: Probe(order).candidate(), order.check):
        with pytest.raises(InvariantError, match="keeps no order"):
            call()
