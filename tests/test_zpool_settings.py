"""The compressed cache's settings reach it and change what they say; every reason to decline a page has a counter."""

import pytest

import memvirt
from memvirt.engine.stores.zpool import Zpool
from memvirt.engine.stores.zspage_report import classes_report
from memvirt.engine.testing.stores import ZpoolProbe
from memvirt.errors import InvariantError
from memvirt.metrics import registry
from memvirt.settings import presets

PAGE = 4096
TEXT = b"The compressed cache keeps what compresses. "


def filled(fill, pages=700, **settings):
    """A small host with a cache, a VM of which every page is fill(page)."""
    config = {"memory": 512 * PAGE, "swap": "8MiB", "zpool_percent": 10, "seed": 1, **settings}
    host = memvirt.Host(**config)
    vm = host.create_vm("a", pages * PAGE)
    for page in range(pages):
        assert vm.write(page * PAGE, fill(page)) == PAGE
    host.check()
    for page in range(pages):
        assert vm.read(page * PAGE, PAGE) == fill(page)
    host.check()
    return host


def part_random(length):
    """Pages of which about so many bytes do not compress."""
    import numpy as np

    def fill(page):
        return np.random.Generator(np.random.PCG64(page)).bytes(length) + bytes(PAGE - length)

    return fill


def test_reasons_to_decline_add_up_and_are_registered():
    counted = filled(part_random(1500), zpool_accept_percent=50).counters()
    parts = [counted[f"reject_pool_{why}"] for why in ("limit", "hysteresis", "handle")]
    assert sum(parts) == counted["reject_pool_full"] > 0
    assert min(parts[:2]) > 0 and counted["pool_limit_hits"] > 0
    assert not registry.unregistered(counted)
    assert not any(memvirt.Host(memory="1MiB").counters()[f"reject_pool_{why}"] for why in ("limit", "hysteresis"))


def test_a_lower_threshold_declines_for_longer():
    """zswap's accept_threshold_percent: 100 accepts as soon as there is room, 50 waits until half is free."""
    declined = {
        percent: filled(part_random(1500), zpool_accept_percent=percent).counters()["reject_pool_hysteresis"]
        for percent in (100, 70, 30)
    }
    assert declined[100] == 0 < declined[70] < declined[30]


def test_the_longest_object_is_a_setting_and_huge_objects_are_reached():
    strict, usual, all_that_shrink = (
        filled(part_random(3500), zpool_reject_above=length).counters() for length in (1000, 2990, 4096)
    )
    assert strict["evicted_zpool"] == usual["evicted_zpool"] == 0 < all_that_shrink["evicted_zpool"]
    assert usual["reject_incompressible"] > 0 == all_that_shrink["reject_incompressible"]
    host = filled(part_random(3500), zpool_reject_above=1000)
    assert host.zpool()["reject_too_big"] == host.counters()["reject_incompressible"], "the pool itself declines them"
    host = filled(part_random(3500), zpool_reject_above=4096)
    assert host.zpool()["objects"] == host.zpool()["frames"], "one huge object a frame"


def test_what_does_not_compress_is_kept_as_it_is():
    """As zswap does since Linux 6.18: a frame each, copied back, and the oldest go to swap instead of the newest."""
    rejecting, host = (filled(part_random(PAGE), zpool_incompressible=which) for which in ("reject", "keep"))
    counted, pool, costs = host.counters(), host.zpool(), host.config.costs
    assert rejecting.counters()["evicted_zpool"] == 0 < rejecting.counters()["reject_incompressible"]
    assert counted["reject_incompressible"] == pool["reject_too_big"] == 0
    assert counted["pool_stored_raw"] == counted["evicted_zpool"] > pool["raw_objects"] == pool["objects"] > 0
    assert pool["frames"] == pool["objects"] and pool["stored_bytes"] == pool["objects"] * PAGE
    assert counted["zpool_written_back"] > 0, "raw pages are written back like any other"
    assert counted["fault_zpool"] > 0 and host.cpu_ns()["decompress"] == 0
    assert host.cpu_ns()["copy"] >= (counted["fault_zpool"] + counted["zpool_written_back"]) * costs.copy_page
    assert not registry.unregistered(counted)


def test_the_limit_of_length_says_what_is_kept_as_it_is():
    host = filled(part_random(3500), zpool_incompressible="keep", zpool_percent=50)
    pool = host.zpool()
    assert pool["raw_objects"] == pool["objects"] > 0 == host.counters()["reject_incompressible"]
    assert pool["stored_bytes"] == pool["objects"] * PAGE, "not the 3.5 KiB they compress to, as 2,990 is the limit"
    mixed = filled(lambda page: part_random(PAGE if page % 2 else 500)(page), zpool_incompressible="keep",
                   zpool_percent=50)  # fmt: skip
    assert 0 < mixed.zpool()["raw_objects"] < mixed.zpool()["objects"]
    assert mixed.cpu_ns()["decompress"] > 0 < mixed.cpu_ns()["copy"]


