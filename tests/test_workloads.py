"""Workloads: raw bits against an oracle, golden streams, distributions against exact fractions, every bad parameter."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memvirt.errors import ConfigError, CorpusError
from memvirt.inputs.bits import Bits
from memvirt.inputs.traces import import_trace, open_trace
from memvirt.workloads import (
    BATCH,
    DISCARD,
    FILL,
    READ,
    WRITE,
    AgingPlan,
    Batch,
    Boot,
    Space,
    Stream,
    discard,
    names,
    parameters,
    parse,
)
from memvirt.workloads.trace import replay
from memvirt.workloads.zipf import alias_table, zipf_weights

EXAMPLES: dict[str, dict[str, Any]] = {
    "uniform": {"accesses": 100_000, "write_percent": 30},
    "sequential": {"accesses": 100_000, "write_percent": 10},
    "strided": {"accesses": 100_000, "stride": 37},
    "loop": {"accesses": 100_000, "set_percent": 20, "write_percent": 1},
    "idle": {"accesses": 1000, "hot_pages": 9},
    "phase-change": {"accesses": 100_000, "set_percent": 10, "period": 7777, "overlap_percent": 25},
    "zipf": {"accesses": 100_000, "theta_milli": 990, "write_percent": 20},
    "clone-storm": {"accesses": 100_000, "dirty_percent": 33},
    "cow-storm": {"accesses": 100_000, "dirty_percent": 50},
    "hotspot": {"accesses": 100_000, "hot_percent": 10, "hot_access_percent": 90, "write_percent": 5},
    "pointer-chase": {"accesses": 100_000, "chains": 3},
    "stream": {"accesses": 100_000},
    "gups": {"accesses": 100_001},
    "fork-and-modify": {"accesses": 100_000, "dirty_percent": 30, "run_pages": 7},
    **{f"ycsb-{letter}": {"accesses": 100_000} for letter in "abcdef"},
    "mixed": {
        "parts": [
            {"weight": 3, "workload": {"workload": "zipf", "accesses": 75_000, "write_percent": 50}},
            {"weight": 1, "workload": {"workload": "sequential", "accesses": 25_000}},
        ]
    },
}
SPACE = Space(5000, 1200)
STREAM = Stream(11, 2, "measured")


def stream_of(name: str, space: Space = SPACE, stream: Stream = STREAM, **parameters: Any) -> Iterator[Batch]:
    return parse({"workload": name, **EXAMPLES[name], **parameters}).batches(space, stream)


def whole(batches: Iterator[Batch]) -> tuple[np.ndarray, np.ndarray]:
    parts = list(batches)
    return np.concatenate([part.pages for part in parts]), np.concatenate([part.ops for part in parts])


# --- bits --------------------------------------------------------------------------------------------------------


def philox(key: int, blocks: int) -> list[int]:
    """Philox 4x64-10 in plain Python, after Salmon et al., SC'11; counting starts at 1."""
    mask, words = (1 << 64) - 1, []
    for counter in range(1, blocks + 1):
        x0, x1, x2, x3 = counter, 0, 0, 0
        k0, k1 = key & mask, key >> 64
        for _ in range(10):
            p0, p1 = x0 * 0xD2E7470EE14C6C93, x2 * 0xCA5A826395121157
            x0, x1, x2, x3 = (p1 >> 64) ^ x1 ^ k0, p1 & mask, (p0 >> 64) ^ x3 ^ k1, p0 & mask
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
        words += [x0, x1, x2, x3]
    return words


def test_bits_are_philox_keyed_by_name() -> None:
    key = int.from_bytes(hashlib.sha256(b"stream/1/2/fill/zipf").digest()[:16], "little")
    expected = philox(key, 5)
    assert Bits("stream", 1, 2, "fill", "zipf").u64(20).tolist() == expected
    assert Stream(1, 2, "fill").bits("zipf").u64(20).tolist() == expected
    halves = [half for word in expected for half in (word & 0xFFFFFFFF, word >> 32)]
    assert Bits("stream", 1, 2, "fill").child("zipf").u32(39).tolist() == halves[:39]
    quarters = [word >> shift & 0xFFFF for word in expected for shift in (0, 16, 32, 48)]
    assert Stream(1, 2, "fill").bits("zipf").u16(78).tolist() == quarters[:78]
    assert Stream(1, 2, "fill").bits("zipf").below(1000, 40).tolist() == [half * 1000 >> 32 for half in halves]


