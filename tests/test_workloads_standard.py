"""Workloads with names of their own, against plain Python and against what their definitions promise."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from helpers.trace_files import MASIM
from memvirt.errors import ConfigError, CorpusError
from memvirt.inputs import masim
from memvirt.inputs.bits import Bits
from memvirt.workloads import Space, Stream, parse
from memvirt.workloads.zipf import zipf_weights

STREAM = Stream(11, 2, "measured")


def made(name, space, stream=STREAM, **parameters):
    """(pages, ops) of a whole stream."""
    parts = list(parse({"workload": name, **parameters}).batches(space, stream))
    return np.concatenate([part.pages for part in parts]), np.concatenate([part.ops for part in parts])


def test_hotspot_gives_the_hot_set_its_share():
    pages, _ = made("hotspot", Space(1000), accesses=400_000, hot_percent=20, hot_access_percent=80)
    seen = Counter(pages.tolist())
    hot = sorted(seen, key=seen.get, reverse=True)[:200]
    share = sum(seen[page] for page in hot) / len(pages)
    assert abs(share - 0.8) < 0.005 and len(seen) == 1000
    assert min(seen[page] for page in hot) > 3 * max(count for page, count in seen.items() if page not in set(hot))


@pytest.mark.parametrize(("hot", "of"), [(100, 0), (100, 100), (1, 100), (50, 0)])
def test_hotspots_at_their_bounds(hot, of):
    pages, _ = made("hotspot", Space(50), accesses=20_000, hot_percent=hot, hot_access_percent=of)
    distinct = len(set(pages.tolist()))
    assert distinct == {(100, 0): 50, (100, 100): 50, (1, 100): 1, (50, 0): 25}[hot, of]


@pytest.mark.parametrize(("pages", "chains"), [(1, 1), (7, 1), (100, 3), (5, 1024), (1000, 10)])
def test_a_pointer_is_chased_through_all_pages_before_one_comes_again(pages, chains):
    got, _ = made("pointer-chase", Space(pages), accesses=70_000, chains=chains)
    chains = min(chains, pages)
    cycles = [got[chain::chains].tolist() for chain in range(chains)]
    length = pages // chains
    for cycle in cycles:
        assert len(set(cycle[:length])) == length
        assert all(cycle[i] == cycle[i % length] for i in range(len(cycle)))
    assert len({page for cycle in cycles for page in cycle[:length]}) == length * chains


def plain_stream(pages, kernels):
    """STREAM, page by page."""
    a, b, c = (list(range(first * pages, (first + 1) * pages)) for first in range(3))
    code = {
        "copy": lambda i: [(a[i], 0), (c[i], 1)],
        "scale": lambda i: [(c[i], 0), (b[i], 1)],
        "add": lambda i: [(a[i], 0), (b[i], 0), (c[i], 1)],
        "triad": lambda i: [(b[i], 0), (c[i], 0), (a[i], 1)],
    }
    while True:
        for kernel in kernels:
            for i in range(pages):
                yield from code[kernel](i)


@pytest.mark.parametrize("kernel", ["all", "copy", "scale", "add", "triad"])
@pytest.mark.parametrize(("pages", "read_only"), [(3, 0), (10, 0), (100, 11)])
def test_stream_against_plain_python(kernel, pages, read_only):
    got, ops = made("stream", Space(pages, read_only), accesses=70_000, kernel=kernel)
    kernels = ["copy", "scale", "add", "triad"] if kernel == "all" else [kernel]
    expected = list(islice(plain_stream((pages - read_only) // 3, kernels), 70_000))
    assert [(page - read_only, op) for page, op in zip(got.tolist(), ops.tolist(), strict=True)] == expected


def test_an_update_of_gups_reads_and_writes_one_page():
    pages, ops = made("gups", Space(300, 100), accesses=100_001)
    assert ops.tolist() == [0, 1] * 50_000 + [0]
    assert (pages[:-1:2] == pages[1::2]).all()
    seen = np.bincount(pages[::2] - 100, minlength=200)
    assert len(seen) == 200 and abs(seen - 250).max() < 100


@pytest.mark.parametrize(("pages", "read_only", "run"), [(1, 0, 16), (100, 0, 7), (1000, 300, 16), (50, 0, 1)])
def test_a_fork_reads_all_and_modifies_its_share_in_runs(pages, read_only, run):
    own = pages - read_only
    got, ops = made("fork-and-modify", Space(pages, read_only), accesses=5 * own, dirty_percent=30, run_pages=run)
    touches = list(zip((got - read_only).tolist(), ops.tolist(), strict=True))
    written = {page for page, op in touches if op}
    runs = -(-own // run)
    assert len({page // run for page in written}) == max(1, runs * 30 // 100)
    lap = [(page, op) for page in range(own) for op in ((0, 1) if page in written else (0,))]
    assert touches == [lap[i % len(lap)] for i in range(len(touches))]


def test_forks_modify_different_runs():
    marks = {
        tuple(np.unique(pages[ops == 1]).tolist())
        for vm in range(4)
        for pages, ops in [made("fork-and-modify", Space(400), Stream(1, vm, "measured"), accesses=600)]
    }
    assert len(marks) == 4


# --- YCSB ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("letter", "writes"), [("a", 50), ("b", 5), ("c", 0), ("d", 5)])
def test_ycsb_mixes(letter, writes):
    _, ops = made(f"ycsb-{letter}", Space(3000, 200), accesses=300_000)
    assert abs(100 * ops.sum() / len(ops) - writes) < 0.4 if writes else not ops.any()


def test_ycsb_f_writes_what_it_has_just_read():
    pages, ops = made("ycsb-f", Space(3000), accesses=300_000)
    writes = np.flatnonzero(ops)
    assert (pages[writes] == pages[writes - 1]).all() and not ops[writes - 1].any()
    requests = len(ops) - len(writes)
    assert abs(len(writes) / requests - 0.5) < 0.01


def test_ycsb_popularity_is_zipfian_over_scattered_records():
    pages, per_page, draws = 50, 4, 1 << 19
    got, _ = made("ycsb-c", Space(pages), accesses=draws, records_per_page=per_page)
    weights = zipf_weights(pages * per_page, 990).astype(np.float64)
    order = STREAM.layout("ycsb").permutation(pages * per_page)
    expected = np.bincount(order // per_page, weights=weights, minlength=pages) * draws / weights.sum()
    seen = np.bincount(got, minlength=pages)
    assert np.all(np.abs(seen - expected) < 5 * np.sqrt(expected))


def test_ycsb_d_reads_what_was_inserted_last():
    pages, ops = made("ycsb-d", Space(100), accesses=200_000, records_per_page=1)
    inserts = pages[ops == 1]
    assert inserts.tolist() == [number % 100 for number in range(len(inserts))]
    newest = np.cumsum(ops) - 1
    age = (newest - pages) % 100
    reads = age[ops == 0]
    counts = np.bincount(reads, minlength=100)
    weights = zipf_weights(100, 990).astype(np.float64)
    expected = len(reads) * weights / weights.sum()
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_ycsb_e_scans_pages_in_order():
    pages, ops = made("ycsb-e", Space(4000), accesses=300_000)
    steps = np.diff(pages.astype(np.int64))
    forward = np.count_nonzero(steps == 1)
    # a scan of 1 to 100 records of four to a page touches 13.4 pages on average, 12.4 steps of one page among them
    assert 0.88 < forward / len(steps) < 0.95
    assert 0.001 < ops.sum() / len(ops) < 0.01
    runs = np.diff(np.flatnonzero(np.concatenate(([True], steps != 1, [True]))))
    assert runs.max() < 3 * 26


def test_ycsb_needs_pages_to_write():
    for name in ("ycsb-a", "gups", "fork-and-modify"):
        with pytest.raises(ConfigError, match="pages that may be written; all of them are read-only"):
            made(name, Space(10, 10), accesses=10)
    with pytest.raises(ConfigError, match="at least three pages"):
        made("stream", Space(10, 8), accesses=10)


# --- masim --------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    (tmp_path / "demo.cfg").write_bytes(MASIM)
    return tmp_path / "demo.cfg"


def test_masim_phases_follow_their_configuration(config):
    load = parse({"workload": "masim", "file": str(config), "per_ms": 1000})
    assert load.length() == 3000 and load.scaled(50).length() == 1500 and load.scaled(1).scaled(1).length() == 3
    pages, ops = made("masim", Space(10, 2), file=str(config), per_ms=1000)
    assert len(pages) == 2000 + 2 * 1000
    offsets = [4096 * step % 10000 // 4096 for step in range(2000)]
    assert pages[:2000].tolist() == [2 + page for page in offsets] and not ops[:2000].any()
    assert pages[2000:].tolist() == [5] * 2000 and ops[2000:].tolist() == [0, 1] * 1000
    assert load.file_hashes()["file"]


def test_masim_weights_are_shares():
    text = b"a, 40960\nb, 40960\n\nphase\n100\na, 1, 64, 30, ro\nb, 0, 64, 70\n"
    parts = list(masim.parse(text).accesses(1000, Bits("test")))
    pages = np.concatenate([part.pages for part in parts])
    ops = np.concatenate([part.ops for part in parts])
    in_a = pages < 10
    assert abs(in_a.mean() - 0.3) < 0.005 and not ops[in_a].any() and (ops[~in_a] == masim.WRITE).all()
    assert np.abs(np.bincount(pages[in_a]) - in_a.sum() / 10).max() < 400
    walk = pages[~in_a].astype(np.int64)  # 64 touches of a page, then the next, from the end to the beginning
    assert (walk == 10 + np.arange(len(walk)) * 64 // 4096 % 10).all()


def test_masim_configurations_that_cannot_be_used_are_named(config, tmp_path):
    with pytest.raises(CorpusError, match="its regions have 4 pages, the VM has 3"):
        made("masim", Space(5, 2), file=str(config))
    with pytest.raises(CorpusError, match="missing.cfg: No such file"):
        made("masim", Space(50), file=str(tmp_path / "missing.cfg"))
    config.write_bytes(b"nonsense\n")
    with pytest.raises(CorpusError, match="demo.cfg: .* there are not both"):
        made("masim", Space(50), file=str(config))
