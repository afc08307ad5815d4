"""A corpus that is written while it is captured: the same as one that was captured and then written, whatever happens."""

import errno
import fcntl
import os
import tracemalloc
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from memvirt.errors import CorpusError
from memvirt.inputs import Corpus, load, save, store, written
from memvirt.inputs.sources import Taking, take
from memvirt.inputs.sources.runs import Asked, make_runs

PAGE = 4096


class Numbered:
    """A source whose pages say where they are; `bad` ones cannot be read, and `end` is called before the last part."""

    labels = ("a", "b")

    def __init__(self, runs, bad=(), name="numbered", end=lambda: None):
        self.name, self.left_out, self.bad, self.end = name, Counter(), frozenset(bad), end
        self.runs = make_runs([(at * PAGE, count, label) for at, count, label in runs])
        self.left = sum(count for _, count, _ in runs)

    def read(self, at, rows):
        first = at // PAGE
        good = next((index for index in range(len(rows)) if first + index in self.bad), len(rows))
        rows.view("<u8")[:good] = np.arange(first, first + good)[:, None]
        self.left -= good + (good < len(rows))
        if not self.left:
            self.end()
        return good

    def close(self):
        pass


def asked(*arguments, by_label=True, **more):
    return [Asked(Numbered(*arguments, **more), None, by_label)]


CASES = {
    "one run": ([(0, 3, 0)], ()),
    "many buffers": ([(0, 1500, 1), (4000, 1, 0), (5000, 700, 0)], ()),
    "some unreadable": ([(0, 1500, 1), (4000, 300, 0)], (0, 255, 256, 1499, 4007)),
    "a class unreadable": ([(0, 600, 1), (4000, 2, 0)], (4000, 4001)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [None, 500])
def test_it_is_what_a_capture_into_memory_is(case, size, tmp_path):
    runs, bad = CASES[case]
    one = take(asked(runs, bad), size, seed=3)
    other, path = written.write(Taking(asked(runs, bad), size, seed=3), tmp_path / "a.mvcorpus")
    save(one, tmp_path / "b.mvcorpus")
    again = load(path)
    assert path == tmp_path / "a.mvcorpus" and isinstance(again, Corpus)
    for made in (other, again):
        assert np.array_equal(made.pages, one.pages)
        assert (made.classes, made.provenance, made.sha256) == (one.classes, one.provenance, one.sha256)
    assert path.read_bytes() == (tmp_path / "b.mvcorpus").read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.mvcorpus", "b.mvcorpus"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("bad", [(), range(0, 1000, 7)])
def test_the_room_for_the_header_is_enough_wherever_its_page_ends(bad, tmp_path):
    """What could not be read makes the header longer, and with it, at some lengths, one page more."""
    lengths = set()
    for length in range(3560, 3840, 4):
        made, path = written.write(
            Taking(asked([(0, 1000, 0)], bad, name="n" * length)), tmp_path / "a.mvcorpus", force=True
        )
        again = load(path)
        assert again.provenance == made.provenance and again.sha256 == made.sha256
        lengths.add(path.stat().st_size - len(made) * PAGE)
    assert lengths == {PAGE, 2 * PAGE}


def test_it_takes_little_memory_whatever_there_is(tmp_path):
    tracemalloc.start()
    try:
        written.write(Taking(asked([(0, 1 << 15, 0)])), tmp_path / "a.mvcorpus")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20  # of 128 MiB
    finally:
        tracemalloc.stop()


def test_it_lies_in_the_cache_under_its_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path))
    for _ in range(2):
        made, path = written.write(Taking(asked([(0, 9, 0)])), None)
        assert path == store.keep(made, tmp_path) and [path] == list(tmp_path.iterdir())


def test_where_the_page_cache_cannot_be_passed_it_is_not(tmp_path, monkeypatch):
    """Some file systems refuse when asked, some at the first write, and any may write less than was given."""
    one, path = written.write(Taking(asked([(0, 3000, 0)])), tmp_path / "a.mvcorpus")
    told, pwrite = [], os.pwrite

    def refusing(handle, part, at):
        told.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT)
        if told[-1]:
            raise OSError(errno.EINVAL, "Invalid argument")
        return pwrite(handle, part[: 5 * PAGE + 7], at)

    monkeypatch.setattr(written.os, "pwrite", refusing)
    other, place = written.write(Taking(asked([(0, 3000, 0)])), tmp_path / "b.mvcorpus")
    assert place.read_bytes() == path.read_bytes() and other.sha256 == one.sha256
    assert sum(map(bool, told)) <= 1 and len(told) > 3000 // 6


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("error", [Stopped(), CorpusError("process 7 ended"), OSError(28, "No space left on device")])
def test_what_ends_in_the_middle_leaves_nothing(error, tmp_path):
    def end():
        raise error

    with pytest.raises((Stopped, CorpusError), match="|ended|a.mvcorpus cannot be written: No space left"):
        written.write(Taking(asked([(0, 900, 0)], end=end)), tmp_path / "a.mvcorpus")
    assert not list(tmp_path.iterdir())


def test_a_file_that_came_in_between_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "a.mvcorpus"
    with pytest.raises(CorpusError, match="is there already"):
        written.write(Taking(asked([(0, 9, 0)], end=lambda: path.write_text("mine"))), path)
    assert path.read_text() == "mine" and [path] == list(tmp_path.iterdir())
    written.write(Taking(asked([(0, 9, 0)])), path, force=True)
    assert len(load(path)) == 10


def test_where_there_is_no_room_for_so_much(tmp_path, monkeypatch):
    monkeypatch.setattr(written.os, "statvfs", lambda _: SimpleNamespace(f_bavail=2048, f_frsize=1024))
    with pytest.raises(CorpusError, match=f"capturing 16MiB .* the 2MiB that are free in {tmp_path}; .*--size.*--out"):
        written.write(Taking(asked([(0, 4096, 0)])), tmp_path / "a.mvcorpus")
    assert not list(tmp_path.iterdir())
