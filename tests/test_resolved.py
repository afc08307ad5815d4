"""A record holds what was run: every default by value, every file by content, and where each value is from.

Each test changes one thing that a name stands for and asks who notices: the cell's hash, --resume, compare.
"""

import json
import pickle
import re

import numpy as np
import pytest

from memvirt import names
from memvirt.errors import ConfigError, FolderError
from memvirt.experiment import cell as cells
from memvirt.experiment import plan
from memvirt.experiment.loop import manifest, run_plan
from memvirt.inputs import synthetic
from memvirt.report.comparison_text import compare_command
from memvirt.results import run_folder
from memvirt.results.record import as_dict
from memvirt.results.run_folder import Results
from memvirt.settings import costs, presets
from memvirt.settings.config import HostConfig
from memvirt.settings.costs import CostModel
from memvirt.settings.vm_config import GuestOptions

SUITE = """
schema = 1
name = "one"
title = "t"
description = "d"
presets = ["swap"]
[host]
memory = "4MiB"
swap = "8MiB"
[[scenarios]]
name = "u"
description = "d"
overcommit_percent = [100]
measured = {measured}
fleet = {{ vms = 2, memory = "2MiB" }}
"""
UNIFORM = '{ workload = "uniform", accesses = 500, write_percent = 50 }'
DECIDER = """
class Mine:
    interval_ns = 1_000_000
    def __init__(self, step=3, what=(1.5,)):
        self.step = step
    def decide(self, snapshot):
        from memvirt.policies import Targets
        return Targets()
"""


@pytest.fixture(scope="module")
def context():
    return cells.prepare(synthetic(400, seed=1))


@pytest.fixture
def made(tmp_path):
    def make(measured=UNIFORM, **options):
        (tmp_path / "one.toml").write_text(SUITE.format(measured=measured))
        return plan.make(str(tmp_path / "one.toml"), **options)

    return make


def hashes(planned):
    return {cell.name: cell.sha256() for cell in planned.in_order()}


def run(planned, context, folder, **options):
    with Results(folder, manifest(planned, context), config_of=planned.config_of, **options) as results:
        return [step.record for step in run_plan(planned, context, results)]


# ---- defaults


def test_every_default_is_in_the_record_by_value(made, context, tmp_path):
    baseline, record = run(made(overrides=["sharing=ksm", "zpool_percent=10"]), context, tmp_path / "out")
    host = record.config["host"]
    assert host["costs"]["merge"] == 300 and host["watermarks"] == {"min": 64, "low": 80, "high": 96}
    assert host["codec_level"] == 1 and host["sharing_options"]["max_page_sharing"] == 256
    assert host["swap_device"]["read_latency_ns"] == "44us" and record.config["guest"] is None
    assert (record.role, baseline.role, record.kind) == ("column", "baseline", "fleet")
    assert record.asked == {"preset": "swap", "set": {}, "settings": ["sharing=ksm", "zpool_percent=10"]}
    assert record.origins == {
        "swap": "suite one", "swap_device": "preset swap", "replacement": "preset swap",
        "readahead_kind": "preset swap", "same_filled": "preset swap", "memory": "suite one", "seed": "suite one",
        "sharing": "--set sharing=ksm", "zpool_percent": "--set zpool_percent=10",
    }  # fmt: skip
    assert baseline.origins == baseline.asked == {}
    assert "shown" not in as_dict(record)


def test_no_setting_is_left_out_of_a_record_at_its_default(made):
    for cell in made().in_order():
        config = cell.config()
        assert set(config["host"]) == set(HostConfig.model_fields)
        assert set(config["host"]["costs"]) == set(CostModel.model_fields)
        assert HostConfig(**config["host"]) == cell.host
    *_, last = made(overrides=["vm.guest=true"]).in_order()
    assert set(last.config()["guest"]) == set(GuestOptions.model_fields)


def changed_cost(monkeypatch, tmp_path):
    text = (costs.DIRECTORY / "default.toml").read_text()
    (tmp_path / "default.toml").write_text(text.replace("merge = 300", "merge = 301"))
    monkeypatch.setattr(costs, "DIRECTORY", tmp_path)


