"""Codecs on every kind of page, at their edges, on damaged input, and the message when one cannot be had."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memvirt.engine.content import codec as codec_module
from memvirt.engine.content.codec import open_codec
from memvirt.errors import ConfigError
from memvirt.names import CODECS

PAGE = 4096
WORDS = b"a page is unit of address space and content frame slot host memory guest balloon swap zpool".split()
TEXT = b" ".join(WORDS[i] for i in np.random.default_rng(3).integers(0, len(WORDS), 2000))[:PAGE]
PAGES = {
    "zero": bytes(PAGE),
    "same": bytes(range(8)) * 512,
    "text": TEXT,
    "random": np.random.default_rng(1).bytes(PAGE),
    "half": np.random.default_rng(2).bytes(PAGE // 2) + bytes(PAGE // 2),
    "last": bytes(PAGE - 1) + b"\x01",
}
CHOICES = [("lz4", 1, "c"), ("lz4", 8, "c"), ("lz4", 65537, "c"), ("lz4hc", 3, "c"), ("lz4hc", 12, "c"),
           ("lz4", 1, "python"), ("lz4hc", 9, "python")]  # fmt: skip
if importlib.util.find_spec("zstandard"):
    CHOICES += [("zstd", -1, "c"), ("zstd", 1, "c"), ("zstd", 3, "c")]


@pytest.fixture(params=CHOICES, ids=lambda choice: "-".join(map(str, choice)))
def codec(request):
    name, level, route = request.param
    return open_codec(name, level, route)


@pytest.mark.parametrize("kind", PAGES)
def test_round_trip_and_room(codec, kind):
    page = PAGES[kind]
    block = codec.pack(page)
    assert codec.unpack(block) == page
    assert codec.pack(page, room=len(block) + 64) == block  # a codec may refuse what would only just fit
    assert codec.pack(page, room=len(block) - 1) is None
    if codec.level < 65537:  # at its largest, acceleration skips over most pages
        assert (len(block) < PAGE) == (kind != "random")


def test_a_block_of_another_length_than_a_page_is_refused(codec):
    block = codec.pack(TEXT)
    for damaged in (block[:-1], block[: len(block) // 2], block[:1], b""):
        assert codec.unpack(damaged) is None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_never_crashes(data):
    codec = open_codec(*data.draw(st.sampled_from(CHOICES)))
    block = bytearray(codec.pack(PAGES["half"]))
    for _ in range(data.draw(st.integers(1, 3))):
        block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    page = codec.unpack(block)
    assert page is None or len(page) == PAGE
    assert codec.unpack(codec.pack(TEXT)) == TEXT  # and leaves no trace in the codec


@pytest.mark.parametrize("name", ["lz4", "lz4hc"])
def test_routes_share_the_format(name):
    through_c, through_python = open_codec(name, route="c"), open_codec(name, route="python")
    assert through_c.route != through_python.route
    for page in PAGES.values():
        assert through_python.unpack(through_c.pack(page)) == page
        assert through_c.unpack(through_python.pack(page)) == page


def test_route_names_library_and_version():
    import lz4

    assert open_codec("lz4").route == f"LZ4 {lz4.library_version_string()}, C functions"


def test_a_stronger_level_is_used():
    assert len(open_codec("lz4hc", 12).pack(TEXT)) < len(open_codec("lz4").pack(TEXT))
    page = PAGES["half"][:2048] + TEXT[:2048]
    assert len(open_codec("lz4", 65537).pack(page)) > len(open_codec("lz4").pack(page))


@pytest.mark.parametrize("arguments", [
    ("lzo",), ("lz4", 0), ("lz4", 65538), ("lz4hc", 2), ("lz4hc", 13), ("zstd", 2), ("zstd", -2), ("zstd", 0),
    ("lz4", 1, "rust"),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_the_choices(arguments):
    with pytest.raises(ConfigError, match=r"choose|must be"):
        open_codec(*arguments)


def test_a_library_that_does_not_resolve_is_named_with_the_remedy(monkeypatch):
    def absent(library, symbol):
        raise AttributeError(f"undefined symbol: {symbol}")

    monkeypatch.setattr(codec_module, "address", absent)
    with pytest.raises(ConfigError, match=r"LZ4_compress_HC_extStateHC.*pip install lz4"):
        open_codec("lz4hc", route="c")
    assert "lz4.block" in open_codec("lz4").route
    with pytest.raises(ConfigError, match="pip install zstandard"):
        open_codec("zstd")


def test_a_codec_that_fails_its_round_trip_is_not_used(monkeypatch):
    class Broken:
        def __init__(self, module):
            self._block = module

        def __getattr__(self, name):
            return getattr(self._block, name)

        def decompress(self, block, uncompressed_size):
            page = bytearray(self._block.decompress(block, uncompressed_size=uncompressed_size))
            page[100] ^= 1
            return bytes(page)

    import lz4
    import lz4.block

    monkeypatch.setattr(lz4, "block", Broken(lz4.block))
    with pytest.raises(ConfigError, match="round trip"):
        open_codec("lz4", route="python")


def test_pack_checks_its_arguments():
    codec = open_codec("lz4")
    for page, room in ((b"short", PAGE), (bytes(PAGE), 0), (bytes(PAGE), 2 * PAGE + 1)):
        with pytest.raises(ConfigError, match="4096"):
            codec.pack(page, room)


def test_defaults_lie_within_their_bounds():
    for name, (_, default, lowest, highest, *_) in CODECS.items():
        assert lowest <= default <= highest, name
