"""Corpora: the synthetic one byte for byte, the file format under damage, the cache folder, and capture."""

import errno
import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memvirt.errors import CorpusError
from memvirt.inputs import (
    Corpus,
    PageClass,
    capture,
    default_corpus,
    fingerprints,
    keep,
    load,
    make_default,
    save,
    store,
    synthetic,
)
from memvirt.inputs.measure import same_filled
from memvirt.inputs.summary import summarize
from memvirt.inputs.synthetic import RECIPES

PAGE = 4096


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return synthetic(400, 7)


@pytest.fixture
def file(corpus: Corpus, tmp_path: Path) -> Path:
    path = tmp_path / "small.mvcorpus"
    save(corpus, path)
    return path


def broken(path: Path, what: str) -> None:
    """Loading fails, naming the file, what is wrong, and what to do."""
    with pytest.raises(CorpusError, match=what) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "memvirt corpus capture" in str(caught.value)


# --- synthetic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "seed", "sha256"),
    [
        (200, 0, "a819e2d3d4d0faa3e6cb9552ecb701f4debeeb6c15f34a14b641c8627042d044"),
        (400, 7, "c349892d312c9dc0f52e0d63fe2143d9e725a6f990370b89f2c9cf6b83297ea2"),
        (3001, 1, "bdb7a1f9c688123cbbae08e3616c4203b0b386204bbc9626bb8b01560e60bfc2"),
    ],
)
def test_synthetic_is_the_same_everywhere(pages: int, seed: int, sha256: str) -> None:
    assert synthetic(pages, seed).sha256 == sha256


def test_synthetic_keeps_its_recipes_to_the_page() -> None:
    made = synthetic(8000, 3)
    same, zero_pages = same_filled(made.pages), ~made.pages.any(axis=1)
    assert len(made) == 8001
    for entry, recipe in zip(made.classes[1:], RECIPES, strict=True):
        zero, filled, duplicate = (
            entry.pages * share // 1000 for share in (recipe.zero, recipe.filled, recipe.duplicate)
        )
        assert zero_pages[entry.part].sum() == zero
        assert same[entry.part].sum() == zero + filled
        distinct = len(np.unique(made.canonical[entry.part]))
        assert distinct == entry.pages - duplicate - max(0, zero - 1), recipe.name


def lz4_ratios(made: Corpus) -> dict[str, float]:
    return {row.name: row.sizes["lz4:1"][0].ratio for row in summarize(fingerprints(made, [("lz4", 1)])).classes}


def test_synthetic_compresses_like_what_it_stands_for() -> None:
    ratio = lz4_ratios(synthetic(4000, 5))
    assert ratio["random"] == 1.0
    bands = {"libraries": (1.3, 2.0), "source": (1.7, 2.8), "heap": (2.0, 3.4), "numeric": (1.2, 1.9)}
    for name, (low, high) in bands.items():
        assert low < ratio[name] < high, name


@pytest.mark.parametrize(("pages", "seed"), [(199, 1), (0, 1), (-5, 1), ((1 << 24) + 1, 1), (400, -1)])
def test_synthetic_refuses(pages: int, seed: int) -> None:
    with pytest.raises(CorpusError, match=str(pages if seed >= 0 else seed)):
        synthetic(pages, seed)


# --- the object --------------------------------------------------------------------------------------------------


def test_equal_pages_have_one_number_and_classes_their_pages() -> None:
    pages = np.zeros((6, PAGE), dtype=np.uint8)
    pages[1] = 7
    pages[2:4] = np.arange(PAGE) % 251
    pages[4].view("<u8")[:] = np.random.Philox(key=1).random_raw(512)
    pages[5, -1] = 1
    made = Corpus.of([("a", pages[:4]), ("b", pages[4:])])
    assert made.canonical.tolist() == [0, 0, 2, 3, 3, 5, 6]
    assert made.sources(["b", "a"]).tolist() == [5, 6, 1, 2, 3, 4]
    with pytest.raises(CorpusError, match=r"no class c; it has zero, a, b"):
        made.sources(["a", "c"])
    with pytest.raises(ValueError, match="read-only"):
        made.pages[0, 0] = 1


