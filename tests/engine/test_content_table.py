"""Fingerprint content made of a table against the same made of the bytes: the same ids, lengths and refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memvirt
from memvirt.engine.content.codec import open_codec
from memvirt.engine.content.fingerprints import Fingerprints
from memvirt.engine.content.source_table import SourceTable
from memvirt.engine.content.sources import measured
from memvirt.engine.testing.contents import PageProbe
from memvirt.errors import ConfigError, CorpusError, InvariantError

PAGE, NO_FIT = 4096, 4097


def pages_of_every_kind():
    """The zero page, a noisy one, its copy, same-filled ones (twice the same), small numbers, a page of text."""
    draw = np.random.Philox(key=5).random_raw
    pages = np.zeros((9, PAGE), np.uint8)
    words = pages.view("<u8")
    words[1] = words[2] = draw(512)
    words[3] = words[5] = 0x1234_5678_9ABC_DEF0
    words[4] = 2**40
    words[6] = draw(512) >> np.uint64(50)
    pages[7] = np.resize(np.frombuffer(b"the quick brown fox ", np.uint8), PAGE)
    words[8] = draw(512)
    return pages


def table_of(pages, codec):
    """What a publisher would tell of them; values are stand-ins, except that of zeros."""
    canonical = np.array([next(j for j in range(i + 1) if (pages[j] == pages[i]).all()) for i in range(len(pages))])
    words = pages.view("<u8")
    same = (words == words[:, :1]).all(axis=1)
    value = np.where(words[:, 0] == 0, 0, (1 << 63) + canonical.astype(np.uint64))
    return (canonical.astype(np.uint32), same.astype(np.uint8), value.astype(np.uint64), *measured(pages, codec))


@pytest.mark.parametrize("name", ["lz4", "zstd"])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["fill", "tag", "copy"]), *[st.integers(0, 3)] * 2, st.integers(0, 8)), max_size=30
    )
)
@settings(max_examples=100, deadline=None)
def test_a_table_is_as_good_as_the_bytes(name, steps):
    pages, codec = pages_of_every_kind(), open_codec(name)
    real = PageProbe(Fingerprints(4, pages[1:], codec))
    told = PageProbe(Fingerprints(4, codec=codec, table=table_of(pages, codec)))
    assert (real.nr_sources, real.nr_all_sources) == (told.nr_sources, told.nr_all_sources) == (9, 9)
    for what, frame, other, number in steps:
        for content in (real, told):
            if what == "fill":
                content.fill_frame(frame, number)
            elif what == "copy":
                content.copy_frame(frame, other)
            else:
                content.tag_word(frame, 7, 1_000_000 + number)
    for frame in range(4):
        assert real.frame_raw(frame) == told.frame_raw(frame)
        assert real.frame_hash(frame) == told.frame_hash(frame)
        assert real.compress_frame(frame) == told.compress_frame(frame)
        assert (real.frame_same_filled(frame) is None) == (told.frame_same_filled(frame) is None)
    told.check()


def test_lengths_are_those_of_the_codec():
    pages, codec = pages_of_every_kind(), open_codec()
    lengths, tagged = measured(pages, codec)
    packed = [codec.pack(page.tobytes(), PAGE) for page in pages]
    assert lengths.tolist() == [NO_FIT if block is None else len(block) for block in packed]
    assert lengths[1] == NO_FIT and lengths[0] < 40
    assert tagged[0] > lengths[0]
    parts = [measured(pages[start : start + 2], codec, start) for start in range(0, 9, 2)]
    assert [np.concatenate(part).tolist() for part in zip(*parts, strict=True)] == [lengths.tolist(), tagged.tolist()]


def test_a_same_filled_page_of_a_table_comes_back_as_itself():
    pages, codec = pages_of_every_kind(), open_codec()
    told = PageProbe(Fingerprints(3, codec=codec, table=table_of(pages, codec)))
    for source in (0, 3, 4, 5):
        told.fill_frame(0, source)
        told.fill_frame_same(1, told.frame_same_filled(0))
        assert told.compare_frames(0, 1) == 0 and told.load_word(0, 9) == told.frame_same_filled(0)
    assert told.nr_all_sources == 9
    told.fill_frame_same(2, 77)
    assert told.nr_all_sources == 10 and told.frame_same_filled(2) == 77


def test_ids_of_are_the_ids_that_frames_get():
    pages = pages_of_every_kind()
    content = PageProbe(Fingerprints(1, pages[1:]))
    for source in range(9):
        for word, tag in ((0, 0), (7, 5), (511, 2**31 - 1), (0, int(pages.view("<u8")[source][0]) & 0x7FFFFFFF)):
            content.fill_frame(0, source)
            if tag:
                content.tag_word(0, word, tag)
            told = content.ids_of(*(np.array([x], np.uint32) for x in (source, word, tag)))
            assert told.tobytes() == content.frame_raw(0), (source, word, tag)
    for wrong in ((9, 0, 1), (0, 512, 1), (0, 0, 1 << 31)):
        with pytest.raises(ConfigError, match="no source"):
            content.ids_of(*(np.array([x], np.uint32) for x in wrong))
    with pytest.raises(ValueError, match="one length"):
        content.ids_of(np.zeros(2, np.uint32), np.zeros(1, np.uint32), np.zeros(2, np.uint32))


def twins_and_all():
    """Pages of every kind, two that differ in a word alone, and one of a value all over but for a word."""
    pages = np.concatenate([pages_of_every_kind(), np.zeros((3, PAGE), np.uint8)])
    words = pages.view("<u8")
    words[9] = words[10] = words[8]
    words[9, 7], words[10, 7] = 11, 12
    words[11], words[11, 7] = 99, 5
    return pages


def said_of(content):
    """All that can be asked of a table: ids of tagged pages, lengths, values, whether they are same-filled."""
    sources = np.repeat(np.arange(content.nr_sources, dtype=np.uint32), 5)
    words, tags = (
        np.resize(np.array(values, np.uint32), len(sources)) for values in ([0, 7, 7, 7, 7], [0, 5, 11, 12, 99])
    )
    told = [content.ids_of(sources, words, tags).tolist(), content.nr_all_sources]
    for source in range(content.nr_sources):
        content.fill_frame(0, source)
        told += [content.compress_frame(0), content.frame_same_filled(0)]
        content.tag_word(0, 7, 12)
        told += [content.compress_frame(0), content.frame_raw(0)]
    return told


@pytest.mark.parametrize("name", ["lz4", "zstd"])
def test_a_copy_of_a_table_is_as_good_as_the_table(name):
    pages, codec = twins_and_all(), open_codec(name)
    made = Fingerprints(2, pages[1:], codec)
    copied = PageProbe(Fingerprints(2, pages[1:], open_codec(name), made.sources.copied()))
    assert said_of(copied) == said_of(PageProbe(made)) and made.nr_all_sources > len(pages)
    copied.check()
    told = Fingerprints(2, codec=codec, table=table_of(pages, codec))
    again = PageProbe(Fingerprints(2, codec=codec, table=told.sources))
    assert said_of(again) == said_of(PageProbe(told))


def test_a_copy_that_grows_is_the_only_one_that_does():
    pages, codec = twins_and_all(), open_codec()
    kept = SourceTable(codec, pages[1:], None).copied()
    before = kept.nr_all
    one, other = (PageProbe(Fingerprints(2, pages[1:], codec, kept)) for _ in range(2))
    expected = said_of(other)
    for value in range(1000, 1000 + 4096):
        one.fill_frame_same(0, value)
    with pytest.raises(InvariantError, match="4096 same-filled pages"):
        one.fill_frame_same(0, 9)
    assert (one.nr_all_sources, other.nr_all_sources, kept.nr_all) == (before + 4096, before, before)
    other.fill_frame_same(1, 77)
    assert other.nr_all_sources == before + 1
    fresh = PageProbe(Fingerprints(2, pages[1:], codec, kept))
    assert said_of(fresh) == expected
    grown = PageProbe(Fingerprints(2, pages[1:], codec, other.sources))
    assert grown.nr_all_sources == before + 1
    for content in (one, other, fresh, grown):
        content.check()


def test_a_table_is_copied_for_its_own_codec_and_pages_alone():
    pages = twins_and_all()
    kept = SourceTable(open_codec("zstd", 3), pages[1:], None).copied()
    for codec, named in ((open_codec("zstd", 1), "zstd:1"), (open_codec(), "lz4:1")):
        with pytest.raises(ConfigError, match=f"under zstd:3 is none under {named}"):
            Fingerprints(2, pages[1:], codec, kept)
    with pytest.raises(CorpusError, match="a table of 11 pages is none of a corpus of 10"):
        Fingerprints(2, pages[2:], open_codec("zstd", 3), kept)


@pytest.mark.parametrize(
    ("place", "index", "value", "what"),
    [
        (0, 2, 3, "comes later"),
        (0, 5, 2, "said to equal another"),
        (1, 0, 0, "zero page"),
        (2, 0, 9, "zero page"),
        (2, 4, (1 << 63) + 3, "filled with the same value"),
        (3, 4, 0, "1 to 4097"),
        (4, 4, 4098, "1 to 4097"),
    ],
)
def test_a_table_that_contradicts_itself(place, index, value, what):
    codec = open_codec()
    table = table_of(pages_of_every_kind(), codec)
    table[place][index] = value
    with pytest.raises(CorpusError, match=what):
        Fingerprints(2, codec=codec, table=table)


def test_a_table_of_unlike_or_empty_arrays():
    table = table_of(pages_of_every_kind(), open_codec())
    for bad in ((table[0][:-1], *table[1:]), tuple(array[:0] for array in table)):
        with pytest.raises(CorpusError, match="five arrays of one length"):
            Fingerprints(2, table=bad)


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
def test_a_same_filled_page_survives_a_clean_eviction(content):
    """It came back once and is evicted again unchanged: its value is then read from its frame."""
    pages = pages_of_every_kind()
    host = memvirt.Host(memory="1MiB", swap="4MiB", corpus=pages, content=content, readahead=0)
    vm = host.create_vm("a", "2MiB")
    vm.access(np.arange(512), np.full(512, 2), np.full(512, 3, np.uint32))
    first = vm.read_pages(np.arange(512)).copy()
    for _ in range(2):
        vm.access(np.arange(512), np.zeros(512))
    assert host.counters()["fault_same"] > 600
    assert (vm.read_pages(np.arange(512)) == first).all() and (first == first[0]).all()
    host.check()
