"""Every preset resolves, says where its constants are from, and can be changed and extended."""

import re
import tomllib

import pytest

from memvirt.errors import ConfigError
from memvirt.settings import presets
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import line_of
from memvirt.shipped import PRESETS

QUICK = ("none", "swap", "zcache", "sharing", "balloon", "all")


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_resolves_and_has_sources(name):
    assert isinstance(presets.resolve(name), HostConfig)
    assert presets.check_sources(name) == []


@pytest.mark.parametrize("name", presets.names())
def test_every_line_of_every_preset_is_found(name):
    text = PRESETS.file(name).read_text()
    for key in tomllib.loads(text).get("host", {}):
        line = line_of(text, ("host", key))
        assert key in text.splitlines()[line - 1]


def test_presets_of_the_quick_suite_hold_the_mechanisms_they_are_named_for():
    none, swap, zcache, sharing, balloon, everything = (presets.resolve(name) for name in QUICK)
    assert (none.commit, none.swap, none.zpool_percent, none.sharing, none.balloon) == ("nominal", 0, 0, None, None)
    assert swap.swap == 2 * swap.memory and not swap.zpool_percent and not swap.sharing and not swap.balloon
    assert zcache.zpool_percent == 20 and zcache.swap
    assert sharing.sharing == "hash" and sharing.swap and not sharing.zpool_percent
    assert balloon.balloon == "proportional" and balloon.swap and not balloon.sharing
    assert everything.balloon and everything.sharing and everything.zpool_percent and everything.swap
    guests = [presets.vm_settings(name).guest for name in QUICK]
    assert guests == [False, False, False, False, True, True]


def test_presets_that_stand_for_a_system_state_its_defaults():
    ksm = presets.resolve("ksm-6")
    assert ksm.sharing_options["pages_to_scan"] == 100
    assert presets.resolve("proxmox").decider().max_step_pages == 25600
    esx = presets.resolve("esxi-6")
    assert esx.sharing_options["salting"] == "vm"
    assert (esx.decider().idle_tax_percent, esx.decider().balloon_max_percent) == (75, 65)
    assert presets.resolve("mom").sharing == "ksm"


def test_descriptions_are_one_line():
    for name, text in PRESETS.lines().items():
        assert name and text and "\n" not in text and len(text) < 120


def test_settings_lie_between_preset_and_overrides():
    config = presets.resolve("swap", ["swap_device=hdd", "seed=7"], settings={"memory": "8MiB", "seed": 3})
    assert (config.memory, config.swap, config.swap_device.name, config.seed) == (2048, 4096, "hdd", 7)


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ("zpool_percent=20", ("zpool_percent",), 20),
        ("swap=1GiB", ("swap",), "1GiB"),
        ('swap="1GiB"', ("swap",), "1GiB"),
        ("swap = 200%", ("swap",), "200%"),
        ("decider_options.samples=5", ("decider_options", "samples"), 5),
        ("watermarks={min=1,low=2,high=3}", ("watermarks",), {"min": 1, "low": 2, "high": 3}),
        ("sharing_options.smart_scan=false", ("sharing_options", "smart_scan"), False),
    ],
)
def test_overrides(text, place, value):
    assert presets.parse_override(text) == (place, value)


@pytest.mark.parametrize("text", ["zpool_percent", "=3", "a..b=3", "a b=3", "seed=", "seed=[1", 'seed="1'])
def test_overrides_that_cannot_be(text):
    with pytest.raises(ConfigError, match="--set"):
        presets.parse_override(text)


def test_every_error_names_where_it_came_from(tmp_path):
    base = tmp_path / "base.toml"
    base.write_text('description = "b"\n[host]\nswap = "1Gb"\nseed = 3\n')
    mine = tmp_path / "mine.toml"
    mine.write_text(
        f'description = "m"\nextends = "{base}"\n\n[host]\nreplacement = "clok"\nwatermarks = {{min = 1}}\n'
    )
    with pytest.raises(ConfigError) as caught:
        presets.resolve(str(mine), ["zpool_percent=200", "seeed=3"])
    text = str(caught.value)
    assert text.startswith("6 problems:")
    assert "base.toml:3: host.swap: size '1Gb'" in text
    assert "mine.toml:5: host.replacement: unknown value 'clok'" in text
    assert "mine.toml:6: host.watermarks.low: is required" in text
    assert "--set zpool_percent=200: percentage 200 is outside 0..100" in text
    assert "--set seeed=3: unknown key 'seeed'; did you mean 'seed'?" in text


def test_bad_overrides_are_named_together():
    with pytest.raises(ConfigError) as caught:
        presets.resolve("swap", ["zpool", "=3"])
    assert str(caught.value).count("--set") >= 2


