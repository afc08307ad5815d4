"""Copies of guests that share tables: each behaves as if its tables had been copied when it was made."""

import gc
import random
import sys

import pytest

from memvirt.engine.testing import guests as probe

OK = 0
VPNS, PAGES, BORDER = 40, 16, 28
SHAPE = {"vpns": VPNS, "pages": PAGES, "cache_border": BORDER, "swap_slots": 24, "report_order": 1, "kernel_pages": 1}
MARKS = {"low_pages": 1, "high_pages": 3, "swappiness": 80}


class Forest:
    """Guests that were copied of each other. `at_once`: a copy gets its own tables when it is made."""

    def __init__(self, at_once, replacement):
        self.at_once = at_once
        self.guests = [probe.make(**SHAPE, **MARKS, replacement=replacement)]

    def copy(self, which, seed):
        guest, machine = self.guests[which]
        twin_machine = machine.copy()
        twin = guest.copy_for(twin_machine, seed)
        if self.at_once:
            assert probe.part(twin) == (twin.memory.replacement != "random"), "that one is copied at once anyway"
        self.guests.append((twin, twin_machine))

    def end(self, which):
        """A copy that never changed has not made its parent's orders go round: here it does before it ends."""
        probe.part(self.guests[which][0])
        del self.guests[which]
        gc.collect()  # which one the others borrow from must not depend on when this happens

    def do(self, which, what, vpn, number):
        guest, machine = self.guests[which]
        machine.log.clear()
        machine.fail(number % 7 if number % 5 == 0 else 0, 1)
        try:
            if what == "write":
                return probe.write(guest, machine, vpn, number)
            if what == "read":
                outcome, gfn, *rest = probe.resolve(guest, vpn)
                return outcome, gfn, rest, machine.load(gfn) if outcome == OK else None
            if what == "discard":
                return probe.discard(guest, vpn)
            if what == "report":
                return probe.report(guest, number % 4)
            guest.set_target(number % 8)
            return probe.balloon_step(guest, number % 5)
        finally:
            machine.fail(0, OK)

    def state(self):
        return [(probe.pages(guest), guest.counters(), machine.log) for guest, machine in self.guests]

    def check(self):
        for guest, _ in self.guests:
            guest.check()


@pytest.mark.parametrize("replacement", ["clock", "fifo", "lru", "random"])
@pytest.mark.parametrize("seed", range(4))
def test_shared_tables_behave_like_copied_ones(replacement, seed):
    rng = random.Random(f"{replacement}{seed}")
    shared, copied = Forest(False, replacement), Forest(True, replacement)
    parted = 0
    for step in range(600):
        which = rng.randrange(len(shared.guests))
        draw = rng.random()
        if draw < 0.06 and len(shared.guests) < 6:
            shared.copy(which, step)
            copied.copy(which, step)
        elif draw < 0.09 and len(shared.guests) > 1:
            shared.end(which)
            copied.end(which)
        else:
            what = rng.choice(["write", "write", "read", "read", "read", "discard", "balloon", "report"])
            vpn, number = rng.randrange(VPNS), rng.randrange(1, 1000)
            assert shared.do(which, what, vpn, number) == copied.do(which, what, vpn, number)
        assert shared.state() == copied.state()
        shared.check()
        copied.check()
        parted += any(probe.part(guest) for guest, _ in shared.guests) if step % 50 == 49 else 0
    assert parted or replacement == "random", "no tables were ever shared"


@pytest.mark.parametrize("replacement", ["twolist", "mglru", "sieve", "s3fifo", "2q", "arc", "lfu"])
@pytest.mark.parametrize("seed", range(2))
def test_guests_that_shared_tables_read_back_what_they_wrote(replacement, seed):
    """Orders that a second round changes again: in which turn pages go depends on when copies part, nothing else does."""
    rng = random.Random(f"{replacement}{seed}")
    forest, contents = Forest(False, replacement), [{}]
    for step in range(600):
        which = rng.randrange(len(forest.guests))
        vpn, number, draw = rng.randrange(VPNS), rng.randrange(1, 1000), rng.random()
        if draw < 0.06 and len(forest.guests) < 6:
            forest.copy(which, step)
            contents.append(dict(contents[which]))
        elif draw < 0.09 and len(forest.guests) > 1:
            del forest.guests[which], contents[which]
        elif draw < 0.4:
            if forest.do(which, "write", vpn, number) == OK:
                contents[which][vpn] = number
        elif draw < 0.5:
            if forest.do(which, "discard", vpn, number) == OK:
                contents[which].pop(vpn, None)
        elif draw < 0.6:
            forest.do(which, rng.choice(["balloon", "report"]), vpn, number)
        else:
            outcome, *_, tag = forest.do(which, "read", vpn, number)
            zero = probe.FILE_TAG + vpn if vpn >= BORDER else 0
            assert outcome != OK or tag == contents[which].get(vpn, zero)
        forest.check()


