"""A fleet that lives, by itself: who comes when, what each VM is given to do, and what a change of one leaves alone."""

import itertools
from collections import Counter

import numpy as np
import pytest
from test_life import CORPUS, SUITE, S, run, suite

import memvirt
from memvirt.errors import ConfigError
from memvirt.experiment import plan, working
from memvirt.experiment.filling import WITHIN, Filling
from memvirt.experiment.life import LivingFleet
from memvirt.experiment.life_spec import Group, Lifetime
from memvirt.experiment.scenario import Tier
from memvirt.experiment.working import SLICES
from memvirt.settings.config import HostConfig
from memvirt.settings.vm_config import GuestOptions
from memvirt.workloads import DISCARD, FILL, READ, WRITE, Space, Stream
from memvirt.workloads.load import Load
from memvirt.workloads.touches import Touches

BUSY = {"busy_percent": 30, "parts": [{"percent": 50, "every": "2s"}, {"percent": 50, "every": "60s"}]}


def fleet(changes=lambda scenario: None, percent=100, seed=1, memory="512MiB"):
    """A fleet on a host with room for all of it, and the host."""
    spec = suite(lambda table: changes(table["scenarios"][0])).scenarios[0]
    corpus = spec.filled_from(CORPUS)
    host = memvirt.Host(memory=memory, content="fingerprint", corpus=corpus, harvest_interval="10s")
    return LivingFleet(host, spec, corpus, seed, overcommit_percent=percent, guest=None), host


def given(life, batches=60):
    """What a VM is given first, as plain lists."""
    taken = itertools.islice(life.stream, batches)
    rows = [(b.pages, b.ops, b.sources, b.work_ns, b.due_ns) for b in taken]
    return [[None if part is None else np.asarray(part).tolist() for part in row] for row in rows]


def group(**values):
    return Group.model_validate({"name": "web", "vms": 4, "memory": "8MiB", "load": "busy", **values})


# ---- who comes when


def test_a_boot_keeps_its_rate_however_high_it_is():
    """A rate of 1 GiB a second: no window is bounded by what one batch holds (256 MiB)."""
    large = group(memory="2GiB", touched_percent=50, boot={"per_second": "1GiB"})
    batches = [b for b in Filling(large, CORPUS).booting(0, 0, 5 * S) if b.sources is not None]
    due = np.concatenate([np.repeat(b.due_ns, len(b.pages)) for b in batches])
    assert len(due) == 1 << 18
    planned = 5 * S + np.arange(len(due)) * S // (1 << 18)
    assert (due <= planned).all()
    assert (planned - due).max() <= S // 10