@given(st.integers(1, 1 << 31), st.integers(0, 300))
def test_below_stays_below(bound: int, count: int) -> None:
    drawn = Bits("test", bound).below(bound, count)
    assert len(drawn) == count and drawn.dtype == np.uint32
    assert all(0 <= number < bound for number in drawn.tolist())


@given(st.integers(1, 2000))
def test_permutation_is_one(count: int) -> None:
    assert sorted(Bits("test").permutation(count).tolist()) == list(range(count))


def test_layout_outlives_the_phase_and_bits_do_not() -> None:
    warm, hot, other = Stream(1, 2, "warm-up"), Stream(1, 2, "measured"), Stream(1, 3, "warm-up")
    assert warm.layout("x").u64(4).tolist() == hot.layout("x").u64(4).tolist() != other.layout("x").u64(4).tolist()
    assert warm.bits("x").u64(4).tolist() != hot.bits("x").u64(4).tolist()
    assert warm.bits("x").u64(4).tolist() != warm.bits("y").u64(4).tolist()


# --- every workload ----------------------------------------------------------------------------------------------

GOLDEN = {
    "clone-storm": "fd1dc6756b690618",
    "cow-storm": "85f8b3c838fb1b7c",
    "fork-and-modify": "9cb1d9aeb7995f9b",
    "gups": "3a32aafe4e04b246",
    "hotspot": "ce2a0854e27fe77e",
    "idle": "8f9e866ccfede749",
    "loop": "273ca9c5dd9ab8da",
    "mixed": "8abb045b914282ba",
    "phase-change": "3b5b333dac410645",
    "pointer-chase": "3c5e25c48e6ae4f9",
    "sequential": "4cf0872ea3404375",
    "stream": "7e83635441454338",
    "strided": "e121785ebab3cd3f",
    "uniform": "cc3eca6001047a4b",
    "ycsb-a": "6c1b8f0f4ebd7bfc",
    "ycsb-b": "1d84a7a390f688d8",
    "ycsb-c": "50196c55898a20d9",
    "ycsb-d": "10947e09f3ea6a9c",
    "ycsb-e": "4bcbbe0a51b44191",
    "ycsb-f": "d3b815c0b09cce22",
    "zipf": "4c38f1e2947beaa5",
}


def digest(batches: Iterator[Batch]) -> str:
    pages, ops = whole(batches)
    data = pages.astype("<u4").tobytes() + ops.astype("u1").tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_golden_streams(name: str) -> None:
    assert digest(stream_of(name)) == GOLDEN[name]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_streams_keep_the_contract(name: str) -> None:
    total = 0
    for batch in stream_of(name):
        assert batch.pages.dtype == np.uint32 and batch.ops.dtype == np.uint8
        assert len(batch.pages) == len(batch.ops) and 0 < len(batch.pages) <= BATCH
        assert batch.sources is None
        assert int(batch.pages.max()) < SPACE.pages
        assert set(np.unique(batch.ops).tolist()) <= {READ, WRITE}
        if name != "cow-storm":
            assert not (batch.ops[batch.pages < SPACE.read_only] == WRITE).any()
        total += len(batch.pages)
    if name != "mixed":
        assert total == EXAMPLES[name]["accesses"]


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"sequential", "strided", "cow-storm", "stream"}))
def test_seed_vm_and_phase_each_change_the_stream(name: str) -> None:
    streams = [STREAM, Stream(12, 2, "measured"), Stream(11, 3, "measured"), Stream(11, 2, "warm-up")]
    digests = [digest(stream_of(name, stream=stream)) for stream in streams]
    all_layout = name in ("loop", "pointer-chase", "fork-and-modify")  # but for writes that are drawn
    assert len(set(digests)) == len(digests) - (1 if all_layout and name != "loop" else 0) or name == "loop"
    assert digest(stream_of(name)) == digests[0]


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"clone-storm", "stream"}))
def test_smallest_space(name: str) -> None:
    pages, _ = whole(stream_of(name, space=Space(1)))
    assert not pages.any()


@pytest.mark.parametrize("percent", [0, 1, 20, 99, 100])
def test_write_share(percent: int) -> None:
    _, ops = whole(stream_of("uniform", space=Space(100), accesses=200_000, write_percent=percent))
    share = 100 * ops.sum() / len(ops)
    assert share == percent if percent in (0, 100) else abs(share - percent) < 0.5


