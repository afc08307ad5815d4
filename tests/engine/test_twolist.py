"""Order twolist against its specification: what Linux 6.18 was found to do, rule by rule, with numbers worked out by hand.

Where each number is from says the essay of twolist.pyx. The steps in between are held against tests/oracle.
"""

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memvirt.engine.replacement.registry import make_order
from memvirt.engine.testing.orders import Probe
from oracle.naive_orders import NaiveTwoList


def two_lists(active, inactive, keys=True, **options):
    """Pages 0 .. active - 1 are active, the next `inactive` ones are not; both oldest first, none accessed since. No refault
    has activated one. Keys are the numbers of pages."""
    most = max(active, inactive)
    ids = active + most + 64
    order = Probe(make_order("twolist", ids, ids, ids if keys else 0, options))
    for id in range(active + most):
        order.insert(id)
    for _ in range(2):
        for id in range(active):
            order.touch(id)
        for _ in range(most):
            order.spare(order.candidate())
    for id in range(active + inactive, active + most):
        order.forget(id)
    assert counts(order) == (inactive, active, 0)
    return order


def counts(order):
    """Pages that are inactive, that are active, and that have been deactivated so far."""
    own = order.order
    return own.nr_resident - own.nr_active, own.nr_active, own.nr_deactivated


def run(order, pages, refault_every=0):
    """So many pages go. What happened: ("out", 3) for three that went in a row, ("down", 2) for two that were deactivated.
    With refault_every each such victim comes back at once, and is activated."""
    events = []
    for number in range(1, pages + 1):
        victim = order.choose(lambda id: events.append("down") or False)
        order.take(victim, victim)
        events.append("out")
        if refault_every and number % refault_every == 0:
            order.insert(victim, victim)
    return [(event, len(list(group))) for event, group in groupby(events)]


@pytest.mark.parametrize(
    ("size", "amounts"),
    [(8300, (1, 2, 5, 11, 22)), (65600, (2, 5, 11, 22)), ((1 << 17) + 99, (5, 11, 22))],
)
def test_a_round_takes_of_both_lists_what_the_priority_says(size, amounts):
    """(8300 >> p) * 89 / 508 of either list for p = 10, 9 ..., until 32 are gone; nothing is due before."""
    order = two_lists(size, size)
    found = run(order, 200, refault_every=8)
    cycle = [event for amount in amounts for event in (("out", amount), ("down", amount))]
    start = next(at for at in range(len(found)) if found[at : at + len(cycle)] == cycle)
    assert start <= 2 * len(cycle) and found[start : start + 3 * len(cycle)] == 3 * cycle


def call(order, want=32, accessed=()):
    """One call of reclaim, as a host makes it: pages that went, of those that were deactivated the last ones after them."""
    gone, events = [], []

    def clear(id):
        events.append("down")
        return False

    while len(gone) < want or order.goes_on(clear):
        id = order.choose(clear)
        if id in accessed:
            accessed.remove(id)
            order.touch(id)
            continue
        order.take(id, id)
        gone.append(id)
        events.append("out")
    return gone, [(event, len(list(group))) for event, group in groupby(events)]


def test_a_call_ends_with_the_batch_and_what_comes_after_it():
    """1 + 2 + 5 + 11 + 22 pages: 41 go where 32 are wanted, and as many active ones are deactivated before time passes."""
    order = two_lists(8300, 8400)
    gone, _ = call(order)
    for _ in range(3):
        order.insert(gone[0], gone[0])  # a refault: both lists are asked
        gone, events = call(order)
        assert events == [(event, pages) for pages in (1, 2, 5, 11, 22) for event in ("out", "down")]
        assert not order.goes_on(lambda id: pytest.fail("the call is over"))


def test_what_went_in_earlier_priorities_does_not_end_a_later_one():
    """Of the 41 pages of the first ones 20 were accessed. Of the 45 that are due then 20 go in the first batch of 32: that
    makes 41, but in this priority 20 are not enough, and the second batch follows."""
    order = two_lists(0, 8350)
    call(order)
    first = order.candidate()
    gone, _ = call(order, accessed={first + place for place in (*range(1, 21), *range(41, 53))})
    assert len(gone) == 21 + 20 + 13


@pytest.mark.parametrize(("new", "went"), [(30, 1 + 4 + 8 + 16 + 32), (31, 1 + 2 + 4 + 8 + 16 + 32)])
def test_new_pages_wait_to_be_counted(new, went):
    """Of 6,134 pages nothing is due at priority 10, of 6,144 one is. New ones count when there are 31, or reclaim looks."""
    order = two_lists(0, 6300)
    call(order)
    while order.order.nr_resident > 6134:
        order.forget(order.candidate())
    call_over = order.goes_on(lambda id: False)
    assert not call_over
    for id in range(6300, 6300 + new):
        order.insert(id)
    assert len(call(order)[0]) == went


