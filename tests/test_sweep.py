"""Sweeps: every combination once, each a column of its own, refused with a reason where it cannot be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.suites import scenario, suite
from memvirt import cli
from memvirt.errors import ConfigError
from memvirt.experiment import plan, sweep
from memvirt.experiment.cell import prepare
from memvirt.experiment.loop import manifest, run_plan
from memvirt.inputs import synthetic
from memvirt.report import terminal
from memvirt.report.bundle import archive
from memvirt.report.summary import groups
from memvirt.results.record import comparable
from memvirt.results.run_folder import Results, load, read_manifest
from memvirt.settings.presets import parse_override

SUITE = suite(
    scenario("zipf", (150,), measured='workload = "zipf", accesses = 500'),
    name="tiny",
    presets=("zcache", "all"),
    swap="16MiB",
    more="SWEEP",
)
OWN = '[sweep]\nzpool_percent = [5, 20]\ncodec = ["lz4", "zstd"]'


@pytest.fixture
def suite(tmp_path):
    def make(own=""):
        (tmp_path / "tiny.toml").write_text(SUITE.replace("SWEEP", own))
        return str(tmp_path / "tiny.toml")

    return make


def columns(made):
    return list(dict.fromkeys(cell.preset for cell in made.cells))


@pytest.mark.parametrize("own", [True, False])
def test_every_combination_is_a_column(suite, own):
    """The same from a suite's file and from the command line."""
    asked = () if own else ("zpool_percent=5,20", "codec=lz4,zstd")
    made = plan.make(suite(OWN if own else ""), swept=asked)
    points = [(percent, codec) for percent in (5, 20) for codec in ("lz4", "zstd")]
    assert columns(made) == [
        f"{preset}@zpool_percent={percent},codec={codec}" for percent, codec in points for preset in ("zcache", "all")
    ]
    assert [(cell.host.zpool_percent, cell.host.codec) for cell in made.cells] == [p for p in points for _ in range(2)]
    assert made.cells[3].asked["sweep"] == {"zpool_percent": "5", "codec": "zstd"}
    assert made.cells[3].asked["settings"] == [] and made.cells[3].origins["codec"] == "--sweep codec=zstd"
    assert len({cell.sha256() for cell in made.cells}) == len({cell.name for cell in made.cells}) == 8


def test_what_is_asked_for_takes_the_place_of_the_suites(suite):
    made = plan.make(suite(OWN), only=["zcache"], swept=["codec=lz4"], overrides=["readahead=3"])
    assert columns(made) == ["zcache@zpool_percent=5,codec=lz4", "zcache@zpool_percent=20,codec=lz4"]
    assert {cell.host.readahead for cell in made.cells} == {3}


def test_settings_of_guests_and_options_can_be_swept(suite):
    made = plan.make(suite(), only=["all"], swept=["vm.guest.swap=1MiB,2MiB"])
    assert [cell.guest.swap for cell in made.cells] == [256, 512]
    own = "{read_latency_ns=9, write_latency_ns=9, read_page_ns=9, write_page_ns=9}"
    made = plan.make(suite(), only=["all"], swept=[f"swap_device=hdd,{own}"])
    assert len({cell.name for cell in made.cells}) == 2 and "~" in made.cells[1].name
    assert all(len(f"{cell.name}.json.tmp") < 200 for cell in made.cells)


def test_without_a_sweep_nothing_is_said_of_one(suite):
    made = plan.make(suite())
    assert columns(made) == ["zcache", "all"] and all("sweep" not in cell.asked for cell in made.cells)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["zpool_percent"], "--sweep zpool_percent: is not KEY=A,B,…"),
        (["=5"], "--sweep =5: is not KEY=A,B"),
        (["zpool_percent="], "is not KEY=A,B"),
        (["zpool_percent=5,,6"], "is not KEY=A,B"),
        (["zpool_percent=5,5"], "--sweep zpool_percent: 5 is given twice"),
        (["zpool_percent=5", "zpool_percent=6"], "zpool_percent is swept twice; give all its values in one"),
        (["zpool_percent=5,500"], "--sweep zpool_percent=500: percentage 500 is outside"),
        (
            ["zpoolpercent=5"],
            "--sweep zpoolpercent=5: no setting is called 'zpoolpercent'; did you mean 'zpool_percent'",
        ),
        (["guest.swap=1MiB"], "write --sweep vm.guest.swap=1MiB"),
        (["seed=1,2"], "--sweep seed=1: write --seed 1"),
        (["readahead=3"], "--sweep readahead: is set by --set, too"),
        (["zpool_percent=" + ",".join(map(str, range(40))), "swap_slots_per_frame=1"], ""),
    ],
)
def test_no_sweep(suite, words, said):
    with pytest.raises(ConfigError) as error:
        plan.make(suite(), swept=words, overrides=["readahead=2"])
    assert said in str(error.value) and "--set zpool" not in str(error.value)