# --- one by one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "theta_milli"), [(1, 990), (2, 500), (100, 0), (1000, 1000), (5000, 1300)])
def test_zipf_weights_are_the_powers(count: int, theta_milli: int) -> None:
    weights = zipf_weights(count, theta_milli)
    exact = np.arange(1, count + 1, dtype=np.float64) ** (-theta_milli / 1000) * 2.0**32
    assert np.all(np.abs(weights - exact) <= 1 + exact * 2e-8)
    assert np.all(np.diff(weights.astype(np.int64)) <= 0)


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(0, 4000))
def test_alias_table_gives_every_rank_its_share(count: int, theta_milli: int) -> None:
    threshold, alias = alias_table(count, theta_milli)
    share = [0] * count  # in parts of count << 32
    for column in range(count):
        own = int(threshold[column])
        share[column] += own
        share[int(alias[column])] += (1 << 32) - own
    assert sum(share) == count << 32
    weights = [int(weight) for weight in zipf_weights(count, theta_milli)]
    for rank in range(count):
        # Off by less than count in 2**32: columns are rounded up to a common height, thresholds down.
        assert abs(share[rank] * sum(weights) - (weights[rank] * count << 32)) <= count * (count + 2) * sum(weights), (
            rank
        )


def test_zipf_frequencies_by_rank() -> None:
    draws, pages = 1 << 20, 200
    seen = np.bincount(whole(stream_of("zipf", space=Space(pages), accesses=draws))[0], minlength=pages)
    by_rank = seen[STREAM.layout("zipf").permutation(pages)]
    weights = zipf_weights(pages, 990).astype(np.float64)
    expected = draws * weights / weights.sum()
    assert np.all(np.abs(by_rank - expected) < 5 * np.sqrt(expected))


def test_zipf_hot_pages_stay_hot_from_warm_up_to_measured() -> None:
    hottest = [
        Counter(whole(stream_of("zipf", stream=Stream(1, 0, phase)))[0].tolist()).most_common(1)[0][0]
        for phase in ("warm-up", "measured")
    ]
    assert hottest[0] == hottest[1]


def test_uniform_is_flat() -> None:
    seen = np.bincount(whole(stream_of("uniform", space=Space(64), accesses=640_000))[0], minlength=64)
    assert abs(seen - 10_000).max() < 500


@pytest.mark.parametrize(("stride", "pages"), [(1, 7), (3, 10), (10, 10), (1 << 30, 4999), (7, 1)])
def test_walks_step_by_step(stride: int, pages: int) -> None:
    got, _ = whole(stream_of("strided", space=Space(pages), accesses=150_000, stride=stride))
    at, expected = 0, []
    for _ in range(150_000):
        expected.append(at)
        at = (at + stride) % pages
    assert got.tolist() == expected


def test_sequential_and_loop_orders() -> None:
    pages, _ = whole(stream_of("sequential", space=Space(9), accesses=20))
    assert pages.tolist() == [*range(9), *range(9), 0, 1]
    pages, _ = whole(stream_of("loop", space=Space(50), accesses=30, set_percent=20))
    assert len(set(pages[:10].tolist())) == 10
    assert pages.tolist() == pages[:10].tolist() * 3


def test_idle_touches_few() -> None:
    assert len(set(whole(stream_of("idle"))[0].tolist())) == 9


@pytest.mark.parametrize("overlap", [0, 50])
def test_working_sets_move_along_a_ring(overlap: int) -> None:
    parameters = {"accesses": 40_000, "period": 10_000, "set_percent": 10, "overlap_percent": overlap}
    pages, _ = whole(stream_of("phase-change", space=Space(1000), **parameters))
    sets = [set(pages[start : start + 10_000].tolist()) for start in range(0, 40_000, 10_000)]
    assert [len(held) for held in sets] == [100] * 4
    assert [len(a & b) for a, b in pairwise(sets)] == [overlap] * 3
    assert not sets[0] & sets[2]


def test_working_sets_come_round_again() -> None:
    parameters = {"accesses": 110_000, "period": 10_000, "set_percent": 10, "overlap_percent": 0}
    pages, _ = whole(stream_of("phase-change", space=Space(1000), **parameters))
    assert set(pages[:10_000].tolist()) == set(pages[100_000:].tolist())


def test_a_clone_rewrites_exactly_its_share_once_first() -> None:
    pages, ops = whole(stream_of("clone-storm", accesses=140_001))
    written = pages[ops == WRITE]
    share = (SPACE.pages - SPACE.read_only) * 33 // 100
    assert np.array_equal(ops, np.tile([WRITE, READ], 70_001)[:140_001])
    assert len(set(written[:share].tolist())) == share == len(set(written.tolist()))
    assert np.array_equal(written, np.tile(written[:share], 60)[: len(written)])
    with pytest.raises(ValueError, match="read-only"):
        next(stream_of("clone-storm", space=Space(10, 10)))


