"""The table over time, and when an index counts as settled."""

from types import SimpleNamespace

from memvirt import overtime
from memvirt.workloads.aging import settled


def test_settled_is_less_than_ten_over_ten_cycles() -> None:
    assert settled([]) is None and settled([500] * 10) is None
    assert settled([500] * 11) == 11
    assert settled([500] * 10 + [509]) == 11 and settled([500] * 10 + [510]) is None
    assert settled([0, 100, 200] + [300] * 11) == 14
    assert settled(list(range(0, 400, 2))) is None


def test_cycles_shown_end_with_the_last() -> None:
    assert overtime.shown_cycles(60)[-1] == 60 and len(overtime.shown_cycles(60)) == 6
    assert overtime.shown_cycles(1) == [1] and overtime.shown_cycles(3) == [1, 2, 3]


def record(preset: str, seed: int, unusable: list[int]) -> SimpleNamespace:
    samples = [
        {"unusable_9": value, "compact_moved": 10 * seed, "huge_pages": 512, "present_pages": 1024}
        for value in unusable
    ]
    return SimpleNamespace(scenario="small-vms", preset=preset, seed=seed, samples=samples)


def test_rows_are_presets_with_medians_over_seeds() -> None:
    records = [record("thin", seed, [seed * 100] * 12) for seed in (1, 2, 3)]
    records += [record("baseline-guest", 1, [0] * 12), record("thick", 1, [0, 990] * 6)]
    (table,) = overtime.tables(records)
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    assert cells[0] == ["thin", "thick"]
    assert cells[-4] == ["20.0", "99.0"] and cells[-3] == ["11", "no"]
    assert cells[-2] == ["20", "10"] and cells[-1] == ["50", "50"]
    assert overtime.tables([SimpleNamespace(scenario="x", preset="p", samples=[])]) == []
