"""Fingerprints: the same sharing and sizes as the bytes, none of the bytes, and a file that damage cannot get through."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from memvirt import border
from memvirt.errors import ConfigError, CorpusError
from memvirt.experiment import plan as planning
from memvirt.experiment.cell import prepare, run_cell
from memvirt.host import Host
from memvirt.inputs import Corpus, Fingerprints, fingerprints, keep, load, merged, save, synthetic, varied
from memvirt.inputs.summary import summarize
from memvirt.results.record import comparable

PAGE = 4096
KEY = bytes(range(32))
LZ4 = [("lz4", None)]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return synthetic(2000, 7)


@pytest.fixture(scope="module")
def prints(corpus: Corpus) -> Fingerprints:
    return fingerprints(corpus, LZ4, KEY)


def known_pages() -> Corpus:
    pages = np.zeros((10, PAGE), np.uint8)
    pages[1] = 7
    pages[2:4] = np.arange(PAGE) % 251
    pages[4].view("<u8")[:] = np.random.Philox(key=1).random_raw(512)
    pages[5, -1] = 1
    pages[6] = pages[2]
    pages[7] = pages[8] = pages[4]
    pages[7, :8] ^= 1
    pages[9] = 7
    return Corpus.of([("a", pages[:5]), ("b", pages[5:])], ["here"])


# --- what they say -------------------------------------------------------------------------------------------------


def test_known_pages() -> None:
    made = known_pages()
    told = fingerprints(made, LZ4)
    assert told.zero.tolist() == [True, True, *[False] * 9]
    assert told.same_filled.tolist() == [True, True, True, *[False] * 7, True]
    assert told.canonical.tolist() == made.canonical.tolist() == [0, 0, 2, 3, 3, 5, 6, 3, 8, 5, 2]
    a, b = summarize(told).classes
    assert (a.name, a.pages, a.zero, a.same_filled, a.distinct, a.elsewhere, a.near) == ("a", 5, 1, 2, 4, 3, 0)
    assert (b.pages, b.zero, b.same_filled, b.distinct, b.elsewhere, b.near) == (5, 0, 1, 5, 2, 1)
    (pair,) = summarize(told).common
    assert (pair.one, pair.other, pair.pages_of_one, pair.pages_of_other) == ("a", "b", 3, 2)
    total = summarize(told).total
    assert (total.pages, total.distinct, total.near) == (10, 6, 1)
    (pages, *units) = total.sizes["lz4:1"]
    assert (pages.units, [unit.units for unit in units]) == (10, [4, 2])
    assert sum(pages.buckets) == 10 and pages.buckets[63] == 3 and pages.bytes == 10 * PAGE
    assert pages.compressed_bytes == np.minimum(told.sizes["lz4:1"].page[1:], PAGE).sum(dtype=np.int64)


def test_a_summary_adds_up(prints: Fingerprints) -> None:
    found = summarize(prints)
    for field in ("pages", "zero", "same_filled", "near"):
        assert sum(getattr(row, field) for row in found.classes) == getattr(found.total, field), field
    for index in range(3):
        parts = [row.sizes["lz4:1"][index] for row in found.classes]
        total = found.total.sizes["lz4:1"][index]
        assert sum(part.compressed_bytes for part in parts) == total.compressed_bytes
        assert np.sum([part.buckets for part in parts], axis=0).tolist() == list(total.buckets)
        for part in parts:
            assert list(part.quantiles.values()) == sorted(part.quantiles.values())


def test_every_key_tells_another_story_of_hashes_and_the_same_of_pages(corpus: Corpus, prints: Fingerprints) -> None:
    other = fingerprints(corpus, LZ4)
    assert not set(other.hash.tolist()) & set(prints.hash.tolist())
    assert other.key_id != prints.key_id
    assert other.canonical.tolist() == prints.canonical.tolist()
    again = fingerprints(corpus, LZ4, KEY)
    assert (again.sha256, again.key_id) == (prints.sha256, prints.key_id)
    with pytest.raises(CorpusError, match="32 bytes, this one 3"):
        fingerprints(corpus, LZ4, b"abc")


def test_no_bytes_and_no_unkeyed_hash_are_in_the_file(corpus: Corpus, prints: Fingerprints, tmp_path: Path) -> None:
    """Nowhere, at no offset: no word of a page that is not small or repeated, no digest that can be made without the key."""
    save(prints, tmp_path / "a.mvprints")
    raw = (tmp_path / "a.mvprints").read_bytes()
    there = {raw[start : start + 8] for start in range(len(raw) - 7)}
    words = np.unique(corpus.pages[corpus.sources(["random", "source", "libraries"])].view("<u8"))
    secret = {int(word).to_bytes(8, "little") for word in words if word >> np.uint64(48)}
    assert len(secret) > 50_000 and not secret & there
    for digest in (hashlib.blake2b, hashlib.sha256, hashlib.md5, hashlib.sha1):
        assert not {digest(page.tobytes()).digest()[:8] for page in corpus.pages} & there
    assert KEY not in raw and KEY.hex().encode() not in raw
    assert fingerprints(known_pages(), LZ4).provenance == ()  # where pages are from, is told by names, too


def test_merged_sets_show_what_they_have_in_common(corpus: Corpus) -> None:
    small = Corpus.of([("part", corpus.pages[100:140].copy()), ("own", np.full((3, PAGE), 9, np.uint8))])
    one, other = fingerprints(corpus, LZ4, KEY), fingerprints(small, [*LZ4, ("zstd", None)], KEY)
    both = merged([("big", one), ("small", other)])
    assert [entry.name for entry in both.classes] == [
        "zero", *(f"big/{entry.name}" for entry in corpus.classes[1:]), "small/part", "small/own"
    ]  # fmt: skip
    assert list(both.sizes) == ["lz4:1"] and len(both) == len(corpus) + 43
    together = Corpus.of([(entry.name, corpus.pages[entry.part]) for entry in corpus.classes[1:]] + [
        ("part", small.pages[1:41]), ("own", small.pages[41:])
    ])  # fmt: skip
    assert both.canonical.tolist() == together.canonical.tolist()
    assert merged([("x", one)]).canonical.tolist() == one.canonical.tolist()
    row = next(row for row in summarize(both).classes if row.name == "small/part")
    assert row.elsewhere == row.pages - row.same_filled
    with pytest.raises(CorpusError, match="different keys.*--keep-key"):
        merged([("a", one), ("b", fingerprints(small, LZ4))])
    with pytest.raises(CorpusError, match="no codec in common"):
        merged([("a", one), ("b", fingerprints(small, [("zstd", 3)], KEY))])


# --- the file ------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save(fingerprints(known_pages(), [*LZ4, ("zstd", None)], KEY, note="ten pages"), tmp_path / "small.mvprints")
    return tmp_path / "small.mvprints"


def test_round_trip(file: Path) -> None:
    told, again = fingerprints(known_pages(), [*LZ4, ("zstd", None)], KEY, note="ten pages"), load(file)
    assert isinstance(again, Fingerprints)
    assert (again.sha256, again.key_id, again.routes) == (told.sha256, told.key_id, told.routes)
    assert (again.classes, again.provenance) == (told.classes, ("ten pages",))
    for name in ("hash", "flags", "entropy", "sketch"):
        assert np.array_equal(getattr(again, name), getattr(told, name)), name
    for key, sizes in told.sizes.items():
        assert np.array_equal(again.sizes[key].tagged, sizes.tagged)
        assert all(np.array_equal(again.sizes[key].units[unit], sizes.units[unit]) for unit in (4, 16))
    again_file = keep(told, file.parent)
    assert again_file.name == f"corpus-{told.sha256[:16]}.mvprints" and load(again_file).sha256 == told.sha256


HEAD = 1200  # bytes: more than prefix and header; what follows is padding and columns, all under two hashes


def test_cut_at_every_byte(file: Path) -> None:
    raw = file.read_bytes()
    for end in (*range(HEAD), *range(HEAD, len(raw), 7)):
        file.write_bytes(raw[:end])
        with pytest.raises(CorpusError, match="small.mvprints: .*memvirt corpus capture"):
            load(file)


def test_every_byte_changed(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    for place in (*range(HEAD), *range(HEAD, len(raw), 7)):
        raw[place] ^= 0x10
        file.write_bytes(raw)
        with pytest.raises(CorpusError):
            load(file)
        raw[place] ^= 0x10


def rewritten(file: Path, change: dict[str, object]) -> None:
    raw = file.read_bytes()
    header = {**json.loads(raw[48 : 48 + struct.unpack_from("<I", raw, 12)[0]]), **change}
    text = json.dumps(header).encode()
    prefix = struct.pack("<8sII32s", b"MVPRINTS", 1, len(text), hashlib.sha256(text).digest())
    file.write_bytes(prefix + text + bytes(-(len(prefix) + len(text)) % PAGE) + raw[PAGE:])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"key_id": "no"}, "header is not valid"),
        ({"key_id": "0123456789abcdef\n"}, "header is not valid"),
        ({"columns": []}, "truncated|damaged"),
        ({"columns": [{"name": "hash", "dtype": "O", "count": 1}]}, "header is not valid"),
        ({"columns": [{"name": "hash", "dtype": "|u1", "count": 1 << 35}]}, "truncated"),
        ({"columns": [{"name": "hash", "dtype": "|u1", "count": -1}]}, "header is not valid"),
        ({"routes": {}}, "its columns are not those of"),
        ({"routes": {"lz4:1": "x", "zstd:3": "x"}}, "its columns are not those of"),
        ({"pages": 12}, "do not match their hash"),
        ({"classes": []}, "its columns are not those of"),
        ({"classes": [{"name": "zero", "first": 0, "pages": 1}, {"name": "a", "first": 1, "pages": 10}]}, "damaged"),
        ({"content_sha256": "0" * 64}, "do not match their hash"),
        (
            {"classes": [{"name": "zero", "first": 0, "pages": 1}, {"name": "a", "first": 1, "pages": -1}]},
            "damaged|class",
        ),
    ],
)
def test_a_header_that_lies(file: Path, change: dict[str, object], what: str) -> None:
    rewritten(file, change)
    with pytest.raises(CorpusError, match=what):
        load(file)


def test_sizes_out_of_range_are_damage(file: Path) -> None:
    told = load(file)
    assert isinstance(told, Fingerprints)
    told.sizes["lz4:1"].page[3] = 0
    file.unlink()
    save(told, file)
    with pytest.raises(CorpusError, match="sizes under lz4:1 are outside 1 to 4097"):
        load(file)


# --- runs ----------------------------------------------------------------------------------------------------------


def records(corpus: Corpus | Fingerprints, suite: str, columns: list[str], *settings: str) -> list:
    plan = planning.make(suite, "smoke", only=columns, overrides=settings, seeds=[1])
    assert planning.misfits(plan, corpus) == []
    run = prepare(corpus)
    return [run_cell(run, cell) for cell in plan.in_order()]


COUNTS = ("pages_shared", "pages_sharing", "zero_pages", "saved_inter_pages", "saved_intra_pages", "merges")


def test_a_suite_shares_on_fingerprints_what_it_shares_on_bytes(corpus: Corpus, prints: Fingerprints) -> None:
    """Every cell of the suite on sharing, every page read back; and with the ids of the bytes, digit for digit."""
    columns = ["hash", "ksm", "esx"]
    real = records(corpus, "sharing", columns)
    told = records(prints, "sharing", columns, "content=fingerprint")
    ids = records(corpus, "sharing", columns, "content=fingerprint")
    assert len(real) == len(told) == len(ids) > 10
    for one, other, same in zip(real, told, ids, strict=True):
        assert (one.status, other.status) == ("done", "done"), (one.reason, other.reason)
        assert one.verified_pages == other.verified_pages > 0
        # ksm pays for what a comparison reads, and a fingerprint tells nothing of that: its scans end at other times.
        for name in COUNTS:
            assert other.sharing.get(name) == (
                pytest.approx(one.sharing.get(name), rel=0.005) if "--ksm--" in one.cell else one.sharing.get(name)
            ), (one.cell, name)
        for field in ("counters", "sharing", "usage", "sim_ns", "histograms", "cpu_ns"):
            assert getattr(other, field) == getattr(same, field), (other.cell, field)
    assert sum(record.sharing.get("pages_sharing", 0) for record in real) > 1000


@pytest.mark.parametrize(
    ("suite", "columns", "settings"),
    [("noisy-neighbour", ["zcache", "esx-2002"], []), ("sharing", ["ksm"], ["content=fingerprint"])],
)
def test_what_is_kept_of_a_corpus_changes_no_record(
    corpus: Corpus, suite: str, columns: list[str], settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells that find out for themselves what the pages are, and cells that are told by the one before."""
    told = records(corpus, suite, columns, *settings)
    assert len(border._tables) > 0
    monkeypatch.setattr(border, "KEPT_SOURCES", 0)
    monkeypatch.setattr(border, "_tables", {})
    monkeypatch.setattr(varied, "KEPT_PAGES", 0)
    varied._last.clear()
    alone = records(corpus, suite, columns, *settings)
    assert not border._tables and not varied._last
    for one, other in zip(told, alone, strict=True):
        assert (one.status, one.verified) == ("done", True), one.reason
        assert comparable(one) == comparable(other)