def test_a_cow_storm_hits_all_vms_in_the_same_order() -> None:
    pages, ops = whole(stream_of("cow-storm", accesses=1300))
    assert pages.tolist() == [*range(600), *range(600), *range(100)]
    assert (ops == WRITE).all()
    assert digest(stream_of("cow-storm")) == digest(stream_of("cow-storm", stream=Stream(99, 9, "x")))
    assert int(whole(stream_of("cow-storm", space=Space(40), accesses=100))[0].max()) == 19


def test_a_mixture_keeps_the_order_of_its_parts() -> None:
    parts = [
        {"weight": 1, "workload": {"workload": "sequential", "accesses": 50_000}},
        {"weight": 4, "workload": {"workload": "strided", "stride": 3, "accesses": 500_000, "write_percent": 100}},
    ]
    pages, ops = whole(parse({"workload": "mixed", "parts": parts}).batches(Space(1000), STREAM))
    reads, writes = pages[ops == READ], pages[ops == WRITE]
    assert reads.tolist() == (np.arange(len(reads)) % 1000).tolist()
    assert writes.tolist() == (np.arange(len(writes)) * 3 % 1000).tolist()
    assert len(reads) == 50_000, "the first part to end ends the mixture"
    assert abs(len(writes) / len(reads) - 4) < 0.1


def test_boot_fills_rewrites_and_frees() -> None:
    boot = Boot(np.arange(5, 15, dtype=np.uint32), np.array([3, 4], dtype=np.uint32), 8, first=100)
    fill, rewrite, freed = boot.batches()
    assert (fill.pages.tolist(), set(fill.ops.tolist())) == ([*range(100, 110)], {FILL})
    assert fill.sources is not None and fill.sources.tolist() == [*range(5, 15)]
    assert (rewrite.pages.tolist(), rewrite.ops.tolist()) == ([103, 104], [WRITE] * 2)
    assert (freed.pages.tolist(), freed.ops.tolist()) == ([108, 109], [DISCARD] * 2)
    large = list(Boot(np.zeros(BATCH * 2 + 1, np.uint32), np.zeros(0, np.uint32), BATCH * 2 + 1).batches())
    assert [len(batch.pages) for batch in large] == [BATCH, BATCH, 1]
    assert np.concatenate([batch.pages for batch in large]).tolist() == list(range(BATCH * 2 + 1))
    assert [len(batch.pages) for batch in discard(7, BATCH + 2)] == [BATCH, 2]
    assert next(discard(7, 3)).pages.tolist() == [7, 8, 9]


# --- traces ------------------------------------------------------------------------------------------------------


