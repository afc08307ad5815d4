"""Loads with instances: functions that come, fill a part of a VM's memory each, and free it when they end."""

import pytest
from pydantic import ValidationError

from memvirt.settings.diagnose import validate
from memvirt.workloads.instances import Instances, Places
from memvirt.workloads.load import Load

S = 10**9
SPEC = Instances(size="40KiB", every="1s", fill="2s", stay="5s")


def filled(places, seconds):
    """What each page is, told window by window: the times at which it was filled and freed."""
    held, story = set(), {}
    for second in range(seconds):
        for first, end in places.ended(second * S):
            assert set(range(first, end)) <= held, "what is freed had been filled"
            held -= set(range(first, end))
            story.setdefault(first, []).append(("freed", second, end - first))
        for first, end in places.grown(second * S):
            assert not set(range(first, end)) & held, "what is filled was free"
            held |= set(range(first, end))
            story.setdefault(first, []).append(("filled", second, end - first))
    return held, story


def test_each_has_its_part_from_the_end_down_fills_it_evenly_and_frees_all_of_it():
    held, story = filled(Places(SPEC, 25, 58), 20)
    assert story == {  # three of ten pages, of the 33 that there are beyond those filled while booting
        28: [("filled", 1, 5), ("freed", 5, 10)],
        33: [("filled", 2, 5)],
        38: [("filled", 2, 5), ("freed", 6, 10)],
        43: [("filled", 3, 5)],
        48: [("filled", 3, 5), ("freed", 7, 10)],
        53: [("filled", 4, 5)],
    }
    assert not held


def test_another_comes_in_the_place_of_one_that_has_ended():
    again = SPEC.model_copy(update={"again": 8 * S})
    held, story = filled(Places(again, 0, 10), 22)
    assert [what for what in story[0] if what[0] == "filled"] == [("filled", at, 5) for at in (1, 9, 17)]
    assert [at for what, at, _ in story[0] if what == "freed"] == [5, 13, 21]
    assert not held
    at_once = again.model_copy(update={"again": 5 * S})
    held, story = filled(Places(at_once, 0, 10), 13)
    assert [at for what, at, _ in story[0] if what == "freed"] == [5, 10], "one ends as the next begins"
    assert len(held) == 10


def test_windows_that_were_left_out_are_made_up_for_and_a_life_nobody_saw_was_none():
    places = Places(SPEC.model_copy(update={"again": 8 * S}), 0, 10)
    assert list(places.ended(4 * S)) == [] and list(places.grown(4 * S)) == [(0, 10)]
    assert list(places.ended(9 * S)) == [(0, 10)] and list(places.grown(9 * S)) == [(0, 5)]
    assert list(places.ended(30 * S)) == [(0, 5)] and list(places.grown(30 * S)) == []


def test_a_vm_without_room_for_one_has_none():
    assert filled(Places(SPEC, 25, 34), 20) == (set(), {})


def test_a_smaller_vm_has_fewer_of_the_same_size_in_the_same_time():
    load = validate(
        Load, {"busy_percent": 1, "parts": [{"percent": 100, "every": "1s"}], "instances": SPEC.model_dump()}
    )
    smaller = load.scaled(25).instances
    assert (smaller.size, smaller.every, smaller.fill, smaller.stay) == (10, 4 * S, 2 * S, 5 * S)
    assert load.scaled(800).instances.every == S // 8


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stay": "1s"}, "is shorter than it takes to fill its memory, 2s"),
        ({"again": "4s"}, "is before the one in its place has ended, 5s after its beginning"),
        ({"size": "0"}, "size"),
        ({"every": "0s"}, "lasts nothing"),
    ],
)
def test_what_cannot_be_is_named(changed, said):
    with pytest.raises((ValidationError, ValueError), match=said):
        validate(Instances, {"size": "40KiB", "every": "1s", "fill": "2s", "stay": "5s"} | changed)


def test_instances_and_growth_are_one_memory():
    table = {"busy_percent": 1, "parts": [{"percent": 100, "every": "1s"}], "instances": SPEC.model_dump()}
    with pytest.raises(ValueError, match="the memory that grow and shrink speak of"):
        validate(Load, {**table, "grow": {"per_second": "1MiB"}})
