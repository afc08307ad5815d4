"""Miss-ratio curves and reuse distances against a list in LRU order, against single runs, and samples against the whole."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memvirt
from memvirt.engine.replacement import distances as engine
from memvirt.errors import ConfigError, InvariantError
from memvirt.simulation import FIRST, Curve, curve, distance_counts, order_names, reuse_distances, simulate


def stack_distances(pages):
    """With a list, newest first: the definition."""
    stack, found = [], []
    for page in pages:
        found.append(stack.index(page) + 1 if page in stack else FIRST)
        if page in stack:
            stack.remove(page)
        stack.insert(0, page)
    return found


def draws(n, below, seed, skew=1.0):
    """Page numbers, low ones the more wanted the larger the skew; the same in every version of NumPy."""
    raw = np.random.Generator(np.random.PCG64(seed)).bit_generator.random_raw(n)
    return ((raw / 2.0**64) ** skew * below).astype(np.uint32)


# -- reuse distances -----------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(pages=st.lists(st.integers(0, 40), max_size=200))
def test_distances_are_depths_in_the_stack(pages):
    assert reuse_distances(pages).tolist() == stack_distances(pages)


@pytest.mark.parametrize(("n", "below"), [(3000, 5), (4000, 700), (3000, 2900)])
def test_distances_of_longer_traces(n, below):
    pages = draws(n, below, seed=1)
    assert reuse_distances(pages).tolist() == stack_distances(pages.tolist())


def test_stamps_are_renewed_again_and_again():
    """300,000 requests of 300 pages use up the 65,536 stamps of a small trace four times."""
    pages = draws(300_000, 300, seed=2)
    found = reuse_distances(pages)
    assert found[-2000:].tolist() == stack_distances(pages[-4000:].tolist())[-2000:], "all 300 pages were seen by then"
    cycle = np.tile(np.arange(300, dtype=np.uint32), 700)
    assert (reuse_distances(cycle)[300:] == 300).all()
    back_and_forth = np.concatenate([np.arange(30_000), np.arange(30_000)[::-1]] * 5).astype(np.uint32)
    expected = np.tile(np.arange(1, 30_001), 9)
    assert reuse_distances(back_and_forth)[30_000:].tolist() == expected.tolist()


def test_counts_are_those_of_the_distances():
    pages = draws(5000, 400, seed=3, skew=3.0)
    found = reuse_distances(pages)
    counts = distance_counts(pages)
    assert counts[0] == (found == FIRST).sum() == len(np.unique(pages))
    assert counts[1:].tolist() == np.bincount(found[found != FIRST])[1:].tolist()
    assert counts[-1] > 0, "it ends with the longest distance"
    assert distance_counts([]).tolist() == [0]
    assert reuse_distances([]).size == 0
    assert distance_counts([7]).tolist() == [1]


def test_what_the_engine_checks():
    pages = np.array([0, 3], np.uint32)
    with pytest.raises(InvariantError, match="page 3 is not below 3"):
        engine.reuse_distances(pages, 3, np.empty(2, np.uint32))
    with pytest.raises(InvariantError, match="need as long an out"):
        engine.reuse_distances(pages, 4, np.empty(3, np.uint32))
    with pytest.raises(InvariantError, match="counts of 5"):
        engine.reuse_distances(pages, 4, None, np.zeros(4, np.uint64))
    with pytest.raises(ConfigError, match="at most 1073741824"):
        engine.reuse_distances(pages, 2**30 + 1)


# -- exact curves --------------------------------------------------------------------------------------------------

TRACE = np.concatenate([draws(4000, 900, 4, skew=4.0), np.arange(700), draws(4000, 900, 5, skew=4.0)]).astype(np.uint32)
SIZES = (400, 1, 7, 7, 60, 899, 900, 100_000)


@pytest.mark.parametrize("name", order_names())
def test_a_curve_is_a_run_at_each_size(name):
    found = simulate(name, TRACE, capacities=SIZES)
    assert found.misses == tuple(simulate(name, TRACE, size) for size in SIZES)
    assert (found.replacement, found.capacities, found.errors) == (name, SIZES, None)
    assert (found.requests, found.distinct) == (len(TRACE), len(np.unique(TRACE)))
    assert found.miss_ratios() == tuple(misses / len(TRACE) for misses in found.misses)


@settings(max_examples=100, deadline=None)
@given(pages=st.lists(st.integers(0, 13), max_size=120))
def test_lru_at_every_size_from_one_pass(pages):
    sizes = range(1, 15)
    assert simulate("lru", pages, capacities=sizes).misses == tuple(simulate("lru", pages, size) for size in sizes)


def test_options_reach_every_size():
    paper = simulate("s3fifo", TRACE, capacities=SIZES, variant="paper")
    assert paper.misses == tuple(simulate("s3fifo", TRACE, size, variant="paper") for size in SIZES)
    assert paper.misses != simulate("s3fifo", TRACE, capacities=SIZES).misses
    one, two = (simulate("random", TRACE, capacities=SIZES, seed=seed).misses for seed in (1, 2))
    assert one == simulate("random", TRACE, capacities=SIZES, seed=1).misses != two


def test_an_empty_trace_has_a_curve():
    for name in order_names():
        assert simulate(name, [], capacities=[1, 5]).miss_ratios() == (0.0, 0.0)


def test_sizes_run_side_by_side(monkeypatch):
    """Two sizes wait for each other, which they can only if both run at once."""
    barrier = threading.Barrier(2, timeout=20)

    def misses(pages, ids, capacity, halt):
        barrier.wait()
        return capacity

    assert curve.exact(curve.MissCounter("any", misses, 2), TRACE, 900, (3, 4)).misses == (3, 4)


def test_what_one_size_raises_ends_the_curve():
    """Those that run beside it are told to end: they would wait for 20 s otherwise, and fail."""

    def misses(pages, ids, capacity, halt):
        if capacity == 3:
            raise MemoryError("no memory")
        assert halt.wait(20)
        return 0

    with pytest.raises(MemoryError):
        curve.exact(curve.MissCounter("any", misses, 2), TRACE, 900, (3, 4, 5))


@pytest.mark.parametrize("name", ["lru", "clock", "belady"])
@pytest.mark.parametrize("sizes", [(1000,), (1000, 2000, 3000, 4000)])
def test_ctrl_c_ends_a_curve(name, sizes):
    """In the middle of what takes minutes: 40 million requests, which are a fraction of a second between two looks."""
    program = (
        "import os, signal, threading, time, numpy as np\n"
        "from memvirt.simulation import simulate\n"
        "pages = np.tile(np.arange(200_000, dtype=np.uint32), 400)\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "began = time.process_time()\n"
        "try:\n"
        f"    simulate('{name}', pages, capacities={sizes})\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', time.process_time() - began)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    word, took = done.stdout.split()
    assert word == "stopped" and float(took) < 10, done.stderr  # of minutes


# -- samples -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_trace():
    """A wanted core, a long tail and scans: 600,000 requests over 120,000 pages that lie anywhere."""
    core = draws(400_000, 120_000, 6, skew=5.0)
    scans = np.concatenate([np.arange(start, start + 40_000) for start in (0, 60_000, 20_000, 0, 80_000)])
    pages = np.concatenate([core[:200_000], scans, core[200_000:]]).astype(np.uint32)
    return (pages.astype(np.uint64) * 7919 % 120_000).astype(np.uint32)


@pytest.mark.parametrize("name", ["lru", "fifo", "clock", "sieve", "s3fifo", "2q", "arc", "lfu", "belady", "random"])
def test_samples_are_near_the_whole(name, long_trace):
    """Over the sizes, the exact ratio lies within twice the stated error, but for the rare miss of 95 % intervals."""
    sizes = (4_000, 8_000, 16_000, 32_000, 64_000, 100_000)
    whole = simulate(name, long_trace, capacities=sizes).miss_ratios()
    found = simulate(name, long_trace, capacities=sizes, sample=0.05)
    assert isinstance(found, Curve) and found.errors is not None and found.requests == len(long_trace)
    apart = [abs(one - two) for one, two in zip(whole, found.miss_ratios(), strict=True)]
    assert max(apart) < 0.03
    assert all(0 < error < 0.1 for error in found.errors)
    outside = sum(distance > 2 * error for distance, error in zip(apart, found.errors, strict=True))
    assert outside <= 1, (apart, found.errors)


def test_samples_of_one_seed_are_the_same_and_of_others_not(long_trace):
    def ask(seed):
        return simulate("clock", long_trace, capacities=[20_000], sample=0.01, sample_seed=seed)

    assert ask(1) == ask(1) != ask(2)


def test_samples_share_no_page_and_are_of_the_rate(long_trace):
    taken = [ids for _, ids in curve._samples(long_trace, 120_000, 0.1, 3)]
    assert len(taken) == curve.REPLICAS
    assert all(abs(ids / 120_000 - 0.1) < 0.005 for ids in taken)
    whole = list(curve._samples(long_trace, 120_000, 1 / curve.REPLICAS, 3))
    assert sum(ids for _, ids in whole) == 120_000
    assert sum(pages.size for pages, _ in whole) == long_trace.size
    assert all(len(np.unique(pages)) <= ids and pages.max() < ids for pages, ids in whole)


def test_the_error_shrinks_with_the_sample():
    """No scans here: near a size at which a curve falls like a cliff, a small sample can be lucky."""
    pages = (draws(400_000, 120_000, 6, skew=3.0).astype(np.uint64) * 7919 % 120_000).astype(np.uint32)
    sizes = (30_000, 45_000, 60_000, 90_000)
    small, large = (np.mean(simulate("lru", pages, capacities=sizes, sample=rate).errors) for rate in (0.004, 0.12))
    assert large < small / 2


def test_a_sample_of_nothing():
    assert simulate("clock", [], capacities=[5000], sample=0.1).misses == (0,)
    assert simulate("clock", [3], capacities=[5000], sample=0.1, sample_seed=1).errors is not None


# -- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either capacity=.* or capacities="),
        ({"capacity": 3, "capacities": [3]}, "either capacity=.* or capacities="),
        ({"capacity": 3, "sample": 0.1}, "sample= goes with capacities"),
        ({"capacities": [3], "detail": True}, "detail=True goes with capacity"),
        ({"capacities": []}, "is empty"),
        ({"capacities": 5}, "capacities=5: must be a list"),
        ({"capacities": "55"}, "capacities='55': must be a list"),
        ({"capacities": [5, 0]}, r"capacities\[1\]=0: must be a whole number"),
        ({"capacities": [5, True]}, r"capacities\[1\]=True"),
        ({"capacities": [5000], "sample": 0}, "sample=0: must be a share"),
        ({"capacities": [5000], "sample": 0.2}, "sample=0.2: must be a share .* at most 0.125"),
        ({"capacities": [5000], "sample": True}, "sample=True"),
        ({"capacities": [5000], "sample": "1%"}, "sample='1%'"),
        (
            {"capacities": [50_000, 5000], "sample": 0.01},
            "leaves 50 pages of a capacity of 5000.*take sample=0.02 or more",
        ),
        ({"capacities": [7000], "sample": 0.001}, "take sample=0.015 or more"),
        ({"capacities": [500], "sample": 0.1}, "leave it out for exact counts"),
        ({"capacities": [5000], "sample": 0.1, "sample_seed": -1}, "sample_seed=-1"),
        ({"capacities": [5000], "variant": "paper"}, "option"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    for name in ("lru", "clock"):
        with pytest.raises(ConfigError, match=message):
            simulate(name, [1, 2, 1], **arguments)


def test_the_advised_sample_is_taken():
    simulate("clock", [1, 2, 1], capacities=[7000], sample=0.015)


# -- orders written in Python --------------------------------------------------------------------------------------


class Lru:
    """Least recently used, as a user would write it."""

    def __init__(self, capacity, backwards=False):
        self.held, self.backwards, self.expected = {}, backwards, None

    def expect(self, page):
        self.expected = page

    def insert(self, page):
        assert page == self.expected
        self.held[page] = None

    def touch(self, page):
        self.held[page] = self.held.pop(page)

    def candidate(self):
        return next(reversed(self.held) if self.backwards else iter(self.held))

    def take(self, page):
        del self.held[page]


def test_an_order_of_ones_own_counts_as_the_engine_does():
    for capacity in (1, 7, 300):
        assert simulate(Lru, TRACE, capacity) == simulate("lru", TRACE, capacity)
    assert simulate(Lru, TRACE, 5, detail=True).replacement == "Lru"
    found = simulate(Lru, TRACE, capacities=[1, 7, 300])
    assert (found.replacement, found.misses) == ("Lru", simulate("lru", TRACE, capacities=[1, 7, 300]).misses)
    assert simulate(Lru, TRACE, 50, backwards=True) > simulate(Lru, TRACE, 50)
    assert simulate(Lru, [], 5) == 0
    assert simulate(lambda capacity: Lru(capacity), TRACE, 7) == simulate("lru", TRACE, 7), "any callable makes one"


def test_an_order_in_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "class First:\n"
        "    def __init__(self, capacity): self.held = []\n"
        "    def expect(self, page): pass\n"
        "    def insert(self, page): self.held.append(page)\n"
        "    def touch(self, page): pass\n"
        "    def candidate(self): return self.held[0]\n"
        "    def take(self, page): self.held.remove(page)\n"
    )
    assert simulate(f"{path}:First", TRACE, 60) == simulate("fifo", TRACE, 60)
    for name, message in [
        (f"{path}:Frist", "has no class 'Frist'; did you mean 'First'"),
        (f"{tmp_path}/none.py:First", "does not exist"),
    ]:
        with pytest.raises(ConfigError, match=message):
            simulate(name, TRACE, 60)
    path.write_text("import nothing_of_this_name\n")
    with pytest.raises(ConfigError, match="fails to run: ModuleNotFoundError"):
        simulate(f"{path}:First", TRACE, 60)


class WithoutTake:
    expect = insert = touch = candidate = lambda self, *page: None


class NamesAbsent(Lru):
    def candidate(self):
        return 12345


class NamesNothing(Lru):
    def candidate(self):
        return None


class NamesTruth(Lru):
    def candidate(self):
        return True


class NamesTwice(Lru):
    def take(self, page):
        pass  # and so will name it again


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (WithoutTake, "order WithoutTake has no take"),
        (lambda capacity: object(), "has no expect.*, insert.*, touch.*, candidate.*, take"),
        (NamesAbsent, r"candidate\(\) returned 12345, which is not in; at request 3, to make room for page 4"),
        (NamesNothing, r"candidate\(\) returned None, which is no page number; at request 3"),
        (NamesTruth, r"candidate\(\) returned True, which is no page number"),
        (NamesTwice, r"candidate\(\) returned 1, which is not in; at request 4, to make room for page 5"),
        (7, "7 is neither the name of an order nor a class"),
        (type("NoRoom", (Lru,), {"__init__": lambda self: None}), "cannot be made with capacity=3"),
    ],
)
def test_orders_that_misbehave(order, message):
    with pytest.raises(ConfigError, match=message):
        simulate(order, [1, 2, 3, 4, 5], 3)


def test_options_that_an_order_of_ones_own_does_not_take():
    with pytest.raises(ConfigError, match=r"options \{'forwards': 1\}: .*unexpected keyword"):
        simulate(Lru, [1], 1, forwards=1)


def test_what_an_order_raises_says_at_which_request():
    class Breaks(Lru):
        def touch(self, page):
            raise KeyError(page)

    with pytest.raises(KeyError) as caught:
        simulate(Breaks, [1, 2, 2], 3)
    assert caught.value.__notes__ == ["order Breaks: at request 2, for page 2, 2 of 3 in"]


def test_the_face_of_the_library_gives_curves():
    assert memvirt.simulate("lru", [1, 2, 1], capacities=[1, 2]).misses == (3, 2)
