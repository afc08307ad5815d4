"""The same workload on real bytes and on fingerprints: counters agree exactly wherever content does not matter, what is
shared agrees exactly, and the compressed length of a page within 1 %."""

import gc

import numpy as np
import pytest

import memvirt
from memvirt import border
from memvirt.engine.content.source_table import SPARE_SOURCES
from memvirt.engine.testing.contents import PageProbe
from memvirt.inputs import Corpus, synthetic

CORPUS = synthetic(512, 1)


def run(content, **settings):
    host = memvirt.Host(memory="8MiB", swap="32MiB", corpus=CORPUS, content=content, seed=1, readahead=0, **settings)
    bits = np.random.PCG64(7)
    vms = [host.create_vm(name, "6MiB") for name in ("a", "b")]
    for vm in vms:
        sources = (bits.random_raw(vm.pages) % len(CORPUS.pages)).astype(np.uint32)
        vm.access(np.arange(vm.pages), np.full(vm.pages, 2), sources)
        pages = (bits.random_raw(20_000) % vm.pages).astype(np.uint32)
        vm.access(pages, bits.random_raw(20_000) % 5 == 0)
    twin = vms[0].clone("twin")
    twin.access((bits.random_raw(2_000) % twin.pages).astype(np.uint32), bits.random_raw(2_000) % 2)
    if settings.get("sharing"):
        host.scan()
    host.check()
    return host


@pytest.mark.parametrize("settings", [{}, {"sharing": "hash"}, {"sharing": "ksm"}], ids=["swap", "hash", "ksm"])
def test_counters_agree_exactly(settings):
    real, ids = run("bytes", **settings), run("fingerprint", **settings)
    assert real.counters()["evicted"] > 1000
    assert real.counters() == ids.counters()
    assert real.usage() == ids.usage()
    assert real.sharing() == ids.sharing()
    assert real.cpu_ns() == ids.cpu_ns()


@pytest.mark.parametrize("settings", [{}, {"zpool_incompressible": "keep"}, {"same_filled": "zero"}], ids=str)
def test_compressed_totals_agree_within_a_percent(settings):
    """Where the same pages go: those of a VM that was filled and written to, all evicted into a pool with room. Even which
    of them are refused as incompressible agrees."""

    def compressed(content):
        host = memvirt.Host(memory="32MiB", corpus=CORPUS, content=content, seed=1, zpool_percent=80, swap="8MiB",
                            **settings)  # fmt: skip
        vm = host.create_vm("a", "12MiB")
        bits = np.random.PCG64(7)
        sources = (bits.random_raw(vm.pages) % len(CORPUS.pages)).astype(np.uint32)
        vm.access(np.arange(vm.pages), np.full(vm.pages, 2), sources)
        vm.access((bits.random_raw(20_000) % vm.pages).astype(np.uint32), bits.random_raw(20_000) % 5 == 0)
        host.harvest()
        host.engine.reclaim_from(vm.engine_vm, vm.pages)
        assert host.usage()["guest"] == 0
        return host

    real, ids = compressed("bytes"), compressed("fingerprint")
    assert real.counters() == ids.counters()
    assert real.zpool()["objects"] == ids.zpool()["objects"] > 2000
    assert (real.zpool()["raw_objects"] > 0) == (settings == {"zpool_incompressible": "keep"})
    assert real.zpool()["raw_objects"] == ids.zpool()["raw_objects"]
    assert real.zpool()["stored_bytes"] == pytest.approx(ids.zpool()["stored_bytes"], rel=0.01)


def test_compressed_pages_agree_within_a_percent_under_pressure():
    """Of the lengths. How many pages are compressed differs by a little more: a pool that fills a moment later sends
    other pages to swap, and from there on the two runs are not the same run."""
    real, ids = run("bytes", zpool_percent=50), run("fingerprint", zpool_percent=50)
    lengths = [host.zpool()["stored_bytes"] / host.zpool()["objects"] for host in (real, ids)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.01)
    evicted = [host.counters()["evicted_zpool"] for host in (real, ids)]
    assert evicted[0] == pytest.approx(evicted[1], rel=0.05)
    assert real.zpool()["objects"] > 500


WORDS = np.zeros((6, 4096), np.uint8)
WORDS[1], WORDS[2], WORDS[3] = 0x41, 0xFF, 1
WORDS[4:] = CORPUS.pages[5:7]


def pages_of_one_word(content):
    """Two VMs and a clone that fill pages of one word, lose them to reclaim, get them back, write to some, again and
    again; what each page is, and all that the host counts."""
    host = memvirt.Host(memory="2MiB", swap="8MiB", corpus=WORDS, content=content, seed=1, readahead=0, sharing="hash")
    bits = np.random.PCG64(11)
    vms = [host.create_vm(name, "1MiB") for name in "ab"]
    for turn in range(12):
        for vm in vms:
            pages = (bits.random_raw(150) % vm.pages).astype(np.uint32)
            vm.access(pages, np.full(150, 2), (bits.random_raw(150) % len(WORDS)).astype(np.uint32))
            vm.access((bits.random_raw(60) % vm.pages).astype(np.uint32), bits.random_raw(60) % 2)
        if turn == 3:
            vms.append(vms[0].clone("c"))
        host.scan()
        for vm in vms:
            host.engine.reclaim_from(vm.engine_vm, 40)
        host.check()
    held = [[page.tobytes() for page in vm.read_pages(np.arange(vm.pages))] for vm in vms]
    classes = {}
    for page in (page for vm in held for page in vm):
        classes.setdefault(page, len(classes))
    return [[classes[page] for page in vm] for vm in held], host.counters(), host.sharing(), host.cpu_ns()