@pytest.mark.parametrize("scanner", ["ksm", "hash", "esx"])
def test_after_whole_scans_the_same_is_shared(corpus: Corpus, prints: Fingerprints, scanner: str) -> None:
    """Whatever a comparison costs: written to between scans, and then scanned until nothing more is merged."""

    def scanned(source: Corpus | Fingerprints, content: str) -> Host:
        host = Host(memory="24MiB", corpus=source, content=content, seed=1, sharing=scanner)
        bits = np.random.PCG64(7)
        vms = [host.create_vm(name, "4MiB") for name in "abc"]
        for vm in vms:
            sources = (bits.random_raw(vm.pages) % len(source)).astype(np.uint32)
            vm.access(np.arange(vm.pages), np.full(vm.pages, 2), sources)
        for scans in (2, 12):
            for vm in vms:
                vm.access((bits.random_raw(300) % vm.pages).astype(np.uint32), np.ones(300, np.uint8))
            for _ in range(scans):
                before = host.sharing()["merges"]
                host.scan()
            vms.append(vms[0].clone(f"clone-{scans}"))
        assert before == host.sharing()["merges"] > 400
        host.check()
        return host

    real, told, ids = scanned(corpus, "bytes"), scanned(prints, "fingerprint"), scanned(corpus, "fingerprint")
    assert {name: real.sharing().get(name) for name in COUNTS} == {name: told.sharing().get(name) for name in COUNTS}
    assert (real.counters(), real.usage()) == (told.counters(), told.usage())
    assert told.sharing() == ids.sharing() and told.cpu_ns() == ids.cpu_ns()
    ratio = real.cpu_ns()["scan"] / told.cpu_ns()["scan"]
    assert 1 < ratio < 1.3 if scanner == "ksm" else ratio == 1


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_totals_agree_within_a_percent(corpus: Corpus, codec: str) -> None:
    """The pages of a VM that was filled and written to, all of them evicted into a pool with room for them."""
    told = fingerprints(corpus, [(codec, None)])

    def compressed(source: Corpus | Fingerprints, content: str) -> Host:
        host = Host(memory="32MiB", corpus=source, content=content, codec=codec, seed=1, zpool_percent=80, swap="8MiB")
        vm = host.create_vm("a", "12MiB")
        bits = np.random.PCG64(7)
        sources = (bits.random_raw(vm.pages) % len(source)).astype(np.uint32)
        vm.access(np.arange(vm.pages), np.full(vm.pages, 2), sources)
        vm.access((bits.random_raw(2000) % vm.pages).astype(np.uint32), np.ones(2000, np.uint8))
        host.harvest()
        host.engine.reclaim_from(vm.engine_vm, vm.pages)
        host.check()
        return host

    real, ids = compressed(corpus, "bytes"), compressed(told, "fingerprint")
    assert real.counters() == ids.counters()
    assert real.zpool()["objects"] == ids.zpool()["objects"] > 1500
    assert ids.zpool()["stored_bytes"] == pytest.approx(real.zpool()["stored_bytes"], rel=0.01)