def test_vms_that_come_twenty_a_second_come_twenty_a_second():
    def stormy(scenario):
        scenario["groups"] = [scenario["groups"][0] | {"vms": 40, "memory": "1MiB", "boot": {"every": "50ms"}}]

    made, _ = fleet(stormy)
    for second, there in ((0, 20), (1, 40)):
        made.move_to(second * S, (second + 1) * S)
        assert len(made.lives) == there
    begun = [next(life.stream).due_ns[0] for life in made.lives.values()]
    assert begun == [number * S // 20 for number in range(40)]


def test_seconds_of_vms_do_not_begin_together():
    made, _ = fleet(lambda scenario: scenario["groups"][0].update(vms=8))
    made.move_to(0, S)
    begins = []
    for life in made.lives.values():
        due = [row[4][0] for row in given(life) if row[4] and row[3]]
        assert {(b - a) % S for a, b in itertools.pairwise(due)} == {0}
        begins.append(due[0] % S)
    web = sorted(begins[:8])
    assert len(set(begins)) == len(begins)
    assert min(b - a for a, b in itertools.pairwise(web)) == pytest.approx(S / 8, abs=2)


# ---- common random numbers


def test_another_group_or_another_vm_changes_nobody_s_stream():
    def more(scenario):
        first = scenario["groups"][0]
        scenario["groups"] = [{**first, "name": "new", "vms": 2}, {**first, "vms": 7}, scenario["groups"][1]]

    one, other = fleet()[0], fleet(more)[0]
    for made in (one, other):
        made.move_to(0, S)
    assert set(one.lives) < set(other.lives)
    for name, life in one.lives.items():
        assert given(life) == given(other.lives[name]), name
    fresh = fleet(seed=2)[0]
    fresh.move_to(0, S)
    assert given(fresh.lives["web-0"])[-5:] != given(fleet_of_web(), 60)[-5:]


def fleet_of_web():
    made, _ = fleet()
    made.move_to(0, S)
    return made.lives["web-0"]


# ---- what has been set stays set


def test_a_restart_keeps_load_patches_and_limit_and_who_comes_later_has_them_too():
    def eventful(scenario):
        scenario["groups"][0]["boot"] = {"every": "7s"}
        scenario["events"] = [
            {"at": "1s", "what": "set-load", "group": "web", "load": "idle"},
            {"at": "2s", "what": "rewrite-image", "group": "web"},
            {"at": "3s", "what": "set-limit", "group": "web", "limit_percent": 75},
            {"at": "4s", "what": "restart", "group": "web"},
        ]

    made, host = fleet(eventful)
    made.move_to(0, S)
    before = made.lives["web-0"]
    assert host.vms[0].engine_vm.account()["limit"] is None
    for second in range(1, 8):
        made.move_to(second * S, (second + 1) * S)
    assert made.lives["web-0"] is not before
    corpus = made._spec.filled_from(CORPUS)
    filling = Filling(group(), corpus, made._spec.rounds_of(made._spec.groups[0], corpus))
    assert not np.array_equal(filling.image_of(0), filling.image_of(1))
    for name in ("web-0", "web-1"):
        life = made.lives[name]
        assert life.standing.load_at(8 * S) is made._spec.loads["idle"]
        assert life.vm.engine_vm.account()["limit"] == 2048 * 75 // 100
        first = next(life.stream)
        assert np.array_equal(first.sources[: filling.image], filling.image_of(1))
        rest = list(itertools.islice(life.stream, 20))
        assert not any((batch.ops == FILL).any() for batch in rest if batch.work_ns), "patched once, by booting"


def test_a_limit_that_falls_makes_pages_go_at_once():
    host = memvirt.Host(memory="32MiB", swap="32MiB")
    vm = host.create_vm("a", "8MiB", reservation="2MiB")
    vm.access(np.arange(2048), np.ones(2048, bool))
    assert vm.counters()["charged_pages"] == 2048
    assert vm.set_limit("4MiB") == 4 << 20
    assert vm.counters()["charged_pages"] == 1024
    host.check()
    vm.access(np.arange(2048), np.zeros(2048, bool))
    assert vm.counters()["charged_pages"] <= 1024
    with pytest.raises(ConfigError, match="a limit of 1MiB is below its reservation, 2MiB"):
        vm.set_limit("1MiB")
    assert vm.set_limit(None) == 0
    vm.access(np.arange(2048), np.zeros(2048, bool))
    assert vm.counters()["charged_pages"] == 2048
    host.check()


def test_pages_are_cold_when_nobody_has_accessed_them_for_so_long():
    host = memvirt.Host(memory="32MiB", harvest_interval="30s")
    vm = host.create_vm("a", "8MiB")
    vm.access(np.arange(2048), np.ones(2048, bool))
    for _ in range(5):
        vm.access(np.arange(512), np.zeros(512, bool))
        host.harvest()
    assert host.cold_pages(120 * S) == (2048 - 512, 2048)
    assert host.cold_pages(60 * S) == (2048 - 512, 2048)
    assert host.cold_pages(121 * S) == (0, 2048), "a fifth of a harvest more: five have not passed without"
    assert host.cold_pages(128 * 30 * S) is None and host.cold_pages(0) is None


# ---- what VMs hold


def test_shares_of_content_are_what_they_say():
    filling = Filling(group(content={"image_percent": 20, "zero_percent": 10, "within_percent": 30}), CORPUS)
    boots = [filling.boot(number) for number in range(4)]
    pages = filling.touched
    zero_from, within_from = filling.image, filling.image + filling.zero
    own_from = within_from + filling.within
    assert filling.within == pages * 30 // 100
    for boot in boots:
        within = set(boot.sources[within_from:own_from].tolist())
        assert len(within) == WITHIN, "a few contents, many times"
        assert not boot.sources[zero_from:within_from].any()
        assert boot.again.tolist() == list(range(own_from, pages)), "written to, so that no two are equal"
        assert np.array_equal(boot.sources[: filling.image], boots[0].sources[: filling.image])
    held = [set(boot.sources[within_from:own_from].tolist()) for boot in boots]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(held, 2))


