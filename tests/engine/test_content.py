"""Frames against numpy, kernels on pages made to trip them, fingerprints against the bytes they stand for."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memvirt.engine.content.codec import open_codec
from memvirt.engine.content.content import Bytes, Content
from memvirt.engine.content.fingerprints import Fingerprints
from memvirt.engine.testing.contents import PageProbe
from memvirt.errors import ConfigError, CorpusError, InvariantError

PAGE = 4096


def page_of(*, seed=None, value=None, **words):
    """A page: random, or `value` in every word; then single words replaced, as in w17=5."""
    if seed is not None:
        page = np.random.default_rng(seed).integers(0, 2**64, 512, dtype=np.uint64)
    else:
        page = np.full(512, value or 0, np.uint64)
    for name, word in words.items():
        page[int(name[1:])] = word
    return page.view(np.uint8)


def corpus_of(*pages):
    return np.ascontiguousarray(np.stack(pages))


@pytest.fixture
def frames():
    content = PageProbe(Bytes(8))
    yield content
    content.check()


def put(content, frame, page):
    content.set_frame_raw(frame, page.tobytes())


def neighbours(page):
    """Pages that differ from `page` in one byte: first, last, and each offset of several words and vectors."""
    for at in {0, 1, 7, 8, 63, 64, 255, 256, 2047, 2048, 4031, 4032, 4088, 4094, 4095, *range(512, 576)}:
        other = page.copy()
        other[at] ^= 0x80
        yield at, other


@pytest.mark.parametrize("page", [page_of(seed=1), page_of(value=0), page_of(value=0xFF), page_of(value=2**64 - 1)])
def test_compare_and_hash_see_every_byte(frames, page):
    put(frames, 0, page)
    frames.copy_frame(1, 0)
    assert frames.compare_frames(0, 1) == 0
    assert frames.frame_hash(0) == frames.frame_hash(1)
    for at, other in neighbours(page):
        put(frames, 1, other)
        expected = 1 if page[at] > other[at] else -1
        assert frames.compare_frames(0, 1) == expected, at
        assert frames.compare_frames(1, 0) == -expected, at
        assert frames.frame_hash(0) != frames.frame_hash(1), at
        assert frames.frame_checksum(0) != frames.frame_checksum(1), at


def test_compare_orders_by_the_first_difference_as_unsigned_bytes(frames):
    first, second = np.zeros(PAGE, np.uint8), np.zeros(PAGE, np.uint8)
    first[100], second[101] = 0x80, 0xFF
    put(frames, 0, first)
    put(frames, 1, second)
    assert frames.compare_frames(0, 1) == 1
    assert (first.tobytes() > second.tobytes()) is True


@pytest.mark.parametrize("value", [0, 1, 0xFF, 0x0101010101010101, 2**63, 2**64 - 1])
def test_same_filled_is_exact(frames, value):
    frames.fill_frame_same(0, value)
    assert frames.frame_raw(0) == value.to_bytes(8, "little") * 512
    assert frames.frame_same_filled(0) == value
    for at, other in neighbours(np.frombuffer(frames.frame_raw(0), np.uint8)):
        put(frames, 1, other)
        assert frames.frame_same_filled(1) is None, at


def test_every_frame_is_its_own_page(frames):
    pages = [page_of(seed=i) for i in range(8)]
    for i, page in enumerate(pages):
        put(frames, i, page)
    frames.clear_frame(3)
    frames.fill_frame_same(5, 9)
    frames.copy_frame(6, 0)
    expected = [*pages[:3], page_of(value=0), pages[4], page_of(value=9), pages[0], pages[7]]
    assert [frames.frame_raw(i) for i in range(8)] == [page.tobytes() for page in expected]


def test_words(frames):
    put(frames, 2, page_of(seed=5))
    expected = page_of(seed=5).view(np.uint64).copy()
    for word in (0, 1, 255, 511):
        assert frames.load_word(2, word) == expected[word]
        frames.tag_word(2, word, 2**31 - 1)
        expected[word] = 2**31 - 1
    assert frames.frame_raw(2) == expected.tobytes()


def test_hash_golden(frames):
    """A record says which pages were merged; a change of the hash must not pass unseen."""
    frames.clear_frame(0)
    put(frames, 1, (np.arange(PAGE) % 251).astype(np.uint8))
    assert (frames.frame_hash(0), frames.frame_hash(1)) == (GOLDEN_ZERO, GOLDEN_COUNT)
    assert frames.frame_checksum(1) == GOLDEN_COUNT & 0xFFFFFFFF


GOLDEN_ZERO, GOLDEN_COUNT = 0x895F0850077FF236, 0x7599BD9F5F430D07


def test_hash_avalanche(frames):
    """One flipped input bit flips each output bit in about half of the cases, wherever it lies."""
    rng = np.random.default_rng(7)
    flips = np.zeros(64)
    trials = 1500
    for _ in range(trials):
        page = rng.integers(0, 256, PAGE, dtype=np.uint8)
        put(frames, 0, page)
        page[rng.integers(PAGE)] ^= np.uint8(1 << rng.integers(8))
        put(frames, 1, page)
        changed = frames.frame_hash(0) ^ frames.frame_hash(1)
        flips += [(changed >> bit) & 1 for bit in range(64)]
    assert (abs(flips / trials - 0.5) < 0.08).all()  # 6 standard deviations


def test_hash_tells_structured_pages_apart(frames):
    """Sparse, permuted and cancelling pages: what a weak accumulator confuses. Halves of the hash must differ too."""
    hashes = set()
    count = 0
    bits = (0, 1, 31, 32, 62, 63)
    for first, second in itertools.combinations([0, 1, 31, 32, 64, 96, 256, 480, 511], 2):
        for a, b in itertools.product(bits, bits):
            put(frames, 0, page_of(**{f"w{first}": 1 << a, f"w{second}": 1 << b}))
            hashes.add(frames.frame_hash(0))
            count += 1
    assert len(hashes) == count
    assert len({h >> 32 for h in hashes}) >= count - 2
    assert len({h & 0xFFFFFFFF for h in hashes}) >= count - 2


@pytest.mark.parametrize(
    "codec",
    [open_codec("lz4"), open_codec("lz4hc"), open_codec("lz4", route="python")],
    ids=lambda codec: codec.route + codec.name,
)
def test_compress_and_expand(codec):
    content = PageProbe(Bytes(4, codec=codec))
    put(content, 0, page_of(seed=1, **{f"w{i}": 7 for i in range(300)}))
    length, payload = content.compress_frame(0)
    assert length == len(payload) < PAGE
    assert content.expand_frame(1, payload)
    assert content.compare_frames(0, 1) == 0
    assert not content.expand_frame(1, payload[:-1])
    assert not content.expand_frame(1, b"")
    put(content, 2, page_of(seed=2))
    assert content.compress_frame(2) is None


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_payloads_are_corrupt_or_another_page_but_never_a_crash(data):
    content = PageProbe(Bytes(4))
    put(content, 0, page_of(seed=3, **{f"w{i}": i for i in range(250)}))
    put(content, 2, page_of(seed=4))
    payload = bytearray(content.compress_frame(0)[1])
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    content.expand_frame(1, payload[: data.draw(st.integers(0, len(payload)))])
    assert content.frame_raw(2) == page_of(seed=4).tobytes()


@settings(max_examples=150, deadline=None)
@given(payload=st.binary(max_size=600))
def test_noise_is_not_a_page(payload):
    content = PageProbe(Bytes(2))
    put(content, 1, page_of(seed=4))
    content.expand_frame(0, payload)
    assert content.frame_raw(1) == page_of(seed=4).tobytes()


def test_corpus_is_borrowed_and_source_zero_is_zeros():
    corpus = corpus_of(page_of(seed=1), page_of(value=3))
    corpus.flags.writeable = False
    content = PageProbe(Bytes(3, corpus))
    assert content.nr_sources == 3
    for source, page in enumerate([page_of(value=0), *corpus]):
        content.fill_frame(1, source)
        assert content.frame_raw(1) == page.tobytes()
    content.tag_word(1, 0, 5)
    assert corpus[1].tobytes() == page_of(value=3).tobytes()


def test_huge_pages_are_what_smaps_says():
    content = PageProbe(Bytes(1024))
    assert content.huge_pages == (content.huge_bytes == 4 << 20)
    assert not Bytes(511).huge_pages


@pytest.mark.parametrize("form", [Bytes, Fingerprints])
@pytest.mark.parametrize(
    "corpus",
    [
        np.zeros((2, 4095), np.uint8),
        np.zeros(PAGE, np.uint8),
        np.zeros((2, PAGE), np.int8),
        np.zeros((PAGE, 2), np.uint8).T,
        [[0] * PAGE],
        "pages",
    ],
)
def test_a_corpus_of_another_shape_is_refused(form, corpus):
    with pytest.raises(CorpusError, match="4096"):
        form(2, corpus)


@pytest.mark.parametrize("form", [Bytes, Fingerprints])
@pytest.mark.parametrize("nr_frames", [0, -1, 2**32])
def test_frames_out_of_range(form, nr_frames):
    with pytest.raises(ConfigError, match=str(nr_frames)):
        form(nr_frames)


def test_more_memory_than_the_machine_has_is_refused_before_it_is_touched():
    with pytest.raises(ConfigError, match="available"):
        Bytes(2**32 - 2)


@pytest.mark.parametrize("form", [Bytes, Fingerprints])
def test_the_border_names_number_and_bound(form):
    content = PageProbe(form(4, corpus_of(page_of(seed=1))))
    for call in (
        lambda: content.clear_frame(4),
        lambda: content.copy_frame(0, -1),
        lambda: content.fill_frame(0, 2),
        lambda: content.load_word(0, 512),
        lambda: content.tag_word(0, 0, 0),
        lambda: content.tag_word(0, 0, 2**31),
        lambda: content.set_frame_raw(0, b"x"),
    ):
        with pytest.raises(ConfigError, match="must be"):
            call()
    with pytest.raises(TypeError):
        Content()


# Fingerprints

NEAR = corpus_of(
    page_of(seed=1),
    page_of(seed=2),
    page_of(seed=1, w9=5), page_of(seed=1, w9=6), page_of(seed=1, w9=2**40),   # twins in word 9
    page_of(seed=1, w9=5, w20=2**41),                                          # and, of the second, in word 20
    page_of(seed=2),                                                           # a duplicate
    page_of(value=0),                                                          # the zero page again
    page_of(value=0, w9=3), page_of(value=0, w20=2**50),                       # twins of the zero page
    page_of(value=7), page_of(value=7, w9=2**60), page_of(value=7, w20=5),     # same-filled, and its twins
    page_of(value=6, w0=5), page_of(value=6, w1=2**33), page_of(value=6, w2=2**34),  # twins of one that is no source
    page_of(value=2**35, w9=6),
)  # fmt: skip
WORDS, TAGS = [0, 1, 2, 9, 20, 511], [1, 3, 5, 6, 7, 2**31 - 1]
SAME = [0, 1, 6, 7, 2**35, 2**63]


class SameAnswers(RuleBasedStateMachine):
    """Bytes and Fingerprints take the same steps; equality, hashes and same-filled tests must agree throughout."""

    FRAMES = 6

    @initialize()
    def begin(self):
        self.real, self.ids = PageProbe(Bytes(self.FRAMES, NEAR)), PageProbe(Fingerprints(self.FRAMES, NEAR))
        self.word = [None] * self.FRAMES
        for frame in range(self.FRAMES):
            self.fill(frame, 0)

    def both(self, call, *arguments):
        return getattr(self.real, call)(*arguments), getattr(self.ids, call)(*arguments)

    @rule(frame=st.integers(0, FRAMES - 1), source=st.integers(0, len(NEAR)))
    def fill(self, frame, source):
        self.both("fill_frame", frame, source)
        self.word[frame] = None

    @rule(frame=st.integers(0, FRAMES - 1), value=st.sampled_from(SAME))
    def fill_same(self, frame, value):
        self.both("fill_frame_same", frame, value)
        self.word[frame] = None

    @rule(frame=st.integers(0, FRAMES - 1))
    def clear(self, frame):
        self.both("clear_frame", frame)
        self.word[frame] = None

    @rule(frame=st.integers(0, FRAMES - 1), to=st.integers(0, FRAMES - 1))
    def copy(self, frame, to):
        if frame != to:
            self.both("copy_frame", to, frame)
            self.word[to] = self.word[frame]

    @rule(frame=st.integers(0, FRAMES - 1), word=st.sampled_from(WORDS), tag=st.sampled_from(TAGS))
    def tag(self, frame, word, tag):
        self.word[frame] = word = word if self.word[frame] is None else self.word[frame]
        self.both("tag_word", frame, word, tag)
        assert self.both("load_word", frame, word)[0] == tag

    @rule(frame=st.integers(0, FRAMES - 1), to=st.integers(0, FRAMES - 1))
    def swap_out_and_in(self, frame, to):
        self.both("frame_checksum", frame)
        raw = self.both("frame_raw", frame)
        self.real.set_frame_raw(to, raw[0])
        self.ids.set_frame_raw(to, raw[1])
        self.word[to] = self.word[frame]

    @rule(frame=st.integers(0, FRAMES - 1), to=st.integers(0, FRAMES - 1))
    def compress_and_expand(self, frame, to):
        real, ids = self.both("compress_frame", frame)
        if self.word[frame] is None:
            assert (real and real[0]) == (ids and ids[0])
        if real and ids:
            assert self.real.expand_frame(to, real[1])
            assert self.ids.expand_frame(to, ids[1])
            self.word[to] = self.word[frame]

    @invariant()
    def agree(self):
        self.real.check()
        self.ids.check()
        for frame in range(self.FRAMES):
            real, ids = self.both("frame_same_filled", frame)
            assert real == ids
        for a, b in itertools.combinations(range(self.FRAMES), 2):
            real, ids = self.both("compare_frames", a, b)
            assert (real == 0) == (ids == 0), (a, b)
            for call in ("frame_hash", "frame_checksum"):
                (real_a, ids_a), (real_b, ids_b) = self.both(call, a), self.both(call, b)
                assert (real_a == real_b) == (ids_a == ids_b) == (real == 0)


TestSameAnswers = SameAnswers.TestCase
TestSameAnswers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_every_pair_of_pages_that_ids_can_name_is_equal_exactly_when_the_bytes_are():
    """Exhaustive over the adversarial corpus: each source with each tag in each word, and all same-filled pages."""
    cases = [("fill_frame", source, word, tag) for source in range(len(NEAR) + 1) for word in WORDS for tag in TAGS]
    cases += [("fill_frame_same", value, word, tag) for value in SAME for word in WORDS for tag in TAGS]
    cases += [(call, what, 0, None) for call, what, _, _ in cases[:: len(WORDS) * len(TAGS)]]
    real, ids = PageProbe(Bytes(1, NEAR)), PageProbe(Fingerprints(1, NEAR))
    by_bytes, by_id = {}, {}
    for case in cases:
        call, what, word, tag = case
        for content in (real, ids):
            getattr(content, call)(0, what)
            if tag:
                content.tag_word(0, word, tag)
        by_bytes.setdefault(real.frame_raw(0), []).append(case)
        by_id.setdefault(ids.frame_raw(0), []).append(case)
        assert real.frame_same_filled(0) == ids.frame_same_filled(0), case
    assert sorted(map(str, by_bytes.values())) == sorted(map(str, by_id.values()))
    assert len(by_bytes) < len(cases)  # the corpus does hold pages that coincide


def test_the_one_case_that_ids_miss_is_missed_on_the_safe_side():
    """Sources two words apart, each tagged to look like the other: equal bytes, and a merge that does not happen."""
    corpus = corpus_of(page_of(value=6, w0=5), page_of(value=6, w2=1))
    real, ids = PageProbe(Bytes(2, corpus)), PageProbe(Fingerprints(2, corpus))
    for content in (real, ids):
        content.fill_frame(0, 1)
        content.fill_frame(1, 2)
        content.tag_word(0, 2, 1)
        content.tag_word(1, 0, 5)
    assert real.compare_frames(0, 1) == 0
    assert ids.compare_frames(0, 1) != 0


def test_lengths_come_from_the_codec():
    codec = open_codec("lz4")
    corpus = corpus_of(page_of(value=1, w3=2), page_of(seed=1, **{f"w{i}": 0 for i in range(256)}), page_of(seed=2))
    ids, real = PageProbe(Fingerprints(2, corpus, codec)), PageProbe(Bytes(2, corpus, codec))
    for source in range(len(corpus) + 1):
        for content in (ids, real):
            content.fill_frame(0, source)
        plain, expected = ids.compress_frame(0), real.compress_frame(0)
        assert (plain and plain[0]) == (expected and expected[0])
        for content in (ids, real):
            content.tag_word(0, 77, 123456789)
        tagged, expected = ids.compress_frame(0), real.compress_frame(0)
        assert abs((tagged or [4097])[0] - (expected or [4097])[0]) <= 16
        if plain:
            assert len(tagged[1]) == 8


def test_ids_that_cannot_be_are_corrupt():
    ids = PageProbe(Fingerprints(2, NEAR))
    duplicate = 7
    for bad in (
        b"",
        b"1234567",
        (len(NEAR) + 1000 << 40).to_bytes(8, "little"),
        (9 << 31).to_bytes(8, "little"),
        (duplicate << 40).to_bytes(8, "little"),
    ):
        assert not ids.expand_frame(0, bad)
    ids.set_frame_raw(1, (2**64 - 1).to_bytes(8, "little"))
    with pytest.raises(InvariantError, match="frame 1"):
        ids.check()


def test_loads_do_not_depend_on_the_frame():
    ids = PageProbe(Fingerprints(2, NEAR))
    ids.fill_frame(0, 1)
    ids.copy_frame(1, 0)
    assert ids.load_word(0, 4) == ids.load_word(1, 4) != ids.load_word(0, 5)
    ids.tag_word(1, 4, 99)
    assert (ids.load_word(1, 4), ids.load_word(1, 5)) == (99, ids.load_word(0, 5))


def test_same_filled_sources_can_run_out_only_with_an_error():
    ids = PageProbe(Fingerprints(2))
    for value in range(1, 4097):
        ids.fill_frame_same(0, value)
        assert ids.frame_same_filled(0) == value
    with pytest.raises(InvariantError, match="4096 same-filled pages beside those of the corpus"):
        ids.fill_frame_same(0, 5000)
    assert ids.frame_same_filled(0) == 4096, "the page is what it was"
    ids.fill_frame_same(1, 17)
    ids.check()