def test_pages_of_one_word_come_back_as_they_went():
    real, ids = pages_of_one_word("bytes"), pages_of_one_word("fingerprint")
    assert real[1]["fault_same"] > 100
    for one, other in zip(real, ids, strict=True):
        assert one == other


def test_a_page_of_one_word_that_is_shared_stays_that_page():
    host = memvirt.Host(memory="2MiB", content="fingerprint", corpus=WORDS)
    vm = host.create_vm("a", "1MiB")
    vm.access([0], [2], [1])
    before, twin = vm.read_pages([0]), vm.clone("b")
    for _ in range(2):  # the second time for what the first found accessed
        host.engine.reclaim_from(vm.engine_vm, 10)
    assert host.stores()["same"] == 1
    twin.access([0], [1])
    host.check()
    assert np.array_equal(vm.read_pages([0]), before)


# -- what is known of a corpus's pages is kept for the next host ---------------------------------------------------------


@pytest.fixture
def kept(monkeypatch):
    """The tables that are kept, none at first."""
    monkeypatch.setattr(border, "_tables", {})
    return border._tables


def of_random_pages(n, seed=1):
    words = np.random.Philox(key=seed).random_raw(n * 512).reshape(n, 512)
    return Corpus.of([("random", words.view(np.uint8).reshape(n, 4096))])


def host_on(corpus, **settings):
    return memvirt.Host(memory="1MiB", content="fingerprint", corpus=corpus, **settings)


def test_hosts_of_one_corpus_take_the_table_of_the_first_as_it_was(kept):
    corpus = of_random_pages(4)
    first = host_on(corpus)
    ((_, table),) = kept.values()
    before = table.nr_all
    PageProbe(first.engine.content).fill_frame_same(0, 77)  # which the corpus does not have
    second = host_on(corpus)
    assert [each for _, each in kept.values()] == [table]
    counts = [first.engine.content.nr_all_sources, second.engine.content.nr_all_sources, table.nr_all]
    assert counts == [before + 1, before, before]
    PageProbe(second.engine.content).fill_frame_same(0, 78)
    assert (first.engine.content.nr_all_sources, table.nr_all) == (before + 1, before)
    assert table is not first.engine.content.sources and table is not second.engine.content.sources


def test_each_codec_and_level_and_corpus_has_a_table_of_its_own(kept):
    corpus, other = of_random_pages(4), of_random_pages(4)
    settings = [{}, {"codec": "zstd"}, {"codec": "zstd", "codec_level": 3}]
    for _ in range(2):
        for each in settings:
            host_on(corpus, zpool_percent=20, swap="1MiB", **each)
        host_on(other)
    assert sorted(key[1:3] for key in kept) == [("lz4", 1), ("lz4", 1), ("zstd", 1), ("zstd", 3)]
    assert len({key[0] for key in kept}) == 2


def test_a_table_goes_with_its_corpus(kept):
    corpus, other = of_random_pages(4), of_random_pages(4, seed=2)
    host = host_on(corpus)
    host_on(other)
    del corpus
    gc.collect()
    assert len(kept) == 2, "the host has the pages yet"
    del host
    gc.collect()
    assert [known() is other.pages for known, _ in kept.values()] == [True]


def test_pages_that_may_change_are_looked_at_by_each_host(kept):
    """Writable ones, and an array that was frozen by the caller, who can thaw it."""
    pages = of_random_pages(2).pages.copy()
    host_on(pages)
    pages.flags.writeable = False
    before = host_on(pages).engine.content.sources
    pages.flags.writeable = True
    pages[2] = pages[1]
    pages.flags.writeable = False
    assert host_on(pages).engine.content.sources is not before and not kept
    writable = of_random_pages(2)
    writable.pages = writable.pages.copy()
    host_on(writable)
    host_on(None)
    assert not kept
    memvirt.Host(memory="1MiB", corpus=of_random_pages(2))
    assert not kept, "bytes have no table"


def test_tables_that_are_kept_have_a_bound(kept, monkeypatch):
    monkeypatch.setattr(border, "KEPT_SOURCES", 2 * (SPARE_SOURCES + 5))
    corpora = [of_random_pages(4) for _ in range(3)]
    for corpus in corpora:
        host_on(corpus)
    assert [key[0] for key in kept] == [id(corpus.pages) for corpus in corpora[1:]], "the oldest went"
    host_on(of_random_pages(SPARE_SOURCES + 20))
    assert len(kept) == 2, "it would not fit alone"
