"""Fleets on a recording host: who is created when, what lies where, and the suites that come with memvirt."""

import itertools
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memvirt.errors import ConfigError
from memvirt.experiment import suite as suites
from memvirt.experiment.fleet import Fleet, Layout, among, blend, build
from memvirt.experiment.fleet_spec import AgingSpec, FleetSpec
from memvirt.experiment.suite import Scenario, Suite
from memvirt.inputs import Corpus, synthetic
from memvirt.settings.diagnose import validate
from memvirt.settings.vm_config import PLAIN_GUEST, GuestOptions, VmConfig
from memvirt.workloads import BATCH, DISCARD, FILL, READ, WRITE, Batch

MIB = 256  # pages


class Vm:
    domain = 0

    def __init__(self, host: "Host", name: str, memory: int, guest: Any) -> None:
        self.host, self.name, self.memory, self.guest = host, name, memory, guest
        self.content: dict[int, int] = {}
        self.ballooned = 0
        self.alive = True

    def clone(self, name: str) -> "Vm":
        self.host.log.append(f"clone {self.name} {name}")
        twin = Vm(self.host, name, self.memory, self.guest)
        twin.content = dict(self.content)
        return twin

    def destroy(self) -> None:
        assert self.alive
        self.alive = False
        self.host.log.append(f"destroy {self.name}")

    def balloon(self, target: int) -> int:
        assert self.alive and self.guest and target + len(self.content) <= self.memory
        self.ballooned = target
        return target