def test_replay_gives_back_what_it_got(tmp_path: Path) -> None:
    pages = Bits("trace").below(3800, BATCH + 10).astype(np.int64)
    ops = (pages % 3 == 0).astype(np.int64)
    got = whole(replay(pages, ops))
    assert np.array_equal(got[0], pages) and np.array_equal(got[1], ops)
    np.save(tmp_path / "two.npy", np.stack([pages, ops]))
    again = whole(parse({"workload": "trace", "file": str(tmp_path / "two.npy")}).batches(SPACE, STREAM))
    assert np.array_equal(again[0], pages + SPACE.read_only) and np.array_equal(again[1], ops)
    np.save(tmp_path / "one.npy", pages)
    again = whole(parse({"workload": "trace", "file": tmp_path / "one.npy"}).batches(Space(3800), STREAM))
    assert np.array_equal(again[0], pages) and not again[1].any()
    assert list(replay(np.empty(0, dtype=np.uint32))) == []


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A trace of two streams: two disks with 5 and 3 pages."""
    lines = [f"{i},h,{i % 2},{'Write' if i % 3 else 'Read'},{4096 * (i % (5 if i % 2 else 3))},1,9" for i in range(90)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    import_trace(str(tmp_path / "t.csv"), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_an_imported_trace_is_replayed_behind_the_image(imported: Path) -> None:
    chunk = next(open_trace(imported).chunks())
    load = parse({"workload": "trace", "file": str(imported)})
    pages, ops = whole(load.batches(SPACE, STREAM))
    assert np.array_equal(pages, chunk.pages + SPACE.read_only) and np.array_equal(ops, chunk.ops)
    assert load.length() == 90
    half = load.scaled(50)
    assert half.length() == 45 and np.array_equal(whole(half.batches(SPACE, STREAM))[0], pages[:45])
    assert load.scaled(400).length() == 90 and load.scaled(1).scaled(1).length() == 0


def test_each_vm_replays_a_stream_of_its_own(imported: Path) -> None:
    chunk = next(open_trace(imported).chunks())
    load = parse({"workload": "trace", "file": str(imported), "streams": "each"})
    for vm in range(4):
        pages, ops = whole(load.batches(Space(7, 2), Stream(1, vm, "measured")))
        own = chunk.pages[chunk.stream == vm % 2].tolist()
        table = {page: number for number, page in enumerate(dict.fromkeys(own))}
        assert pages.tolist() == [2 + table[page] for page in own]
        assert np.array_equal(ops, chunk.ops[chunk.stream == vm % 2])
    assert load.length() == 45
    with pytest.raises(CorpusError, match=r"stream 1 of the trace touches 5 pages, the VM has 4 that may be written"):
        whole(load.batches(Space(4), Stream(1, 1, "measured")))


@pytest.mark.parametrize(
    ("pages", "ops", "what"),
    [
        ([[1, 2], [3, 4]], None, "one row"),
        ([1.5], None, "integers"),
        ([-1], None, r"-1\.\.-1"),
        ([1 << 31], None, "2147483648.*numpy.unique"),
        ([1, 2], [0], "as many"),
        ([1, 2], [0, 2], "0 .read. or 1"),
        ([1], [0.0], "as many"),
    ],
)
def test_replay_refuses(pages: list[Any], ops: list[Any] | None, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        replay(np.array(pages), None if ops is None else np.array(ops))


def test_a_trace_file_that_cannot_be_used(tmp_path: Path) -> None:
    def fails(what: str) -> None:
        with pytest.raises(CorpusError, match=what) as caught:
            next(parse({"workload": "trace", "file": str(file)}).batches(SPACE, STREAM))
        assert str(file) in str(caught.value)

    file = tmp_path / "trace.npy"
    fails("No such file")
    np.save(file, np.arange(5000))
    raw = file.read_bytes()
    for end in (0, 3, 20, len(raw) - 1):
        file.write_bytes(raw[:end])
        fails("trace")
    np.save(file, np.array([{"a": 1}], dtype=object))
    fails("holds no plain array")
    np.save(file, np.zeros((3, 4), dtype=np.int64))
    fails("one row of page numbers, or a row")
    np.save(file, np.array([1, 5000]))
    fails("touches 5001 pages, the VM has 3800 that may be written; give its scenario a larger fleet.memory")
    np.save(file, np.array([2**31, 7, 2**40, 2**31]))
    fails("memvirt trace import FILE")


# --- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({}, "needs a name"),
        ({"workload": "zpif"}, "did you mean 'zipf'"),
        ({"workload": "xyz"}, "workloads: clone-storm, cow-storm"),
        ({"workload": "zipf"}, "needs 'accesses'"),
        ({"workload": "zipf", "accesses": 0}, "accesses = 0"),
        ({"workload": "zipf", "accesses": -1}, "accesses = -1"),
        ({"workload": "zipf", "accesses": 1.5}, r"accesses = 1\.5"),
        ({"workload": "zipf", "accesses": "many"}, "accesses = 'many'"),
        ({"workload": "zipf", "accesses": (1 << 40) + 1}, "accesses = 1099511627777"),
        ({"workload": "zipf", "accesses": 1, "theta_milli": 4001}, "theta_milli = 4001"),
        ({"workload": "zipf", "accesses": 1, "theta_milli": -1}, "theta_milli = -1"),
        ({"workload": "zipf", "accesses": 1, "theta_mili": 1}, "did you mean 'theta_milli'"),
        ({"workload": "uniform", "accesses": 1, "write_percent": 101}, "write_percent = 101"),
        ({"workload": "uniform", "accesses": 1, "write_percent": -1}, "write_percent = -1"),
        ({"workload": "uniform", "accesses": 1, "qqq": 1}, r"no parameter 'qqq' \(it has: accesses"),
        ({"workload": "strided", "accesses": 1, "stride": 0}, "stride = 0"),
        ({"workload": "loop", "accesses": 1, "set_percent": 0}, "set_percent = 0"),
        ({"workload": "idle", "accesses": 1, "hot_pages": 0}, "hot_pages = 0"),
        ({"workload": "phase-change", "accesses": 1}, "needs 'period'"),
        ({"workload": "phase-change", "accesses": 1, "period": 0}, "period = 0"),
        ({"workload": "phase-change", "accesses": 1, "period": 1, "overlap_percent": 100}, "overlap_percent = 100"),
        ({"workload": "clone-storm", "accesses": 1, "dirty_percent": 0}, "dirty_percent = 0"),
        ({"workload": "cow-storm", "accesses": 1, "dirty_percent": 101}, "dirty_percent = 101"),
        ({"workload": "trace"}, "needs 'file'"),
        ({"workload": "mixed"}, "needs 'parts'"),
        ({"workload": "mixed", "parts": []}, "at least 2"),
        ({"workload": "mixed", "parts": [{"weight": 0, "workload": {"workload": "zipf"}}]}, r"parts\.0\.weight"),
        ({"workload": "mixed", "parts": [{"weight": 1, "workload": {"workload": "zpif"}}]}, "did you mean 'zipf'"),
    ],
)
def test_bad_parameters(table: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse(table)


def test_all_errors_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"workload": "zipf", "theta_milli": 9999, "write_percent": -3, "acesses": 5})
    for word in ("needs 'accesses'", "theta_milli = 9999", "write_percent = -3", "did you mean 'accesses'"):
        assert word in str(caught.value)


@pytest.mark.parametrize(("pages", "read_only"), [(0, 0), (-1, 0), ((1 << 31) + 1, 0), (10, 11), (10, -1)])
def test_bad_spaces(pages: int, read_only: int) -> None:
    with pytest.raises(ValueError, match=str(read_only or pages)):
        Space(pages, read_only)


def test_the_registry_documents_itself() -> None:
    assert set(names()) == {*EXAMPLES, "trace", "masim"}
    for name in names():
        assert parameters(name) and all(parameter.meaning for parameter in parameters(name)), name
    accesses, writes, theta = parameters("zipf")
    assert (accesses.default, accesses.bounds) == (None, "> 0, ≤ 1099511627776")
    assert (writes.default, theta.default, theta.bounds) == (0, 990, "≥ 0, ≤ 4000")


def test_scaled_counts_accesses_and_periods() -> None:
    assert parse({"workload": "zipf", "accesses": 1000, "theta_milli": 900}).scaled(25).model_dump() == {
        "workload": "zipf",
        "accesses": 250,
        "write_percent": 0,
        "theta_milli": 900,
    }
    moved = parse({"workload": "phase-change", "accesses": 3, "period": 10}).scaled(10).model_dump()
    assert (moved["accesses"], moved["period"]) == (1, 1)
    mixed = parse({"workload": "mixed", **EXAMPLES["mixed"]})
    assert [part["workload"]["accesses"] for part in mixed.scaled(400).model_dump()["parts"]] == [300_000, 100_000]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_what_is_written_reads_back(name: str) -> None:
    workload = parse({"workload": name, **EXAMPLES[name]})
    assert parse(workload.model_dump(mode="json")) == workload


# --- aging -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(16, 3000), min_size=1, max_size=9), st.integers(16, 9000), st.integers(0, 1 << 32))
def test_a_plan_keeps_to_sizes_and_budget(sizes: list[int], budget: int, seed: int) -> None:
    held = [0] * len(sizes)
    for actions in AgingPlan(sizes, budget, seed).cycles(40):
        assert len({action.vm for action in actions}) == len(actions)
        for action in actions:
            assert action.pages > 0
            assert (action.kind == "boot") == (held[action.vm] == 0)
            held[action.vm] += action.pages if action.kind in ("boot", "grow") else -action.pages
            assert 0 <= held[action.vm] <= sizes[action.vm]
            assert (action.kind == "stop") == (held[action.vm] == 0)
            assert sum(held) <= budget


def test_a_plan_does_all_it_can_and_repeats() -> None:
    plans = [list(AgingPlan([1000] * 8, 5000, seed).cycles(60)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert {action.kind for actions in plans[0] for action in actions} == {"boot", "grow", "shrink", "stop"}


@pytest.mark.parametrize(("sizes", "budget"), [([], 100), ([15], 100), ([100, 3], 100), ([100], 15)])
def test_a_plan_refuses(sizes: list[int], budget: int) -> None:
    with pytest.raises(ValueError, match="aging needs"):
        AgingPlan(sizes, budget, 1)