def test_the_memory_of_a_vm_declines_and_what_is_given_up_is_not_used_again():
    def shrinking(scenario):
        scenario["loads"]["busy"]["shrink"] = {"per_second": "512KiB", "to_percent": 50}

    made, _ = fleet(shrinking)
    made.move_to(0, S)
    resident = 2048 * 80 // 100
    for row in given(made.lives["web-0"], 80):
        pages, ops = np.array(row[0]), np.array(row[1])
        if (ops == DISCARD).any():
            assert pages.tolist() == list(range(max(1024, resident - 128), resident))
            resident = max(1024, resident - 128)
        elif row[3]:
            assert pages.max() < resident
    assert resident == 1024


# ---- lifetimes


def test_drawn_lifetimes_are_exponential_and_each_vm_has_its_own():
    drawn = np.array([Lifetime(mean=60 * S).drawn_ns(1, "web", number) for number in range(4000)]) / (60 * S)
    assert drawn.mean() == pytest.approx(1, abs=0.05)
    assert drawn.std() == pytest.approx(1, abs=0.08)
    levels = np.linspace(0.05, 4, 60)
    found = np.array([(drawn <= level).mean() for level in levels])
    assert np.abs(found - (1 - np.exp(-levels))).max() < 1.63 / np.sqrt(4000)  # Kolmogorov-Smirnov, one in a hundred
    assert len(set(drawn.tolist())) == 4000
    assert Lifetime(mean=60 * S).drawn_ns(2, "web", 0) != Lifetime(mean=60 * S).drawn_ns(1, "web", 0)


def test_vms_with_lifetimes_leave():
    made, host = fleet(lambda scenario: scenario["groups"][0].update(vms=12, memory="1MiB", lifetime={"mean": "6s"}))
    there = []
    for second in range(25):
        made.move_to(second * S, (second + 1) * S)
        there.append(sum(vm.name.startswith("web") for vm in host.vms))
    assert there == sorted(there, reverse=True)
    assert there[0] == 12 > there[6] > there[24]


# ---- requests


def asking(**requests):
    return Load.model_validate({**BUSY, "requests": {"per_second": 50, "touches": 20, "work": "2ms", **requests}})


def test_requests_touch_parts_in_proportion_to_their_use():
    touches = Touches(asking(), Space(6400, 640), Stream(1, 7, "load"), S)
    pages, ops = touches.asked(1000)
    assert len(pages) == 20_000
    uses = np.bincount(pages, minlength=6400)
    seen = set(touches.between(0, 2 * S)[0].tolist())
    often = np.array([page in seen for page in range(6400)])  # all of the first part, a thirtieth of the second
    assert 3000 < often.sum() < 3500
    assert uses[often].sum() / 20_000 == pytest.approx(30 / 31, abs=0.01)
    assert ops[pages >= 640].mean() == pytest.approx(0.2, abs=0.02) and not ops[pages < 640].any()
    assert set(ops.tolist()) == {READ, WRITE}