def changed_scanner(monkeypatch, tmp_path):
    own = names.SCANNERS["hash"]
    options = {**own.options, "pages_to_scan": own.options["pages_to_scan"]._replace(default=8)}
    monkeypatch.setitem(names.SCANNERS, "hash", own._replace(options=options))


def changed_codec(monkeypatch, tmp_path):
    monkeypatch.setitem(names.CODECS, "lz4", names.CODECS["lz4"]._replace(default=2))


def changed_device(monkeypatch, tmp_path):
    monkeypatch.setitem(names.DEVICES, "nvme", (44_001, 20_000, 21_141, 21_141, 16))


CHANGES = {
    "host.costs.merge: 300": changed_cost,
    "host.sharing_options.pages_to_scan: 4096": changed_scanner,
    "host.codec_level: 1": changed_codec,
    "host.swap_device.read_latency_ns: 44us": changed_device,
}


OF_EVERY_RECORD = {"host.costs.merge: 300"}  # a baseline has no scanner, codec or swap, but it has costs


@pytest.mark.parametrize("named", CHANGES)
def test_another_shipped_default_is_another_run(made, context, tmp_path, monkeypatch, named):
    settings = {"overrides": ["sharing=hash"]}
    run(made(**settings), context, tmp_path / "before")
    before = hashes(made(**settings))
    CHANGES[named](monkeypatch, tmp_path)
    after = hashes(made(**settings))
    kept = {name for name in before if before[name] == after[name]}
    assert kept <= ({"u-100--baseline--s1--baseline"} if named not in OF_EVERY_RECORD else set())
    with pytest.raises(FolderError, match=f"configuration of .*u-100--swap--s1.* changed.*; {named} there, "):
        run(made(**settings), context, tmp_path / "before", resume=True)
    run(made(**settings), context, tmp_path / "after")
    told, _ = compare_command([tmp_path / "before", tmp_path / "after"], width=1000)
    assert re.search(rf"note: .*after: setting {named} \((default|preset swap)[^)]*\) and", told), told


def test_a_default_of_a_decider_is_one_too(made, monkeypatch):
    settings = {"overrides": ["balloon=proportional", "vm.guest=true"]}
    before = hashes(made(**settings))
    from memvirt.policies.proportional import Proportional

    monkeypatch.setattr(Proportional.__init__, "__kwdefaults__", {"interval_ns": 10**9, "headroom_percent": 3})
    monkeypatch.setattr(Proportional, "__signature__", None, raising=False)
    monkeypatch.delattr(Proportional, "__signature__")
    after = hashes(made(**settings))
    assert before["u-100--swap--s1"] != after["u-100--swap--s1"]


def test_saying_a_default_changes_nothing(made):
    plain, said = (
        made(overrides=["replacement=s3fifo"]),
        made(
            overrides=[
                "replacement=s3fifo",
                "replacement_options.variant=libcachesim",
                "costs=default",
                "swap_device=nvme",
            ]
        ),
    )
    assert hashes(plain) == hashes(said)


def test_settings_that_were_changed_are_named_with_both_origins(made, context, tmp_path):
    for percent in (10, 40):
        run(made(overrides=[f"zpool_percent={percent}"]), context, tmp_path / f"z{percent}")
    told, _ = compare_command([tmp_path / "z10", tmp_path / "z40"], width=1000)
    assert "host.zpool_percent: 10 (--set zpool_percent=10) and 40 (--set zpool_percent=40)" in told