def test_the_content_hash_covers_bytes_and_classes_but_not_provenance(corpus: Corpus) -> None:
    pages = corpus.pages.copy()
    assert Corpus(pages.copy(), corpus.classes, ["elsewhere"]).sha256 == corpus.sha256
    pages[200, 9] ^= 1
    assert Corpus(pages, corpus.classes).sha256 != corpus.sha256
    renamed = [PageClass(entry.name.replace("heap", "pile"), entry.first, entry.pages) for entry in corpus.classes]
    assert Corpus(corpus.pages.copy(), renamed).sha256 != corpus.sha256


@pytest.mark.parametrize(
    ("classes", "what"),
    [
        ([], "first class"),
        ([PageClass("a", 0, 3)], "first class"),
        ([PageClass("zero", 0, 1), PageClass("a", 1, 1)], "name 2 pages, but there are 3"),
        ([PageClass("zero", 0, 1), PageClass("a", 2, 1)], "page 1 is next"),
        ([PageClass("zero", 0, 1), PageClass("a", 1, 0), PageClass("b", 1, 2)], "class 'a'"),
        ([PageClass("zero", 0, 1), PageClass("a", 1, 1), PageClass("a", 2, 1)], "one name"),
    ],
)
def test_a_class_table_that_does_not_fit(classes: list[PageClass], what: str) -> None:
    with pytest.raises(CorpusError, match=what):
        Corpus(np.zeros((3, PAGE), dtype=np.uint8), classes)


def test_pages_of_the_wrong_shape() -> None:
    for pages in (np.zeros((2, 100), np.uint8), np.zeros((2, PAGE), np.int8), np.ones((1, PAGE), np.uint8)):
        with pytest.raises(CorpusError):
            Corpus(pages, [PageClass("zero", 0, 1)])


# --- the file ----------------------------------------------------------------------------------------------------


def test_round_trip(corpus: Corpus, file: Path) -> None:
    again = load(file)
    assert np.array_equal(again.pages, corpus.pages)
    assert (again.classes, again.provenance, again.sha256) == (corpus.classes, corpus.provenance, corpus.sha256)
    assert file.stat().st_size % PAGE == 0
    assert list(file.parent.iterdir()) == [file]


def test_truncated_at_every_section(file: Path) -> None:
    raw = file.read_bytes()
    header = struct.unpack_from("<8sII", raw)[2]
    ends = [1, 7, 8, 11, 12, 15, 16, 47, 48, 49, 48 + header - 1, 48 + header, 48 + header + 5, PAGE - 1]
    ends += [PAGE, PAGE + 1, 2 * PAGE, len(raw) // 2, len(raw) - PAGE, len(raw) - 1]
    for end in ends:
        file.write_bytes(raw[:end])
        broken(file, "truncated")
    file.write_bytes(b"")
    broken(file, "not a memvirt corpus")


def test_every_damaged_byte_is_found(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    places = [*range(PAGE), *range(PAGE, len(raw), 100_003), len(raw) - 1]
    for place in places[::11] + places[-4:]:
        raw[place] ^= 0x40
        file.write_bytes(raw)
        with pytest.raises(CorpusError):
            load(file)
        raw[place] ^= 0x40
    file.write_bytes(raw)
    load(file)


def test_other_formats_and_versions(file: Path, tmp_path: Path) -> None:
    raw = file.read_bytes()
    for foreign in (b"\x89PNG\r\n\x1a\n" + bytes(100), b"N", b"PK\x03\x04", raw[1:]):
        file.write_bytes(foreign)
        broken(file, "not a memvirt corpus")
    file.write_bytes(raw[:8] + struct.pack("<I", 2) + raw[12:])
    broken(file, "format version 2, but this memvirt reads version 1")
    file.write_bytes(raw[:12] + struct.pack("<I", 1 << 31) + raw[16:])
    broken(file, "header of 2147483648 bytes")
    file.write_bytes(raw + bytes(PAGE))
    broken(file, "damaged: .* bytes of pages")
    broken(tmp_path / "nowhere", "cannot be read: No such file")
    broken(tmp_path, "cannot be read: is a folder")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pages": "401"}, "header is not valid"),
        ({"pages": 0}, "header is not valid"),
        ({"extra": 1}, "header is not valid"),
        ({"pages": 1 << 30}, "truncated: "),
        ({"content_sha256": "0" * 64}, "pages do not match their hash"),
        ({"classes": [{"name": "zero", "first": 0, "pages": 1}]}, "name 1 pages, but there are 401"),
    ],
)
def test_a_header_that_lies(file: Path, change: dict[str, object], what: str) -> None:
    raw = file.read_bytes()
    header = {**json.loads(raw[48 : 48 + struct.unpack_from("<I", raw, 12)[0]]), **change}
    text = json.dumps(header).encode()
    prefix = struct.pack("<8sII32s", b"MVCORPUS", 1, len(text), hashlib.sha256(text).digest())
    file.write_bytes(prefix + text + bytes(-(len(prefix) + len(text)) % PAGE) + raw[PAGE:])
    broken(file, what)


