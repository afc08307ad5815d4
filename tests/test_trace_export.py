"""Traces written for other programs: round trips to the digit, and equal misses in libCacheSim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import trace_files
from helpers.trace_files import CASES
from memvirt.cli import main
from memvirt.errors import ConfigError, CorpusError
from memvirt.inputs.traces import Wanted, export_trace, import_trace, open_trace
from memvirt.inputs.traces import trace as trace_module
from memvirt.inputs.traces.formats.oracle_general import RECORD
from memvirt.inputs.traces.importer import convert
from memvirt.inputs.traces.requests import Reading, Requests
from memvirt.simulation import simulate

TOUCHES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 1), st.integers(0, (1 << 64) - 1), st.integers(0, 3)),
    min_size=1,
    max_size=200,
)
NAMES = st.lists(st.text(max_size=6), min_size=4, max_size=4)


def written(path, rows, timed=True, names=("a", "b", "c", "d")):
    """A trace of (page, op, time, stream) rows."""
    reading = Reading()
    for name in names:
        reading.stream(name.encode())
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    requests = Requests(
        columns[0].astype(np.uint64),
        None,
        columns[1].astype(np.uint8),
        np.array([row[2] for row in rows], dtype=np.uint64) if timed else None,
        columns[3].astype(np.uint32),
    )
    return convert([requests], reading, path, None, dict)


@settings(max_examples=120, deadline=None)
@given(TOUCHES, st.booleans(), NAMES)
def test_csv_read_in_again_is_the_same_trace(tmp_path_factory, rows, timed, names):
    folder = tmp_path_factory.mktemp("csv")
    names = list(dict.fromkeys(names)) if len(set(names)) == 4 else ["a", "b, c", 'd "e"', ""]
    info = written(folder / "t.parquet", rows, timed, names)
    assert export_trace(open_trace(folder / "t.parquet"), folder / "t.csv", "csv") == []
    again = import_trace(str(folder / "t.csv"), folder / "again.parquet", Wanted(format="csv"))
    assert again.sha256 == info.sha256
    assert (again.touches, again.writes, again.pages) == (info.touches, info.writes, info.pages)


@settings(max_examples=120, deadline=None)
@given(TOUCHES, st.integers(1, 40), st.booleans())
def test_oracle_general_tells_the_next_request_of_every_page(tmp_path_factory, rows, group, wide):
    """Whatever the row groups: pieces from the end to the beginning meet."""
    folder = tmp_path_factory.mktemp("oracle")
    rows = [(page, op, time if wide else time % (1 << 61), stream) for page, op, time, stream in rows]
    patch = pytest.MonkeyPatch()
    patch.setattr(trace_module, "ROWS", group)
    try:
        written(folder / "t.parquet", rows)
        lost = export_trace(open_trace(folder / "t.parquet"), folder / "t.bin", "oracle-general")
    except CorpusError as error:
        assert wide and "longer than 2^32 seconds" in str(error)
        return
    finally:
        patch.undo()
    found = np.fromfile(folder / "t.bin", dtype=RECORD)
    order = {page: number for number, page in enumerate(dict.fromkeys(row[0] for row in rows))}
    pages = [order[row[0]] for row in rows]
    following = [next((j for j in range(i + 1, len(pages)) if pages[j] == pages[i]), -1) for i in range(len(pages))]
    seconds = np.array([row[2] // 10**9 for row in rows])
    assert found["id"].tolist() == pages and found["next"].tolist() == following and (found["size"] == 4096).all()
    if max(row[2] for row in rows) < 1 << 61:
        assert found["time"].tolist() == seconds.tolist()
    assert any("whole seconds" in sentence for sentence in lost)
    again = import_trace(str(folder / "t.bin"), folder / "again.parquet", Wanted(format="oracle-general"))
    assert np.concatenate([chunk.pages for chunk in open_trace(folder / "again.parquet").chunks()]).tolist() == pages
    assert again.writes == 0


def test_the_same_file_has_equal_misses_in_libcachesim(tmp_path):
    """fifo and lru on one oracleGeneral file, read by each with its own reader."""
    libcachesim = pytest.importorskip("libcachesim")
    numbers = (np.arange(1, 30_001, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    pages = (numbers % (np.uint64(1) << (numbers % np.uint64(11)) + np.uint64(1))).astype(np.int64)
    rows = [(page, page % 3 == 0, index * 10**8, 0) for index, page in enumerate(pages.tolist())]
    info = written(tmp_path / "t.parquet", rows, names=("",))
    export_trace(open_trace(tmp_path / "t.parquet"), tmp_path / "t.oracleGeneral", "oracle-general")
    dense = np.concatenate([chunk.pages for chunk in open_trace(tmp_path / "t.parquet").chunks()])
    for order, peer in (("fifo", libcachesim.FIFO), ("lru", libcachesim.LRU)):
        for capacity in (1, 7, 100, 600, info.pages):
            reader = libcachesim.TraceReader(
                str(tmp_path / "t.oracleGeneral"),
                libcachesim.TraceType.ORACLE_GENERAL_TRACE,
                libcachesim.ReaderInitParam(ignore_obj_size=True),
            )
            ratio, _ = peer(capacity).process_trace(reader)
            assert round(ratio * len(dense)) == simulate(order, dense, capacity), (order, capacity)


def test_a_npy_trace_is_exported_too(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[0, 1, 0], [0, 1, 0]]))
    trace = open_trace(tmp_path / "t.npy")
    lost = export_trace(trace, tmp_path / "t.bin", "oracle-general")
    assert lost == [
        "1 writes became requests like the others: oracleGeneral has no operations",
        "all times are 0: the trace has none",
    ]
    assert np.fromfile(tmp_path / "t.bin", dtype=RECORD)["next"].tolist() == [2, -1, -1]
    export_trace(trace, tmp_path / "t.csv", "csv")
    assert (tmp_path / "t.csv").read_text() == "page,op\n0,r\n1,w\n0,r\n"
    np.save(tmp_path / "t.npy", np.array([], dtype=np.uint32))
    export_trace(open_trace(tmp_path / "t.npy"), tmp_path / "empty.bin", "oracle-general")
    assert (tmp_path / "empty.bin").read_bytes() == b""


def test_what_cannot_be_exported_is_refused(tmp_path):
    info = written(tmp_path / "t.parquet", [(1, 0, 0, 0)])
    trace = open_trace(tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match="cannot export to 'oracle-genera'; did you mean 'oracle-general'"):
        export_trace(trace, tmp_path / "t.bin", "oracle-genera")
    with pytest.raises(CorpusError, match="is the trace that is exported"):
        export_trace(trace, tmp_path / "t.parquet", "csv")
    with pytest.raises(CorpusError, match="cannot be written"):
        export_trace(trace, tmp_path / "nowhere" / "t.bin", "csv")
    long = [(1, 0, 0, 0), (1, 0, (1 << 32) * 10**9, 0)]
    written(tmp_path / "t.parquet", long)
    with pytest.raises(CorpusError, match="longer than 2.32 seconds"):
        export_trace(open_trace(tmp_path / "t.parquet"), tmp_path / "t.bin", "oracle-general")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.parquet"]
    assert info.touches == 1


def test_import_and_export_by_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "o.bin").write_bytes(trace_files.oracle([(5, 10, 1, 2), (5, 11, 9, -1), (6, 10, 1, -1)]))
    for words in (
        ["import", tmp_path / "o.bin", "-o", tmp_path / "t.parquet"],
        ["export", tmp_path / "t.parquet", "-o", tmp_path / "again.bin"],
    ):
        monkeypatch.setattr("sys.argv", ["memvirt", "trace", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    found = np.fromfile(tmp_path / "again.bin", dtype=RECORD)
    assert found["time"].tolist() == [5, 5, 6] and found["id"].tolist() == [0, 1, 0]
    assert found["next"].tolist() == [2, -1, -1]
    out = capsys.readouterr()
    assert "3: 3 reads, 0 writes" in out.out and "times count whole seconds" in out.err


def test_every_sample_goes_round(tmp_path):
    """Any format in, csv out and in again: the same trace."""
    for case, (form, data, _, _) in CASES.items():
        (tmp_path / "source").write_bytes(data)
        info = import_trace(str(tmp_path / "source"), tmp_path / "t.parquet", Wanted(format=form))
        export_trace(open_trace(tmp_path / "t.parquet"), tmp_path / "t.csv", "csv")
        assert import_trace(str(tmp_path / "t.csv"), tmp_path / "u.parquet").sha256 == info.sha256, case
