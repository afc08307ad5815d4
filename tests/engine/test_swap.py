"""Swap areas against a dict of slots, and against a kernel that fails, stops short, or finds its file cut."""

import errno
import os
import resource
import stat
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memvirt.engine.stores.swap import Swap
from memvirt.engine.stores.swapset import SwapSet
from memvirt.engine.stores.swapspace import SwapSpace
from memvirt.engine.testing.stores import SwapProbe
from memvirt.errors import ConfigError, InvariantError
from oracle.parts import Slots

PAGE = 4096


def payload(i, size=PAGE):
    return (i * 2654435761 % 2**64).to_bytes(8, "little") * (size // 8)


@pytest.fixture(params=[(PAGE, True), (PAGE, False), (8, True)], ids=["direct", "buffered", "memory"])
def swap(request):
    slot_bytes, direct = request.param
    area = SwapProbe(Swap(1000, slot_bytes=slot_bytes, direct=direct, cluster=64))
    yield area
    area.check()


def filled(swap, n):
    slots = swap.take_slots(n)
    payloads = [payload(slot + 1, swap.slot_bytes) for slot in slots]
    assert swap.write_slots(slots, payloads) == [True] * n
    return slots, payloads


def test_round_trip_in_any_order(swap):
    slots, payloads = filled(swap, 700)
    assert slots == list(range(700))
    assert swap.write_calls == 3  # 256 + 256 + 188 neighbours
    assert swap.read_slots(slots) == payloads
    assert swap.read_calls == 3
    assert swap.read_slots(slots[::-1]) == payloads[::-1]
    assert swap.read_calls == 3 + 700  # none of them ascending
    mixed = [5, 6, 7, 400, 9, 10, 5]
    assert swap.read_slots(mixed) == [payloads[i] for i in mixed]
    assert swap.read_calls == 703 + 4
    assert (swap.read_failures, swap.write_failures, swap.last_errno) == (0, 0, 0)


def probe(slots, cluster=64, discard=False):
    return SwapProbe(Swap(slots, slot_bytes=8, cluster=cluster, discard=discard))


def give(swap, *slots):
    for slot in slots:
        swap.give_slot(slot)


def test_clusters_that_are_partly_used_come_first_and_then_those_that_are_free():
    swap = probe(256)
    assert swap.take_slots(70) == list(range(70))
    give(swap, *range(64))  # cluster 0 becomes free, behind 2 and 3
    assert swap.take_slots(58) == list(range(70, 128)), "the one that has begun is finished"
    give(swap, 100, 70, 69)
    assert swap.take_slots(5) == [69, 70, 100, 128, 129], (
        "holes, from the first on, then the free cluster that is oldest"
    )
    assert swap.take_slots(200) == [*range(130, 256), *range(64)]
    give(swap, 200, 130, 70)  # in the order in which they got room
    assert swap.take_slots(100) == [200, 130, 70]
    assert swap.take_slots(1) == []
    swap.check()


def test_what_came_back_before_a_take_waits_for_the_clusters_that_nobody_has_taken_from_since():
    swap = probe(192)
    swap.take_slots(10)
    give(swap, 3)
    assert swap.take_slots(54) == list(range(10, 64)), "slot 3 lies behind the cursor"
    assert swap.take_slots(1) == [64], "and in a cluster taken from last: free ones come before"
    give(swap, 5)
    assert swap.take_slots(63 + 2) == [*range(65, 128), 3, 5], "until another of its slots comes back"


def test_a_cluster_that_becomes_free_while_it_is_filled_is_filled_from_its_beginning():
    swap = probe(192)
    give(swap, *swap.take_slots(10))
    assert swap.take_slots(2) == [0, 1]
    swap.check()


def test_where_free_clusters_are_discarded_they_come_first():
    swap = probe(192, discard=True)
    swap.take_slots(64)
    give(swap, 3)
    assert swap.take_slots(129) == [*range(64, 192), 3]
    swap.check()


STEPS = st.lists(st.one_of(st.integers(1, 70), st.lists(st.integers(0, 400), min_size=1, max_size=40)), max_size=40)


@settings(max_examples=200, deadline=None)
@given(slots=st.sampled_from([1, 64, 65, 130, 300]), discard=st.booleans(), steps=STEPS)
def test_slots_are_those_of_the_rules_written_down_a_second_time(slots, discard, steps):
    swap, rules = probe(slots, discard=discard), Slots(slots, 64, discard)
    held = []
    for step in steps:
        if isinstance(step, int):
            got = swap.take_slots(step)
            assert got == rules.take(step)
            held += got
        else:
            for place in step[: len(held)]:
                slot = held.pop(place % len(held))
                give(swap, slot)
                rules.give(slot)
        swap.check()


def test_what_is_given_back_behind_the_cursor_is_found_again():
    swap = SwapProbe(Swap(100, slot_bytes=8, cluster=64))
    swap.take_slots(10)
    for slot in range(5):
        swap.give_slot(slot)
    swap.check()
    assert swap.take_slots(200) == [*range(10, 100), *range(5)]
    swap.check()


def test_a_last_short_cluster():
    swap = SwapProbe(Swap(65, slot_bytes=8, cluster=64))
    assert swap.slots.nr_clusters == 2
    assert swap.take_slots(70) == list(range(65))
    swap.check()
    swap.give_slot(64)
    swap.check()
    assert swap.take_slots(2) == [64]


class Areas(RuleBasedStateMachine):
    """take, give, write and read with faults, beside a dict; every slot must hold what was last written for sure."""

    space: SwapProbe

    @initialize(several=st.booleans(), slot_bytes=st.sampled_from([8, PAGE]))
    def begin(self, several, slot_bytes):
        self.areas = [Swap(n, slot_bytes=slot_bytes, cluster=64) for n in ((70, 64, 130) if several else (200,))]
        self.space = SwapProbe(SwapSet(self.areas, [1, 5, 5]) if several else self.areas[0])
        self.held, self.written = {}, 0

    @rule(n=st.integers(0, 90))
    def take(self, n):
        room = self.space.nr_slots - len(self.held)
        slots = self.space.take_slots(n)
        assert len(slots) == len(set(slots)) == min(n, room)
        assert not set(slots) & set(self.held)
        self.held |= dict.fromkeys(slots)

    @rule(data=st.data())
    def give(self, data):
        if self.held:
            for slot in data.draw(st.lists(st.sampled_from(sorted(self.held)), max_size=70, unique=True)):
                self.space.give_slot(slot)
                del self.held[slot]

    @rule(
        data=st.data(),
        area=st.integers(0, 2),
        nth=st.integers(1, 6),
        times=st.integers(1, 3),
        fault=st.sampled_from([errno.EIO, errno.ENOSPC, errno.EINTR, "short"]),
        begun=st.booleans(),
    )
    def write(self, data, area, nth, times, fault, begun):
        if not self.held:
            return
        slots = sorted(data.draw(st.lists(st.sampled_from(sorted(self.held)), min_size=1, max_size=80, unique=True)))
        self.areas[area % len(self.areas)].inject("write", nth, fault, times)
        payloads = [payload(self.written + i + 1, self.space.slot_bytes) for i in range(len(slots))]
        self.written += len(slots)
        failures = self.space.write_failures
        done = self.space.write_slots(slots, payloads, begun)
        assert self.space.write_failures - failures == done.count(False)
        self.areas[area % len(self.areas)].inject("write", 1, fault, 0)
        if fault == errno.EINTR:
            assert all(done)
        for slot, new, worked in zip(slots, payloads, done, strict=True):
            self.held[slot] = new if worked else None  # after a failure, a slot's bytes are anyone's

    @rule(nth=st.integers(1, 4), area=st.integers(0, 2), fault=st.sampled_from([errno.EIO, errno.EINTR, "short"]))
    def read(self, nth, area, fault):
        slots = sorted(self.held)
        self.areas[area % len(self.areas)].inject("read", nth, fault)
        found = self.space.read_slots(slots)
        self.areas[area % len(self.areas)].inject("read", 1, fault, 0)
        for slot, bytes_ in zip(slots, found, strict=True):
            if self.held[slot] is not None and (fault != errno.EIO or bytes_ is not None):
                assert bytes_ == self.held[slot]

    @invariant()
    def recount(self):
        self.space.check()
        assert self.space.nr_used == len(self.held)


TestAreas = Areas.TestCase
TestAreas.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["write", "read"])
def test_a_failure_at_every_call_costs_that_run_and_no_other(swap, call, fault):
    slots, payloads = filled(swap, 300)
    asked = slots[0:10] + slots[20:30] + slots[40:41] + slots[250:300]  # four runs
    runs = [range(10), range(10, 20), range(20, 21), range(21, 71)]
    for nth, failed in enumerate(runs, 1):
        swap.inject(call, nth, fault)
        failures = getattr(swap, f"{call}_failures")
        if call == "write":
            worked = swap.write_slots(asked, [payloads[slot] for slot in asked])
        else:
            found = swap.read_slots(asked)
            worked = [page is not None for page in found]
            assert all(page in (None, payloads[slot]) for page, slot in zip(found, asked, strict=True))
        assert [i for i, ok in enumerate(worked) if not ok] == list(failed)
        assert getattr(swap, f"{call}_failures") == failures + len(failed)
        assert swap.last_errno == fault
    assert swap.read_slots(slots) == payloads
    assert swap.nr_used == 300