def test_without_refaults_the_active_list_is_left_alone_while_inactive_is_not_low():
    order = two_lists(3000, 5000)
    assert run(order, 1900) == [("out", 1900)]
    assert counts(order) == (3100, 3000, 0)
    assert run(order, 300, refault_every=300)[0][0] == "out" and order.order.nr_activated == 1
    before = counts(order)[2]
    run(order, 64)
    assert counts(order)[2] > before, "a refault has activated a page: both lists are asked"


def test_a_refault_counts_for_the_round_that_follows_it_and_no_longer():
    """One activation, and then none: some rounds later nothing is deactivated any more."""
    order = two_lists(3000, 8000)
    run(order, 40, refault_every=40)
    run(order, 150)
    down = counts(order)[2]
    assert 0 < down < 150
    run(order, 1000)
    assert counts(order)[2] == down


@pytest.mark.parametrize(("active", "ratio"), [(100_000, 1), (240_000, 3), (450_000, 4)])
def test_two_lists_keep_the_ratio_of_linux(active, ratio):
    """inactive_ratio = int_sqrt(10 * GiB): 1 below 1 GiB of 4 KiB pages, 3 from there, 4 from 2 GiB. A batch of 32 is
    deactivated after a priority that leaves inactive low, and whatever is due while it is."""
    enough = -(-active // ratio)
    order = two_lists(active, enough + 100, keys=False)
    for _ in range(100):
        order.take(order.candidate())
    assert counts(order) == (enough, active, 0)
    for _ in range(100):
        order.take(order.candidate())
    inactive, now_active, down = counts(order)
    assert down >= 32 and inactive == enough - 100 + down and now_active == active - down


def test_a_page_that_was_active_comes_back_by_one_mark_and_a_new_one_by_two():
    order = two_lists(100, 100)
    for id in range(100, 170):
        order.forget(id)
    for _ in range(30):
        order.take(order.candidate())  # inactive is low: 0 and others are deactivated, behind the last of these
    assert order.candidate() == 0
    order.touch(0)
    before = counts(order)[1]
    order.insert(190)
    assert order.candidate() == 1 and counts(order)[1] == before + 1, "page 0 is active again"
    while order.candidate() != 190:
        order.take(order.candidate())
    order.touch(190)
    active = counts(order)[1]
    assert order.candidate() != 190 and counts(order)[1] <= active, "a new page goes around first"


def test_the_mark_in_the_tables_goes_when_a_page_is_deactivated():
    """Pages were accessed while they were active: that is long ago when they reach the inactive list's old end."""
    order = two_lists(100, 100)
    for id in range(100):
        order.touch(id)
    for id in range(100, 200):
        order.forget(id)
    cleared = []
    first = order.choose(lambda id: cleared.append(id) or True)
    assert first == 0 and cleared == list(range(len(cleared))) and len(cleared) >= 32
    assert order.choose(lambda id: pytest.fail("it has been named")) == 0


def test_what_was_told_of_an_access_loses_the_mark_that_came_after_it():
    """A harvest has told of an access; when the page is met, a mark that was set since counts with it, not again."""
    order = two_lists(0, 50)
    order.touch(0)
    cleared = []
    assert order.choose(lambda id: cleared.append(id) or True) == 1
    assert cleared == [0]
    order.touch(1)  # as reclaim does that has just found the mark, and cleared it
    assert order.choose(lambda id: cleared.append(id) or True) == 2
    assert cleared == [0]


def test_statistics_are_as_old_as_they_may_be():
    order = two_lists(1000, 2000, stats_ns=10)
    order.pass_time(0)
    for id in range(1000, 2900):
        order.forget(id)
    order.pass_time(9)
    assert run(order, 50) == [("out", 50)] and counts(order) == (50, 1000, 0), "the kernel does not know yet"
    order.pass_time(10)
    run(order, 2)
    assert counts(order)[2] >= 32
    exact = two_lists(1000, 2000)
    for id in range(1000, 2900):
        exact.forget(id)
    run(exact, 50)
    assert counts(exact)[2] >= 32


def test_refaults_are_judged_by_old_statistics_too():
    """1,000 pages were active at the last flush, and 10 are now: a page that went 500 evictions ago is near, or far."""
    for now, near in ((9, True), (10, False)):
        order = two_lists(1000, 2000, stats_ns=10)
        order.pass_time(0)
        run(order, 501)
        for id in range(10, 1000):
            order.forget(id)
        order.pass_time(now)
        order.insert(1000, 1000)
        assert (order.order.nr_refaults, order.order.nr_activated) == (1, near)


def test_where_the_kernel_would_be_out_of_memory_pages_go_on():
    """Old statistics say that inactive is not low, when nothing is inactive."""
    order = two_lists(200, 400, stats_ns=10)
    order.pass_time(0)
    for id in range(200, 600):
        order.forget(id)
    assert counts(order) == (0, 200, 0)
    for id in range(3):
        assert order.candidate() == id
        order.take(id)
    order.check()


@pytest.mark.parametrize(("others", "near"), [(0, True), (1, True), (2, False)])
def test_refault_distance_decides_on_activation(others, near):
    """Two pages are active: a page evicted within two slots comes back active, one beyond does not."""
    order = two_lists(2, 8)
    order.take(2, 2)
    for id in range(3, 3 + others):
        order.take(id, id)
    order.insert(2, 2)
    assert (order.order.nr_refaults, order.order.nr_activated) == (1, near)
    assert counts(order)[1] == 2 + near


def test_memory_thrashes_where_a_page_comes_back_that_was_active():
    """Page 0 was active and is deactivated; page 150 never was. Both go, and come back at once."""
    order = two_lists(100, 100)
    for id in range(100, 150):
        order.forget(id)
    while order.candidate() >= 100:
        order.take(order.candidate())
    assert order.candidate() == 0
    order.take(0, 0)
    order.insert(150)
    order.take(150, 150)
    assert order.thrashes(0) and not order.thrashes(150) and not order.thrashes(1) and not order.thrashes(None)
    order.insert(0, 0)
    order.insert(150, 150)
    assert (order.order.nr_activated, order.order.nr_restored) == (2, 1)
    assert not order.thrashes(0), "it is back"
    order.check()


def test_a_page_that_was_active_long_ago_does_not_thrash():
    order = two_lists(40, 400)
    for id in range(40, 440):
        order.forget(id)
    order.take(order.candidate(), 0)
    assert order.thrashes(0)
    for id in range(200, 260):
        order.insert(id)
        order.take(id)
    assert not order.thrashes(0)


IDS, KEYS = 200, 120
STEPS = st.lists(
    st.tuples(st.sampled_from(["page", "access", "access", "harvest", "reclaim", "reclaim", "spare", "forget", "time"]),
              st.integers(0, 2**30)),
    min_size=1, max_size=150,
)  # fmt: skip


class Tables:
    """Accessed marks of one side, as a host has them."""

    def __init__(self, order):
        self.order, self.marked, self.looked = order, set(), []

    def clear(self, id):
        self.looked.append(id)
        found = id in self.marked
        self.marked.discard(id)
        return found

    def reclaim(self, pages):
        """So many go, at most, and what the order wants beside them; their numbers."""
        gone = []
        for _ in range(600):
            if len(gone) >= pages and not self.order.goes_on(self.clear):
                break
            id = self.order.choose(self.clear)
            if id is None:
                break
            if id in self.marked:
                self.marked.discard(id)
                self.order.touch(id)
                continue
            self.order.take(id, id % KEYS)
            gone.append(id)
        return gone


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, stats_ns=st.sampled_from([0, 3]))
def test_a_host_s_marks_agree_with_the_naive_order(steps, stats_ns):
    engine = Tables(Probe(make_order("twolist", IDS, 60, KEYS, {"stats_ns": stats_ns})))
    naive = Tables(NaiveTwoList(60, stats_ns))
    held, now = [], 0
    for step, number in steps:
        some = [held[(number + 7 * i) % len(held)] for i in range(number % 40)] if held else []
        if step == "page":
            for id in sorted({(number + 13 * i) % IDS for i in range(number % 50)} - set(held)):
                held.append(id)
                for side in (engine, naive):
                    side.order.insert(id, id % KEYS)
                    side.marked.add(id)
        elif step == "time":
            now += number % 4
        for side in (engine, naive):
            side.order.pass_time(now)
            if step == "access":
                side.marked.update(some)
            elif step == "harvest":
                for id in sorted(side.marked):
                    side.order.touch(id)
                side.marked.clear()
            elif step == "spare" and some:
                side.order.spare(some[0])
            elif step == "forget" and some:
                side.order.forget(some[0])
                side.marked.discard(some[0])
        if step == "forget" and some:
            held.remove(some[0])
        if step == "reclaim":
            gone = engine.reclaim(number % 70)
            assert gone == naive.reclaim(number % 70)
            held = [id for id in held if id not in gone]
        assert (engine.looked, engine.marked) == (naive.looked, naive.marked)
        for key in range(KEYS):
            assert engine.order.thrashes(key) == naive.order.thrashes(key)
        own = engine.order.order
        assert (own.nr_activated, own.nr_restored) == (naive.order.refaults, naive.order.restored)
        engine.order.check()
