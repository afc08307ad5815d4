"""Traces of every format: what each file must be read as, whatever it is packed in, and what is refused in which words."""

import bz2
import gzip
import io
import lzma
import os
import struct
import zlib

import lz4.frame
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import trace_files
from helpers.trace_files import CASES, DATA
from memvirt.errors import ConfigError, CorpusError
from memvirt.inputs import traces
from memvirt.inputs.traces import Wanted, content_sha256, import_trace, open_trace
from memvirt.inputs.traces.registry import Head, lookup
from memvirt.simulation import simulate

PACKED = {
    "gz": gzip.compress,
    "two gz members": lambda data: gzip.compress(data[:40]) + gzip.compress(data[40:]) + bytes(512),
    "zst": zstandard.ZstdCompressor().compress,
    "two zst frames": lambda data: b"".join(zstandard.ZstdCompressor().compress(part) for part in (data[:9], data[9:])),
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "lz4": lz4.frame.compress,
    "zlib": zlib.compress,
}


@pytest.fixture
def convert(tmp_path):
    """Import bytes: (info, trace, "0r 1w …")."""

    def call(data, **wanted):
        source, out = tmp_path / "source", tmp_path / "out.parquet"
        source.write_bytes(data)
        info = import_trace(str(source), out, Wanted(**wanted))
        trace = open_trace(out)
        assert trace.info == info
        return info, trace, told(trace)

    return call


def told(trace, rows=1 << 20):
    return " ".join(
        f"{page}{'rw'[op]}"
        for chunk in trace.chunks(rows)
        for page, op in zip(chunk.pages.tolist(), chunk.ops.tolist(), strict=True)
    )


def left_over(folder):
    return sorted(name for name in os.listdir(folder) if name != "source")


@pytest.mark.parametrize("case", CASES)
def test_every_format_is_recognised_and_read(convert, case):
    name, data, pages, skipped = CASES[case]
    info, trace, found = convert(data)
    assert (info.format, found, info.skipped) == (name, pages, skipped)
    assert (info.touches, info.writes) == (len(pages.split()), pages.count("w"))
    assert info.pages == len({word[:-1] for word in pages.split()})
    assert trace.sha256() == info.sha256 == content_sha256(trace.path)


@pytest.mark.parametrize("packing", PACKED)
def test_compressed_files_are_read_through(convert, packing):
    for case in ("lackey", "oracle"):
        name, data, pages, _ = CASES[case]
        info, _, found = convert(PACKED[packing](data))
        assert (info.format, found) == (name, pages)


@pytest.mark.parametrize(
    ("file", "lru", "belady"),
    [
        ("msr.csv", [5, 3, 3], [5, 3, 3]),
        ("oracle.bin", [3, 2, 2], [3, 2, 2]),
        ("vscsi1.bin", [4, 4, 3], [4, 3, 3]),
        ("lackey.txt", [5, 5, 5], [5, 5, 5]),
        ("names.txt", [3, 2, 2], [3, 2, 2]),
    ],
)
def test_misses_of_the_sample_files(tmp_path, file, lru, belady):
    import_trace(str(DATA / file), tmp_path / "t.parquet")
    pages = np.concatenate([chunk.pages for chunk in open_trace(tmp_path / "t.parquet").chunks()])
    assert [simulate("lru", pages, frames) for frames in (1, 2, 3)] == lru
    assert [simulate("belady", pages, frames) for frames in (1, 2, 3)] == belady


def test_a_cut_file_is_refused_by_the_number_of_its_record(tmp_path):
    with pytest.raises(CorpusError, match="oracle-cut.bin: record 3 has 23 of 24 bytes"):
        import_trace(str(DATA / "oracle-cut.bin"), tmp_path / "t.parquet")
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("case", ["oracle", "vscsi1", "vscsi2", "champsim"])
def test_files_of_records_cut_at_every_byte_name_the_record(convert, tmp_path, case):
    name, data, _, _ = CASES[case]
    length = {"oracle": 24, "vscsi1": 32, "vscsi2": 40, "champsim": 64}[case]
    for cut in range(1, len(data)):
        if cut % length:
            with pytest.raises(CorpusError, match=f"record {cut // length} (has {cut % length} of|is of neither)"):
                convert(data[:cut], format=name)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("packing", PACKED)
