"""The table over time, and when an index counts as settled."""

from types import SimpleNamespace

from memvirt.report import aging_table
from memvirt.results.derived import settled


def test_settled_is_a_mean_that_moves_by_less_than_ten_over_ten_cycles() -> None:
    assert settled([]) is None and settled([500] * 29) is None
    assert settled([500] * 30) == 30
    assert settled([500] * 20 + [509] * 10) == 30 and settled([500] * 20 + [510] * 10) is None
    assert settled([400, 600] * 15) == 30  # a block more or less in each cycle, to no side
    assert settled([0, 100, 200] + [300] * 30) == 33  # by 32 the first of the three means lies 10 below
    assert settled([300] * 20 + [0] * 10 + [300] * 10) is None
    assert settled(list(range(0, 400, 2))) is None


def test_cycles_shown_end_with_the_last() -> None:
    assert aging_table.shown_cycles(60)[-1] == 60 and len(aging_table.shown_cycles(60)) == 5
    assert aging_table.shown_cycles(1) == [1] and aging_table.shown_cycles(3) == [1, 2, 3]


def record(preset: str, seed: int, unusable: list[int], measured: int = 2, role: str = "column") -> SimpleNamespace:
    samples = [
        {"unusable_9": value, "compact_moved": 10 * seed * cycle, "huge_pages": 512, "present_pages": 1024}
        for cycle, value in enumerate(unusable)
    ]
    config = {"scenario": {"aging": {"measured_cycles": measured}}}
    return SimpleNamespace(scenario="small-vms", role=role, preset=preset, seed=seed, samples=samples, config=config)


def test_rows_are_presets_with_medians_over_seeds() -> None:
    records = [record("thin", seed, [seed * 100] * 32) for seed in (1, 2, 3)]
    records += [
        record("baseline-guest", 1, [0] * 12, role="baseline"),
        record("thick", 1, [0] * 30 + [990] * 20 + [500, 700]),
    ]
    (table,) = aging_table.tables(records)
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    heads = [str(column.header) for column in table.columns]
    assert heads[1:6] == [f"after\n{cycle}\n%" for cycle in (10, 20, 30, 40, 50)]
    assert heads[-3:] == ["measured\nunusable\n%", "measured\nmoved\npages/cycle", "measured\nmapped huge\n%"]
    assert cells[0] == ["thin", "thick"]
    assert cells[3] == ["20.0", "0.0"] and cells[5] == ["–", "99.0"]  # thin had settled by then
    assert cells[-4] == ["30", "30"] and cells[-3] == ["20.0", "60.0"]
    assert cells[-2] == ["20", "10"] and cells[-1] == ["50", "50"]
    (table,) = aging_table.tables([record("thin", 1, list(range(0, 400, 4)))])
    assert str(next(iter(table.columns[-4].cells))) == "no"
    assert aging_table.tables([SimpleNamespace(scenario="x", role="column", preset="p", samples=[])]) == []