def test_fingerprints_are_refused_where_bytes_are_needed(prints: Fingerprints) -> None:
    with pytest.raises(ConfigError, match="have no bytes; set content to 'fingerprint'"):
        Host(memory="1MiB", corpus=prints)
    with pytest.raises(CorpusError, match=r"sizes under lz4:1, not zstd:1; .*--codecs zstd:1"):
        Host(memory="1MiB", corpus=prints, content="fingerprint", codec="zstd")


def test_what_does_not_fit_a_plan_is_said_before_it_runs(prints: Fingerprints) -> None:
    plan = planning.make("compress-vs-swap", "smoke")
    (only,) = planning.misfits(plan, prints)
    assert "add --set content=fingerprint" in only
    plan = planning.make("compress-vs-swap", "smoke", overrides=["content=fingerprint"])
    assert {text.split(";")[0].rsplit(" ", 1)[1] for text in planning.misfits(plan, prints)} == {"lz4hc:9", "zstd:1"}
    foreign = Corpus.of([("heaps", np.ones((5, PAGE), np.uint8))])
    found = planning.misfits(planning.make("quick", "smoke"), foreign)
    assert len(found) == 4 and any("no class 'heap'" in text and "did you mean 'heaps'?" in text for text in found)
    assert all("--fill image=heaps --fill private=heaps" in text for text in found)
    plan = planning.make("quick", "smoke", fill=["image=heaps", "private=heaps"])
    assert planning.misfits(plan, foreign) == []
    usual = planning.make("quick", "smoke")
    assert {cell.sha256() for cell in plan.cells}.isdisjoint(cell.sha256() for cell in usual.cells)
    half, whole = (
        next(cell for cell in made.cells if cell.name.startswith("zipf")).spec.fleet
        for made in (planning.make("quick", "smoke", fill=["private=random"]), usual)
    )
    assert (half.image, half.private) == (whole.image, ("random",))