def test_compressed_files_cut_at_every_byte_are_refused(convert, tmp_path, packing):
    data = PACKED[packing](CASES["lackey"][1])
    end = len(data) - 512 if packing == "two gz members" else len(data)
    frames = {"two gz members": len(gzip.compress(CASES["lackey"][1][:40]))}
    frames["two zst frames"] = len(zstandard.ZstdCompressor().compress(CASES["lackey"][1][:9]))
    for cut in range(10, end):  # less is not known for compressed
        if cut != frames.get(packing):  # a cut between two frames cannot be seen in them
            with pytest.raises(CorpusError, match=r"end within a frame|damaged|behind|no format known|record|line \d"):
                convert(data[:cut], format="lackey")
    assert left_over(tmp_path) == []


def test_a_bomb_is_refused_and_the_flag_named(convert, tmp_path):
    bomb = gzip.compress(bytes(8 << 20))
    with pytest.raises(CorpusError, match=r"expand to more than .* over 250 times as many; .* --expand-limit 4MiB"):
        convert(bomb, format="oracle-general", expand_limit=1 << 20)
    assert left_over(tmp_path) == []
    line = b" L 04022fff,8\n"
    data = zstandard.ZstdCompressor().compress(line * 200_000)
    with pytest.raises(CorpusError, match="expand"):
        convert(data, expand_limit=1 << 20)
    info, _, _ = convert(data, expand_limit=1 << 26)
    assert info.touches == 400_000


@pytest.mark.parametrize("packing", ["gz", "zst", "xz", "lz4", "bz2"])
def test_a_bomb_takes_no_memory(convert, packing):
    """What is in memory while it expands is a few pieces, whatever the frame says."""
    import tracemalloc

    bomb = PACKED[packing](bytes(96 << 20))
    tracemalloc.start()
    with pytest.raises(CorpusError):
        convert(bomb, format="oracle-general", expand_limit=64 << 20)
    assert tracemalloc.get_traced_memory()[1] < 48 << 20
    tracemalloc.stop()


def test_what_stands_behind_compressed_data_is_not_dropped_in_silence(convert):
    for make in (gzip.compress, lzma.compress, lz4.frame.compress, bz2.compress):
        with pytest.raises(CorpusError, match="something behind|damaged"):
            convert(make(CASES["lackey"][1]) + b"more", format="lackey")


def test_two_disks_are_two_address_spaces(convert):
    text = b"1,a,0,Read,0,4096,9\n2,a,1,Read,0,4096,9\n3,longer-name,0,Write,0,4096,9\n4,a,0,Read,0,1,9\n"
    info, trace, found = convert(text)
    assert found == "0r 1r 2w 0r"
    assert info.streams == ["a,0", "a,1", "longer-name,0"]
    assert [chunk.stream.tolist() for chunk in trace.chunks()] == [[0, 1, 2, 0]]


def test_times_keep_their_unit_and_come_as_nanoseconds(convert):
    info, trace, _ = convert(CASES["vscsi2"][1])
    assert info.time_unit == "us"
    assert [chunk.time_ns.tolist() for chunk in trace.chunks()] == [[1_000_000, 2_000_000, 2_000_000, 2_000_000]]
    assert (info.first_ns, info.last_ns) == (1_000_000, 2_000_000)
    info, trace, _ = convert(b"128166372003061629,h,0,Read,0,1,9\n")
    assert info.first_ns == 12816637200306162900
    assert [chunk.time_ns for chunk in trace.chunks(times=False)] == [None]


def test_tenants_are_streams(convert):
    info, trace, _ = convert(CASES["lcs2"][1])
    assert info.streams == ["5", "6"]
    assert [chunk.stream.tolist() for chunk in trace.chunks()] == [[0, 1, 0]]
    assert convert(CASES["lcs-2024"][1])[0].streams == ["3", "4"]