@pytest.mark.parametrize("n", [1, 2, 3, 255, 256, 257])
@pytest.mark.parametrize("fault", ["short", errno.EINTR])
def test_a_short_or_interrupted_call_is_taken_up_again(swap, n, fault):
    slots, payloads = filled(swap, n)
    calls = swap.read_calls, swap.write_calls
    for call in ("read", "write"):
        swap.inject(call, 1, fault)
    assert swap.write_slots(slots, payloads[::-1]) == [True] * n
    assert swap.read_slots(slots) == payloads[::-1]
    runs = (n + 255) // 256
    assert (swap.read_calls, swap.write_calls) == (calls[0] + runs + 1, calls[1] + runs + 1)


def test_two_calls_without_a_whole_slot_are_a_failure(swap):
    slots, payloads = filled(swap, 1)
    swap.inject("read", 1, "short", times=2)
    assert swap.read_slots(slots) == [None]
    assert swap.last_errno == errno.EIO
    assert swap.read_slots(slots) == payloads


@pytest.mark.parametrize("direct", [True, False])
def test_a_file_cut_behind_its_back_fails_and_recovers(tmp_path, direct):
    swap = SwapProbe(Swap(300, tmp_path / "swap", direct=direct))
    slots, payloads = filled(swap, 300)
    os.truncate(tmp_path / "swap", 100 * PAGE)
    found = swap.read_slots(slots)
    assert found[:100] == payloads[:100]
    assert set(found[100:]) == {None}
    assert (swap.read_failures, swap.last_errno) == (200, errno.EIO)
    os.truncate(tmp_path / "swap", 99 * PAGE + 512)
    assert swap.read_slots([99]) == [None]
    assert swap.write_slots(slots, payloads) == [True] * 300
    assert swap.read_slots(slots) == payloads
    swap.check()