def test_reading_what_is_mapped_leaves_tables_shared():
    guest, machine = probe.make()
    for vpn in range(8):
        probe.write(guest, machine, vpn, vpn)
    twins = [(guest.copy_for(twin, 0), twin) for twin in (machine.copy() for _ in range(3))]
    for twin, twin_machine in twins:
        assert [probe.read(twin, twin_machine, vpn) for vpn in range(8)] == list(range(8))
        assert probe.write(twin, twin_machine, 3, 99) == OK, "the page is dirty already: nothing changes for the guest"
        assert probe.discard(twin, 20) == OK, "nothing there"
    assert probe.part(twins[1][0]), "they were shared all the time"
    assert not probe.part(twins[1][0])
    assert probe.part(guest), "by two others still"
    assert not probe.part(guest)
    assert probe.part(twins[0][0])
    assert not probe.part(twins[2][0]), "the last one has the tables for itself"


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_whoever_ends_first_the_others_keep_their_tables(keep):
    guest, machine = probe.make()
    for vpn in range(8):
        probe.write(guest, machine, vpn, vpn)
    family = [(guest, machine)]
    for _ in range(2):
        twin_machine = machine.copy()
        family.append((family[-1][0].copy_for(twin_machine, 0), twin_machine))
    del guest, machine, twin_machine
    kept, kept_machine = family[keep]
    del family
    gc.collect()
    for vpn in range(8, 14):
        assert probe.write(kept, kept_machine, vpn, vpn) == OK
    assert [probe.read(kept, kept_machine, vpn) for vpn in range(14)] == list(range(14))
    kept.check()


def evictions_of_a_family(replacement, seed):
    """What five copies do that borrow when their parent changes: which of them inherits shows in who is evicted."""
    rng = random.Random(seed)
    guest, machine = probe.make(vpns=60, pages=24, swap_slots=60, replacement=replacement, low_pages=1, high_pages=3)
    for step in range(400):
        probe.write(guest, machine, min(int(rng.expovariate(1 / 15)), 59), step)
    family = [(guest, machine)]
    for _ in range(5):
        twin_machine = machine.copy()
        family.append((guest.copy_for(twin_machine, 0), twin_machine))
    done = [probe.write(guest, machine, vpn, vpn) for vpn in range(60)]
    for step in range(600):
        done.append(probe.write(*family[rng.randrange(6)], min(int(rng.expovariate(1 / 15)), 59), step))
    return done, [probe.pages(guest) for guest, _ in family], family


@pytest.mark.parametrize("replacement", ["clock", "twolist", "mglru", "sieve", "s3fifo", "2q", "arc", "lfu"])
def test_who_inherits_does_not_depend_on_addresses(replacement):
    families = [evictions_of_a_family(replacement, 7) for _ in range(8)]  # all kept: none lies where another did
    assert all(family[:2] == families[0][:2] for family in families)


def test_parting_calls_nothing_that_a_signal_could_interrupt():
    """Else half of it might be done: Python looks for signals when it enters a function of Python code."""

    def interrupt(frame, event, arg):
        raise KeyboardInterrupt

    guest, machine = probe.make()
    probe.write(guest, machine, 0, 7)
    twins = [(guest.copy_for(twin, 0), twin) for twin in (machine.copy() for _ in range(3))]
    tracer = sys.gettrace()
    for writer, its_machine in (twins[1], (guest, machine), twins[0]):
        sys.settrace(interrupt)
        try:
            assert probe.write(writer, its_machine, 9, 9) == OK
        finally:
            sys.settrace(tracer)
    for member, its_machine in [(guest, machine), *twins]:
        member.check()
        assert probe.read(member, its_machine, 0) == 7