def test_without_swap_there_is_no_writeback_and_nothing_is_kept_as_it_is():
    """zswap_compress: it only adds metadata there."""

    def after(which):
        host = memvirt.Host(memory=256 * PAGE, zpool_percent=30, zpool_incompressible=which, seed=1)
        vm = host.create_vm("a", 600 * PAGE)
        for page in range(600):
            vm.write(page * PAGE, part_random(PAGE if page % 3 else 500)(page))
        host.check()
        return host

    keep, reject = after("keep"), after("reject")
    assert keep.counters() == reject.counters() and keep.zpool() == reject.zpool()
    assert keep.counters()["reject_incompressible"] > 0 == keep.zpool()["raw_objects"]


@pytest.mark.parametrize("swap", ["0", "16MiB"])
def test_same_filled_of_zeros_alone(swap):
    """Linux's zero map; a page of another word is compressed, or written."""

    def word(page):
        return (page % 4).to_bytes(8, "little") * (PAGE // 8)

    def out(**settings):
        host = memvirt.Host(memory="4MiB", swap=swap, seed=1, readahead=0, **settings)
        vm = host.create_vm("a", 200 * PAGE)
        for page in range(200):
            vm.write(page * PAGE, word(page))
        host.harvest()
        host.engine.reclaim_from(vm.engine_vm, 200)
        host.check()
        counted = host.counters()
        for page in range(200):
            assert vm.read(page * PAGE, PAGE) == word(page)
        host.check()
        return counted

    assert out()["evicted_same"] == out(zpool_percent=20)["evicted_same"] == 200
    plain, cached = out(same_filled="zero"), out(same_filled="zero", zpool_percent=20)
    assert plain["evicted_same"] == cached["evicted_same"] == 50
    assert plain["evicted_swap"] == (0 if swap == "0" else 150) and cached["evicted_zpool"] == 150


def test_an_admission_counts_on_no_room_for_words_that_have_to_be_written():
    """commit=heuristic asks whether pages could go; of one word, they can without swap if they go as a value."""

    def admits(which, value):
        host = memvirt.Host(memory="4MiB", same_filled=which, seed=1)
        vm = host.create_vm("a", "3MiB")
        for page in range(vm.pages):
            vm.write(page * PAGE, value.to_bytes(8, "little") * (PAGE // 8))
        try:
            host.create_vm("b", "3MiB", reservation="2MiB")
        except memvirt.AdmissionError:
            return False
        host.check()
        return True

    assert admits("word", 7) and admits("zero", 0) and not admits("zero", 7)


@pytest.mark.parametrize("settings", [{"zpool_chain": 1}, {"zpool_chain": 16, "zpool_chain_rule": "used"}])
def test_chains_are_a_setting(settings):
    host = filled(part_random(1190), zpool_percent=30, **settings)
    shapes = [entry["frames"] for entry in classes_report(host.engine.mapping.zpool.zspages)]
    assert max(shapes) == settings["zpool_chain"]
    usual = filled(part_random(1190), zpool_percent=30)
    assert host.zpool() != usual.zpool()


def test_cache_settings_by_override_and_their_bounds():
    config = presets.resolve("zcache", ["zpool_chain=16", "zpool_chain_rule=used", "zpool_accept_percent=80"])
    assert (config.zpool_chain, config.zpool_chain_rule, config.zpool_accept_percent) == (16, "used", 80)
    with pytest.raises(memvirt.ConfigError) as caught:
        presets.resolve("zcache", ["zpool_chain=17", "zpool_reject_above=5000", "zpool_chain_rule=wast",
                                   "zpool_incompressible=kept", "same_filled=zeros"])  # fmt: skip
    for said in ("16", "4096", "'waste'", "'keep'", "'zero'"):
        assert f"did you mean {said}?" in str(caught.value)


@pytest.mark.parametrize("level", [0, 2, 9])
def test_a_level_that_the_codec_cannot_be_opened_with_is_found_before_anything_runs(level):
    with pytest.raises(memvirt.ConfigError, match=f"codec_level={level}: {level} is .* codec 'zstd'"):
        presets.resolve("zcache", ["codec=zstd", f"codec_level={level}"])


@pytest.mark.parametrize(
    ("codec", "level"),
    [("lz4", 1), ("lz4", 50), ("lz4hc", 3), ("lz4hc", 12), ("zstd", -1), ("zstd", 1), ("zstd", 3)],
)
def test_every_codec_and_level_on_a_host(codec, level):
    host = filled(lambda page: (TEXT + b"%d" % page) * 80 + bytes(PAGE - 80 * len(TEXT + b"%d" % page)), 600,
                  codec=codec, codec_level=level)  # fmt: skip
    assert host.counters()["evicted_zpool"] > 50 and host.counters()["fault_zpool"] > 50


@pytest.mark.parametrize("percent", [0, 20])
def test_frames_of_zspages_that_are_not_the_pool_s_are_found(percent):
    host = memvirt.Host(memory="1MiB", swap="1MiB", zpool_percent=percent)
    host.check()
    assert ZpoolProbe(Zpool(host.engine.frames, 4)).put(b"x" * PAGE)[0] == 0
    with pytest.raises(InvariantError, match="frames of zspages"):
        host.check()