class Host:
    """Runs streams by keeping what each VM's pages were last filled with; a written page gets a content of its own."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.promises: list[VmConfig] = []
        self.unusable = itertools.cycle([0])  # what its index at order 9 is, cycle by cycle
        self.created: list[Vm] = []

    def create(self, config: VmConfig) -> Vm:
        self.promises.append(config)
        assert not any(vm.alive and vm.name == config.name for vm in self.created)
        self.log.append(f"create {config.name}")
        self.created.append(Vm(self, config.name, config.memory, config.guest))
        self.created[-1].domain = config.domain
        return self.created[-1]

    def fragmentation(self) -> dict[str, Any]:
        return {"unusable": [0] * 9 + [next(self.unusable)]}

    def run(self, streams: dict[Any, Iterator[Batch]]) -> None:
        for vm, batches in streams.items():
            assert vm.alive
            for batch in batches:
                assert int(batch.pages.max()) < vm.memory
                sources = batch.sources if batch.sources is not None else np.zeros(len(batch.pages))
                for page, op, source in zip(batch.pages.tolist(), batch.ops.tolist(), sources.tolist(), strict=True):
                    if op == FILL:
                        assert page not in vm.content
                        vm.content[page] = source
                    elif op == DISCARD:
                        del vm.content[page]
                    else:
                        assert page in vm.content, "a workload touches only what was filled"
                        if op == WRITE:
                            vm.content[page] = -1 - page


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return synthetic(4000, 1)


def scenario(**changes: Any) -> Scenario:
    table: dict[str, Any] = {
        "name": "test",
        "description": "",
        "overcommit_percent": [100],
        "fleet": {"vms": 4, "memory": "2MiB", **changes.pop("fleet", {})},
        "warm_up": {"workload": "zipf", "accesses": 300},
        "measured": {"workload": "uniform", "accesses": 500, "write_percent": 50},
    }
    return Scenario.model_validate({**table, **changes})


def filled(fleet: Fleet, host: Host) -> None:
    for streams in fleet.phases[0]:
        host.run(streams)


def test_a_fleet_boots_warms_up_and_works(corpus: Corpus) -> None:
    host = Host()
    fleet = build(host, scenario(), corpus, 1)
    assert [vm.memory for vm in host.created] == [2 * MIB] * 4
    assert fleet.configured_pages == 4 * 512
    assert [phase.name for phase in fleet.phases] == ["fill", "warm-up", "measured"]
    for phase in fleet.phases:
        for streams in phase:
            assert list(streams) == host.created
            host.run(streams)
    layout = Layout.of(FleetSpec(vms=4, memory="2MiB"), 512)
    assert (layout.image, layout.touched, layout.live) == (204, 460, 384)
    for vm in host.created:
        assert sorted(vm.content) == list(range(layout.live))


def test_sizes_and_promises_go_by_the_vm(corpus: Corpus) -> None:
    host = Host()
    table = {
        "mix_percent": [50, 50, 100, 200],
        "shares": [2000, 1000],
        "reservation_percent": [25],
        "limit_percent": [100, 75, 50],
    }
    build(host, scenario(fleet=table), corpus, 1)
    assert [vm.memory for vm in host.created] == [MIB, MIB, 2 * MIB, 4 * MIB]
    assert [(vm.shares, vm.reservation, vm.limit) for vm in host.promises] == [
        (2000, MIB // 4, MIB),
        (1000, MIB // 4, 3 * MIB // 4),
        (2000, MIB // 2, MIB),
        (1000, MIB, 4 * MIB),
    ]
    host = Host()
    build(host, scenario(), corpus, 1)
    assert [(vm.shares, vm.reservation, vm.limit) for vm in host.promises] == [(1000, 0, None)] * 4


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"mix_percent": [50, 100]}, "75 % of `memory` on average, not 100"),
        ({"mix_percent": [50, 100, 150]}, "87.5 % of `memory` on average"),  # 50, 100, 150, 50
        ({"mix_percent": []}, "mix_percent"),
        ({"shares": [-1]}, "shares"),
        ({"reservation_percent": [25, 60], "limit_percent": [50]}, "60 % is above the same VM's limit, 50 %"),
        ({"reservation_percent": [101]}, "reservation_percent"),
        ({"limit_percent": [0]}, "a VM of limit 0 could not run"),
        ({"origin": "clone", "shares": [1, 2]}, "clones have what their parent has"),
        ({"share": [1]}, "did you mean 'shares'"),
    ],
)
def test_what_a_fleet_cannot_promise_is_named(table: dict[str, Any], said: str) -> None:
    data = {
        "name": "test",
        "description": "",
        "overcommit_percent": [100],
        "fleet": {"vms": 4, "memory": "2MiB", **table},
        "measured": {"workload": "uniform", "accesses": 5},
    }
    with pytest.raises(ConfigError) as error:
        validate(Scenario, data)
    assert said in str(error.value)


def test_the_image_is_common_and_private_memory_is_not(corpus: Corpus) -> None:
    host = Host()
    filled(build(host, scenario(), corpus, 1), host)
    images = [[vm.content[page] for page in range(204)] for vm in host.created]
    assert all(image == images[0] for image in images)
    assert set(images[0]) <= set(corpus.canonical[corpus.sources(["libraries", "source"])].tolist())
    owned = [{vm.content[page] for page in range(204, 384)} - {0} for vm in host.created]
    windows: list[list[int]] = [[] for _ in range(4)]
    for name in ("heap", "numeric"):
        pages = corpus.sources([name]).tolist()
        for index, window in enumerate(windows):
            window += pages[index * (len(pages) // 4) : (index + 1) * (len(pages) // 4)]
    for own, window in zip(owned, windows, strict=True):
        assert own <= set(corpus.canonical[window].tolist())
        numeric = sum(source >= int(corpus.sources(["numeric"])[0]) for source in own)
        assert abs(numeric / len(own) - 190 / (190 + 375)) < 0.03, "classes in proportion, however little is used"
    for one, other in combinations(owned, 2):
        common = len(one & other)
        assert common <= 4, "only what the corpus itself has twice"


def test_blending_keeps_order_and_proportion() -> None:
    mixed = blend([np.arange(6, dtype=np.uint32), np.arange(100, 103, dtype=np.uint32)]).tolist()
    assert mixed == [0, 100, 1, 2, 101, 3, 4, 102, 5]


def test_what_arrives_is_spread_over_the_measured_phase(corpus: Corpus) -> None:
    """Every access is there, in order, and between them the fills, evenly; no batch is longer than it may be."""
    rng = np.random.default_rng(3)
    made = [Batch(rng.integers(0, 99, n).astype(np.uint32), np.full(n, WRITE, np.uint8)) for n in (BATCH, 1000, 1)]
    out = list(among(iter(made), BATCH + 1001, 500, np.arange(7, 107, dtype=np.uint32)))
    assert max(len(batch.pages) for batch in out) <= BATCH
    pages, ops, sources = (np.concatenate(parts) for parts in list(zip(*out, strict=True))[:3])
    fills = np.flatnonzero(ops == FILL)
    assert np.array_equal(pages[ops != FILL], np.concatenate([batch.pages for batch in made]))
    assert np.array_equal(pages[fills], np.arange(500, 600)) and np.array_equal(sources[fills], np.arange(7, 107))
    assert np.diff(fills)[:90].min() > 0.9 * len(pages) / 100 - 3 and fills[-1] >= len(pages) - 1000
    host = Host()
    fleet = build(host, scenario(fleet={"arriving_percent": 10, "touched_percent": 60}), corpus, 1)
    for phase in fleet.phases:
        for step in phase:
            host.run(step)
    layout = Layout.of(fleet._scenario.fleet, host.created[0].memory)
    kept = [[vm.content.get(page) for page in range(layout.touched, layout.configured)] for vm in host.created]
    assert layout.arriving > 0 and all(each == kept[0] for each in kept)
    assert [content is not None for content in kept[0]] == [at < layout.arriving for at in range(len(kept[0]))]


def test_a_corpus_too_small_never_looks_like_sharing() -> None:
    small, host = synthetic(200, 1), Host()
    filled(build(host, scenario(fleet={"private": ["random"], "freed_percent": 0}), small, 1), host)
    contents = [vm.content[page] for vm in host.created for page in range(204, 460)]
    unwritten = [content for content in contents if content >= 0]
    assert len(set(unwritten)) == len(unwritten) == 12
    with pytest.raises(ConfigError, match="too few pages of random for 16 VMs"):
        build(Host(), scenario(fleet={"private": ["random"], "vms": 16}), small, 1)


@pytest.mark.parametrize(
    ("grow", "percent", "sizes"),
    [("vms", 100, [512] * 4), ("vms", 150, [512] * 6), ("vms", 25, [512]), ("memory", 150, [768] * 4)],
)
def test_what_a_ratio_means(corpus: Corpus, grow: str, percent: int, sizes: list[int]) -> None:
    host = Host()
    fleet = build(host, scenario(fleet={"grow": grow}), corpus, 1, overcommit_percent=percent)
    assert [vm.memory for vm in host.created] == sizes
    assert fleet.configured_pages == sum(sizes)


def test_ratios_that_cannot_be(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=r"4 VMs at overcommit ratio 1\.1 are not a whole number"):
        build(Host(), scenario(), corpus, 1, overcommit_percent=110)
    for percent in (0, -100, 100_001):
        with pytest.raises(ConfigError, match=r"outside 0\.01 to 1000"):
            build(Host(), scenario(), corpus, 1, overcommit_percent=percent)


def streams_of(fleet: Fleet, host: Host) -> list[tuple[Any, ...]]:
    seen = []
    for phase in fleet.phases:
        for streams in phase:
            lists = {vm: list(batches) for vm, batches in streams.items()}
            seen += [(vm.name, batch.pages.tobytes(), batch.ops.tobytes()) for vm in lists for batch in lists[vm]]
            host.run({vm: iter(batches) for vm, batches in lists.items()})
    return seen


def test_streams_are_the_same_with_a_guest_and_at_every_ratio(corpus: Corpus) -> None:
    plain, guests, more, other = Host(), Host(), Host(), Host()
    one = streams_of(build(plain, scenario(), corpus, 1), plain)
    assert streams_of(build(guests, scenario(), corpus, 1, guest=GuestOptions(cache_percent=10)), guests) == one
    assert [vm.guest for vm in guests.created] == [GuestOptions(cache_percent=10)] * 4
    assert set(one) <= set(streams_of(build(more, scenario(), corpus, 1, overcommit_percent=200), more))
    assert streams_of(build(other, scenario(), corpus, 2), other) != one


def test_clones_come_after_the_template_has_booted(corpus: Corpus) -> None:
    host = Host()
    storm = {"workload": "clone-storm", "accesses": 2000, "dirty_percent": 50}
    fleet = build(host, scenario(fleet={"origin": "clone"}, warm_up=None, measured=storm), corpus, 1)
    assert host.log == ["create vm0"]
    filled(fleet, host)
    assert host.log == ["create vm0", "clone vm0 vm1", "clone vm0 vm2", "clone vm0 vm3"]
    before = {name: dict(vm.content) for name, vm in fleet.vms.items()}
    for streams in fleet.phases[1]:
        host.run(streams)
    for name, vm in fleet.vms.items():
        changed = [page for page in vm.content if vm.content[page] != before[name][page]]
        assert len(changed) == (384 - 204) // 2 and min(changed) >= 204


@pytest.mark.parametrize(("tenants", "domains"), [(None, [0, 0, 0, 0]), (1, [0, 0, 0, 0]), (3, [0, 1, 2, 0])])
def test_vms_belong_to_tenants_in_turn(corpus: Corpus, tenants: int | None, domains: list[int]) -> None:
    host = Host()
    build(host, scenario(fleet={"tenants": tenants}), corpus, 1)
    assert [vm.domain for vm in host.created] == domains


def test_a_refusal_passes_through(corpus: Corpus) -> None:
    class Full(Exception):
        pass

    class SmallHost(Host):
        def create(self, config: VmConfig) -> Vm:
            if len(self.created) == 2:
                raise Full
            return super().create(config)

    with pytest.raises(Full):
        build(SmallHost(), scenario(), corpus, 1)


@pytest.mark.parametrize("guest", [False, True])
def test_aging_vms_come_and_go(corpus: Corpus, guest: bool) -> None:
    host = Host()
    aged = scenario(warm_up=None, measured=None, aging={"cycles": 80, "resident_percent": 60})
    fleet = build(host, aged, corpus, 3, overcommit_percent=200, guest=PLAIN_GUEST if guest else None)
    assert host.created == []
    host.unusable = itertools.count(0, 2)  # it moves by 20 over 10 cycles: it never settles
    assert [phase.name for phase in fleet.phases] == ["warm-up", "measured"]
    cycles = 0
    for streams in itertools.chain(*fleet.phases):
        host.run(streams)
        cycles += 1
        held = sum(len(vm.content) for vm in fleet.vms.values())
        assert held <= 4 * 512 * 60 // 100
        for vm in fleet.vms.values():
            assert vm.alive and sorted(vm.content) == list(range(len(vm.content)))
    assert cycles == 80 + 10
    assert sum(line.startswith("destroy") for line in host.log) > 5
    assert any(vm.ballooned for vm in host.created) == guest


def test_vms_age_until_memory_has_settled(corpus: Corpus) -> None:
    host = Host()
    aged = scenario(warm_up=None, measured=None, aging={"cycles": 80, "measured_cycles": 5, "resident_percent": 60})
    host.unusable = itertools.chain(range(0, 300, 10), itertools.repeat(300))
    lengths = []
    for phase in build(host, aged, corpus, 3, guest=PLAIN_GUEST).phases:
        lengths.append(0)
        for streams in phase:
            host.run(streams)
            lengths[-1] += 1
    # by cycle 56 the first of three tens holds 260, 270, 280, 290: a mean 10 below the others; by cycle 57 it is 6 below
    assert lengths == [57, 5]


@pytest.mark.parametrize(
    ("fleet", "what"),
    [
        ({"vms": 0}, "vms"),
        ({"memory": "1000"}, "memory"),
        ({"memory": "2MB"}, "memory"),
        ({"image": []}, "image"),
        ({"image_percent": 101}, "image_percent"),
        ({"touched_percent": 50, "freed_percent": 10, "image_percent": 40}, "nothing of touched_percent 50"),
        ({"touched_percent": 80, "arriving_percent": 21}, "no room for arriving_percent 21"),
        ({"origin": "thaw"}, "origin"),
        ({"grow": "cpus"}, "grow"),
        ({"vmz": 3}, "vmz"),
    ],
)
def test_bad_fleets(fleet: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        scenario(fleet=fleet)


def test_a_class_the_corpus_does_not_have(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="no class video"):
        build(Host(), scenario(fleet={"private": ["video"]}), corpus, 1)


# --- suites ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", suites.names())
def test_suites_that_come_along_can_be_run(name: str, corpus: Corpus) -> None:
    suite = suites.load(name)
    assert suite.name == name
    dumped = suite.model_dump(mode="json", by_alias=True)  # without a scenario's own seeds, which are no part of a cell
    assert Suite.model_validate(dumped).model_dump(mode="json", by_alias=True) == dumped
    small = suite.at("smoke")
    for part in small.scenarios:
        for percent in part.overcommit_percent if isinstance(part, Scenario) else ():
            host = Host()
            fleet = build(host, part, corpus, 1, overcommit_percent=percent)
            assert fleet.configured_pages == sum(part.fleet.sizes(percent))
            for phase in fleet.phases[:1]:
                for streams in phase:
                    assert all(next(batches).ops[0] in (READ, FILL, DISCARD) for batches in streams.values())
                    break


def test_quick_stays_quick() -> None:
    """Accesses of all cells together, with six presets and a baseline: what the promise of 60 s rests on."""
    quick = suites.load("quick").at("quick")
    assert quick.presets == ["none", "swap", "zcache", "sharing", "balloon", "all"]
    fleet, *streams = quick.scenarios
    assert fleet.overcommit_percent == [200]
    assert [part.overcommit_percent for part in streams] == [[100, 150, 200]] * 4
    accesses = 0
    for part in streams:
        for percent in part.overcommit_percent:
            for load in (part.warm_up, part.measured):
                accesses += len(part.fleet.sizes(percent)) * load.model_dump()["accesses"] * 7
    assert 20e6 < accesses < 70e6


def test_tiers_scale_memory_accesses_and_seeds() -> None:
    suite = suites.load("quick")
    smoke, full = suite.at("smoke"), suite.at("full")
    assert (smoke.host.memory, smoke.host.swap, smoke.seeds) == (4096, 8192, [1])
    assert smoke.scenarios[1].fleet.memory == 1024
    assert smoke.scenarios[1].measured.model_dump()["accesses"] == 16384
    assert full.scenarios[3].measured.model_dump() == {
        **suite.scenarios[3].measured.model_dump(),
        "accesses": 131072,
        "period": 65536,
    }
    assert (full.host, full.seeds) == (suite.host, [1, 2, 3, 4, 5])


MINIMAL = """
schema = 1
name = "mine"
title = ""
description = ""
presets = ["swap"]
[host]
memory = "16MiB"
[[scenarios]]
name = "one"
description = ""
overcommit_percent = [100]
measured = { workload = "uniform", accesses = 10 }
fleet = { vms = 4, memory = "4MiB" }
"""


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("", "", None),
        ("schema = 1", "schema = 2", "schema"),
        ("schema = 1", "schema = ", "not valid TOML"),
        ('presets = ["swap"]', "", "give presets or variants"),
        ('["swap"]', '["swap", "swap"]', "'swap' is given twice"),
        ("[100]", "[110]", r"4 VMs at overcommit ratio 1\.1"),
        ("[100]", "[]", "overcommit_percent"),
        ('workload = "uniform"', 'workload = "uniforn"', "did you mean 'uniform'"),
        ("accesses = 10", "acceses = 10", "did you mean 'accesses'"),
        ('"4MiB"', '"4MB"', "did you mean 4MiB"),
        ('"16MiB"', '"0"', "memory"),
        ('measured = { workload = "uniform", accesses = 10 }', "", "either a measured workload or aging"),
        ("fleet =", "aging = { cycles = 3 }\nfleet =", "either a measured workload or aging"),
        ("fleet =", "flet = 3\nfleet =", "flet"),
        ("[host]", "[tiers.huge]\n[host]", "tiers"),
        ("[host]", "[tiers.full]\nmemory_percent = 0\n[host]", "memory_percent"),
    ],
)
def test_suite_files(tmp_path: Path, old: str, new: str, what: str | None) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MINIMAL.replace(old, new, 1))
    if what is None:
        assert suites.load(file).variants_of(suites.load(file).scenarios[0])[0].preset == "swap"
        return
    with pytest.raises(ConfigError, match=what) as caught:
        suites.load(file)
    assert str(file) in str(caught.value)


def test_suites_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        suites.load("quik")
    with pytest.raises(ConfigError, match="cannot be read"):
        suites.load(tmp_path / "nowhere.toml")


def test_aging_needs_room(corpus: Corpus) -> None:
    assert AgingSpec(cycles=1).resident_percent == 70
    aged = scenario(warm_up=None, measured=None, aging={"cycles": 1}, fleet={"memory": "32KiB"})
    with pytest.raises(ValueError, match="at least 16 pages"):
        build(Host(), aged, corpus, 1)