def test_the_named_file_is_private_reserved_holds_the_bytes_and_goes(tmp_path):
    path = tmp_path / "swap"
    swap = SwapProbe(Swap(64, str(path)))
    assert swap.path == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == 64 * PAGE
    assert path.stat().st_blocks * 512 >= 64 * PAGE
    slots, payloads = filled(swap, 2)
    with open(path, "r+b") as file:
        assert file.read(2 * PAGE) == payloads[0] + payloads[1]
        file.seek(PAGE + 7)
        file.write(b"\xff")
    flipped = bytearray(payloads[1])
    flipped[7] = 0xFF
    assert swap.read_slots(slots) == [payloads[0], bytes(flipped)]
    del swap
    assert not path.exists()


def test_the_temporary_file_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(tmp_path))
    swap = SwapProbe(Swap(64))
    assert swap.path is None
    assert not list(tmp_path.iterdir())
    filled(swap, 64)


def test_direct_io_is_a_wish(tmp_path):
    assert not Swap(64, direct=False).direct_io
    assert not Swap(64, slot_bytes=8).direct_io
    if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):
        path = f"/dev/shm/memvirt-test-{os.getpid()}"
        swap = SwapProbe(Swap(64, path))
        slots, payloads = filled(swap, 64)
        assert swap.read_slots(slots) == payloads
        del swap
        assert not os.path.exists(path)


def test_discard_gives_blocks_back(tmp_path):
    path = tmp_path / "swap"
    swap = SwapProbe(Swap(256, path, cluster=64, discard=True))
    slots, payloads = filled(swap, 256)
    blocks = path.stat().st_blocks
    for slot in slots[64:128]:
        swap.give_slot(slot)
    assert swap.discards == 1
    assert path.stat().st_blocks <= blocks - 64 * 8
    assert swap.read_slots(slots[:64]) == payloads[:64]
    again = swap.take_slots(64)
    assert again == slots[64:128]
    assert swap.write_slots(again, payloads[:64]) == [True] * 64
    assert swap.read_slots(again) == payloads[:64]


def test_misuse_is_named(swap):
    swap.take_slots(3)
    for call in (
        lambda: swap.give_slot(3),
        lambda: swap.give_slot(1000),
        lambda: swap.read_slots([0, 3]),
        lambda: swap.write_slots([2**32 - 1], [bytes(swap.slot_bytes)]),
    ):
        with pytest.raises(InvariantError, match="1000"):
            call()
    swap.give_slot(0)
    with pytest.raises(InvariantError, match="slot 0 "):
        swap.give_slot(0)
    with pytest.raises(ConfigError, match="payload"):
        swap.write_slots([1], [b"x"])
    with pytest.raises(ConfigError, match="inject"):
        swap.inject("sync", 1, errno.EIO)