def test_requests_are_due_at_even_distances_and_what_else_is_done_lies_between():
    def open_loop(scenario):
        scenario["loads"]["busy"]["requests"] = {"per_second": 100, "touches": 5, "work": "1ms"}

    made, _ = fleet(open_loop)
    made.move_to(0, S)
    rows = [row for row in given(made.lives["web-0"], 4 * 2 * SLICES) if row[3]]
    due = list(itertools.chain.from_iterable(row[4] for row in rows if row[4]))
    assert {b - a for a, b in itertools.pairwise(due)} == {S // 100}
    asked = [row for row in rows if row[4]]
    beside = [row for row in rows if not row[4]]
    assert all(len(row[0]) == 5 * len(row[4]) and row[3] == 200_000 for row in asked)
    work = sum(len(row[0]) * row[3] for row in beside)
    assert work / (due[-1] - due[0]) == pytest.approx(0.3, rel=0.05)


def test_where_no_request_is_due_a_vm_is_given_nothing_ahead_of_time():
    """At a fifth of one request a second: what it grows by waits for the next, which has a time."""

    def rare(scenario):
        scenario["loads"]["busy"] |= {"requests": {"per_second": 1, "touches": 5}, "grow": {"per_second": "40KiB"}}
        scenario["loads"]["busy"]["bursts"] = {"every": "1h", "last": "1s", "low_percent": 20, "spread": True}
        scenario["time"]["duration"] = "60s"

    made, _ = fleet(rare)
    made.move_to(0, S)
    rows = [row for row in given(made.lives["web-1"], 200) if row[0]]
    working = list(itertools.dropwhile(lambda row: row[2] is not None or len(row[0]) > 5, rows))
    due = [row[4][0] for row in working if row[4]]
    assert {b - a for a, b in itertools.pairwise(due)} == {5 * S}
    grown = [len(row[0]) for row in working if row[2] is not None]
    assert set(grown[1:-1]) == {5 * 10}, "five seconds' worth, after each"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"requests": {"per_second": 500, "touches": 20, "work": "3ms"}}, "1.8 times what a processor can serve"),
        ({"bursts": {"every": "10s", "last": "10s"}}, "bursts of 10s every 10s overlap"),
        (
            {"grow": {"per_second": "1MiB"}, "shrink": {"per_second": "1MiB", "to_percent": 10}},
            "memory either grows or shrinks",
        ),
    ],
)
def test_loads_that_cannot_be_are_said(changes, said):
    with pytest.raises(ConfigError, match=said):
        suite(lambda table: table["scenarios"][0]["loads"]["busy"].update(changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (lambda s: s["groups"][0].update(stay="5s", lifetime={"mean": "5s"}), "give either stay or lifetime"),
        (lambda s: s["groups"][0].update(boot={"at": "25s"}), "no VM of it ever comes: the scenario ends at 25s"),
        (lambda s: s.update(events=[_event(), _event(at="2s")]), "goes back"),
        (lambda s: s.update(events=[_event(spread="6s"), _event(at="8s")]), "overlaps.*goes on until 11s"),
        (lambda s: s.update(events=[_event(what="set-limit")]), "set-limit needs it"),
        (lambda s: s.update(events=[_event(limit_percent=10)]), "is what set-limit sets; restart has none"),
        (
            lambda s: (s["groups"][0].update(reservation_percent=50), s.update(events=[_event(
                what="set-limit", limit_percent=40)])),
            "40 % is below what the group reserves, 50 %",
        ),
    ],
)  # fmt: skip
def test_groups_and_events_that_cannot_be_are_said(changes, said):
    with pytest.raises(ConfigError, match=said):
        suite(lambda table: changes(table["scenarios"][0]))


def _event(**values):
    return {"at": "5s", "what": "restart", "group": "web", **values}


def test_a_load_beyond_what_a_processor_can_serve_is_said_with_the_factor(tmp_path):
    """Of 16 GiB 60 % a second, and 40 % in thirty: 2.6 million touches of 100 ns, 0.26 s of each second."""
    big = SUITE.replace('memory = "24MiB"', 'memory = "64GiB"').replace('epoch = "2s"', 'epoch = "1s"')
    big = big.replace('memory = "8MiB"', 'memory = "20GiB"', 1)
    big = big.replace(
        '{ percent = 20, every = "200ms" }, { percent = 30, every = "5s" }', '{ percent = 60, every = "1s" }'
    )
    file = tmp_path / "big.toml"
    file.write_text(big)
    plan.make(str(file))
    file.write_text(big.replace("busy_percent = 30", "busy_percent = 90"))
    with pytest.raises(ConfigError) as caught:
        plan.make(str(file))
    said = str(caught.value)
    assert "load busy of group web is 1.16 times what a processor can serve" in said
    assert "touches a second take 257 ms, and the VM computes for 900 ms beside" in said
    assert "give a longer epoch" in said


