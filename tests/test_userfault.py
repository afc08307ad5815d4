"""The engine's policies on real frames: the kernel's events are the engine's faults, and memory holds what it should.

What the kernel is asked for by hand is looked at first; then stories, by whoever runs the tests and by an ordinary user.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from memvirt import Host
from memvirt.backends import validate
from memvirt.backends.linux import governing, userfault, ways
from memvirt.backends.linux.governed import STATE_BACKED, STATE_PRESENT, STATE_WHERE, STATE_WRITABLE, Window, states
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.loads import plain_pages
from memvirt.backends.linux.pair import contents
from memvirt.backends.linux.userfault import READ_BACK, Governed
from memvirt.experiment.expected import tag_of, word_of
from memvirt.workloads.base import FILL, READ, WRITE

PAGE = 4096


@pytest.fixture
def watch():
    try:
        found = userfault.watch()
    except Missing as reason:
        pytest.skip(str(reason))
    yield found
    found.close()


@pytest.fixture
def frames():
    file = os.memfd_create("frames")
    os.ftruncate(file, 8 * PAGE)
    yield file
    os.close(file)


def replay(window, *accesses, out=None):
    pages, ops = (
        np.array(each, kind) for each, kind in zip(zip(*accesses, strict=True), (np.uint32, np.uint8), strict=True)
    )
    return window.replay(pages, ops, None, None, out)


def held(file):
    return os.fstat(file).st_blocks * 512 // PAGE


def test_any_access_to_an_absent_page_is_an_event(watch, frames):
    window = Window(watch, 4, frames)
    assert replay(window, (2, READ)) == 0 and replay(window, (2, WRITE)) == 0
    assert window.sequence == 0 and held(frames) == 0, "a store that did not happen"
    window.place(2, 5, True)
    assert replay(window, (2, READ)) == 0, "a hole in the file of frames is no frame"
    os.pwrite(frames, bytes(PAGE), 5 * PAGE)
    assert replay(window, (2, READ), (2, WRITE), (2, WRITE), (3, READ), (2, READ)) == 3
    assert window.sequence == 2 and held(frames) == 1
    window.place(2, -1, False)
    assert replay(window, (2, READ)) == 0


@pytest.mark.parametrize("first", [READ, WRITE])
def test_a_store_to_a_protected_page_is_an_event(watch, frames, first):
    os.pwrite(frames, b"x" * PAGE, 5 * PAGE)
    window = Window(watch, 4, frames, tag_base=9)
    window.place(1, 5, False)
    assert replay(window, (1, first), (1, WRITE)) == (1 if first == READ else 0)
    assert os.pread(frames, PAGE, 5 * PAGE) == b"x" * PAGE
    window.protect(1, False)
    assert replay(window, (1, WRITE)) == 1
    words = np.frombuffer(os.pread(frames, PAGE, 5 * PAGE), "<u8")
    assert words[word_of(1)] == tag_of(9, 1) and (words == int.from_bytes(b"x" * 8)).sum() == 511
    window.protect(1, True)
    assert replay(window, (1, READ), (1, WRITE)) == 1


def test_pages_of_one_frame_are_one_frame(watch, frames):
    one, two = Window(watch, 4, frames), Window(watch, 4, frames)
    for window, page in ((one, 0), (one, 3), (two, 1)):
        window.place(page, 6, True)
    os.pwrite(frames, bytes(PAGE), 6 * PAGE)
    assert replay(one, (0, WRITE)) == 1 and held(frames) == 1
    out = np.zeros((2, PAGE), np.uint8)
    assert replay(two, (1, READ_BACK), (1, READ_BACK), out=out) == 2
    assert (out[0] == out[1]).all() and out[0].view("<u8")[word_of(0)] == tag_of(0, 1)


def test_what_is_no_access_is_refused(watch, frames):
    window = Window(watch, 4, frames)
    for access in ((4, READ), (0, 4), (0, FILL), (0, READ_BACK)):
        with pytest.raises(ValueError):
            replay(window, access)
    with pytest.raises(ValueError):
        replay(window, (0, READ_BACK), out=np.zeros((2, PAGE), np.uint8))
    for call in (lambda: window.place(4, 0, True), lambda: window.protect(4, True), lambda: Window(watch, 0, frames)):
        with pytest.raises(ValueError):
            call()


def test_a_signal_that_is_none_of_ours_ends_the_process():
    """A page behind the end of a file: nobody would otherwise hear of it."""
    code = (
        "import mmap, os\nfrom memvirt.backends.linux.governed import Window\n"
        "from memvirt.backends.linux.userfault import watch\nimport numpy as np\n"
        "frames = os.memfd_create('f')\nwindow = Window(watch(), 4, frames)\n"
        "window.place(0, 0, True)\n"  # the file of frames has no page
        "print('begun', flush=True)\n"
        "print(window.replay(np.zeros(1, np.uint32), np.zeros(1, np.uint8)), flush=True)\n"
        "file = os.memfd_create('g')\nos.ftruncate(file, 4096)\nthere = mmap.mmap(file, 4096)\n"
        "os.ftruncate(file, 0)\nthere[0]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    if "userfaultfd cannot be had" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == -signal.SIGBUS and done.stdout.splitlines() == ["begun", "0"]


def test_states_are_what_the_engine_holds():
    with Host(memory="4MiB", swap="4MiB", corpus=contents(0), watermarks={"min": 8, "low": 8, "high": 8}) as host:
        vm = host.create_vm("vm", "1MiB")
        vm.access([3, 4], [True, False])
        found = np.frombuffer(states(vm.engine_vm), np.uint32).reshape(-1, 2)
        assert found.shape == (256, 2) and (found[[3, 4], 0] & STATE_PRESENT).all() and not found[5:, 0].any()
        assert found[3, 0] & STATE_WRITABLE and found[3, 0] & STATE_WHERE != found[4, 0] & STATE_WHERE
        twin = vm.clone("twin")
        for each in (vm, twin):
            again = np.frombuffer(states(each.engine_vm), np.uint32).reshape(-1, 2)
            assert again[3, 0] == found[3, 0] & ~np.uint32(STATE_WRITABLE), "under a shared leaf nothing is writable"
        vm.access([3], [True])
        host.harvest()
        for _ in range(3):
            host.engine.reclaim_from(vm.engine_vm, 256)
        gone = np.frombuffer(states(vm.engine_vm), np.uint32).reshape(-1, 2)
        assert gone[3, 0] & (STATE_PRESENT | STATE_BACKED) == STATE_BACKED and gone[3, 1] in (1, 2, 3)


@pytest.mark.parametrize("name", governing.MECHANISMS)
@pytest.mark.parametrize("seed", [3, 8])
def test_the_kernel_s_events_are_the_engine_s_faults(name, seed):
    rows = list(validate.run([name], validate.Scale(8 * 256 * governing.PART * ways.SHARE, seed)))
    if rows[-1].what == "all of it":
        pytest.skip(rows[-1].reason)
    assert [row for row in rows if row.verdict != "exact"] == []
    found = {row.what: row.kernel for row in rows}
    stores = found["events on stores to protected pages"]
    assert found["events on pages that are absent"] >= 100
    assert stores > 50 if "sharing" in name or "clones" in name else stores == 0, (
        "what came back for one VM is writable"
    )
    if "cache" in name:
        assert found["pages compressed"] > 100


def test_little_memory_is_enough():
    for row in validate.run(list(governing.MECHANISMS), validate.Scale(1024, 0)):
        assert row.verdict in ("exact", "skipped"), row


def governed(**settings):
    try:
        return Governed(300, contents(0), swap="4MiB", **settings)
    except Missing as reason:
        pytest.skip(str(reason))


def fill(mirror, pages=400):
    every = np.arange(pages, dtype=np.uint32)
    mirror.create("vm", pages)
    mirror.replay("vm", every, np.full(pages, FILL, np.uint8), plain_pages(contents(0))[:pages])


def test_memory_that_differs_is_found(monkeypatch):
    """Rows that could only say "exact" would be worth nothing."""
    with governed() as mirror:
        give = userfault._Store.give
        monkeypatch.setattr(userfault._Store, "give", lambda store, record: give(store, record)[:-1] + b"!")
        fill(mirror)
        assert mirror.read_back("vm") > 50


def test_an_engine_that_faults_where_the_kernel_does_not_is_found(monkeypatch):
    with governed() as mirror:
        fill(mirror, 100)
        pages = np.zeros(10, np.uint32)
        mirror.replay("vm", pages, np.zeros(10, np.uint8))
        assert mirror.apart == 0
        monkeypatch.setattr(Governed, "faults", lambda *_: next(counted))
        counted = iter(range(100))
        mirror.replay("vm", pages, np.zeros(10, np.uint8))
        assert mirror.apart == 1


def test_a_merge_of_pages_that_differ_is_found():
    with governed(sharing="ksm", sharing_options={"smart_scan": False}) as mirror:
        mirror.create("vm", 100)
        every = np.arange(100, dtype=np.uint32)
        mirror.replay("vm", every, np.full(100, FILL, np.uint8), np.full(100, 9, np.uint32))
        frame = int(np.frombuffer(states(mirror._sides["vm"][0].engine_vm), np.uint32)[0] & STATE_WHERE)
        os.pwrite(mirror._file, b"?", frame * PAGE)
        for _ in range(3):
            mirror.scan()
        assert mirror.unequal_merges > 0


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EPERM, "forbid"),
        (errno.ENOSYS, "CONFIG_USERFAULTFD"),
        (errno.EINVAL, "5.19"),
        (errno.EOPNOTSUPP, "too old"),
        (errno.EIO, "Input/output"),
    ],
)
def test_a_machine_without_it_is_named(monkeypatch, number, said):
    def refused():
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(userfault, "Watch", refused)
    (row,) = validate.run(["userfaultfd: clock over swap"], validate.Scale(1024, 0))
    assert row.verdict == "skipped" and "userfaultfd cannot be had" in row.reason and said in row.reason


def test_an_ordinary_user_has_these_rows():
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("is run by an ordinary user already, or setpriv is missing")
    nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"]
    nobody += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    words = [sys.executable, "-m", "memvirt", "validate", "--memory", "8MiB", "--only", "userfaultfd", "--json"]
    done = subprocess.run(["setpriv", *nobody, *words], capture_output=True, text=True, timeout=120)
    if done.stderr.startswith("setpriv"):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    if rows[0]["verdict"] == "skipped":
        pytest.skip(rows[0]["reason"])
    assert {row["verdict"] for row in rows} == {"exact"} and len({row["mechanism"] for row in rows}) == 6
