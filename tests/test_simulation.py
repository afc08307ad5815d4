"""memvirt.simulate against the papers in plain Python, against libcachesim, and against exhaustive search."""

from collections import OrderedDict, deque
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memvirt
from memvirt.errors import ConfigError
from memvirt.simulation import Simulation, order_names, simulate
from oracle.paper_orders import paper_clock_pro, paper_lirs, paper_mq, paper_slru


def numbers(n, below, seed):
    """Integers that do not depend on NumPy's distributions: the high bits of a multiplicative sequence."""
    state = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(29)
    return ((state * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(33)) % np.uint64(below)


def skewed(n, below, seed):
    """About zipf: a page of a uniformly drawn octave."""
    octave = numbers(n, int(below).bit_length(), seed)
    return numbers(n, 1 << 32, seed + 1) % np.minimum(np.uint64(1) << (octave + np.uint64(1)), np.uint64(below))


TRACES = {
    "zipf": skewed(6000, 1500, 1),
    "uniform": numbers(5000, 300, 2),
    "loop": np.arange(4000) % 170,
    "scan-mixed": np.concatenate(
        [part for k in range(6) for part in (skewed(700, 250, 3 + k), np.arange(250 + 90 * k, 550 + 90 * k))]
    ),
    "phase change": np.concatenate([skewed(1500, 300, 20 + k) + 150 * k for k in (0, 1, 2, 0)]),
}
TRACES = {name: trace.astype(np.uint32) for name, trace in TRACES.items()}
SIZES = (1, 2, 3, 4, 7, 10, 19, 20, 33, 100, 101, 169, 170, 171, 212, 400, 500, 5000)
PEERS = {"fifo": "FIFO", "lru": "LRU", "clock": "Clock", "sieve": "Sieve", "s3fifo": "S3FIFO", "2q": "TwoQ"}
PEERS |= {"arc": "ARC", "lfu": "LFU", "slru": "SLRU", "mq": "MQ", "w-tinylfu": "WTinyLFU"}


def paper_fifo(pages, capacity):
    held, misses = deque(), 0
    for page in pages:
        if page not in held:
            misses += 1
            if len(held) == capacity:
                held.popleft()
            held.append(page)
    return misses


def paper_lru(pages, capacity):
    held, misses = OrderedDict(), 0
    for page in pages:
        if page in held:
            held.move_to_end(page)
            continue
        misses += 1
        if len(held) == capacity:
            held.popitem(last=False)
        held[page] = None
    return misses


def paper_clock(pages, capacity):
    """Frames in a circle, a hand, one bit per frame."""
    frames, bits, hand, misses = [], [], 0, 0
    for page in pages:
        if page in frames:
            bits[frames.index(page)] = True
            continue
        misses += 1
        if len(frames) < capacity:
            frames.append(page)
            bits.append(False)
            continue
        while bits[hand]:
            bits[hand] = False
            hand = (hand + 1) % capacity
        frames[hand] = page
        hand = (hand + 1) % capacity
    return misses


def paper_sieve(pages, capacity):
    """Queue with the newest first; the hand is an index that walks to the front."""
    queue, visited, hand, misses = [], set(), None, 0
    for page in pages:
        if page in queue:
            visited.add(page)
            continue
        misses += 1
        if len(queue) == capacity:
            hand = capacity - 1 if hand is None else hand
            while queue[hand] in visited:
                visited.remove(queue[hand])
                hand = hand - 1 if hand else capacity - 1
            queue.pop(hand)
            hand = hand - 1 if hand else None
        queue.insert(0, page)
        hand = None if hand is None else hand + 1
    return misses


def paper_lfu(pages, capacity):
    held, misses = {}, 0
    for now, page in enumerate(pages):
        if page in held:
            held[page] = (held[page][0] + 1, now)
            continue
        misses += 1
        if len(held) == capacity:
            del held[min(held, key=held.__getitem__)]
        held[page] = (1, now)
    return misses


def paper_s3fifo(pages, capacity):
    """Algorithm 1; a move that fills main beyond its share hands the eviction over to main."""
    small, main, ghosts, freq, misses = deque(), deque(), deque(), {}, 0
    main_size = capacity - capacity // 10
    for page in pages:
        if page in freq:
            freq[page] = min(3, freq[page] + 1)
            continue
        misses += 1
        recalled = page in ghosts
        if recalled:
            ghosts.remove(page)
        from_small = small and len(main) <= main_size
        while len(freq) == capacity:
            if from_small and freq[small[0]] > 1:
                main.append(small.popleft())
                freq[main[-1]] = 0
                from_small = small and len(main) <= main_size
            elif from_small:
                del freq[small[0]]
                ghosts.append(small.popleft())
                if len(ghosts) > capacity * 9 // 10:
                    ghosts.popleft()
            elif not main:
                from_small = True
            elif freq[main[0]]:
                freq[main[0]] -= 1
                main.rotate(-1)
            else:
                del freq[main.popleft()]
        (main if recalled else small).append(page)
        freq[page] = 0
    return misses


def paper_2q(pages, capacity):
    """The full version, as in the paper: reclaim first, then take the page out of A1out."""
    a1in, a1out, am, misses = deque(), deque(), OrderedDict(), 0
    for page in pages:
        if page in am:
            am.move_to_end(page)
            continue
        if page in a1in:
            continue
        misses += 1
        recalled = page in a1out
        if len(a1in) + len(am) == capacity:
            if len(a1in) > capacity // 4 or not am:
                a1out.append(a1in.popleft())
                if len(a1out) > capacity // 2:
                    a1out.popleft()
            else:
                am.popitem(last=False)
        if recalled:
            am[page] = None
            if page in a1out:
                a1out.remove(page)
        else:
            a1in.append(page)
    return misses


def paper_arc(pages, capacity):
    """Cases I to IV of figure 4, the target a real number."""
    t1, t2, b1, b2 = (OrderedDict() for _ in range(4))
    p, misses = 0.0, 0

    def replace(in_b2):
        if (t1 and (len(t1) > p or (in_b2 and len(t1) == p))) or not t2:
            b1[t1.popitem(last=False)[0]] = None
        else:
            b2[t2.popitem(last=False)[0]] = None

    for page in pages:
        if page in t1 or page in t2:
            (t1 if page in t1 else t2).pop(page)
            t2[page] = None
            continue
        misses += 1
        if page in b1 or page in b2:
            if page in b1:
                p = min(p + max(len(b2) / len(b1), 1), capacity)
            else:
                p = max(p - max(len(b1) / len(b2), 1), 0)
            replace(page in b2)
            (b1 if page in b1 else b2).pop(page)
            t2[page] = None
            continue
        if len(t1) + len(b1) == capacity:
            if len(t1) < capacity:
                b1.popitem(last=False)
                replace(False)
            else:
                t1.popitem(last=False)
        elif len(t1) + len(t2) + len(b1) + len(b2) >= capacity:
            if len(t1) + len(t2) + len(b1) + len(b2) == 2 * capacity:
                b2.popitem(last=False)
            replace(False)
        t1[page] = None
    return misses


PAPERS = {
    "fifo": (paper_fifo, {}),
    "lru": (paper_lru, {}),
    "clock": (paper_clock, {}),
    "sieve": (paper_sieve, {}),
    "s3fifo": (paper_s3fifo, {"variant": "paper"}),
    "2q": (paper_2q, {"variant": "paper"}),
    "arc": (paper_arc, {}),
    "lfu": (paper_lfu, {}),
    "slru": (paper_slru, {}),
    "mq": (paper_mq, {}),
    "mq short": (partial(paper_mq, queues=4, lifetime=30), {"queues": 4, "lifetime": 30}),
    "lirs": (paper_lirs, {}),
    "clock-pro": (paper_clock_pro, {}),
}


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("name", PAPERS)
def test_equals_the_paper(name, trace):
    oracle, options = PAPERS[name]
    pages = TRACES[trace][:2500]
    for capacity in (1, 2, 3, 11, 40, 170, 5000):
        assert simulate(name.split()[0], pages, capacity, **options) == oracle(pages.tolist(), capacity), capacity


@pytest.mark.parametrize("name", PAPERS)
@settings(max_examples=150, deadline=None)
@given(pages=st.lists(st.integers(0, 13), max_size=150), capacity=st.integers(1, 12))
def test_equals_the_paper_on_small_traces(name, pages, capacity):
    oracle, options = PAPERS[name]
    assert simulate(name.split()[0], pages, capacity, **options) == oracle(pages, capacity)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Every trace as libcachesim reads it: a file of 32-bit object numbers, all objects of size one."""
    peer = pytest.importorskip("libcachesim", reason="libcachesim is not installed: pip install memvirt[test]")
    folder, opened = tmp_path_factory.mktemp("traces"), {}
    for name, pages in TRACES.items():
        path = folder / f"{len(opened)}.bin"
        pages.astype("<u4").tofile(path)
        params = peer.ReaderInitParam(binary_fmt_str="<I", ignore_obj_size=True)
        params.obj_id_field = 1
        opened[name] = peer.TraceReader(str(path), peer.TraceType.BIN_TRACE, params)
    return peer, opened


def comparable(name, capacity):
    """Whether the segments of libcachesim's SLRU fill its memory: elsewhere it evicts on a hit."""
    if name == "slru":
        return capacity % 4 == 0
    return name != "w-tinylfu" or (capacity >= 100 and (capacity - capacity // 100) % 5 == 0)


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("name", PEERS)
def test_equals_libcachesim(name, trace, readers):
    peer, opened = readers
    for capacity in SIZES:
        if name == "s3fifo" and capacity < 10:
            continue  # libcachesim ends the process
        if not comparable(name, capacity):
            continue
        opened[trace].reset()
        ratio = getattr(peer, PEERS[name])(capacity, hashpower=12).process_trace(opened[trace])[0]
        assert simulate(name, TRACES[trace], capacity) == round(ratio * len(TRACES[trace])), capacity


def test_where_libcachesim_admits_nothing(readers):
    """Below these sizes its short queue takes no page of size one; the paper's algorithms do cache something."""
    pages = TRACES["zipf"]
    for name, size in (("s3fifo", 19), ("2q", 3)):
        assert simulate(name, pages, size) == len(pages) > simulate(name, pages, size, variant="paper")
        assert simulate(name, pages, size + 1) < len(pages)


@pytest.mark.parametrize("trace", TRACES)
def test_equals_libcachesim_with_other_options(trace, readers):
    peer, opened = readers
    pages = TRACES[trace]
    for capacity in (10, 33, 100, 400):
        for theirs, name, ours in (
            (
                {"n_queue": 3, "lifetime": 50, "qout_size_ratio": 1.5},
                "mq",
                {"queues": 3, "lifetime": 50, "ghost_percent": 150},
            ),
            ({"window_size": 0.1}, "w-tinylfu", {"window_percent": 10}),
        ):
            if name == "mq" or (capacity - capacity // 10) % 5 == 0:
                opened[trace].reset()
                ratio = getattr(peer, PEERS[name])(capacity, hashpower=12, **theirs).process_trace(opened[trace])[0]
                assert simulate(name, pages, capacity, **ours) == round(ratio * len(pages)), (name, capacity)


def libcachesim_slru(pages, capacity, segments=4):
    """As the paper's, but what segment 0 holds above its share goes when a page sinks into it: on a hit, too."""
    parts, share, misses = [[] for _ in range(segments)], capacity // segments, 0
    for page in pages:
        level = next((level for level, part in enumerate(parts) if page in part), None)
        if level is None:
            misses += 1
            if sum(map(len, parts)) == capacity:
                next(part for part in parts if part).pop(0)
            next((part for part in parts if len(part) < share), parts[0]).append(page)
            continue
        parts[level].remove(page)
        level = min(level + 1, segments - 1)
        parts[level].append(page)
        while level and len(parts[level]) > share:
            parts[level - 1].append(parts[level].pop(0))
            level -= 1
            while level == 0 and len(parts[0]) > share:
                parts[0].pop(0)
    return misses


@pytest.mark.parametrize("trace", TRACES)
def test_what_makes_libcachesim_s_slru_another(trace, readers):
    """Where four does not divide the capacity, it is the paper's with evictions on hits."""
    peer, opened = readers
    pages = TRACES[trace]
    for capacity in (7, 41, 171):
        opened[trace].reset()
        theirs = round(peer.SLRU(capacity, hashpower=12).process_trace(opened[trace])[0] * len(pages))
        assert libcachesim_slru(pages.tolist(), capacity) == theirs


def read_by_peer(peer, pages, path):
    np.array(pages, "<u4").tofile(path)
    params = peer.ReaderInitParam(binary_fmt_str="<I", ignore_obj_size=True)
    params.obj_id_field = 1
    return peer.TraceReader(str(path), peer.TraceType.BIN_TRACE, params)


def test_libcachesim_s_lirs_is_not_the_paper_s(readers, tmp_path):
    """It beats the optimum here, so it holds more pages than two."""
    peer, _ = readers
    pages = [1, 1, 2, 1, 0, 2, 1, 2, 0, 1, 2]
    reader = read_by_peer(peer, pages, tmp_path / "trace.bin")
    assert round(peer.LIRS(2, hashpower=12).process_trace(reader)[0] * len(pages)) == 5
    assert simulate("belady", pages, 2) == 6 <= simulate("lirs", pages, 2)


def test_libcachesim_s_clock_pro_admits_nothing_while_cold_pages_fill_their_share(readers, tmp_path):
    """A page requested again and again is a hit from the second time on in the paper, and a miss each time there."""
    peer, _ = readers
    pages = [0, 1, 2, 3, 3, 3, 3, 3, 3]
    reader = read_by_peer(peer, pages, tmp_path / "trace.bin")
    theirs = round(peer.ClockPro(3, hashpower=12, init_ratio_cold=1.0).process_trace(reader)[0] * len(pages))
    assert (theirs, simulate("clock-pro", pages, 3, cold_percent=100)) == (9, 4)


# Misses at a capacity of 100, in the order of TRACES; those of PEERS are libcachesim's too.
GOLDEN = {
    "random": (2914, 3311, 2827, 2916, 1917),
    "fifo": (2895, 3329, 4000, 2799, 1837),
    "clock": (2454, 3307, 4000, 2676, 1507),
    "lru": (2541, 3307, 4000, 2678, 1555),
    "twolist": (2435, 3304, 4000, 2578, 1506),
    "mglru": (2458, 3299, 4000, 2680, 1510),
    "sieve": (2118, 3365, 4000, 2319, 2042),
    "s3fifo": (2092, 3298, 2748, 2324, 1613),
    "2q": (2269, 3315, 4000, 2459, 1647),
    "arc": (2165, 3307, 4000, 2334, 1525),
    "lfu": (2118, 3376, 4000, 2317, 2490),
    "slru": (2150, 3288, 2285, 2356, 1730),
    "mq": (2027, 3335, 4000, 2361, 1882),
    "lirs": (2146, 3310, 1732, 2335, 1569),
    "clock-pro": (2126, 3293, 1732, 2327, 1555),
    "w-tinylfu": (2068, 3367, 1782, 2368, 2239),
    "belady": (1577, 1688, 1723, 2129, 954),
}


@pytest.mark.parametrize("name", order_names())
def test_golden_counts(name):
    assert tuple(simulate(name, pages, 100) for pages in TRACES.values()) == GOLDEN[name]


def fewest_misses(pages, capacity):
    """By trying every victim."""

    @cache
    def rest(at, held):
        if at == len(pages):
            return 0
        page = pages[at]
        if page in held:
            return rest(at + 1, held)
        if len(held) < capacity:
            return 1 + rest(at + 1, held | {page})
        return 1 + min(rest(at + 1, held - {victim} | {page}) for victim in held)

    return rest(0, frozenset())


@settings(max_examples=60, deadline=None)
@given(pages=st.lists(st.integers(0, 6), max_size=22), capacity=st.integers(1, 5))
def test_belady_is_the_optimum(pages, capacity):
    assert simulate("belady", pages, capacity) == fewest_misses(tuple(pages), capacity)


@pytest.mark.parametrize("trace", TRACES)
def test_belady_bounds_all(trace):
    pages = TRACES[trace]
    distinct = len(np.unique(pages))
    for capacity in SIZES:
        fewest = simulate("belady", pages, capacity)
        for name in order_names():
            misses = simulate(name, pages, capacity)
            assert distinct <= fewest <= misses <= len(pages)
            if capacity >= distinct:
                assert misses == distinct


def test_belady_on_more_times_than_one_word_level_holds():
    """Next uses far apart: 300,000 requests take four levels of words."""
    pages = np.concatenate([np.arange(100_000), np.arange(100_000)[::-1], np.arange(100_000)]).astype(np.uint32)
    assert simulate("belady", pages, 40_000) == 100_000 + 60_000 + 60_000


def test_detail():
    assert simulate("lru", [5, 1, 5, 2, 1], 2, detail=True) == Simulation(
        replacement="lru", capacity=2, requests=5, distinct=3, misses=4
    )
    assert simulate("lru", [], 2, detail=True).distinct == 0


@pytest.mark.parametrize("name", order_names())
def test_any_integer_array_will_do(name):
    pages = TRACES["zipf"]
    misses = simulate(name, pages, 50)
    for same in (pages.tolist(), pages.astype(np.int64), pages.astype(">u4"), np.repeat(pages, 2)[::2]):
        assert simulate(name, same, np.int64(50)) == misses
    assert simulate(name, [], 50) == 0
    assert simulate(name, np.zeros(0), 50) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lru", [1, 2], 0), "capacity=0: must be a whole number of pages in 1"),
        (("lru", [1, 2], 1.5), "capacity=1.5"),
        (("lru", [1, 2], True), "capacity=True"),
        (("lru", [1, 2], 2**32), "capacity=4294967296"),
        (("lru", [[1, 2]], 1), "2 dimensions.*ravel"),
        (("lru", [1.0, 2.0], 1), "dtype float64.*astype"),
        (("lru", [True, False], 1), "dtype bool"),
        (("lru", [3, -1], 1), r"pages\[1\] is -1"),
        (("lru", [3, 2**32 - 1], 1), r"pages\[1\] is 4294967295, above .*numpy.unique"),
        (("lru", [0, 2**31], 1), "must be dense.*numpy.unique"),
        (("lur", [1], 1), "did you mean 'lru'"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ConfigError, match=message):
        simulate(*arguments)


@pytest.mark.parametrize("name", ["belady", "lru"])
def test_options_that_nobody_takes(name):
    with pytest.raises(ConfigError, match="option"):
        simulate(name, [1], 1, variant="paper")


def test_the_face_of_the_library_stays_a_function():
    """A module memvirt/simulate.py would take the function's place in the package once it is imported."""
    assert [memvirt.simulate("lru", [1, 2, 1], 1) for _ in range(2)] == [3, 3]
