"""Guests whose machine fails at every request, and guests against a plain-Python oracle."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memvirt.engine.testing import guests as probe
from memvirt.settings import orders

OK, NO_FRAME, IO_FAILED, REFUSED, EMPTY = 0, 1, 5, 8, 9
NEW_ZERO = 1
NONE = 0xFFFFFFFF
CLEAN = 1
ORDERS = list(orders.ORDERS)

# -- failures: every request at every position ------------------------------------------------------------------------


def busy_guest():
    """Six pages full of dirty, clean, anonymous and cached pages, others in swap and on file, one in the balloon."""
    guest, machine = probe.make(vpns=24, pages=7, cache_border=16, swap_slots=20, oom_deflate_pages=0)
    guest.set_target(1)
    assert probe.balloon_step(guest, 1) == (OK, 1)
    content = {}
    for vpn in (0, 1, 2, 3, 16, 17, 4, 5, 18, 6, 7):
        content[vpn] = 1000 + vpn
        assert probe.write(guest, machine, vpn, content[vpn]) == OK
    for vpn in (0, 19, 16):  # one clean page from swap, one from the original, one from its block
        content.setdefault(vpn, probe.FILE_TAG + vpn)
        assert probe.read(guest, machine, vpn) == content[vpn]
    return guest, machine, content


def mapped_anon_clean(guest):
    states = probe.pages(guest)[0]
    return next(v for v in range(16) if probe.lookup(guest, v) is not None and states[probe.lookup(guest, v)] == CLEAN)


def swapped(guest):
    return next(v for v in range(8) if probe.lookup(guest, v) is None)


def grow_balloon(guest):
    guest.set_target(3)
    outcome, _ = probe.balloon_step(guest, 1)
    return outcome


def first_trouble(outcomes):
    return next((outcome for outcome in outcomes if outcome != OK), OK)


OPERATIONS = {
    "first touch": lambda guest: probe.resolve(guest, 15)[0],
    "swap in": lambda guest: probe.resolve(guest, swapped(guest))[0],
    "swap in to write": lambda guest: probe.resolve(guest, swapped(guest), True)[0],
    "read the file": lambda guest: probe.resolve(guest, 23)[0],
    "write the file": lambda guest: probe.resolve(guest, 23, True)[0],
    "reread a block": lambda guest: probe.resolve(guest, 17)[0],
    "first store": lambda guest: probe.resolve(guest, mapped_anon_clean(guest), True)[0],
    "discard mapped": lambda guest: probe.discard(guest, 7),
    "discard clean": lambda guest: probe.discard(guest, mapped_anon_clean(guest)),
    "discard swapped": lambda guest: probe.discard(guest, swapped(guest)),
    "discard on file": lambda guest: probe.discard(guest, 17),
    "inflate": grow_balloon,
    "many first touches": lambda guest: first_trouble(probe.resolve(guest, vpn)[0] for vpn in range(8, 14)),
    "write cache out": lambda guest: first_trouble(probe.resolve(guest, vpn, True)[0] for vpn in (16, 19, 8, 9, 10)),
}


SEVERAL_CALLS = {"many first touches", "write cache out"}


def requests_of(operation):
    guest, machine, _ = busy_guest()
    before = machine.nr_requests
    assert OPERATIONS[operation](guest) == OK
    return machine.nr_requests - before


def test_the_operations_make_every_request_there_is():
    seen = set()
    for operation in OPERATIONS.values():
        guest, machine, _ = busy_guest()
        machine.log.clear()
        assert operation(guest) == OK
        seen.update(machine.log)
    assert seen == {"clear", "read_file", "read_out", "write_in", "forget_slot", "release", "flush"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_request_may_fail_at_each_position(operation):
    needed = requests_of(operation)
    assert needed > 0
    for position in range(1, needed + 1):
        guest, machine, content = busy_guest()
        before, evictions = probe.pages(guest), evicted(guest)
        machine.fail(position, NO_FRAME)
        assert OPERATIONS[operation](guest) == NO_FRAME
        guest.check()
        if operation not in SEVERAL_CALLS and evicted(guest) == evictions:  # an eviction is progress, not damage
            assert probe.pages(guest) == before
        assert OPERATIONS[operation](guest) == OK, "the same call again must succeed"
        guest.check()
        discarded = operation.startswith("discard")
        for vpn, tag in content.items():
            found = probe.read(guest, machine, vpn)
            if not discarded:
                assert found == tag, f"{operation}, request {position} failed: vpn {vpn} reads {found}"
        guest.check()


def evicted(guest):
    counters = guest.counters()
    names = ("cache_dropped", "cache_written", "guest_swap_out", "guest_swap_dropped")
    return sum(counters[name] for name in names)


def test_a_page_that_cannot_be_evicted_is_passed_over_next_time():
    guest, machine = probe.make(vpns=20, pages=4, swap_slots=8, replacement="lru")
    for vpn in range(4):
        probe.resolve(guest, vpn)
    machine.fail(2, IO_FAILED)
    assert probe.resolve(guest, 9)[0] == IO_FAILED
    assert probe.resolve(guest, 9)[0] == OK
    assert probe.lookup(guest, 0) is not None
    assert probe.lookup(guest, 1) is None
    assert guest.counters()["evict_failed_machine"] == 1


def test_an_allocator_that_refuses_changes_nothing():
    guest, machine = probe.make(pages=8)
    guest.set_target(1)
    before = probe.pages(guest)
    guest.memory.buddy.fail_after(1)
    assert probe.resolve(guest, 3)[0] == NO_FRAME
    guest.memory.buddy.fail_after(1)
    assert probe.balloon_step(guest, 1) == (NO_FRAME, 0)
    assert (probe.pages(guest), machine.log) == (before, [])
    guest.check()
    assert probe.resolve(guest, 3)[0] == OK


def test_a_failed_reclaim_does_not_stop_a_fault_that_finds_a_page():
    guest, machine = probe.make(vpns=20, pages=4, swap_slots=8, low_pages=1, high_pages=1)
    for vpn in range(3):
        probe.resolve(guest, vpn)
    machine.fail(1, IO_FAILED)
    assert probe.resolve(guest, 9)[0] == OK
    assert guest.memory.buddy.nr_free == 0


# -- the oracle -------------------------------------------------------------------------------------------------------

VPNS, BORDER, PAGES = 40, 28, 18


class GuestOracle(RuleBasedStateMachine):
    """What each vpn must read is a dict; everything else about the guest is check() and conservation."""

    @initialize(
        slots=st.sampled_from([0, 3, 12, 40]),
        floor=st.integers(0, 12),
        kernel=st.integers(0, 2),
        low=st.integers(0, 2),
        batch=st.integers(0, 3),
        deflate=st.sampled_from([0, 2, 256]),
        replacement=st.sampled_from(ORDERS),
    )
    def start(self, slots, floor, kernel, low, batch, deflate, replacement):
        self.floor = floor
        self.guest, self.machine = probe.make(
            vpns=VPNS,
            pages=PAGES,
            cache_border=BORDER,
            swap_slots=slots,
            kernel_pages=kernel,
            low_pages=low,
            high_pages=low + batch,
            balloon_floor=floor,
            oom_deflate_pages=deflate,
            report_order=0,
            replacement=replacement,
        )
        self.content = {}
        self.translation = {}  # vpn -> gfn, as a translation cache would hold it
        self.tag = 0

    def expected(self, vpn):
        return self.content.get(vpn, 0 if vpn < BORDER else probe.FILE_TAG + vpn)

    def outcome_is_honest(self, outcome, asked_to_fail):
        assert outcome in ((OK, EMPTY, NO_FRAME) if asked_to_fail else (OK, EMPTY))

    @rule(vpn=st.integers(0, VPNS - 1), fail=st.integers(0, 4))
    def load(self, vpn, fail):
        self.machine.fail(fail, NO_FRAME)
        outcome, gfn, event, _ = probe.resolve(self.guest, vpn)
        self.machine.fail(0, OK)
        self.outcome_is_honest(outcome, fail)
        if outcome == OK:
            assert self.machine.load(gfn) == self.expected(vpn)
            if event == NEW_ZERO:
                assert vpn not in self.content
            self.translation[vpn] = gfn

    @rule(vpn=st.integers(0, VPNS - 1), fail=st.integers(0, 4))
    def store(self, vpn, fail):
        self.machine.fail(fail, NO_FRAME)
        outcome, gfn, _, writable = probe.resolve(self.guest, vpn, True)
        self.machine.fail(0, OK)
        self.outcome_is_honest(outcome, fail)
        if outcome == OK:
            assert writable
            self.tag += 1
            self.machine.store(gfn, self.tag)
            self.content[vpn] = self.tag
            self.translation[vpn] = gfn

    @rule(vpn=st.integers(0, VPNS - 1), fail=st.integers(0, 2))
    def discard(self, vpn, fail):
        self.machine.fail(fail, NO_FRAME)
        outcome = probe.discard(self.guest, vpn)
        self.machine.fail(0, OK)
        self.outcome_is_honest(outcome, fail)
        if outcome == OK:
            self.content.pop(vpn, None)
            assert probe.lookup(self.guest, vpn) is None

    @rule(goal=st.integers(0, PAGES), pages=st.integers(0, PAGES), fail=st.integers(0, 4))
    def balloon(self, goal, pages, fail):
        self.guest.set_target(goal)
        before = self.guest.memory.nr_balloon
        self.machine.fail(fail, NO_FRAME)
        outcome, moved = probe.balloon_step(self.guest, pages)
        self.machine.fail(0, OK)
        assert abs(self.guest.memory.nr_balloon - before) == moved <= pages
        assert abs(self.guest.memory.nr_balloon - goal) == abs(before - goal) - moved, "toward the target only"
        if outcome == OK:
            assert moved == min(pages, abs(goal - before))
        else:
            assert goal > before
            assert moved < min(pages, goal - before)
        if outcome == REFUSED:
            assert self.guest.memory.nr_balloon == PAGES - self.floor

    @rule(blocks=st.integers(0, PAGES), fail=st.integers(0, 4))
    def report(self, blocks, fail):
        self.machine.fail(fail, NO_FRAME)
        outcome, reported = probe.report(self.guest, blocks)
        self.machine.fail(0, OK)
        assert reported <= blocks
        assert outcome in (OK, NO_FRAME)

    @precondition(lambda self: self.content)
    @rule()
    def clone_and_go_on_as_the_clone(self):
        self.machine = self.machine.copy()
        self.guest = self.guest.copy_for(self.machine, 0)

    @invariant()
    def consistent(self):
        if not hasattr(self, "guest"):
            return
        self.guest.check()
        assert self.guest.memory.nr_balloon <= PAGES - self.floor
        for vpn in list(self.translation):  # a translation is good until the guest flushes it
            if vpn in self.machine.flushed:
                del self.translation[vpn]
            else:
                assert probe.lookup(self.guest, vpn) == self.translation[vpn]
        self.machine.flushed.clear()
        states, gfns, copies, _ = probe.pages(self.guest)
        held = {copy for copy in copies if copy < NONE - 1}
        assert sorted(held) == self.machine.slots_in_use()
        for vpn, gfn in enumerate(gfns):
            if gfn != NONE and states[gfn] == CLEAN:
                assert self.machine.peek(gfn) == self.machine.copy_at(copies[vpn], vpn)


TestGuestOracle = GuestOracle.TestCase
TestGuestOracle.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
