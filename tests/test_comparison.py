"""What `memvirt validate` keeps is a results folder: table, report and notebooks show it, and it is refused as a run."""

import csv
import io
import json
import re
import sys

import pytest

import memvirt
from memvirt.backends import comparison
from memvirt.backends.linux import counting, limits
from memvirt.backends.rows import Row, skipped
from memvirt.cli import main
from memvirt.errors import ConfigError, FolderError

ROWS = [
    Row(mechanism="ksm: a", what="pages shared", engine=5, kernel=5),
    Row(mechanism="ksm: b", what="pages of <b>", engine=95, kernel=100, tolerance=0.05),
    Row(mechanism="zram", what="faults", engine=80, kernel=100, tolerance=0.05, reason="known & told", covered=0.2),
    Row(mechanism="zram", what="frames", engine=1, kernel=2),
    skipped("swap file", "all of it", "needs root"),
]


@pytest.fixture
def folder(tmp_path):
    made = comparison.made(ROWS, ["ksm: a", "ksm: b", "zram", "swap file", "never run"], 3, 2048)
    comparison.place(tmp_path / "kept").write_text(comparison.dumps(made))
    return tmp_path / "kept"


@pytest.fixture
def program(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["memvirt", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out = capsys.readouterr()
        return end.value.code or 0, out.out, out.err

    return call


def test_a_comparison_is_read_back_whole(folder):
    found = comparison.read(folder)
    assert list(found.rows) == [Row(**{**_fields(row), "apart": row.difference}) for row in ROWS]
    assert (found.seed, found.pages, found.missing) == (3, 2048, ["never run"])
    assert comparison.read(folder / "validate.json") == found


def _fields(row):
    return {name: getattr(row, name) for name in Row.__slots__}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "memvirt-validate", "schema": 1}', "\x00"])
def test_what_is_no_comparison_is_named(folder, text):
    (folder / "validate.json").write_text(text)
    with pytest.raises(ConfigError, match=r"validate\.json is no comparison"):
        comparison.read(folder)


@pytest.mark.parametrize(
    "change", [{"asked": [1]}, {"seed": "1"}, {"environment": []}, {"rows": [7]}, {"versions": None}]
)
def test_a_damaged_comparison_is_named(folder, change):
    held = json.loads((folder / "validate.json").read_text())
    (folder / "validate.json").write_text(json.dumps({**held, **change}))
    with pytest.raises(ConfigError, match="is no comparison"):
        comparison.read(folder)


def test_a_reason_covers_what_it_says_and_no_more():
    def fails(engine, reason="known", covered=0.2):
        row = Row(mechanism="m", what="w", engine=engine, kernel=100, tolerance=0.05, reason=reason, covered=covered)
        return row.failed

    assert not fails(80) and not fails(120) and fails(79) and fails(121)
    assert fails(80, reason="") and fails(80, covered=0.0) and not fails(96, reason="", covered=0.0)
    row = Row(mechanism="m", what="w", engine=97, kernel=100, tolerance=0.05)
    assert row.unless_within("why", 0.2) is row
    assert Row(mechanism="m", what="w", engine=90, kernel=100).unless_within("why", 0.2).reason == "why"


def test_under_a_limit_the_kernel_s_own_order_must_be_close():
    def rows(**faults):
        found = {name: {"faults": count} for name, count in faults.items()}
        return {row.what: row for row in limits.beside("m", "faults", "faults", (0.05, 0.2), {"faults": 100}, found)}

    apart = rows(clock=85, lru=79, twolist=104)
    assert [row.failed for row in apart.values()] == [False, True, False]
    assert "are those of twolist" in apart["faults: clock"].reason and not apart["faults: twolist"].reason
    assert [row.failed for row in rows(clock=100, lru=96, twolist=94).values()] == [False, False, True]


def test_pages_that_leave_may_be_two_batches_apart():
    def failed(engine, kernel):
        found = {"twolist": {"evicted": engine}}
        (row,) = limits.beside("m", "pages evicted", "evicted", (0.1, 0.2), {"evicted": kernel}, found)
        return row.failed

    assert not failed(336, 400) and failed(335, 400) and not failed(9001, 10_000) and failed(8999, 10_000)


def test_a_difference_that_is_known_is_known_to_the_page(monkeypatch):
    rows = {row.what: row for row in counting.MECHANISMS["first touch"](256, 0)}
    held = rows["pages held after reads"]
    assert held.verdict == "differs" and not held.failed and round(held.covered * held.kernel) == held.difference == 32


@pytest.mark.parametrize("form", ["text", "md", "csv", "latex", "json", "html"])
def test_a_table_of_a_comparison_in_every_format(folder, program, form):
    code, out, err = program("table", folder, "--format", form)
    assert (code, err) == (0, "") and "needs root" in out
    if form == "csv":
        lines = list(csv.DictReader(io.StringIO(out)))
        assert [line["verdict"] for line in lines] == ["exact", "within", "differs", "differs", "skipped"]
    elif form == "json":
        assert len(json.loads(out)["rows"]) == len(ROWS)
    else:
        assert "1 of 5 mechanisms were not run" in out
    if form == "html":
        assert "&lt;b&gt;" in out and "pages of <b>" not in out


def test_what_a_comparison_does_not_have_is_refused(folder, program):
    for words in (["table", folder, "--preset", "swap"], ["table", folder, "--format", "pdf"]):
        code, out, err = program(*words)
        assert code == 2 and not out and err.startswith("memvirt: ")
    for words in (["plot", folder, "--figure", "tradeoff"], ["timeline", folder], ["compare", folder, "results/quick"]):
        code, _, err = program(*words)
        assert code == 2 and "holds a comparison with a kernel, not a run" in err


def test_a_report_of_a_comparison_alone_and_beside_a_run(folder, program, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    code, _, err = program("report", folder, "-o", tmp_path / "alone.html")
    alone = (tmp_path / "alone.html").read_text()
    assert code == 0, err
    assert "Of 5 numbers 1 are equal and 1 within their tolerance; 2 differ, 1 of them" in alone
    assert program("report", "results/quick", folder, "-o", tmp_path / "both.html")[0] == 0
    both = (tmp_path / "both.html").read_text()
    section = both[both.index('id="beside"') : both.index('id="method"')]
    assert '<a href="#beside">' in both and "known &amp; told" in section and "<b>" not in section
    assert len(re.findall("<tr class=.failed.>", section)) == 1
    assert json.loads((folder / "validate.json").read_text())["environment"]["hostname"] not in section
    assert program("report", "results/quick", "-o", tmp_path / "run.html")[0] == 0
    assert 'id="beside"' not in (tmp_path / "run.html").read_text()


def test_a_notebook_has_the_rows(folder):
    pandas = pytest.importorskip("pandas")
    found = memvirt.read_results([folder, "results/quick"])
    assert len(found.validated) == len(ROWS) and set(found.validated["run"]) == {str(folder)} and len(found.cells)
    assert pandas.isna(found.validated["engine"].iloc[-1]) and found.validated["difference"].iloc[2] == -20
    alone = memvirt.read_results(folder)
    assert len(alone.cells) == 0 and list(alone.validated["verdict"])[:2] == ["exact", "within"]
    assert len(memvirt.read_results("results/quick").validated) == 0


def test_a_comparison_takes_a_folder_of_its_own(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("{}")
    (tmp_path / "file").write_text("")
    for out, said in ((folder, "a comparison"), (tmp_path / "other", "something else"), (tmp_path / "file", "made")):
        with pytest.raises(FolderError, match=said):
            comparison.place(out)
    assert comparison.place(tmp_path / "new") == tmp_path / "new" / "validate.json"
    assert comparison.place(tmp_path / "one.json") == tmp_path / "one.json"


def test_an_interrupted_comparison_keeps_what_was_finished(program, tmp_path, monkeypatch):
    def interrupted(*_):
        yield Row(mechanism="release: MADV_FREE", what="one", engine=1, kernel=1)
        raise KeyboardInterrupt

    monkeypatch.setenv("MEMVIRT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setitem(counting.MECHANISMS, "release: MADV_FREE", interrupted)
    kept = tmp_path / "kept"
    words = ("validate", "--only", "provisioned thick,release: MADV_FREE", "--memory", "8MiB", "--out", kept)
    code, _, _ = program(*words)
    assert code == 130
    found = comparison.read(kept)
    assert found.missing == ["release: MADV_FREE"] and {row.mechanism for row in found.rows} == {"provisioned thick"}
