"""What is measured of pages, each against the plain way to say it."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memvirt.engine.content.codec import open_codec
from memvirt.errors import ConfigError
from memvirt.inputs import PageClass, synthetic
from memvirt.inputs.measure import (
    BINS,
    BLOCK,
    BLOCKS,
    EMPTY,
    entropy,
    hashes,
    measure,
    same_filled,
    siphash,
    sketches,
    unit_count,
)
from memvirt.inputs.similarity import NEAR, changed_blocks, nearest, resemblance

PAGE = 4096
KEY = bytes(range(16))


def pages_from(seed: int, count: int, alphabet: int = 256) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, alphabet, (count, PAGE), np.uint8)


@pytest.mark.parametrize("alphabet", [1, 2, 7, 64, 256])
def test_entropy_is_shannons(alphabet: int) -> None:
    pages = pages_from(alphabet, 300, alphabet)
    pages[3, 100:] = 7
    for page, found in zip(pages, entropy(pages), strict=True):
        bits = -sum(n / PAGE * math.log2(n / PAGE) for n in Counter(page.tolist()).values())
        assert abs(found - min(255, bits * 32)) <= 1
        assert found <= bits * 32 + 1e-6


def test_the_entropy_of_one_value_and_of_all_alike() -> None:
    flat = np.tile(np.arange(256, dtype=np.uint8), 16)
    assert entropy(np.stack([np.zeros(PAGE, np.uint8), flat])).tolist() == [0, 255]


@given(word=st.integers(0, 2**64 - 1), changed=st.one_of(st.none(), st.integers(0, PAGE - 1)))
@settings(deadline=None)
def test_same_filled_means_every_word(word: int, changed: int | None) -> None:
    page = np.full((2, 512), word, "<u8").view(np.uint8)
    if changed is not None:
        page[1, changed] ^= 1
    assert same_filled(page).tolist() == [True, changed is None]


def test_siphash_is_the_published_one() -> None:
    """Vectors of the reference implementation: messages 00 01 02 … under the key 00 … 0f."""
    vectors = {0: 0x726FDB47DD0E0E31, 8: 0x93F5F5799A932462, 16: 0x3F2ACC7F57C29BDB}
    for length in (0, 8, 16):
        message = np.frombuffer(bytes(range(length)), "<u8").reshape(1, -1).astype(np.uint64)
        assert int(siphash(message, KEY)[0]) == vectors[length], length
    many = pages_from(1, 1)[0].reshape(-1, BLOCK).view("<u8").astype(np.uint64)
    assert siphash(many, KEY)[5] == siphash(many[5:6], KEY)[0] != siphash(many[5:6], KEY[::-1])[0]


def test_hashes_are_keyed_blake2b() -> None:
    pages = pages_from(2, 3)
    expected = [hashlib.blake2b(page.tobytes(), key=KEY, digest_size=8).digest() for page in pages]
    assert [int(found).to_bytes(8, "little") for found in hashes(pages, KEY)] == expected
    assert not set(hashes(pages, KEY).tolist()) & set(hashes(pages, KEY[::-1]).tolist())


def test_sketches_are_least_hashes_by_bin() -> None:
    page = pages_from(3, 1)
    found = [int(EMPTY)] * BINS
    for block in page.reshape(-1, BLOCK):
        digest = int(siphash(block.view("<u8")[None].astype(np.uint64), KEY)[0])
        found[digest % BINS] = min(found[digest % BINS], digest >> 32)
    assert sketches(page, KEY)[0].tolist() == found
    assert (sketches(np.zeros((1, PAGE), np.uint8), KEY)[0] != EMPTY).sum() == 1


@pytest.mark.parametrize("changed", [0, 1, 8, 21, 40, 64])
def test_resemblance_is_the_overlap_of_blocks(changed: int) -> None:
    """Over 400 pairs the mean of the estimates is the resemblance; its standard error is below 0.01."""
    pages = pages_from(4, 400)
    others = pages.copy()
    others[:, : changed * BLOCK] ^= 0x5A
    true = (BLOCKS - changed) / (BLOCKS + changed)
    found = resemblance(sketches(pages, KEY), sketches(others, KEY))
    assert found.mean() == pytest.approx(true, abs=0.04)
    assert changed_blocks(np.array([true]), BLOCKS)[0] == pytest.approx(changed)


def test_nearly_alike_pages_are_found_and_no_others() -> None:
    pages = pages_from(5, 600)
    pages[300:500] = pages[:200]
    pages[300:500, 1000:1100] ^= 0x33  # two or three blocks of 64
    mine = sketches(pages, KEY)
    which, how_much = nearest(mine)
    assert (which[:200] == np.arange(300, 500)).mean() > 0.97
    assert (which[300:500] == np.arange(200)).mean() > 0.97
    assert (which[200:300] == -1).all() and (which[500:] == -1).all() and (how_much[500:] == 0).all()
    for row in np.flatnonzero(which >= 0):
        estimate = resemblance(mine[row : row + 1], mine[which[row] : which[row] + 1])[0]
        assert how_much[row] == estimate >= NEAR
    assert nearest(mine[:0])[0].tolist() == [] and nearest(mine[:1])[0].tolist() == [-1]


def test_measure_takes_sizes_from_the_engines_codec_and_from_units() -> None:
    pages = synthetic(200, 1).pages.copy()
    classes = [PageClass("zero", 0, 1), PageClass("a", 1, 100), PageClass("b", 101, 100)]
    calls: list[tuple[int, int]] = []
    found = measure(pages, classes, [("lz4", None), ("zstd", 3)], KEY, KEY, lambda *done: calls.append(done))
    assert list(found.sizes) == ["lz4:1", "zstd:3"]
    for (name, level), sizes in zip((("lz4", 1), ("zstd", 3)), found.sizes.values(), strict=True):
        codec = open_codec(name, level)
        packed = [codec.pack(page.tobytes(), PAGE) for page in pages]
        assert sizes.page.tolist() == [PAGE + 1 if block is None else len(block) for block in packed]
        assert [len(sizes.units[unit]) for unit in (4, 16)] == [50, 14]
        assert sizes.units[16].sum() < sizes.units[4].sum() < np.minimum(sizes.page[1:], PAGE).sum(dtype=np.int64)
        assert sizes.units[16][6] <= 4 * PAGE  # the last unit of a class is shorter
    assert calls == sorted(calls) and calls[-1] == (3 * 201, 3 * 201)
    assert unit_count(classes, 16) == 14
    with pytest.raises(ConfigError, match="unknown codec 'brotli'"):
        measure(pages, classes, [("brotli", None)], KEY, KEY)