def test_a_cost_model_of_ones_own_is_read_by_value(made, tmp_path):
    text = (costs.DIRECTORY / "default.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(text)
    settings = {"overrides": [f"costs={mine}"]}
    assert hashes(made(**settings)) == hashes(made()), "the same constants are the same machine"
    mine.write_text(text.replace("merge = 300", "merge = 301"))
    (baseline, cell) = made(**settings).in_order()
    assert cell.host.costs.merge == baseline.host.costs.merge == 301
    assert baseline.preset.startswith("baseline-costs-")
    mine.write_text(text.replace("merge = 300", "merge = -1"))
    with pytest.raises(ConfigError, match=r"mine\.toml:\d+: costs.merge"):
        made(**settings)


# ---- files


def trace_of(path):
    return f'{{ workload = "trace", file = "{path}" }}'


def test_a_trace_that_changes_under_its_name_is_noticed(made, context, tmp_path):
    trace = tmp_path / "t.npy"
    np.save(trace, np.arange(100) % 50)
    before = made(trace_of(trace))
    (record,) = [each for each in run(before, context, tmp_path / "a") if each.role == "column"]
    assert record.accesses == 200
    assert record.config["scenario"]["measured"]["file"] == "t.npy"
    assert list(record.config["files"]) == ["scenario.measured.file"]
    np.save(trace, np.arange(700) % 50)
    after = made(trace_of(trace))
    assert set(hashes(before).values()).isdisjoint(hashes(after).values()), "the baseline reads it as well"
    with pytest.raises(FolderError, match="configuration of u-100--baseline--s1--baseline, u-100--swap--s1 changed"):
        run(after, context, tmp_path / "a", resume=True)
    run(after, context, tmp_path / "b")
    with pytest.raises(ConfigError, match=r"files.scenario.measured.file: \w+ and \w+"):
        compare_command([tmp_path / "a", tmp_path / "b"])
    failed = cells.run_cell(context, before.cells[0])
    assert failed.status == "failed" and "t.npy has changed since the run was planned" in failed.reason
    trace.unlink()
    with pytest.raises(ConfigError, match=r"t\.npy: cannot be read: No such file"):
        made(trace_of(trace))


def test_where_a_file_lies_changes_nothing(made, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(DECIDER)
        np.save(tmp_path / folder / "t.npy", np.arange(50))
    plans = [
        made(trace_of(tmp_path / folder / "t.npy"), overrides=[f"balloon={tmp_path / folder}/mine.py:Mine"])
        for folder in ("a", "b")
    ]
    assert hashes(plans[0]) == hashes(plans[1])


def test_a_decider_that_changes_between_a_run_and_its_resumption_is_noticed(made, context, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(DECIDER)
    settings = {"overrides": [f"balloon={file}:Mine"]}
    planned = made(**settings)
    records = run(planned, context, tmp_path / "a")
    host = records[1].config["host"]
    assert host["balloon"] == "mine.py:Mine" and host["decider_options"] == {"step": 3}
    assert records[1].config["files"].keys() == {"host.balloon"}
    assert not records[0].config["files"], "the baseline has no decider"
    assert records[1].asked["settings"] == settings["overrides"]
    file.write_text(DECIDER + "# edited\n")
    said = r"swap--s1 changed; the file of host.balloon, mine\.py:Mine: sha256 \w{12} there, \w{12} now\); use another --out"
    with pytest.raises(FolderError, match=said):
        run(made(**settings), context, tmp_path / "a", resume=True)


# ---- roles and names


def test_a_preset_may_be_called_baseline(made, context, tmp_path):
    for name, chain in (("baseline", 4), ("baseline-mine", 2)):
        (tmp_path / f"{name}.toml").write_text(f'description = "d"\nextends = "swap"\n[host]\nzpool_chain = {chain}\n')
    only = [str(tmp_path / f"{name}.toml") for name in ("baseline", "baseline-mine")]
    planned = made(only=only)
    assert [cell.name for cell in planned.in_order()] == [
        "u-100--baseline--s1--baseline", "u-100--baseline--s1", "u-100--baseline-mine--s1"
    ]  # fmt: skip
    records = run(planned, context, tmp_path / "out")
    assert [record.role for record in run_folder.load(tmp_path / "out")] == ["baseline", "column", "column"]
    assert records[1].derived["slowdown"] and not records[0].derived["slowdown"]


def test_two_columns_of_one_name_are_refused_with_both_paths(made, tmp_path):
    paths = [tmp_path / folder / "mine.toml" for folder in ("a", "b")]
    for percent, path in zip((10, 60), paths, strict=True):
        path.parent.mkdir()
        path.write_text(f'description = "d"\n[host]\nzpool_percent = {percent}\n')
    with pytest.raises(ConfigError, match=f"two columns 'mine': {paths[0]} and {paths[1]}"):
        made(only=[str(path) for path in paths])
    (tmp_path / "swap.toml").write_text('description = "d"\n')
    with pytest.raises(ConfigError, match=f"two columns 'swap': swap and {tmp_path}/swap.toml"):
        made(only=["swap", str(tmp_path / "swap.toml")])
    with pytest.raises(ConfigError, match="two columns 'swap': swap, twice"):
        made(only=["swap", "swap"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("overcommit_percent = [100]", "overcommit_percent = [150, 150]", r"overcommit_percent: 150 is given twice"),
        ('presets = ["swap"]', 'presets = ["swap"]\nseeds = [3, 3]', "seeds: 3 is given twice"),
        ('presets = ["swap"]', 'presets = ["swap", "x/swap.toml"]', r"'swap' is given twice \(swap and x/swap.toml\)"),
        ("[[scenarios]]", "[tiers.quick]\nseeds = [1, 1]\n[[scenarios]]", "tiers.quick.seeds: 1 is given twice"),
    ],
)
def test_doubles_in_a_suite_are_refused(tmp_path, old, new, said):
    (tmp_path / "two.toml").write_text(SUITE.format(measured=UNIFORM).replace(old, new))
    with pytest.raises(ConfigError, match=said):
        plan.make(str(tmp_path / "two.toml"))


def test_double_seeds_are_refused(made):
    with pytest.raises(ConfigError, match="seed 1 is given twice"):
        made(seeds=[1, 2, 1])


def test_an_override_that_makes_two_columns_the_same_is_refused(made):
    with pytest.raises(ConfigError, match="columns 'lz4' and 'zstd' are the same with these settings; leave one"):
        plan.make("compress-vs-swap", "smoke", only=["lz4", "zstd"], overrides=["codec=lz4", "codec_level=1"])
    with pytest.raises(ConfigError, match="columns 'swap' and 'zcache' are the same"):
        made(
            only=["swap", "zcache"],
            overrides=["zpool_percent=20", "zpool_reject_above=4096", "zpool_incompressible=keep"],
        )
    made(only=["swap", "zcache"], overrides=["zpool_chain=4"])
    with pytest.raises(ConfigError, match="columns 'lru' and 'arc' are the same"):
        plan.make("replacement", "smoke", only=["lru", "arc"], overrides=["replacement=lru"])


def test_an_override_that_nothing_reads_is_refused():
    with pytest.raises(ConfigError, match="--set memory=1MiB: does nothing in a suite of traces"):
        plan.make("replacement", "smoke", overrides=["memory=1MiB", "vm.guest=true"])
    plan.make("replacement", "smoke", only=["s3fifo"], overrides=["replacement_options.variant=paper"])


def test_one_setting_given_twice_is_refused(made):
    with pytest.raises(ConfigError, match="--set zpool_percent=20: zpool_percent is set twice; keep one"):
        made(overrides=["zpool_percent=10", "zpool_percent=20"])
    with pytest.raises(ConfigError, match="--set vm.guest=false: vm.guest is set twice"):
        made(overrides=["vm.guest=true", "vm.guest=false"])


def test_what_lies_in_run_json(made, context, tmp_path):
    run(made(seeds=[4], overrides=["zpool_percent=10"], corpus="synthetic"), context, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "run.json").read_text())
    assert found["schema"] == 2 and found["title"] == "t"
    assert found["shown"] == {"question": "", "columns": [], "learned": "slowdown", "claims": [], "saved": True}
    (record,) = [each for each in run_folder.load(tmp_path / "out") if each.role == "column"]
    assert record.origins["seed"] == "--seed 4"
    assert found["asked"]["settings"] == ["zpool_percent=10"] and found["asked"]["corpus"] == "synthetic"
    words = run_folder.read_manifest(tmp_path / "out").asked.words()
    assert words[2:] == ["--tier", "quick", "--set", "zpool_percent=10", "--seed", "4", "--corpus", "synthetic"]


def test_schema_1_is_refused_with_a_sentence(made, context, tmp_path):
    run(made(), context, tmp_path / "out")
    path = tmp_path / "out" / "run.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    with pytest.raises(FolderError, match=r"run.json: schema 1 \(whose records held no defaults.*run it again into"):
        run_folder.load(tmp_path / "out")


def test_cells_travel_to_other_processes_as_they_are(made):
    for cell in made(overrides=["sharing=ksm"]).in_order():
        twin = pickle.loads(pickle.dumps(cell))
        assert twin == cell and twin.sha256() == cell.sha256() and twin.asked == cell.asked


# ---- where values are from


def rows(path, tmp_path):
    return {row.key: row for row in presets.explain(str(path))}


def test_a_value_that_was_replaced_takes_its_source_with_it(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('description = "d"\nextends = "zcache"\n[host]\nzpool_percent = 35\n')
    row = rows(mine, tmp_path)["zpool_percent"]
    assert (row.value, row.origin, row.source, row.tag) == (35, f"file {mine}", "", "")
    assert rows("zcache", tmp_path)["zpool_percent"].tag == "verified"
    assert presets.check_sources(str(mine)) == ["zpool_percent"]
    mine.write_text(mine.read_text() + '[source]\nzpool_percent = {text = "mine", tag = "chosen"}\n')
    assert rows(mine, tmp_path)["zpool_percent"].source == "mine"


def test_options_that_another_mechanism_drops_lose_their_origin():
    found = presets.resolve_layers("all", ["sharing=ksm"])
    assert not [key for key in found.origins if key.startswith("sharing_options")]
    assert found.origins["sharing"] == "--set sharing=ksm"
    row = found.row("sharing_options.sleep_ns", 20_000_000)
    assert row.default


def test_a_part_of_a_table_and_the_whole_of_it_replace_each_other(tmp_path):
    base, mine = tmp_path / "base.toml", tmp_path / "mine.toml"
    base.write_text(
        'description = "d"\n[host]\nwatermarks = {min = 1, low = 2, high = 3}\n'
        '[source]\nwatermarks = {text = "base\'s", tag = "chosen"}\n'
    )
    mine.write_text(f'description = "d"\nextends = "{base}"\n[host]\nwatermarks = {{high = 9}}\n')
    found = rows(mine, tmp_path)
    assert [found[f"watermarks.{key}"].source for key in ("min", "low", "high")] == ["base's", "base's", ""]
    assert found["watermarks.high"].origin == f"file {mine}"
    assert presets.resolve_layers(str(mine), ["watermarks=none"]).origins["watermarks"] == "--set watermarks=none"


def test_shipped_defaults_name_their_sources(tmp_path):
    found = rows("none", tmp_path)
    assert found["costs.merge"].value == 300 and found["costs.merge"].default and found["costs.merge"].source
    assert found["zpool_accept_percent"].source
    assert "measured at 65 us" in found["swap_device.read_latency_ns"].source
    assert "mm/page_alloc.c" in found["watermarks.low"].source


GUESTS = '[[variants]]\nname = "own"\npreset = "balloon"\nvm = { guest = { cache_percent = 0, swap = "8MiB" } }\n[host]'


def test_a_column_changes_what_its_preset_asks_of_vms(made, tmp_path):
    """Its own comes after the preset's and before --set; its record says what was asked; a column without has none."""
    path = tmp_path / "guests.toml"
    path.write_text(SUITE.format(measured=UNIFORM).replace("[host]", GUESTS))
    for overrides, pages in (((), 2048), (("vm.guest.swap=4MiB",), 1024)):
        cells = {cell.preset: cell for cell in plan.make(str(path), only=["own", "balloon"], overrides=overrides).cells}
        assert cells["own"].guest.swap == pages and cells["own"].guest.cache_percent == 0
        assert cells["own"].asked["vm"] == {"guest": {"cache_percent": 0, "swap": "8MiB"}}
        assert cells["balloon"].guest.swap == (0 if not overrides else 1024) and "vm" not in cells["balloon"].asked
    path.write_text(path.read_text().replace('swap = "8MiB" } }', "swp = 1 } }"))
    with pytest.raises(ConfigError, match=r"guests.toml:\d+: variants\[0\].vm.guest.swp: unknown key"):
        plan.make(str(path))