def test_unknown_presets_keys_and_circles(tmp_path):
    with pytest.raises(ConfigError, match="unknown preset 'zcach'; did you mean 'zcache'"):
        presets.resolve("zcach")
    a, b = tmp_path / "a.toml", tmp_path / "b.toml"
    a.write_text(f'description = "a"\nextends = "{b}"\n')
    b.write_text(f'description = "b"\nextends = "{a}"\n')
    with pytest.raises(ConfigError, match="extends itself"):
        presets.resolve(str(a))
    a.write_text('descripton = "a"\n[source]\nswap = {text = "x", tag = "sure"}\n')
    with pytest.raises(ConfigError) as caught:
        presets.resolve(str(a))
    assert "a.toml:1: descripton: unknown key 'descripton'; did you mean 'description'?" in str(caught.value)
    assert "description: is required" in str(caught.value)
    assert "a.toml:3: source.swap.tag: unknown value 'sure' (known: verified," in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        presets.resolve(str(tmp_path / "gone.toml"))


def test_another_decider_drops_the_options_of_the_one_before():
    config = presets.resolve("mom", ["balloon=proxmox"])
    assert config == presets.resolve("mom", ["balloon=proxmox", "decider_options={}"])
    config = presets.resolve("mom", ["decider_options.samples=3"])
    assert config.decider().samples == 3
    assert config.decider().max_step_percent == 5


def test_a_guest_can_be_changed_and_given_by_override():
    changed = presets.vm_settings("balloon", ["vm.guest.swappiness=150", "vm.guest.swap=4MiB", "seed=3"]).guest
    assert (changed.swappiness, changed.swap, changed.cache_percent) == (150, 1024, 25)
    assert presets.vm_settings("swap", ["vm.guest.swappiness=150"]).guest is False, "it has none to change"
    assert presets.vm_settings("swap", ["vm.guest=true"]).guest is True
    assert presets.resolve("balloon", ["vm.guest.swappiness=150"]) == presets.resolve("balloon")
    for text, said in (("vm.guest.swappines=1", "did you mean 'swappiness'?"), ("vm.gest=1", "did you mean 'guest'?")):
        with pytest.raises(ConfigError, match=f"--set {text}: .*{re.escape(said)}"):
            presets.vm_settings("balloon", [text])


def test_explain_tells_of_the_guest():
    row = {row.key: row for row in presets.explain("all")}["vm.guest"]
    assert row.value is True and not row.default and row.source
    assert {row.key: row for row in presets.explain("zcache")}["vm.guest"].default


def test_explain_says_what_is_default_and_where_the_rest_is_from():
    rows = {row.key: row for row in presets.explain("zcache")}
    assert (rows["zpool_percent"].value, rows["zpool_percent"].default) == (20, False)
    assert rows["zpool_percent"].tag == "verified"
    assert rows["swap"].source.startswith("twice")
    assert rows["replacement"].origin == "preset swap" and "mm/vmscan.c" in rows["replacement"].source
    assert rows["codec"].default and not rows["codec"].source
    rows = {row.key: row for row in presets.explain("tmo")}
    assert rows["decider_options.ratio_ppm"].tag == "unverified"
    assert "sharing_options" not in rows and "decider_options" not in rows


def test_explain_tells_the_options_of_the_replacement_order(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('description = "p"\n[host]\nreplacement = "2q"\n')
    row = next(row for row in presets.explain(str(path)) if row.key == "replacement_options.variant")
    assert (row.value, row.default) == ("libcachesim", True)
    path.write_text('description = "p"\n[host]\nreplacement = "2q"\nreplacement_options = { variant = "paper" }\n')
    assert presets.resolve(str(path)).replacement_options == {"variant": "paper"}
    assert presets.resolve(str(path), ["replacement=clock"]).replacement_options == {}  # another order, other options


def test_missing_sources_are_reported(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(
        'description = "p"\n[host]\nseed = 3\n[source]\n"sharing_options.x" = {text = "x", tag = "chosen"}\n'
    )
    assert presets.check_sources(str(path)) == ["seed", "sharing_options.x"]


@pytest.mark.parametrize("key", ["swapp", '"vm.gest"', '"host.swap"'])
def test_a_source_of_what_is_no_setting_is_refused_with_its_line(tmp_path, key):
    path = tmp_path / "p.toml"
    path.write_text(f'description = "p"\n[source]\n{key} = {{text = "x", tag = "chosen"}}\n')
    with pytest.raises(ConfigError, match=r"p.toml:3: source.*no setting is called"):
        presets.resolve(str(path))


ZSWAP = ["zpool_percent=20", "zpool_reject_above=4096", "zpool_incompressible=keep"]  # what zcache adds to swap


def test_hash_depends_on_what_is_resolved_and_not_on_how():
    direct = presets.resolve("swap", ZSWAP).resolved()
    assert direct == presets.resolve("zcache").resolved() != presets.resolve("swap").resolved()