def test_a_file_that_is_there_is_not_replaced_unasked(corpus: Corpus, file: Path) -> None:
    before = file.read_bytes()
    other = synthetic(400, 8)
    with pytest.raises(CorpusError, match=r"small\.mvcorpus is there already; .*--force"):
        save(other, file)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]
    save(other, file, force=True)
    assert load(file).sha256 == other.sha256 and list(file.parent.iterdir()) == [file]
    assert file.stat().st_mode & 0o077 == 0  # the memory of a process may hold anything


def test_one_that_came_in_between_is_not_replaced_either(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mvcorpus"
    for links in (True, False):
        if not links:
            monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))

        def slow(handle: int) -> None:
            path.write_text("somebody else's")

        with monkeypatch.context() as patched, pytest.raises(CorpusError, match="is there already"):
            patched.setattr(os, "fsync", slow)
            save(corpus, path)
        assert path.read_text() == "somebody else's" and list(tmp_path.iterdir()) == [path]
        path.unlink()
    save(corpus, path)
    assert load(path).sha256 == corpus.sha256 and list(tmp_path.iterdir()) == [path]


def test_no_folder_is_made_for_a_file(corpus: Corpus, tmp_path: Path) -> None:
    for write in (lambda path: save(corpus, path), store.require_writable):
        with pytest.raises(CorpusError, match="there is no folder .*deep; make it first"):
            write(tmp_path / "deep" / "a.mvcorpus")
    with pytest.raises(CorpusError, match="is there already"):
        store.require_writable(tmp_path)
    with pytest.raises(CorpusError, match="Is a directory"):
        store.require_writable(tmp_path, force=True)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CorpusError, match=r"a\.mvcorpus cannot be written: No space left.*has room"):
        save(corpus, tmp_path / "a.mvcorpus")
    assert list(tmp_path.iterdir()) == []


# --- the cache folder --------------------------------------------------------------------------------------------


def test_the_default_is_captured_once(corpus: Corpus, tmp_path: Path) -> None:
    calls = []

    def once() -> Corpus:
        calls.append(1)
        return corpus

    folder = tmp_path / "deep" / "cache"
    assert default_corpus(once, folder).sha256 == corpus.sha256
    assert default_corpus(once, folder).sha256 == corpus.sha256
    assert len(calls) == 1
    assert sorted(path.name for path in folder.iterdir()) == [f"corpus-{corpus.sha256[:16]}.mvcorpus", "default"]


def test_whoever_is_first_sets_the_default(corpus: Corpus, tmp_path: Path) -> None:
    other = synthetic(400, 8)

    def overtaken() -> Corpus:
        make_default(keep(other, tmp_path))
        return corpus

    assert default_corpus(overtaken, tmp_path).sha256 == other.sha256
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_damaged_default_is_not_replaced_in_silence(corpus: Corpus, tmp_path: Path) -> None:
    path = keep(corpus, tmp_path)
    make_default(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorpusError, match=r"truncated.*after removing .*default"):
        default_corpus(lambda: corpus, tmp_path)
    for name in ("", "../elsewhere", "a/b", "\n"):
        (tmp_path / "default").write_text(name)
        with pytest.raises(CorpusError, match="does not name a corpus in its folder"):
            default_corpus(lambda: corpus, tmp_path)
    (tmp_path / "default").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CorpusError, match="cannot be read"):
        default_corpus(lambda: corpus, tmp_path)


def test_a_cache_folder_that_cannot_be(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CorpusError, match=r"cannot be written: .*; make its folder writable, or set MEMVIRT_CACHE"):
        default_corpus(lambda: corpus, tmp_path / "file")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMVIRT_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert store.cache_folder() == Path("/a")
    monkeypatch.delenv("MEMVIRT_CACHE")
    assert store.cache_folder() == Path("/b/memvirt")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert store.cache_folder() == Path("/c/.cache/memvirt")


# --- capture -----------------------------------------------------------------------------------------------------


