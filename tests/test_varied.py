"""Corpora with more different pages than they have."""

import numpy as np
import pytest

import memvirt
from memvirt.inputs import fingerprints, synthetic
from memvirt.inputs.varied import KEPT_PAGES, WORDS, varied

CORPUS = synthetic(1024, seed=1)
PRINTS = fingerprints(CORPUS, [("lz4", None)], key=bytes(32))
CLASS = "libraries"


def bases(corpus):
    return np.unique(corpus.canonical[corpus.sources([CLASS])])


@pytest.mark.parametrize("corpus", [CORPUS, PRINTS])
def test_each_round_is_another_page_and_the_same_everywhere(corpus):
    more = varied(corpus, {CLASS: 3})
    pages = bases(corpus)
    rounds = [more.variant(pages, np.full(len(pages), number)) for number in range(5)]
    assert np.array_equal(rounds[0], pages) and np.array_equal(rounds[4], pages), "no round, no variant"
    filled = pages == 0  # the class has zero pages; of synthetic ones no other page is the same all over
    assert filled.any()
    for number in (1, 2, 3):
        assert np.array_equal(rounds[number] == pages, filled)
    other = np.concatenate([each[~filled] for each in rounds[:4]])
    assert len(set(other.tolist())) == len(other)
    assert np.array_equal(more.canonical[other], other) and more.sha256 == corpus.sha256
    assert np.array_equal(more.canonical[: len(corpus)], corpus.canonical)
    elsewhere = corpus.canonical[corpus.sources(["heap"])]
    elsewhere = elsewhere[~np.isin(elsewhere, pages)]
    assert np.array_equal(more.variant(elsewhere, np.ones(len(elsewhere), int)), elsewhere)


def test_bytes_differ_in_two_words_and_nowhere_else():
    more = varied(CORPUS, {CLASS: 2})
    pages = bases(CORPUS)[1:]
    words = more.pages.view("<u8")
    for number in (1, 2):
        found = words[more.variant(pages, np.full(len(pages), number))] != words[pages]
        assert np.array_equal(np.flatnonzero(found.any(axis=0)), sorted(WORDS)) and found[:, WORDS].all()
    assert len(np.unique(more.pages, axis=0)) == len(np.unique(CORPUS.pages, axis=0)) + 2 * len(pages)


def test_no_round_more_is_the_corpus():
    same = varied(CORPUS, {CLASS: 0})
    assert len(same) == len(CORPUS) and np.array_equal(same.pages, CORPUS.pages)


def test_prints_are_compressed_as_their_pages_are():
    more = varied(PRINTS, {CLASS: 1})
    canonical, same, _, sizes, tagged = more.table("lz4", 1)
    pages = bases(PRINTS)[1:]
    ones = more.variant(pages, np.ones(len(pages), int))
    assert np.array_equal(sizes[ones], sizes[pages]) and np.array_equal(tagged[ones], tagged[pages])
    assert np.array_equal(canonical[ones], ones) and not same[ones].any()


@pytest.mark.parametrize("corpus", [CORPUS, PRINTS])
def test_hosts_take_them(corpus):
    more = varied(corpus, {CLASS: 1})
    pages = bases(corpus)[1:9]
    with memvirt.Host(memory="4MiB", content="fingerprint", corpus=more, sharing="ksm") as host:
        for name in "ab":
            vm = host.create_vm(name, "1MiB")
            for first, number in ((0, 0), (8, 1)):
                sources = more.variant(pages, np.full(8, number))
                vm.access(np.arange(first, first + 8), np.full(8, 2, np.uint8), sources)
        for _ in range(4):
            host.scan()
        found = host.sharing()
        assert (found["pages_shared"], found["pages_sharing"]) == (16, 16)
        host.check()


def test_the_last_is_kept_if_it_is_small():
    more = varied(CORPUS, {CLASS: 1, "heap": 2})
    assert varied(CORPUS, {"heap": 2, CLASS: 1}) is more
    other = varied(CORPUS, {"heap": 2})
    assert len(other) < len(more) and varied(CORPUS, {"heap": 2}) is other
    assert varied(synthetic(1024, seed=1), {"heap": 2}) is not other
    large = {CLASS: KEPT_PAGES // (len(bases(PRINTS)) - 1) + 1}
    assert len(varied(PRINTS, large)) > KEPT_PAGES and varied(PRINTS, large) is not varied(PRINTS, large)