def test_the_columns_of_a_csv_can_be_named(convert):
    text = b"when,where,who,what\n1,7,x,r\n2,8,y,w\n"
    info, trace, found = convert(
        text, options={"page": "where", "time": "when", "unit": "us", "stream": "who", "op": "what"}, format="csv"
    )
    assert (found, info.streams, info.time_unit) == ("0r 1w", ["x", "y"], "us")
    assert [chunk.time_ns.tolist() for chunk in trace.chunks()] == [[1000, 2000]]
    headless = text.partition(b"\n")[2]
    assert convert(headless, format="csv", options={"page": "2", "op": "4"})[2] == "0r 1w"
    with pytest.raises(ConfigError, match=r"option time: there is no column 'wehn'; did you mean 'when'"):
        convert(text, format="csv", options={"time": "wehn"})
    with pytest.raises(ConfigError, match="option delimiter: one character is needed"):
        convert(text, format="csv", options={"delimiter": ",,"})
    with pytest.raises(ConfigError, match="name only one"):
        convert(text, format="csv", options={"page": "where", "id": "who"})
    for text in (b"a,b\n1,2\n", b"1,2\n1,2\n"):
        words = r"the columns are .*: say which one .* --option page.address.block.id=COLUMN"
        with pytest.raises(ConfigError, match=words):
            convert(text, format="csv")
    with pytest.raises(ConfigError, match="option unit = 'days'"):
        convert(text, format="csv", options={"unit": "days"})