def test_files_are_taken_whole_and_padded(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for index in range(12):
        (tmp_path / "sub" / f"{index}.txt").write_bytes(bytes([index + 1]) * (PAGE * (index % 3) + 10))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "ignored.bin").write_bytes(bytes(PAGE))
    (tmp_path / "link.txt").symlink_to(tmp_path / "sub" / "3.txt")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    folders = [str(tmp_path), str(tmp_path / "nowhere")]

    def take(target: int, seed: int) -> tuple[np.ndarray, list[str]]:
        return capture.from_files("source", folders, lambda name: name.endswith(".txt"), target, seed)

    pages, origins = take(1000, 1)
    assert len(pages) == 24
    assert sorted(Path(origin).name for origin in origins) == sorted(f"{index}.txt" for index in range(12))
    for page in pages:
        first = page[0]
        assert first and set(page[:10]) == {first} and set(page) <= {first, 0}
    again, _ = take(1000, 1)
    assert np.array_equal(pages, again)
    assert not np.array_equal(pages, take(1000, 2)[0])
    few, _ = take(8, 1)
    assert len(few) == 8


def test_made_classes_are_deterministic_and_near_the_target() -> None:
    one, two = (capture.capture(200, 5, ["numeric", "random"]) for _ in range(2))
    assert one.sha256 == two.sha256
    assert capture.capture(200, 6, ["numeric", "random"]).sha256 != one.sha256
    assert [(entry.name, entry.pages) for entry in one.classes] == [("zero", 1), ("numeric", 150), ("random", 50)]
    assert [ratio > 1.2 for ratio in lz4_ratios(one).values()] == [True, False]


def test_a_real_capture_of_every_class() -> None:
    made = capture.capture(512, 1)
    assert [entry.name for entry in made.classes] == ["zero", *capture.SHARES]
    assert 450 <= len(made) <= 513
    heap = made.pages[made.sources(["heap"])]
    assert len(np.unique(heap, axis=0)) > len(heap) // 2
    assert any(line.startswith("libraries: /") for line in made.provenance)


@pytest.mark.parametrize(
    ("pages", "seed", "classes", "what"),
    [
        (1000, 1, ["heap", "stack"], "unknown class 'stack' .classes are libraries"),
        (1000, 1, ["random", "random"], "named twice"),
        (95, 1, None, "384KiB to 64GiB, not 380KiB"),
        (1 << 25, 1, None, "not 128GiB"),
        (1000, -1, None, "seed .* -1"),
    ],
)
def test_capture_refuses(pages: int, seed: int, classes: list[str] | None, what: str) -> None:
    with pytest.raises(CorpusError, match=what):
        capture.capture(pages, seed, classes)


def test_a_folder_that_cannot_be_written_is_told_before_the_capture(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def never() -> Corpus:
        raise AssertionError("captured in vain")

    with pytest.raises(CorpusError, match="cannot be written"):
        default_corpus(never, tmp_path / "file")


def test_a_damaged_file_is_kept_anew(tmp_path: Path) -> None:
    corpus = synthetic(200, 1)
    path = keep(corpus, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert keep(corpus, tmp_path) == path and load(path).sha256 == corpus.sha256


def test_capture_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = (np.empty((0, PAGE), np.uint8), [])
    monkeypatch.setitem(capture.SOURCES, "source", lambda target, seed: nothing)
    with pytest.raises(CorpusError, match="nothing to capture for class 'source'"):
        capture.capture(200, 1, ["source"])


def test_a_heap_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    for script, what in [
        ("raise MemoryError('no room')", "MemoryError: no room"),
        ("import os; os._exit(3)", "its process ended with 3"),
        ("import sys; print('ready', flush=True); sys.exit()", "process [0-9]+"),
        ("import time; time.sleep(100)", "its process ended with -9"),
    ]:
        monkeypatch.setattr(
            subprocess, "Popen", lambda _, script=script, **kw: real([sys.executable, "-c", script], **kw)
        )
        monkeypatch.setattr(capture, "HEAP_SECONDS", 1)
        if "print" in script:
            monkeypatch.setattr(
                capture, "Process", lambda pid: (_ for _ in ()).throw(CorpusError(f"process {pid} ended"))
            )
        with pytest.raises(CorpusError, match=f"the heap cannot be captured: {what}.*; leave class 'heap' out"):
            capture.heap(100, 1)
