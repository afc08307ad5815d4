"""bench/breakeven.py: what it runs, and how it reads where two lines cross. Nothing is timed."""

import breakeven
import pytest

import memvirt
from memvirt.experiment import suite


def test_lines_cross_where_they_do():
    points = [
        (10, {"swap": 1.0, "zcache": 3.0}),
        (30, {"swap": 3.0, "zcache": 3.0}),
        (70, {"swap": 9.0, "zcache": 5.0}),
    ]
    assert breakeven.crossings(points, "swap", "zcache") == [30]
    points[1] = (30, {"swap": 3.0, "zcache": 4.0})
    assert breakeven.crossings(points, "swap", "zcache") == [pytest.approx(38)]
    assert breakeven.crossings(points[:2], "swap", "zcache") == []


@pytest.mark.parametrize("scale", [1, 4])
def test_it_runs_quick_s_zipf_and_nothing_else(tmp_path, scale):
    path = tmp_path / "one.toml"
    path.write_text(breakeven.scenario_alone(scale))
    (scenario,), (_, quick, *_) = suite.load(path).scenarios, suite.load("quick").scenarios
    assert scenario.name == quick.name == "zipf" and scenario.fleet == quick.fleet
    assert list(scenario.overcommit_percent) == [150]


def test_disks_differ_in_the_latency_of_a_read_alone(tmp_path):
    found = breakeven.devices(tmp_path, [20, 44])
    assert [round(latency, 1) for latency in found.values()] == [41.1, 65.1]
    slow, nvme = (memvirt.Host(memory="1MiB", swap="1MiB", swap_device=path) for path in found)
    named = memvirt.Host(memory="1MiB", swap="1MiB", swap_device="nvme")
    assert nvme.config.swap_device == named.config.swap_device
    assert slow.config.swap_device.constants() == {**named.config.swap_device.constants(), "read_latency_ns": 20_000}
