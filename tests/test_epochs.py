"""A fleet's results do not depend on how long an epoch is, within the band that the heads of the suites state.

Each suite of fleets that live, with a hundredth of its memory and all of its time: its last scenario at its highest ratio,
under its first preset, once a page and 1 s and once a page and 10 s. Accessed marks are collected every 50 s: five epochs
of 10 s.
Within the band: slowdowns by 0.005, waiting by 7 %, cold memory by a point. The worst second of all VMs is left out: it is
one in which a VM boots beside one that hardly computes, and how many pages of whom went then is chance.
"""

from dataclasses import replace

import pytest

from memvirt.experiment import plan
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.scenario import Tier
from memvirt.inputs import synthetic
from memvirt.shipped import SUITES

S = 10**9
LIVING = ["boot-storm", "cold", "day", "host-failure", "ksm-52", "patch-day", "right-size"]
THRASHES = "right-size"  # at 30 % of its size a VM's pages leave within seconds: no epoch of 10 s can see that


def smaller(sized):
    host = {"memory": sized.host.memory // 100, "swap": sized.host.swap // 100, "harvest_interval": None}
    scenarios = [spec.scaled(Tier(memory_percent=1)) for spec in sized.scenarios]
    return sized.model_copy(update={"host": sized.host.model_copy(update=host), "scenarios": scenarios})


def lived(name, *epochs):
    """The derived numbers of the same cell at each epoch, and what VMs waited, ns."""
    context = prepare(synthetic(512, seed=1))
    made = plan.make(name, "quick", narrowed=smaller, overrides=["harvest_interval=50s"])
    last = next(cell for cell in reversed(made.cells) if cell.preset == made.cells[0].preset)
    for seconds in epochs:
        time = last.spec.time.model_copy(update={"epoch": seconds * S})
        record = run_cell(context, replace(last, spec=last.spec.model_copy(update={"time": time})))
        assert record.status == "done", record.reason
        yield record.derived, sum(vm["stall_ns"] for vm in record.vms.values())


def within(one, other):
    (told, waited), (also_told, also_waited) = one, other
    names = [name for name in told if name.startswith("slowdown") and "worst" not in name]
    return (
        all(abs(float(told[name]) - float(also_told[name])) <= 0.005 for name in names)
        and abs(waited - also_waited) <= 0.07 * max(waited, also_waited)
        and abs(float(told["cold_percent"]) - float(also_told["cold_percent"])) <= 1
    )


@pytest.mark.parametrize("name", [name for name in LIVING if name != THRASHES])
def test_epochs_of_one_and_of_ten_seconds_agree(name):
    assert within(*lived(name, 1, 10))


def test_an_epoch_longer_than_pages_stay_does_not_agree_and_shorter_ones_do():
    one, two, ten = lived(THRASHES, 1, 2, 10)
    assert within(one, two) and not within(one, ten) and ten[1] > 1.2 * one[1]


@pytest.mark.parametrize("name", LIVING)
def test_each_suite_states_its_band(name):
    head = SUITES.file(name).read_text().partition("\nschema")[0]
    assert "epochs of 1 and of " in head.replace("\n# ", " ").lower()