def test_a_masim_configuration_becomes_the_accesses_it_describes(convert):
    info, trace, found = convert(trace_files.MASIM, options={"per_ms": "4"})
    assert info.format == "masim"
    # region a has three pages and a byte more than two: 10000 bytes, so a stride of 4096 meets 0, 4096, 8192, 2288, …
    offsets = [4096 * step % 10000 for step in range(8)]
    first, second = found.split()[:8], found.split()[8:]
    assert [int(word[:-1]) for word in first] == [offset // 4096 for offset in offsets]
    assert all(word.endswith("r") for word in first) and second == ["3r", "3w"] * 4
    times = [time // 1000 for chunk in trace.chunks() for time in chunk.time_ns.tolist()]
    assert times == [0, 250, 500, 750, 1000, 1250, 1500, 1750, *(2000 + 250 * (n // 2) for n in range(8))]
    assert convert(trace_files.MASIM, options={"per_ms": "4"})[0].sha256 == info.sha256


def test_our_own_file_is_read_in_again_and_says_the_same(convert, tmp_path):
    info, trace, found = convert(CASES["lcs2"][1])
    for pack in (bytes, gzip.compress):
        again, _, pages = convert(pack(trace.path.read_bytes()))
        assert (again.sha256, pages, again.streams, again.format) == (info.sha256, found, info.streams, "memvirt")
        trace = open_trace(trace.path)


def test_fetches_can_be_dropped(convert):
    info, _, found = convert(CASES["lackey"][1], fetches=False)
    assert found == "0w 1r 2r 3r 3w"
    assert info.skipped == {"other lines": 3, "instruction fetches": 1}
    info, _, found = convert(CASES["champsim"][1], fetches=False)
    assert found == "0r 1r 0w"
    assert info.skipped == {"instruction fetches": 2}


def test_a_modify_reads_all_its_pages_and_then_writes_them(convert):
    assert convert(b" M 00000ffc,8\n")[2] == "0r 1r 0w 1w"


def test_the_map_tells_what_pages_were_called(convert, tmp_path):
    import pyarrow.parquet

    convert(b"1,a,0,Read,0,8192,9\n2,a,1,Read,4096,1,9\n", map_file=tmp_path / "map.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "map.parquet").to_pydict()
    assert rows == {"page": [0, 1, 2], "source": [0, 1, 1], "space": ["a,0", "a,0", "a,1"]}
    convert(CASES["names"][1], map_file=tmp_path / "map.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "map.parquet").to_pydict()
    assert rows == {"page": [0, 1], "source": ["a", "b"]}


def test_a_request_of_absurd_size_is_refused_and_can_be_allowed(convert):
    text = b"1,a,0,Read,0,%d,9\n" % (1 << 33)
    with pytest.raises(
        CorpusError, match="line 1: a request touches 2097152 pages, the most is 1048577; .* --most-pages 2097152"
    ):
        convert(text)
    info, trace, _ = convert(text, most_pages=1 << 21)
    assert info.touches == info.pages == 1 << 21
    assert (np.concatenate([chunk.pages for chunk in trace.chunks()]) == np.arange(1 << 21)).all()


@pytest.mark.parametrize(
    ("data", "form", "words"),
    [
        (b"", None, "the file is empty"),
        (b"\0\1\2\3" * 5, None, "no format known here begins like this"),
        (b"some words of a letter\n", None, "no format known"),
        (b"\xff\xfe\xfd\n", None, "no format known"),
        (b"1,srv,0,Read,0,4096\n", "msr", "line 1: 6 fields, 7 are needed"),
        (b"1,srv,0,Read,0,4096,9\n1,srv,0,Read,0,4096,9,9\n", "msr", "line 2: 8 fields, 7 are needed"),
        (b"1,srv,0,read,0,4096,9\n", "msr", "line 1: the type is neither Read nor Write"),
        (b"1,srv,0,Read,0,4096,9\n1,srv,0,Read,-1,4096,9\n", "msr", "line 2: the offset is no whole number"),
        (b"1,srv,0,Read,0x10,4096,9\n", "msr", "line 1: the offset"),
        (b"1,srv,0,Read,18446744073709551616,1,9\n", "msr", "line 1: the offset"),
        (b"1,srv,0,Read,18446744073709551615,2,9\n", "msr", "line 1: 2 bytes from 0xffffffffffffffff on end beyond"),
        (b"999999999999999999,srv,0,Read,0,2,9\n", "msr", "line 1: the time 999999999999999999"),
        (b"1,srv,0,Read,0,\xc3\xa9,9\n", "msr", r"line 1: the size .*1,srv,0,Read,0,é,9"),
        (b"1,srv,0,Read,0,\xff\xfe,9\n", "msr", r"line 1: the size"),
        (b" L 04022fff,8\n L 04022fff\n", "lackey", "line 2: no hexadecimal address, comma and decimal size"),
        (b" L 04022fff,8\n S 12345678123456781,8\n", "lackey", "line 2"),
        (b" L ffffffffffffffff,2\n", "lackey", "line 1: 2 bytes from 0xffffffffffffffff on end beyond"),
        (b"==7== x\n L 1,8\n\n M ffffffffffffffff,2\n", "lackey", "line 4: 2 bytes from 0xffffffffffffffff"),
        (
            b"0,8,8192,r,0.5\n0,15,18446744073709551615,r,0.5\n",
            "spc",
            "line 2: a request of 18446744073709551615 bytes is",
        ),
        (
            trace_files.vscsi1([(1, 0, 0, 0x35, 0x0100, 0, 0), (2, 9, 1, 0x28, 0x0100, 0, (1 << 64) - 1)]),
            None,
            "record 1: the time 18446744073709551615",
        ),
        (b"x" * (3 << 20), "names", "line 1 is longer than 1048576 bytes"),
        (b"a\n" + b"x" * (3 << 20) + b"\n", "names", "line 2 is longer than 1048576 bytes"),
        (b"\n\n\n", "names", r"nothing in it touches a page \(empty lines: 3\)"),
        (b"== no\n", "lackey", r"nothing in it touches a page \(other lines: 1\)"),
        (bytes(24), "oracle-general", r"nothing in it touches a page \(no bytes: 1\)"),
        (bytes(32), "vscsi", "record 0 is of neither version"),
        (CASES["vscsi1"][1][:64] + bytes(32), "vscsi", r"record 2 \(from byte 64 on\) is not of version 1"),
        (b"0,8,8192,x,0.5\n", "spc", "line 1: the opcode is neither r nor w"),
        (b"0,8,8192,r,0.5\n0,8,8192,r,0.5.5\n", "spc", "line 2: the time is no number"),
        (b"0,8,8192,r,.\n", "spc", "line 1: the time is no number"),
        (b"0,8,8192,r,18446744074\n", "spc", "line 1: the time is no number that fits"),
        (b"0,8,8192,r\n", "spc", "line 1: 4 fields, at least 5"),
        (b"page\n1\n\n", "csv", "line 3: the page is no whole number"),
        (b"page,op\n1,r\n2\n", "csv", "line 3: 1 fields, 2 are needed"),
        (b"page,time\n1,2\n1,-2\n", "csv", "line 3: the time is no number"),
        (b"page,time\n1,1e9\n", "csv", "line 2: the time is no number"),
        (b"address\n0xfffffffffffffffff\n", "csv", "line 2: the address is no whole number"),
        (b"address\n0x\n", "csv", "line 2: the address"),
        (b'page,id\n1,"a\n', "csv", "line 2: its quotes do not close"),
        (b"\xff\n1\n", "csv", "line 1 is no line of fields"),
        (
            b" sh 9/9  1.5: page-faults:u:     7f18c7db3b70 _start+0x0 (/lib/ld.so)\n",
            None,
            "line 1: there is no address; use",
        ),
        (b" sh 9/9  99999999999.5: page-faults:u:     7f18c7db3b70\n", None, "line 1: the time is no number that fits"),
        (trace_files.damo(trace_files.SNAPSHOTS)[:-40], None, "the JSON is damaged or cut"),
        (trace_files.damo([(0, "soon", [(0, 4096, 1)])]), None, "'soon' is no time"),
        (trace_files.damo([(0, 5, [(8192, 4096, 1)])]), None, "region 0: from 8192 to 4096 at 5 ns is none"),
        (trace_files.damo([(0, 5, [(0, "x", 1)])]), None, "'x' is no number"),
        (b'[{"target_id": 1, "snapshots": [{"end_time": 1, "regions": 3}]}]', None, "regions hold no list"),
        (b'[{"target_id": 1}]', None, "something has no 'snapshots'"),
        (b"[" * 100_000, "damon", "the JSON is damaged"),
        (b"a, 10\n\nphase\n5\nc, 0, 1, 1\n", "masim", "line 5: there is no region 'c'"),
        (b"a, 10\n\nphase\n5\na, 2, 1, 1\n", "masim", "line 5: randomness: a whole number from 0 to 1"),
        (b"a, 10\n\nphase\n5\na, 0, 1, 1, xx\n", "masim", "line 5: the mode is ro, wo or rw"),
        (b"a, 10\n\nphase\n5\n", "masim", "line 3: a phase is a name, a length"),
        (b"a, 99999999999999\n\nphase\n5\na, 0, 1, 1\n", "masim", "line 1: bytes of a region"),
        (b"a, 1\na, 1\n\nphase\n5\na, 0, 1, 1\n", "masim", "line 2: a region is called 'a' already"),
        (
            b"a, 1\n\nphase\n999999999\na, 0, 1, 1\n",
            "masim",
            "999999999000 accesses, the most is 1000000000; make fewer",
        ),
        (b"a, 1\n", "masim", "there are not both"),
        (b"\x93NUMPY", None, "npy file is damaged"),
        (trace_files.npy(np.array([3, -1])), None, r"page number 1 \(from 0\) is negative: -1"),
        (trace_files.npy(np.array([1.0])), None, "integers, but the array holds float64"),
        (b"PAR1", None, "is no Parquet file"),
        (b"short", "lcs", "does not begin with LCS's magic"),
        (trace_files.MAGIC + bytes(9000), None, "no second magic number"),
        (trace_files.lcs(9, []), None, "LCS version 9; versions 1 to 8"),
        (trace_files.lcs(0, []), None, "LCS version 0"),
        (trace_files.lcs(2, trace_files.OPS, requests=7), None, "speaks of 7 requests, 6 follow"),
        (trace_files.lcs(2, trace_files.OPS, requests=1 << 60), None, "speaks of 1152921504606846976 requests"),
        (trace_files.lcs(2, trace_files.OPS, requests=-5), None, "speaks of -5 requests"),
        (trace_files.lcs(2, trace_files.OPS)[:-1], None, "record 5 has 27 of 28 bytes .from byte 8332 on"),
        (trace_files.short_lcs("<IQd", {0: 3}, []), None, "a id is a whole number, field 3 is none"),
        (trace_files.short_lcs("<IQ", {0: 9}, []), None, "field 9 of 2 is said to hold the id"),
        (trace_files.short_lcs("<IQ", {1: 1}, []), None, "no id"),
        (trace_files.short_lcs("<IQ", {0: 2}, [], length=13), None, "12 bytes of fields in records of 13"),
        (trace_files.short_lcs(">IQ", {0: 2}, []), None, "records have the fields '>IQ'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(convert, tmp_path, data, form, words):
    with pytest.raises(CorpusError, match=words) as error:
        convert(data, format=form)
    assert str(error.value).startswith(f"trace {tmp_path / 'source'}: ")
    assert left_over(tmp_path) == []


def test_unknown_formats_and_options_are_named(convert):
    with pytest.raises(ConfigError, match="unknown trace format 'lacky'; did you mean 'lackey'"):
        convert(b"x", format="lacky")
    with pytest.raises(ConfigError, match="format 'lackey' has no option 'colum'"):
        convert(CASES["lackey"][1], options={"colum": "1"})


def test_a_place_that_cannot_be_written_is_known_before(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(CASES["oracle"][1])
    with pytest.raises(CorpusError, match="there is no folder .*nowhere"):
        import_trace(str(source), tmp_path / "nowhere" / "t.parquet")
    with pytest.raises(CorpusError, match="is a folder"):
        import_trace(str(source), tmp_path)
    with pytest.raises(CorpusError, match="is the file that is read"):
        import_trace(str(source), source)
    with pytest.raises(CorpusError, match="missing: No such file"):
        import_trace(str(tmp_path / "missing"), tmp_path / "t.parquet")
    with pytest.raises(CorpusError, match="Is a directory"):
        import_trace(str(tmp_path), tmp_path / "t.parquet")
    assert source.read_bytes() == CASES["oracle"][1]


def test_an_interrupted_import_leaves_nothing(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(trace_files.oracle([(1, n, 1, -1) for n in range(300_000)]))

    def stop(source, done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_trace(str(source), tmp_path / "t.parquet", progress=stop)
    assert left_over(tmp_path) == []


# --- the rule, as plain Python reads it ---------------------------------------------------------------------------

EDGE = st.sampled_from([0, 1, 511, 512, 4095, 4096, 4097, 8191, 8192, 12288])
PLACE = EDGE | st.integers(0, 1 << 48) | EDGE.map(lambda low: (1 << 63) + low)


def pages_of(start, size):
    return range(start // 4096, (start + size - 1) // 4096 + 1) if size else ()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ILSM"), PLACE, EDGE), min_size=1, max_size=60))
def test_lackey_against_plain_python(tmp_path_factory, rows):
    text = "".join(f"{'I ' if kind == 'I' else ' ' + kind} {place:08x},{size}\n" for kind, place, size in rows)
    touches = [
        (page, op)
        for kind, place, size in rows
        for op in {"I": "r", "L": "r", "S": "w", "M": "rw"}[kind]
        for page in pages_of(place, size)
    ]
    check(tmp_path_factory, text.encode(), "lackey", touches, sum(not size for *_, size in rows))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, (1 << 64) - 1) | EDGE, EDGE), min_size=1, max_size=60))
def test_vscsi_against_plain_python(tmp_path_factory, rows):
    data = trace_files.vscsi1(
        (number, size, 1, 0x2A if write else 0x28, 0x0100, block, number)
        for number, (write, block, size) in enumerate(rows)
    )
    touches = [(page, "rw"[write]) for write, block, size in rows for page in pages_of(block * 512, size)]
    check(tmp_path_factory, data, "vscsi", touches, sum(not size for *_, size in rows))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", "ninechars"]), PLACE, EDGE), max_size=60, min_size=1)
)
def test_msr_against_plain_python(tmp_path_factory, rows):
    text = "".join(f"5,{host},0,{['Read', 'Write'][write]},{place},{size},1\n" for write, host, place, size in rows)
    touches = [((host, page), "rw"[write]) for write, host, place, size in rows for page in pages_of(place, size)]
    check(tmp_path_factory, text.encode(), "msr", touches, sum(not size for *_, size in rows))


def check(tmp_path_factory, data, form, touches, empty):
    folder = tmp_path_factory.mktemp("plain")
    (folder / "source").write_bytes(data)
    if not touches:
        with pytest.raises(CorpusError, match="nothing in it touches a page"):
            import_trace(str(folder / "source"), folder / "t.parquet", Wanted(format=form))
        return
    info = import_trace(str(folder / "source"), folder / "t.parquet", Wanted(format=form))
    assert told(open_trace(folder / "t.parquet")) == trace_files.numbered(touches)
    assert info.skipped.get("no bytes", 0) == empty


def test_a_long_request_and_many_short_ones_are_expanded_alike(convert):
    """Pieces of the expansion meet in the middle of requests."""
    sizes = [3 << 20, 1, 5000, (1 << 32) - 4096, 4096, 12289] * 3
    text = "".join(f"1,h,0,Read,{index << 34},{size},1\n" for index, size in enumerate(sizes))
    info, trace, _ = convert(text.encode())
    assert info.touches == sum(len(pages_of(0, size)) for size in sizes)
    assert (np.concatenate([chunk.pages for chunk in trace.chunks()]) == np.arange(info.touches)).all()


# --- memvirt's own file and .npy ----------------------------------------------------------------------------------


@pytest.fixture
def npy(tmp_path):
    def save(array):
        np.save(tmp_path / "t.npy", array)
        return tmp_path / "t.npy"

    return save


def test_a_trace_has_one_hash_however_it_is_stored(convert, npy):
    info, _, _ = convert(CASES["lackey"][1])
    rows = [[0, 1, 2, 3, 4, 4], [0, 1, 0, 0, 0, 1]]
    for kind in (np.uint32, np.int64, ">u8"):
        assert content_sha256(npy(np.array(rows, dtype=kind))) == info.sha256
    assert content_sha256(npy(np.array([0, 1]))) != content_sha256(npy(np.array([1, 0])))
    assert content_sha256(npy(np.array([[0, 1], [0, 1]]))) != content_sha256(npy(np.array([0, 1])))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([2**31, 7, 2**40, 2**31]), r"must lie in 0..2147483647, not 7..1099511627776; 'memvirt trace import"),
        (np.array([-1, 2]), "not -1..2"),
        (np.array([[1, 2], [0, 2]]), r"operations are 0 \(read\) or 1 \(write\), not 0..2"),
        (np.array([1.5]), "page numbers are integers, but the array holds float64"),
        (np.zeros((3, 4), int), "its shape is 3x4"),
        (np.array(3), "a single number"),
        (np.array([None]), "damaged, cut, or holds no plain array"),
    ],
)
def test_arrays_that_are_no_trace_are_refused_in_words(npy, array, words):
    with pytest.raises(CorpusError, match=words):
        content_sha256(npy(array))


def test_a_file_that_is_no_npy_is_told_so(tmp_path):
    (tmp_path / "t.npy").write_text("1\n2\n3\n")
    with pytest.raises(CorpusError, match="this is no .npy file.*memvirt trace import") as error:
        open_trace(tmp_path / "t.npy")
    assert "pickle" not in str(error.value)


def test_an_empty_array_is_a_trace_of_nothing(npy):
    trace = open_trace(npy(np.array([], dtype=np.uint32)))
    assert (len(trace), trace.info.pages, list(trace.chunks())) == (0, 0, [])


def test_a_flipped_bit_in_our_file_is_found(convert, tmp_path):
    """Whatever is changed: the content is still what its hash says, or the file is refused."""
    info, trace, _ = convert(CASES["msr"][1])
    data = trace.path.read_bytes()
    for place in range(0, len(data), 3):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << place % 8
        (tmp_path / "spoilt.parquet").write_bytes(spoilt)
        try:
            assert content_sha256(tmp_path / "spoilt.parquet") == info.sha256
        except CorpusError as error:
            assert str(error).startswith("trace ")


def test_our_file_cut_at_every_byte_is_refused(convert, tmp_path):
    _, trace, _ = convert(CASES["msr"][1])
    data = trace.path.read_bytes()
    for cut in range(len(data)):
        (tmp_path / "cut.parquet").write_bytes(data[:cut])
        with pytest.raises(CorpusError):
            content_sha256(tmp_path / "cut.parquet")


def test_another_parquet_file_is_no_trace(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"page": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(CorpusError, match="is no trace of memvirt's; 'memvirt trace import"):
        open_trace(tmp_path / "t.parquet")


def test_chunks_have_any_size(convert):
    _, trace, found = convert(CASES["lackey"][1])
    for rows in (1, 2, 5, 6, 7):
        assert told(trace, rows) == found
        assert max(len(chunk.pages) for chunk in trace.chunks(rows)) <= rows


def test_no_two_formats_take_the_same_file():
    for case, (name, data, _, _) in CASES.items():
        data = zlib.decompress(data) if data.startswith(b"\x78\x9c") else data
        known = [lookup(each) for each in traces.names() if lookup(each).recognise(Head(data, True))]
        most = max(each.certainty for each in known)
        assert [each.name for each in known if each.certainty == most] == [name], case


def test_a_file_that_two_formats_could_hold_is_not_guessed_at(convert):
    """Eight records of 24 bytes that could be three of 64."""
    data = struct.pack("<IQIq", 1 << 16, 1 << 48, 0, 1 << 16) * 8
    with pytest.raises(CorpusError, match=r"this can be 'champsim' or 'oracle-general'; say which: --format NAME"):
        convert(data)
    assert convert(data, format="champsim")[0].records == 3


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith(("lcs", "vscsi")) and case != "lcs-2024"])
def test_libcachesim_reads_the_samples_alike(tmp_path, case):
    """The samples are what their formats are: the program that they come from finds the same requests in them."""
    libcachesim = pytest.importorskip("libcachesim")
    form, data, _, _ = CASES[case]
    (tmp_path / "source").write_bytes(data)
    kind = libcachesim.TraceType.LCS_TRACE if form == "lcs" else libcachesim.TraceType.VSCSI_TRACE
    reader = libcachesim.TraceReader(str(tmp_path / "source"), kind)
    found = []
    while len(found) < 100:
        try:
            request = reader.read_one_req()
        except RuntimeError:
            break
        if not request.valid:
            break
        found.append((request.obj_id, request.obj_size, int(request.op)))
    if form == "lcs":
        expected = [(row[1], row[2], row[3] if case != "lcs1" else 0) for row in trace_files.OPS if row[2]]
    elif case == "vscsi1":
        expected = [(8, 8192, 12), (7, 4096, 13), (0, 0, 255)]
    else:
        expected = [(1 << 55, 512, 12), (7, 8192, 13), (7, 8192, 255), (7, 0, 255)]
    assert found == expected


def test_standard_input_is_read(monkeypatch, tmp_path):
    class Piped:
        buffer = io.BytesIO(gzip.compress(CASES["lackey"][1]))

    monkeypatch.setattr("sys.stdin", Piped)
    info = import_trace("-", tmp_path / "t.parquet")
    assert (info.source, info.touches) == ("standard input", 6)


def test_memory_goes_with_the_footprint_and_not_with_the_length(tmp_path):
    """Peak memory of an import ten times as long is the same."""
    import tracemalloc

    row = struct.pack("<IQIq", 1, 5, 1, -1)
    peaks = []
    for length in (3 << 19, 15 << 19):
        with open(tmp_path / "source", "wb") as file:
            for _ in range(length >> 14):
                file.write(row * (1 << 14))
        tracemalloc.start()
        import_trace(str(tmp_path / "source"), tmp_path / "t.parquet", Wanted(format="oracle-general"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + (1 << 22)
