"""Settings: every error at once, each at its place; and a text form that gives the same config back."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memvirt
from memvirt.errors import ConfigError
from memvirt.experiment.suite import Suite
from memvirt.names import CODECS, DEVICES, SCANNERS
from memvirt.results.record import canonical, sha256_of
from memvirt.settings import costs, orders
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import Source, changed, line_of, read_toml, validate
from memvirt.settings.vm_config import PLAIN_GUEST, GuestOptions, VmConfig, check_fleet
from memvirt.units import PageCount


def config_hash(config):
    return sha256_of(config.resolved())


def errors(model, data, source=None):
    with pytest.raises(ConfigError) as caught:
        validate(model, data, source)
    return str(caught.value)


def test_defaults_are_valid_and_their_hash_is_pinned():
    config = HostConfig()
    assert config.memory == 16384
    assert canonical(config.resolved()).startswith('{"admission_wait":null,"balloon":null,"codec":"lz4"')
    assert config_hash(config) == config_hash(HostConfig())
    # a new default or cost changes the name of every result: on purpose, and then here too
    assert config_hash(config) == "50042ae77ce2a44274d3ac16fa526f73b43d6f8cd5de39c30ebe16871495a5ae"


def test_every_error_is_named_at_once_even_conflicts_behind_invalid_fields():
    text = errors(
        HostConfig,
        {
            "memory": "64Mb",
            "swap": "-3",
            "zpool_pct": 3,
            "replacement": "clok",
            "watermarks": {"min": 3, "low": 2, "high": 4},
            "balloon": "proxmxo",
            "swap_device": "nvmee",
            "sharing": "hsh",
            "seed": -1,
            "costs": "x",
            "codec_level": 0,
        },
    )
    expected = [
        "11 problems:",
        "memory: size '64Mb': unknown unit",
        "swap: size '-3' is negative",
        "zpool_pct: unknown key 'zpool_pct'; did you mean 'zpool_percent'?",
        "replacement: unknown value 'clok'; did you mean 'clock'?",
        "watermarks: min 3 <= low 2",
        "balloon: unknown decider 'proxmxo'; did you mean 'proxmox'?",
        "swap_device: unknown value 'nvmee'; did you mean 'nvme'?",
        "sharing: unknown value 'hsh'",
        "seed: ",
        "costs: unknown cost model 'x'",
        "codec_level: 0 is outside 1..65537",
    ]
    for part in expected:
        assert part in text


def test_a_conflict_that_may_stem_from_an_invalid_field_is_not_invented():
    text = errors(HostConfig, {"sharing": "hsh", "sharing_options": {"pages_to_scan": 3}})
    assert "sharing_options" not in text
    assert text.count("\n") == 0


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"memory": 0}, "memory: size 0 is zero"),
        ({"memory": 4.0}, "memory: size 4.0 is a float"),
        ({"zpool_percent": 101}, "zpool_percent: percentage 101 is outside 0..100; did you mean 100%?"),
        ({"sharing_options": {"a": 1}}, "sharing_options: given, but sharing is off"),
        ({"sharing": "ksm", "sharing_options": {"smartscan": True}}, "did you mean 'smart_scan'?"),
        ({"sharing": "ksm", "sharing_options": {"smart_scan": 1}}, "1 must be true or false; the default is True"),
        (
            {"sharing": "ksm", "sharing_options": {"pages_to_scan": 0}},
            "must be a whole number in 1 .. 2147483647; the default is 100",
        ),
        (
            {"sharing": "ksm", "sharing_options": {"max_page_sharing": 2**32 + 2}},
            "in 2 .. 2147483647; the default is 256",
        ),
        ({"sharing": "hash", "sharing_options": {"sleep_ns": 2**63}}, "in 1 .. 1000000000000000000; "),
        ({"sharing": "esx", "sharing_options": {"salting": "no"}}, "unknown value 'no' (known: global, tenant, vm)"),
        ({"replacement": "s3fifo", "replacement_options": {"varient": "paper"}}, "did you mean 'variant'?"),
        ({"replacement": "2q", "replacement_options": {"variant": "papr"}}, "did you mean 'paper'?"),
        ({"replacement_options": {"variant": "paper"}}, "replacement 'clock' has no option 'variant' (known: none)"),
        ({"replacement": "2q", "replacement_options": {"variant": 1}}, "replacement_options.variant"),
        ({"decider_options": {"a": 1}}, "decider_options: given, but no decider is"),
        ({"balloon": "mom", "decider_options": {"sample": 1}}, "did you mean 'samples'?"),
        ({"balloon": "gone.py:Fair"}, "balloon: decider file 'gone.py' does not exist"),
        ({"codec": "zstd", "codec_level": 9}, "codec_level: 9 is outside -1..3 of codec 'zstd'"),
        (
            {"swap": "1TiB", "swap_areas": [{"size": "4KiB"}]},
            "swap: 268435457 slots with all areas; the most is 268435456",
        ),
        ({"memory": "1025GiB"}, "memory: 268697600 frames; the most is 268435456 (1TiB)"),
        ({"swap": "100000%"}, "only swap can be a part of the host's memory, 0% to 10000% of it"),
        ({"harvest_interval": 2**63}, "harvest_interval: time 9223372036854775808 is beyond 4611686018427387904 ns"),
        ({"watermarks": {"min": 1, "low": 2, "high": 8193}}, "watermarks.high: high 8193 is more than half"),
        ({"watermarks": {"min": 1, "low": 2}}, "watermarks.high: is required"),
        ({"watermarks": {"min": -1, "low": 2, "high": 3}}, "did you mean 0?"),
        ({"swap_device": {"read_latency_ns": "5us"}}, "swap_device.channels"),
        ({"swap_device": {"channels": 65}}, "did you mean 64?"),
        ({"swap": "20000%"}, "swap: "),
        ({"harvest_interval": 0}, "did you mean 100ms?"),
        ({"harvest_interval": 10}, "time 10 has no unit, and would be 10ns; did you mean 10ms? write the unit"),
        ({"collapse_interval": 999}, "time 999 has no unit"),
        ({"harvest_interval": "10"}, "time '10' has no unit, and would be 10ns; did you mean 10ms? write the unit"),
        ({"on_exhausted": "explode"}, "(known: stop, wait, kill)"),
        ({"content": "finger-print"}, "did you mean 'fingerprint'?"),
    ],
)
def test_one_bad_setting(data, part):
    if part == "swap_device.channels":
        assert "swap_device.write_latency_ns: is required" in errors(HostConfig, data)
    else:
        assert part in errors(HostConfig, data)


def test_swap_in_percent_of_memory():
    assert validate(HostConfig, {"memory": "8MiB", "swap": "250%"}).swap == 5120
    assert validate(HostConfig, {"swap": "100%"}).swap == 16384


def test_none_can_be_written_in_toml():
    config = validate(HostConfig, {"sharing": "none", "balloon": "none", "watermarks": "none"})
    assert config == HostConfig()


def test_a_device_of_ones_own_and_its_text():
    device = {"read_latency_ns": "80us", "write_latency_ns": "20us", "read_page_ns": 2000, "write_page_ns": 2000}
    config = validate(HostConfig, {"swap_device": device})
    assert config.swap_device.read_latency_ns == 80_000
    assert '"swap_device":{"channels":1,"read_latency_ns":"80us","read_page_ns":"2us"' in canonical(config.resolved())


@given(
    st.builds(
        dict,
        memory=st.integers(4, 1 << 27).map(lambda pages: pages * 4096),
        swap=st.one_of(st.integers(0, 1 << 27).map(lambda pages: pages * 4096), st.just("200%")),
        zpool_percent=st.integers(0, 100),
        harvest_interval=st.integers(1000, 10**15),
        seed=st.integers(0, (1 << 63) - 1),
        sharing=st.sampled_from([None, "hash", "ksm", "esx", "zero-only", "inline"]),
        balloon=st.sampled_from([None, "proportional", "esx"]),
    )
)
def test_the_text_form_gives_the_same_config_and_hash(data):
    config = validate(HostConfig, data)
    again = validate(HostConfig, config.model_dump(mode="json"))
    assert again == config
    assert config_hash(again) == config_hash(config)
    changed = validate(HostConfig, {**config.resolved(), "seed": config.seed ^ 1})
    assert config_hash(changed) != config_hash(config)


def test_the_resolved_config_spells_out_what_names_stand_for():
    config = validate(HostConfig, {"sharing": "ksm", "balloon": "mom", "decider_options": {"samples": 3}})
    data = config.resolved()
    assert data["costs"]["merge"] == costs.load("default").merge
    assert data["sharing_options"]["max_page_sharing"] == 256
    assert (data["decider_options"]["samples"], data["decider_options"]["max_step_percent"]) == (3, 5)
    assert data["codec_level"] == 1


def test_configs_are_immutable():
    with pytest.raises(ValueError, match="frozen"):
        HostConfig().memory = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"reservation": "9MiB"}, "reservation: 9MiB is more than the VM's memory, 8MiB"),
        ({"reservation": "3MiB", "limit": "2MiB"}, "reservation: 3MiB is above the limit, 2MiB"),
        ({"name": "a b"}, "name: "),
        ({"name": "a\n"}, "name: "),
        ({"shares": -1}, "did you mean 0?"),
        ({"guest": {"kernel": "8MiB"}}, "guest.kernel: takes all"),
        ({"guest": {"kernel_percent": 100}}, "guest.kernel_percent: takes all"),
        ({"guest": {"low_pages": 9, "high_pages": 3}}, "guest.low_pages: 9 is above high_pages, 3"),
        ({"guest": {"low_pages": 1, "high_pages": 2048}}, "guest.high_pages: 2048 leaves a VM of 2048 pages"),
        ({"guest": {"report_delay": 0}}, "guest.report_delay: is zero"),
        ({"guest": {"cache": 3}}, "guest.cache: unknown key 'cache'"),
        ({"guest": "maybe"}, "guest: "),
        ({"limit": 0}, "limit: size 0 is zero"),
    ],
)
def test_one_bad_vm_setting(data, part):
    assert part in errors(VmConfig, {"name": "web", "memory": "8MiB", **data})


def test_vm_without_its_required_settings():
    text = errors(VmConfig, {"limt": "3MiB"})
    assert "name: is required" in text
    assert "memory: is required" in text
    assert "did you mean 'limit'?" in text


def vm(name, memory="8MiB", **more):
    return validate(VmConfig, {"name": name, "memory": memory, **more})


def test_fleet_checks():
    host = validate(HostConfig, {"memory": "16MiB"})
    check_fleet(host, [vm("a", "64MiB"), vm("b", "64MiB")])
    with pytest.raises(ConfigError, match=r"vms\[1\].name: 'a' is taken"):
        check_fleet(host, [vm("a", reservation="8MiB"), vm("a")])
    with pytest.raises(ConfigError, match="above the host's memory, 16MiB"):
        check_fleet(host, [vm("a", "32MiB", reservation="17MiB")])
    check_fleet(host, [vm(name, reservation="8MiB") for name in "ab"])
    with pytest.raises(ConfigError, match="reservations sum to 24MiB"):
        check_fleet(host, [vm(name, reservation="8MiB") for name in "abc"])


def test_a_guest_is_held_by_value_however_it_was_asked_for():
    assert vm("a").guest is None and vm("a", guest=True).guest == PLAIN_GUEST
    assert vm("a", guest={}).guest == GuestOptions()
    assert vm("a", guest={"replacement": "2q"}).guest.replacement_options == {"variant": "libcachesim"}


def test_sizes_that_are_pages_stay_pages():
    assert vm("a", PageCount(3)).memory == 3 and type(vm("a", PageCount(3)).memory) is int
    assert validate(HostConfig, {"memory": PageCount(16384)}) == HostConfig()
    with pytest.raises(ConfigError, match="is zero"):
        validate(HostConfig, {"memory": PageCount(0)})


def test_settings_that_are_changed_are_held_against_each_other_again_and_go_through_no_text():
    config = validate(HostConfig, {"memory": "8MiB", "swap": "16MiB"})
    again = changed(config, content="fingerprint")
    assert again == validate(HostConfig, {"memory": "8MiB", "swap": "16MiB", "content": "fingerprint"})
    assert again.watermarks is config.watermarks and config.content == "bytes"
    with pytest.raises(ConfigError, match="^psi: 'linux' needs replacement 'twolist'"):
        changed(config, psi="linux")


def test_codec_levels_follow_the_ranges():
    for codec, (_, default, lowest, highest, *_) in CODECS.items():
        assert lowest <= default <= highest
        assert validate(HostConfig, {"codec": codec}).codec_level == default


# -- TOML: where a key is written ----------------------------------------------------------------------------------

TOML = '''# a comment with = and [table]
name = "quick"          # [not.a.table]
text = """
name = "inside a string"
[fake]
"""
list = [
  "a = b",
  [1, 2],
]
"quoted key" = 1
a.b.c = 3

[host]
memory = "64MiB"
device = { read = 1,
  write = 2 }

[[scenario]]
name = "one"
  [[scenario.vm]]
  name = "x"
  [[scenario.vm]]
  name = "y"
  [scenario.vm.workload]
  kind = "zipf"
[[scenario]]
name = "two"
[[scenario.vm]]
name = "z"
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("name",), 2),
        (("text",), 3),
        (("list",), 7),
        (("list", 1), 7),
        (("quoted key",), 11),
        (("a", "b", "c"), 12),
        (("a", "b"), 12),
        (("host",), 14),
        (("host", "memory"), 15),
        (("host", "device", "write"), 16),
        (("host", "nothing"), 14),
        (("scenario", 0, "name"), 20),
        (("scenario", 0, "vm", 0, "name"), 22),
        (("scenario", 0, "vm", 1, "name"), 24),
        (("scenario", 0, "vm", 1, "workload", "kind"), 26),
        (("scenario", 1), 27),
        (("scenario", 1, "vm", 0, "name"), 30),
        (("fake",), None),
        ((), None),
    ],
)
def test_lines(place, line):
    assert line_of(TOML, place) == line


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        read_toml(tmp_path / "gone.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = 1\nb = = 2\n")
    with pytest.raises(ConfigError, match=r"bad\.toml:2: not valid TOML"):
        read_toml(bad)
    bad.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(bad)


def test_source_without_text_still_names_itself():
    assert Source("Host").at(("memory",)) == "Host: memory"
    assert Source("").at(("memory",)) == "memory"
    assert Source("Host").at(()) == "Host"


# -- suites --------------------------------------------------------------------------------------------------------

SUITES = sorted((Path(__file__).parents[1] / "memvirt/experiment/suites").glob("*.toml"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_is_valid(path):
    suite = validate(Suite, *read_toml(path))
    assert suite.name == path.stem
    assert set(suite.tiers) == {"smoke", "quick", "full"}


def test_suite_errors_have_lines(tmp_path):
    text = (SUITES[0].parent / "quick.toml").read_text()
    lines = text.splitlines()
    path = tmp_path / "suite.toml"
    path.write_text(
        text.replace('title = "', 'titel = "')
        .replace("vms = 4", "vms = 0")
        .replace('["none", "swap"', '["swap", "swap"')
    )
    with pytest.raises(ConfigError) as caught:
        validate(Suite, *read_toml(path))
    found = str(caught.value)
    line = next(number for number, line in enumerate(lines, 1) if line.startswith("title"))
    assert f"suite.toml:{line}: titel: unknown key 'titel'; did you mean 'title'?" in found
    assert "title: is required" in found
    fleet = lines.index("[scenarios.fleet]")
    line = next(number for number, line in enumerate(lines, 1) if number > fleet and line.startswith("vms"))
    assert f"suite.toml:{line}: scenarios[1].fleet.vms: " in found
    path.write_text(text.replace('["none", "swap"', '["swap", "swap"'))
    with pytest.raises(ConfigError, match=r"presets\[1\]: 'swap' is given twice"):
        validate(Suite, *read_toml(path))


# -- cost models ---------------------------------------------------------------------------------------------------


def test_cost_model_has_the_operations_of_the_engine():
    table = memvirt.Host(memory="1MiB").engine.clock.table
    assert list(table) == list(costs.for_codec(costs.load("default"), "lz4"))


def test_every_cost_has_a_source_and_a_meaning():
    for name in costs.names():
        model = costs.load(name)
        split = model.giving
        known = {**costs.CostModel.model_fields, **(costs.GivingCosts.model_fields if split else {})}
        for operation, field in known.items():
            if operation != "giving":
                value = getattr(split if operation in costs.GivingCosts.model_fields else model, operation)
                assert value >= 0 and field.description and costs.source(name, operation)


# -- names shared with the engine ----------------------------------------------------------------------------------


def test_every_order_of_the_table_is_the_engine_s():
    from memvirt.engine.replacement.order import Order
    from memvirt.engine.replacement.registry import ORDERS

    assert list(ORDERS) == list(orders.ORDERS)
    assert all(issubclass(cls, Order) for cls in ORDERS.values())
    assert [name for name, cls in ORDERS.items() if cls.draws] == ["random"]
    for name in ORDERS:
        assert HostConfig(replacement=name).replacement_options == orders.resolved(name, {})


def test_options_of_orders_say_all_there_is_to_say():
    for name, order in orders.ORDERS.items():
        for key, option in order.options.items():
            assert option.meaning and option.source, f"{name}.{key}"
            assert bool(option.choices) == isinstance(option.default, str) and option.low < option.high


@pytest.mark.parametrize("owner", [*SCANNERS.values(), *orders.ORDERS.values()], ids=lambda owner: owner.summary[:20])
def test_an_option_takes_its_default_its_bounds_and_nothing_beyond(owner):
    for option in owner.options.values():
        assert option.meaning and option.problem(option.default) is None
        if option.choices:
            good, bad = option.choices, ("", None, 1)
        elif isinstance(option.default, bool):
            good, bad = (True, False), (0, 1, "true")
        else:
            good, bad = (option.low, option.high), (option.high + 1, -1, True, 2.0, "3")
        assert not any(map(option.problem, good)) and all(map(option.problem, bad))


def test_an_order_takes_what_is_listed_and_has_the_listed_defaults():
    """A number at either bound, too; an option of no order is refused by all."""
    from memvirt import simulate

    trace = np.concatenate([np.arange(300) % n for n in (60, 300, 90, 300, 40)])
    for name, order in orders.ORDERS.items():
        plain = simulate(name, trace, 50)
        assert plain == simulate(name, trace, 50, **orders.resolved(name, {}))
        for key, option in order.options.items():
            for value in option.choices or (option.low, option.high):
                assert 300 <= simulate(name, trace, 50, **{key: value}) <= len(trace)
            for wrong in (True, None, 2.5, [], "none of them", *([] if option.choices else (option.low - 1, 2**70))):
                with pytest.raises(ConfigError, match=f"{key}: "):
                    simulate(name, trace, 50, **{key: wrong})
        with pytest.raises(ConfigError, match="has no option 'colour'"):
            simulate(name, trace, 50, colour="red")


@pytest.mark.parametrize("value", ["mine.py:Mine", "clok", "", 3, None, ["lru"], True])
def test_what_is_no_order_of_a_host(value):
    told = "serves memvirt.simulate only" if value == "mine.py:Mine" else "replacement: unknown value"
    assert told in errors(HostConfig, {"replacement": value})


def test_a_guest_s_replacement_has_options_too():
    text = errors(VmConfig, {"name": "a", "memory": "1MiB", "guest": {"replacement_options": {"variant": "paper"}}})
    assert "guest.replacement_options.variant: replacement 'clock' has no option 'variant'" in text


def test_the_variant_of_an_order_is_part_of_the_hash():
    plain, said, paper = (
        HostConfig(replacement="s3fifo", replacement_options=options)
        for options in ({}, {"variant": "libcachesim"}, {"variant": "paper"})
    )
    assert config_hash(plain) == config_hash(said) != config_hash(paper)
    assert plain == said and plain.resolved()["replacement_options"] == {"variant": "libcachesim"}


@pytest.mark.parametrize("name", DEVICES)
def test_a_named_device_is_its_constants(name):
    named = validate(HostConfig, {"swap_device": name})
    assert named.swap_device.name == name
    assert validate(HostConfig, {"swap_device": named.swap_device.model_dump(mode="json")}) == named


def test_unknown_cost_model():
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        costs.load("defualt")


def test_cost_files_are_checked(tmp_path, monkeypatch):
    good = (costs.DIRECTORY / "default.toml").read_text()
    monkeypatch.setattr(costs, "DIRECTORY", tmp_path)
    (tmp_path / "bad.toml").write_text(good.replace("hit = 100", "hit = 1.5").replace("merge = 300", "mrge = 300"))
    with pytest.raises(ConfigError) as caught:
        costs.load("bad")
    for part in ("bad.toml:6: costs.hit", "costs.mrge: unknown key 'mrge'; did you mean 'merge'?", "costs.merge: is"):
        assert part in str(caught.value)
    (tmp_path / "silent.toml").write_text(re.sub(r'^hit = ".*"$', "", good, flags=re.MULTILINE))
    with pytest.raises(ConfigError, match=r"source\.hit: has no source"):
        costs.load("silent")