# ---- files


def with_files(scenario):
    scenario["groups"][0].update(vms=1, files={"size": "12MiB", "every": "6s"})
    scenario["groups"] = scenario["groups"][:1]


def test_files_are_filled_once_and_read_again_and_lie_behind_the_memory():
    made, _ = fleet(with_files)
    with pytest.raises(ConfigError, match="files: are read by a guest, and the VM has none"):
        made.move_to(0, S)
    host = memvirt.Host(memory="512MiB", content="fingerprint", corpus=CORPUS)
    spec = suite(lambda table: with_files(table["scenarios"][0])).scenarios[0]
    made = LivingFleet(host, spec, CORPUS, 1, overcommit_percent=100, guest=GuestOptions())
    made.move_to(0, S)
    (life,) = made.lives.values()
    assert life.vm.address_pages == 2048 + 3072
    filled, read = np.zeros(3072, int), np.zeros(3072, int)
    for row in given(life, 200):
        pages, ops = np.array(row[0]), np.array(row[1])
        assert (pages >= 2048).all() or (pages < 2048).all()
        if pages.min() >= 2048:
            np.add.at(filled, pages[ops == FILL] - 2048, 1)
            np.add.at(read, pages[ops == READ] - 2048, 1)
            assert not (ops == WRITE).any()
    assert (filled == 1).all(), "each page has been given its content once"
    assert 2 * 3072 <= read.sum() <= 4 * 3072, "and was read once every six seconds"


def test_parts_of_files_are_used_as_often_as_they_say():
    """Half of them every 6 s and a quarter every 24 s; of the rest nobody reads a page."""

    def parted(scenario):
        parts = [{"percent": 50, "every": "6s"}, {"percent": 25, "every": "24s"}]
        scenario["groups"][0].update(vms=1, files={"size": "12MiB", "parts": parts})

    uses = Counter()
    spec = suite(lambda table: parted(table["scenarios"][0])).scenarios[0]
    files = spec.groups[0].files
    touches = working._touches_of(files, Stream(1, 0, "work"), spec.time.epoch)
    pages, _ = touches.between(0, 48 * 10**9)
    uses.update(pages.tolist())
    often = Counter(uses.values())
    assert sum(often.values()) == pytest.approx(files.size * 3 / 4, abs=16)
    assert often[8] == pytest.approx(files.size / 2, abs=16) and often[2] == pytest.approx(files.size / 4, abs=16)


def test_files_beyond_memory_make_a_guest_drop_and_read_again(tmp_path):
    text = SUITE.replace('memory = "24MiB"', 'memory = "64MiB"').replace('preset = "swap"', 'preset = "balloon"')
    filed = text.replace('name = "web"', 'name = "web"\nfiles = { size = "12MiB", every = "6s" }')
    plain, reads = (run(tmp_path, each)["mixed-100", "swap"] for each in (text, filed))
    assert reads.verified
    assert reads.counters["guest.cache_reread"] > 3 * 3072, "what was dropped is read again"
    assert not plain.counters["guest.cache_reread"]
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, filed.replace('preset = "balloon"', 'preset = "swap"'))
    assert "group web has files, which a guest reads, and VMs of swap have none" in str(caught.value)


