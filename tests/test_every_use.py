"""A page once per epoch is as good as every use of it: major faults, and what VMs wait, within 0.5 %.

Two equal fleets of 256 MiB of VMs on 192 MiB for 240 s: one as suites have it, one that makes every use of every page in its
time. Loads are drawn once (helpers.every_use), so what is compared is what was left out. It still decides here and there
which of two pages goes, and all faults after that come in another order: a seed by itself lies within 1.5 %, and so do two
full streams whose repeats alone were drawn anew. So seeds are pooled, as many as that takes.
"""

import numpy as np
import pytest
from test_life import CORPUS, SUITE, S

from helpers.every_use import EveryUse
from memvirt.experiment import plan, working
from memvirt.experiment.cell import prepare, run_cell
from memvirt.workloads import Space, Stream
from memvirt.workloads.load import Load
from memvirt.workloads.touches import Touches

MARKS = 'harvest_interval = "50s"'
LONG = {
    'harvest_interval = "10s"': MARKS,
    '"24MiB"': '"192MiB"',
    '"64MiB"': '"512MiB"',
    '"8MiB"': '"64MiB"',
    'settle = "5s"': 'settle = "30s"',
    'duration = "20s"': 'duration = "240s"',
}


def test_the_full_stream_has_every_use_in_time_and_what_is_given_once_an_epoch_is_among_them():
    load = Load.model_validate(
        {"busy_percent": 40, "parts": [{"percent": 25, "every": "500ms"}, {"percent": 50, "every": "7s"}]}
    )
    full, given = (kind(load, Space(1000, 100), Stream(1, 0, "load"), 2 * S) for kind in (EveryUse, Touches))
    uses = np.zeros(1000, int)
    for second in range(28):
        pages, _ = full.between(second * S, (second + 1) * S)
        once, _ = given.between(second * S, (second + 1) * S)
        left = np.bincount(pages, minlength=1000) - np.bincount(once, minlength=1000)
        assert left.min() >= -1 and np.count_nonzero(left < 0) <= 2, "times are rounded at the ends of a second"
        uses += np.bincount(pages, minlength=1000)
    assert sorted(set(uses.tolist())) == [0, 4, 56]  # every 7 s, every 500 ms
    assert np.count_nonzero(uses == 56) == 250


def lived(folder, touches, epoch, changes, seed, monkeypatch):
    """Accesses, faults that bring pages back, of them major ones, and what VMs waited."""
    text = SUITE.replace('epoch = "2s"', f'epoch = "{epoch}"')
    for old, new in LONG.items():
        text = text.replace(old, new)
    file = folder / "long.toml"
    file.write_text(text.replace(MARKS, MARKS + changes))
    [cell] = plan.make(str(file), seeds=[seed]).in_order()
    with monkeypatch.context() as patched:
        patched.setattr(working, "Touches", touches)
        record = run_cell(prepare(CORPUS), cell)
    assert record.status == "done" and record.verified, record.reason
    waited = sum(vm["stall_ns"] for vm in record.vms.values())
    return record.accesses, record.derived["faults"], record.counters["fault_swap"], waited


@pytest.mark.parametrize(
    ("epoch", "changes", "seeds"),
    [("1s", "", 12), ("1s", ", replacement = 'clock'", 4)],
)
def test_once_per_epoch_is_the_full_stream(tmp_path, monkeypatch, epoch, changes, seeds):
    full, once = (
        np.sum([lived(tmp_path, kind, epoch, changes, seed, monkeypatch) for seed in range(1, seeds + 1)], axis=0)
        for kind in (EveryUse, Touches)
    )
    assert full[0] > 3 * once[0] and full[2] > 30_000
    assert np.abs(once[1:] / full[1:] - 1).max() <= 0.005