@pytest.mark.parametrize("arguments", [
    {"slots": 0}, {"slots": -5}, {"slots": 2**32 - 1}, {"slots": 10, "slot_bytes": 512},
    {"slots": 10, "cluster": 100}, {"slots": 10, "cluster": 32}, {"slots": 10, "cluster": 2**17},
    {"slots": 10, "slot_bytes": 8, "path": "/tmp/x"},
])  # fmt: skip
def test_sizes_out_of_range(arguments):
    with pytest.raises(ConfigError, match="swap"):
        Swap(**arguments)


def test_a_full_disk_is_said_at_creation_with_path_needed_and_free(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    slots = free // PAGE + 2**20
    path = tmp_path / "swap"
    with pytest.raises(ConfigError, match=f"{path}.*{slots * PAGE} bytes, [0-9]+ are free"):
        Swap(slots, path)
    assert not path.exists()


def test_a_file_size_limit_is_met_while_reserving_and_leaves_nothing(tmp_path):
    script = (
        "import sys; from memvirt.engine.stores.swap import Swap\n"
        "try: Swap(1000, sys.argv[1])\n"
        "except ValueError as error: print(error)\n"
    )

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 * PAGE, 100 * PAGE))

    path = str(tmp_path / "swap")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    said = subprocess.run(
        [sys.executable, "-c", script, path],
        preexec_fn=limit,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert path in said
    assert f"{1000 * PAGE} bytes" in said
    assert not os.path.exists(path)


@pytest.mark.parametrize("path", ["taken", "no/such/folder/swap", "."])
def test_a_path_that_cannot_be_made_is_named_and_left_alone(tmp_path, path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ConfigError, match=path):
        Swap(64, tmp_path / path)
    assert (tmp_path / "taken").read_text() == "mine"


# Several areas


def test_priorities_come_first_and_equals_take_turns_by_cluster():
    low, left, right = (Swap(n, slot_bytes=8, cluster=64) for n in (100, 128, 256))
    both = SwapProbe(SwapSet([low, left, right], [1, 5, 5]))
    assert both.areas == (left, right, low)
    assert both.nr_slots == 484
    first = both.take_slots(300)
    assert first == [*range(64), *range(128, 192), *range(64, 128), *range(192, 300)]
    assert both.take_slots(500) == [*range(300, 384), *range(384, 484)]
    assert (left.nr_used, right.nr_used, low.nr_used) == (128, 256, 100)
    both.give_slot(130)
    both.give_slot(400)
    assert both.take_slots(2) == [130, 400]
    both.check()
    SwapProbe(left).give_slot(0)
    with pytest.raises(InvariantError, match="483"):
        both.check()


def test_a_failing_area_does_not_hide_what_another_did():
    areas = [Swap(64, slot_bytes=8) for _ in range(2)]
    both = SwapProbe(SwapSet(areas, [0, 0]))
    slots = both.take_slots(128)
    areas[1].inject("write", 1, errno.EIO)
    assert both.write_slots(slots, [payload(i, 8) for i in slots]) == [True] * 64 + [False] * 64
    assert (both.last_errno, both.write_failures, both.write_calls) == (errno.EIO, 64, 2)
    assert both.read_slots(slots[:64]) == [payload(i, 8) for i in slots[:64]]


def test_sets_that_cannot_be():
    area = Swap(64, slot_bytes=8)
    for areas, priorities in (([], []), ([area], []), ([area, area], [1, 2]), ([area, Swap(64)], [1, 2]), ([1], [1])):
        with pytest.raises(ConfigError, match="swap areas"):
            SwapSet(areas, priorities)
    with pytest.raises(InvariantError, match="64"):
        SwapProbe(SwapSet([area], [1])).give_slot(64)
    with pytest.raises(TypeError):
        SwapSpace()


def test_a_swap_file_never_has_a_name(tmp_path, monkeypatch):
    """Else a process killed at that moment leaves it behind."""
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(tmp_path))
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        pytest.skip("this file system has no files without a name")
    monkeypatch.setattr("tempfile.mkstemp", None)
    area = SwapProbe(Swap(16))
    assert area.write_slots(area.take_slots(1), [payload(1)]) == [True] and not list(tmp_path.iterdir())


def test_where_files_must_have_a_name_it_goes_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(tmp_path))
    plain = os.open

    def without(path, flags, *rest, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return plain(path, flags, *rest, **options)

    monkeypatch.setattr("os.open", without)
    area = SwapProbe(Swap(16))
    assert area.write_slots(area.take_slots(1), [payload(1)]) == [True] and not list(tmp_path.iterdir())