def test_an_image_larger_than_its_classes_is_the_same_in_all_vms_and_repeats_in_none():
    """Of the corpus's 1,024 pages some 300 are of an image's classes: it goes on with variants, and a patch with others."""

    def imaged(scenario):
        scenario["groups"] = [
            scenario["groups"][0] | {"memory": "8MiB", "content": {"image_percent": 50}},
            scenario["groups"][1] | {"memory": "4MiB", "content": {"image_percent": 50}},
        ]
        scenario["events"] = [{"at": "2s", "what": "rewrite-image", "group": "web"}]

    made, _ = fleet(imaged)
    spec = made._spec
    corpus = spec.filled_from(CORPUS)
    large, small = (Filling(group, corpus, spec.rounds_of(group, corpus)) for group in spec.groups)
    classes = sum(len(CORPUS.sources([name])) for name in large.group.content.image)
    assert large.image > 2 * classes
    before, after = large.image_of(0), large.image_of(1)
    repeated = CORPUS.canonical[CORPUS.sources(large.group.content.image)]
    values, counts = np.unique(repeated, return_counts=True)
    most = dict(zip(values.tolist(), counts.tolist(), strict=True))
    for image in (before, after):
        pages, times = np.unique(corpus.canonical[image], return_counts=True)
        often = {page: count for page, count in zip(pages.tolist(), times.tolist(), strict=True) if page}
        assert max(often.values()) <= max(count for page, count in most.items() if page)
    assert set(before.tolist()) & set(after.tolist()) <= {0}, "a patch holds nothing that was there before, but zeros"
    assert np.array_equal(small.image_of(0), before[: small.image])
    assert np.array_equal(small.image_of(1), after[: small.image])