def test_a_sweep_of_a_suite_is_judged_with_its_file(suite):
    for own in ('[sweep]\ncodec = "lz4"', "[sweep]\ncodec = []", '[sweep]\ncodec = ["lz4", "lz4"]'):
        with pytest.raises(ConfigError, match=r"tiny\.toml.*codec"):
            plan.make(suite(own))


def test_more_cells_than_were_thought_of(suite):
    words = ["zpool_percent=" + ",".join(map(str, range(1, 101))), "readahead=" + ",".join(map(str, range(8)))]
    with pytest.raises(ConfigError, match="makes 1600 cells, and 40 is the limit: .* --most-cells 1600"):
        plan.make(suite(), swept=words, most_cells=40)
    words += ["seed_of_nothing=" + ",".join(map(str, range(100_000)))]  # told at once, not after they were made
    with pytest.raises(ConfigError):
        plan.make(suite(), swept=words)


@given(st.lists(st.sampled_from(["5", "lz4", "[1, 2]", "{a = 1, b = [2, 3]}", '"a,b"', "64MiB"]), min_size=1))
def test_values_are_parted_at_commas_outside_of_brackets(values):
    assert sweep.split(",".join(values)) == sweep.split(" , ".join(values)) == values


@given(
    st.recursive(
        st.integers() | st.booleans() | st.text("abc/.,{}[]=\"' 1", max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        max_leaves=5,
    )
)
def test_a_value_of_a_file_is_the_same_as_an_override(value):
    assert parse_override(f"key={sweep._text(value)}") == (("key",), value)


@given(st.lists(st.tuples(st.sampled_from(["a", "b.c"]), st.text(max_size=60)), min_size=1, max_size=2), st.data())
def test_names_of_columns_differ_and_name_files(point, data):
    other = data.draw(st.lists(st.tuples(st.sampled_from(["a", "b.c"]), st.text(max_size=60)), min_size=1, max_size=2))
    one, two = sweep.column_name("x", tuple(point)), sweep.column_name("x", tuple(other))
    assert (one == two) == (point == other)
    assert archive.problem(f"run/cells/{one}.json") == ""
    assert "/" not in one and len(one.encode()) < 130 and one.isprintable()


def test_tables_group_by_what_was_swept(suite, tmp_path):
    made = plan.make(suite(OWN))
    context = prepare(synthetic(1024, seed=1))
    with Results(tmp_path / "out", manifest(made, context)) as results:
        list(run_plan(made, context, results))
    records = load(tmp_path / "out")
    (group,) = groups(records)
    assert group.swept == ("codec", "zpool_percent")
    assert [[(*dict(row.point).values(), row.name) for row in section] for section in group.sections()] == [
        [(codec, percent, preset) for preset in ("zcache", "all")]
        for percent in ("5", "20")
        for codec in ("lz4", "zstd")
    ]
    lines = terminal.text(records, 140).splitlines()
    assert next(line.split()[:4] for line in lines if " zcache " in line) == ["1.50", "lz4", "5", "zcache"]
    for form in ("md", "latex", "html"):
        assert "codec" in terminal.table_command(tmp_path / "out", form)
    (_, *others) = (group for group in groups([record for record in records if record.column == "zcache"]))
    assert not others
    alone = groups([record for record in records if record.column == "zcache"])[0]
    assert len(alone.sections()) == 1 and len(alone.rows) == 4  # a row a point: nothing to part


def test_a_point_counts_what_a_set_of_its_values_counts(suite):
    context = prepare(synthetic(1024, seed=1))

    def numbers(**asked):
        from memvirt.experiment.cell import run_cell

        cell = plan.make(suite(), only=["zcache"], **asked).cells[0]
        found = comparable(run_cell(context, cell))
        return {name: value for name, value in found.items() if name not in ("preset", "asked", "origins")}

    assert numbers(swept=["zpool_percent=7"]) == numbers(overrides=["zpool_percent=7"])


def test_the_program_says_how_many_and_resumes_what_was_swept(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path / "cache"))

    def program(*words):
        monkeypatch.setattr("sys.argv", ["memvirt", *words])
        try:
            cli.main()
        except SystemExit as ended:
            assert not ended.code
        return capsys.readouterr()

    words = ("run", suite(), "--preset", "zcache", "--corpus", "synthetic", "--jobs", "1")
    words += ("--sweep", "zpool_percent=5,20", "--sweep", "codec=lz4,zstd")
    said = program(*words, "--dry-run")
    assert "5 cells, about 1 s; up to" in said.err and len(json.loads(program(*words, "--dry-run", "--json").out)) == 5
    program(*words, "--out", "out")
    asked = read_manifest("out").asked
    assert asked.sweep == ["zpool_percent=5,20", "codec=lz4,zstd"]
    (tmp_path / "out/cells/zipf-150--zcache@zpool_percent=5,codec=zstd--s1.json").unlink()
    said = program(*asked.words(), "--jobs", "1", "--out", "out", "--resume")
    assert said.err.count("[5/5]") == 1 and len(load("out")) == 5
