"""Service levels: fairness by hand, what is noted of groups with an objective, and the numbers that follow."""

from hypothesis import given
from hypothesis import strategies as st

from memvirt.experiment.life_spec import Group
from memvirt.experiment.service import Service
from memvirt.metrics import registry
from memvirt.metrics.fairness import due, jain, share_error


def test_jain_s_index_by_hand():
    assert jain([3, 3, 3]) == (81, 81)
    assert jain([9, 0, 0]) == (81, 243)  # a third: one of three has it all
    assert jain([1, 3]) == (16, 20)
    assert jain([0, 0]) == (0, 0) and jain([]) == (0, 0)


def test_what_is_due_by_hand():
    assert due(300, {"a": 2, "b": 1}, {"a": 1000, "b": 1000}) == {"a": 200, "b": 100}
    # a can use no more than 120: the rest is the other two's, by shares
    assert due(300, {"a": 4, "b": 1, "c": 1}, {"a": 120, "b": 500, "c": 500}) == {"a": 120, "b": 90, "c": 90}
    assert due(900, {"a": 1, "b": 1}, {"a": 100, "b": 200}) == {"a": 100, "b": 200}
    assert due(90, {"a": 0, "b": 1}, {"a": 100, "b": 200}) == {"a": 0, "b": 90}
    assert due(9, {"a": 0}, {"a": 100}) == {"a": 0} and due(9, {}, {}) == {}
    assert share_error({"a": 100, "b": 200}, {"a": 200, "b": 100}) == (200, 600)  # a third is with the wrong one


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1000)), max_size=6), st.integers(0, 5000))
def test_what_is_due_is_no_more_than_there_is_and_than_each_can_use(vms, whole):
    shares = {str(at): share for at, (share, _) in enumerate(vms)}
    most = {str(at): size for at, (_, size) in enumerate(vms)}
    found = due(whole, shares, most)
    assert set(found) == set(shares)
    assert all(0 <= pages <= most[name] for name, pages in found.items())
    assert sum(found.values()) <= whole
    if all(shares.values()):
        assert sum(found.values()) >= min(whole, sum(most.values())) - len(vms)


def group(name, level, shares, **more):
    return Group.model_validate(
        {"name": name, "vms": 1, "memory": "4MiB", "load": "x", "level": level, "shares": shares, **more}
    )


def test_service_notes_who_broke_what_who_waited_and_who_held_more():
    gold, bronze = group("g", "gold", 2000, slowdown_at_most=105), group("b", "bronze", 1000, slowdown_at_most=150)
    service = Service()
    for slowdown in (1050, 1051, None):
        service.note(gold, "g-0", 300, slowdown, 7)
        service.note(bronze, "b-0", 600, 1500, 0)
        service.note(group("s", "silver", 5), "s-0", 9999, 5000, 11)  # has no objective
        service.end_window()
    assert set(service.levels) == {"gold", "bronze"}
    of_gold, of_bronze = service.levels["gold"], service.levels["bronze"]
    assert (of_gold.windows, of_gold.broken, of_gold.waited_ns, of_gold.beyond_pages) == (2, 1, 21, 0)
    # 900 held, 600 and 300 due
    assert (of_bronze.windows, of_bronze.broken, of_bronze.beyond_pages) == (3, 0, 900)
    assert service.error == [3 * 600, 3 * 2 * 900]
    assert service.held_for_shares == {"g-0": [900, 3, 2000], "b-0": [1800, 3, 1000]}


def test_every_number_of_a_level_is_registered():
    names = [f"{name}{ending}" for name in ("objective_broken_percent", "waited_ms") for ending in ("", ".gold")]
    assert registry.unregistered([*names, "beyond_shares_percent.bronze", "jain_index", "share_error_percent"]) == []