def test_a_tier_that_lasts_a_fifth_as_long_has_the_same_story():
    """Who comes, goes and what happens is five times as soon, and half the memory is filled in the same time."""

    def eventful(scenario):
        first = scenario["groups"][0]
        scenario["groups"][0] = first | {"boot": {"at": "5s", "every": "1s", "per_second": "2MiB"}, "stay": "10s"}
        scenario["events"] = [{"at": "20s", "what": "rewrite-image", "group": "web", "spread": "4s"}]
        scenario["loads"]["busy"]["grow"] = {"per_second": "512KiB"}

    spec = suite(lambda table: eventful(table["scenarios"][0])).scenarios[0]
    less = spec.scaled(Tier(memory_percent=50, accesses_percent=20))
    (one, *_), (other, *_) = spec.groups, less.groups
    assert (other.boot.at, other.boot.every, other.stay) == (S, S // 5, 2 * S)
    assert 2 * other.boot.per_second == one.boot.per_second and 2 * other.memory == one.memory
    assert less.loads["busy"].grow.per_second * 2 == spec.loads["busy"].grow.per_second
    assert (less.events[0].at, less.events[0].spread) == (4 * S, 4 * S // 5)


def test_a_vm_that_would_come_after_the_end_is_refused():
    def late(scenario):
        scenario["groups"][0]["boot"] = {"every": "10s"}

    spec = suite(lambda table: late(table["scenarios"][0])).scenarios[0]
    with pytest.raises(ConfigError, match=r"at 200 % VM web-5 would come at 50s, and the scenario ends at 25s"):
        spec.host(200, HostConfig(memory="512MiB", harvest_interval="10s"))


def test_parts_are_what_they_say_in_small_vms_and_a_vm_without_touches_computes():
    load = Load.model_validate(
        {"busy_percent": 30, "parts": [{"percent": 1, "every": "1s"}, {"percent": 99, "every": "12h"}]}
    )
    touches = Touches(load, Space(3000), Stream(1, 0, "load"), S)
    assert len(touches.between(0, S)[0]) == pytest.approx(30, abs=15)
    idle = Load.model_validate({"busy_percent": 30, "parts": [{"percent": 100, "every": "12h"}]})
    touches = Touches(idle, Space(3000), Stream(1, 0, "load"), S)
    batches = [touches.batch(second * S, (second + 1) * S, second * S) for second in range(60)]
    worked = sum(len(batch.pages) * batch.work_ns for batch in batches)
    assert worked == 60 * S * 30 // 100


def test_seeds_write_to_pages_of_their_own():
    load = Load.model_validate({"busy_percent": 30, "write_percent": 20, "parts": [{"percent": 100, "every": "1s"}]})
    written = []
    for seed in (1, 2):
        pages, ops = Touches(load, Space(20_000), Stream(seed, 0, "load"), S).between(0, S)
        found = np.zeros(20_000, bool)
        found[pages[ops == 1]] = True
        written.append(found)
    assert written[0].mean() == pytest.approx(0.2, abs=0.01)
    for shift in range(-3, 4):
        both = (written[0] & np.roll(written[1], shift)).mean()
        assert both == pytest.approx(0.04, abs=0.008), "as of two draws"


# ---- waiting to be admitted


class Giving:
    """A decider that has the first VM's balloon hold what is wanted, and notes what that was."""

    interval_ns = S // 4

    def __init__(self, gives=True):
        self.gives, self.wanted = gives, []

    def decide(self, snapshot):
        self.wanted.append(snapshot.wanted_pages)
        if not (self.gives and snapshot.wanted_pages):
            return memvirt.policies.Targets()
        first = snapshot.vms[0]
        return memvirt.policies.Targets(balloon_pages={first.name: first.balloon_pages + snapshot.wanted_pages})


def waiting_fleet(patience_ns):
    """A VM that fills a host, and another that comes after 3 s and has half of it reserved."""

    def two(scenario):
        first = scenario["groups"][0]
        scenario["groups"] = [
            {**first, "name": "old", "vms": 1, "memory": "24MiB", "touched_percent": 100},
            {**first, "name": "new", "vms": 1, "memory": "8MiB", "reservation_percent": 100, "boot": {"at": "3s"}},
        ]
        scenario["events"] = []

    spec = suite(lambda table: two(table["scenarios"][0])).scenarios[0]
    corpus = spec.filled_from(CORPUS)
    host = memvirt.Host(memory="26MiB", swap="200%", content="fingerprint", corpus=corpus, harvest_interval="10s")
    guest = GuestOptions.model_validate({"swap": "24MiB"})
    made = LivingFleet(host, spec, corpus, 1, overcommit_percent=100, guest=guest, admission_wait_ns=patience_ns)
    return made, host


def lived(made, host, decider, seconds=12):
    """Second by second: who is there, and pages written to swap by then."""
    seen = []
    for second in range(seconds):
        made.move_to(second * S, (second + 1) * S)
        seen.append((list(made.lives), host.counters()["swap_pages_out"]))
        host.run({life.vm: life.stream for life in made.lives.values()}, (second + 1) * S, decider)
    host.check()
    return seen


def test_a_vm_waits_until_balloons_have_given_what_it_needs():
    made, host = waiting_fleet(60 * S)
    decider = Giving()
    seen = lived(made, host, decider)
    came = [names for names, _ in seen].index(["old-0", "new-0"])
    assert 3 < came < 8 and seen[came][1] == 0, "by then nothing was written to swap"
    life = made.lives["new-0"]
    assert life.waited_ns == (came - 3) * S
    needs = host.admission.needs(host.engine, made._config(made._members["new"], 0))
    assert 2048 < needs < 2048 + 250, "its reservation and its tables"
    assert 0 < max(decider.wanted) < needs
    assert decider.wanted[-1] == 0, "it does not wait any more"


def test_it_waits_no_longer_than_it_may_and_not_at_all_where_nobody_says():
    for patience_ns, comes in ((2 * S, 5), (0, 3)):
        made, host = waiting_fleet(patience_ns)
        decider = Giving(gives=False)
        seen = lived(made, host, decider)
        came = [len(names) for names, _ in seen].index(2)
        assert came == comes and seen[-1][1] > 1000, "the host takes what it needs"
        assert made.lives["new-0"].waited_ns == (comes - 3) * S
        assert (max(decider.wanted) > 0) == (patience_ns > 0)


def test_a_wait_for_admission_needs_a_decider():
    with pytest.raises(ConfigError, match="admission_wait: there is no decider that could free anything meanwhile"):
        memvirt.Host(admission_wait="30s")
    assert HostConfig(admission_wait="30s", balloon="esx").admission_wait == 30 * S
    assert HostConfig(admission_wait="none").admission_wait is None
