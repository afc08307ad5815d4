"""Bundles prove themselves: what is whole passes, and what was changed fails and is named, by whoever changed it."""

import gzip
import json
import random
import shutil
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.bundles import CLAIMS, repacked
from helpers.made_records import folder, made
from memvirt.cli import APP
from memvirt.errors import BundleError, ConfigError, FolderError
from memvirt.report.bundle import archive, contents, crate
from memvirt.report.bundle.contents import Wish, bundle
from memvirt.report.bundle.verify import Rerun, verify
from memvirt.results import shelf

pytest.importorskip("rocrate")
pytest.importorskip("tabulate")


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    """Drawing takes a second; one test does it, for all others tables are enough."""
    made = dict(contents.MADE)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(contents.MADE, "figures")
        yield made["figures"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    records = [
        made(environment={"started": "2026-01-02T03:04:05Z"}),
        made(preset="zcache", slowdown="1.500"),
        made(preset="none", status="refused", reason="no room"),
        made(role="baseline", preset="baseline"),
    ]
    path = folder(tmp_path_factory.mktemp("results") / "run", records, title="A tiny run")
    (path / "CLAIMS.toml").write_text(CLAIMS.format(most=1.6))
    return path


@pytest.fixture(scope="module")
def packed(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "a.crate.zip"
    bundle(results, path, Wish())
    return path


def checks(path):
    """{check: (standing, evidence)}"""
    return {each.name: (each.standing.value, each.evidence) for each in verify(path, Rerun(lambda name: None))}


def standings(path):
    return {name: standing for name, (standing, _) in checks(path).items()}


def test_a_fresh_bundle_passes(packed):
    assert standings(packed) == dict.fromkeys(
        ("sums", "crate", "records", "derived", "tables", "claim zcache-wins"), "PASS"
    )


def test_so_does_an_unpacked_one(packed, tmp_path):
    archive.unpack(packed, tmp_path)
    assert set(standings(tmp_path).values()) == {"PASS"}
    held = standings(tmp_path / "run")  # a results folder as any other
    assert held == {"records": "PASS", "derived": "PASS", "claim zcache-wins": "PASS"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sim_ns": 2_400_000}, "slowdown is 2.000, and follows as 2.400"),
        ({"derived": {"slowdown": "1.500"}}, "slowdown is 1.500, and follows as 2.000"),
        ({"histograms": {"swap": [[500, 98], [70_000, 2]]}}, "fault_p99_us is 66.560, and follows as 70.000"),
        ({"counters": {"fault_swap": 99}}, "faults is 100, and follows as 99"),
        ({"cpu_ns": {"swap": 500}}, "cpu_overhead_percent is 40.000000, and follows as 45.454545"),
    ],
)
def test_a_number_that_does_not_follow_from_what_is_beside_it_is_named(results, tmp_path, change, said):
    """Whoever changes one digit of a results folder, which has no sums, has to change them all."""
    shutil.copytree(results, tmp_path / "run")
    path = tmp_path / "run" / "cells" / "zipf-150--swap--s1.json"
    told = json.loads(path.read_text())
    for key, value in change.items():
        told[key] = {**told[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(told))
    standing, evidence = checks(tmp_path / "run")["derived"]
    assert standing == "FAIL" and f"zipf-150--swap--s1: {said}" in evidence
    assert standings(tmp_path / "run")["records"] == "PASS"


def test_what_is_in_it(packed):
    with zipfile.ZipFile(packed) as inside:
        names = set(inside.namelist())
        told = {name: inside.read(name).decode() for name in names}
    assert {"README.md", "commands.txt", "inputs.json", "environment.json", "CLAIMS.toml", "SHA256SUMS"} <= names
    assert {"run/run.json", "run/cells/zipf-150--swap--s1.json", "tables/table.tex", "settings/presets.json"} <= names
    assert "memvirt verify a.crate.zip" in told["README.md"] and "# A tiny run" in told["README.md"]
    assert told["commands.txt"].startswith("memvirt run tiny")
    assert json.loads(told["settings/presets.json"])["zcache"]["asked"] == {}
    assert not [name for name in names if "corpus" in name.lower()]  # no bytes of pages


def test_equal_runs_give_equal_bundles(results, packed, tmp_path):
    shutil.copytree(results, tmp_path / "elsewhere")
    again = tmp_path / packed.name
    bundle(tmp_path / "elsewhere", again, Wish())
    assert again.read_bytes() == packed.read_bytes()


def test_figures_are_drawn_again_byte_for_byte(results, without_figures, tmp_path, monkeypatch):
    pytest.importorskip("vl_convert")
    monkeypatch.setitem(contents.MADE, "figures", without_figures)
    bundle(results, tmp_path / "a.zip", Wish())
    with zipfile.ZipFile(tmp_path / "a.zip") as inside:
        drawn = [name for name in inside.namelist() if name.startswith("figures/")]
    assert "figures/tradeoff-zipf.svg" in drawn and "figures/tradeoff-zipf.vl.json" in drawn

    def repaint(files):
        files["figures/tradeoff-zipf.svg"] = files["figures/tradeoff-zipf.svg"].replace(b"1.5", b"1.6")

    assert standings(tmp_path / "a.zip")["figures"] == "PASS"
    standing, evidence = checks(repacked(tmp_path / "a.zip", tmp_path / "b.zip", repaint, mend=True))["figures"]
    assert standing == "FAIL" and "figures/tradeoff-zipf.svg comes out otherwise" in evidence
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    standing, evidence = checks(tmp_path / "a.zip")["figures"]
    assert standing == "SKIP" and "pip install" in evidence


def test_what_is_not_memvirts_stays_out(results, tmp_path):
    shutil.copytree(results, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("secret")
    (tmp_path / "run" / "cells" / ".half.json.tmp").write_text("{")
    bundle(tmp_path / "run", tmp_path / "b.zip", Wish())
    with zipfile.ZipFile(tmp_path / "b.zip") as inside:
        assert not [name for name in inside.namelist() if "notes" in name or "half" in name]


@pytest.mark.parametrize("packs", [False, True])
def test_the_machine_s_name_is_not_sent(results, tmp_path, packs):
    """Not in records, not in timings, however the run is kept; and what is sent still proves itself."""
    records = [made(seed=seed, environment={"hostname": "alice-laptop", "cpus": 2}) for seed in (1, 2)]
    run = folder(tmp_path / "run", records)
    if packs:
        kept = shelf.Pack(run)
        kept.begin((run / "run.json").read_text())
        for record in records:
            kept.write(record)
        shutil.rmtree(run / "cells")
        (run / "run.json").unlink()
    (run / "timings").mkdir()
    told = {"metadata": {"hostname": "alice-laptop", "unit": "second"}, "benchmarks": [{"runs": [{"metadata": {}}]}]}
    (run / "timings" / "a--b--s1.json").write_text(json.dumps(told))
    bundle(run, tmp_path / "b.zip", Wish())
    with zipfile.ZipFile(tmp_path / "b.zip") as inside:
        every = {name: inside.read(name) for name in inside.namelist()}
    plain = [gzip.decompress(data) if name.endswith(".gz") else data for name, data in every.items()]
    assert not any(b"alice" in data for data in plain) and any(b'"cpus":2' in data for data in plain)
    del told["metadata"]["hostname"]
    assert json.loads(every["run/timings/a--b--s1.json"]) == told
    assert set(standings(tmp_path / "b.zip").values()) <= {"PASS", "SKIP"}


def test_what_does_not_hold_the_name_is_copied_byte_for_byte(packed, results):
    with zipfile.ZipFile(packed) as inside:
        for path in [results / "run.json", *(results / "cells").iterdir()]:
            assert inside.read(f"run/{path.relative_to(results).as_posix()}") == path.read_bytes()


def test_a_licence_and_authors_are_told(results, tmp_path):
    bundle(results, tmp_path / "b.zip", Wish(license="CC-BY-4.0", authors=("A. Author",)))
    with zipfile.ZipFile(tmp_path / "b.zip") as inside:
        graph = {each["@id"]: each for each in json.loads(inside.read(crate.FILE))["@graph"]}
    assert graph["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert graph["#author-1"]["name"] == "A. Author" and graph["#run"]["agent"] == {"@id": "#author-1"}
    assert graph["./"]["datePublished"] == "2026-01-02T03:04:05+00:00"


# ---- tampering


def changed_digit(files):
    files["run/cells/zipf-150--swap--s1.json"] = files["run/cells/zipf-150--swap--s1.json"].replace(b"66560", b"66561")


def test_a_flipped_digit_is_named(packed, tmp_path):
    found = checks(repacked(packed, tmp_path / "b.zip", changed_digit))
    assert found["sums"][0] == "FAIL" and "run/cells/zipf-150--swap--s1.json has changed" in found["sums"][1]
    assert found["crate"][0] == "FAIL"


def test_a_forger_who_mends_the_sums_is_found_by_the_tables(packed, tmp_path):
    def forge(files):
        name = "run/cells/zipf-150--zcache--s1.json"
        files[name] = files[name].replace(b'"slowdown":"1.500"', b'"slowdown":"1.400"')

    found = checks(repacked(packed, tmp_path / "b.zip", forge, mend=True))
    assert found["sums"][0] == "PASS" and found["tables"][0] == "FAIL" and "tables/table.csv" in found["tables"][1]


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        (lambda files: files.pop("tables/table.md"), "sums", "tables/table.md is missing"),
        (lambda files: files.update({"run/more.json": b"{}"}), "sums", "run/more.json is not in SHA256SUMS"),
        (lambda files: files.pop("SHA256SUMS"), "sums", "SHA256SUMS is missing"),
        (lambda files: files.update(SHA256SUMS=b"\xff"), "sums", "or no text"),
        (lambda files: files.update(SHA256SUMS=files["SHA256SUMS"] * 2), "sums", "names a file twice"),
        (lambda files: files.pop(crate.FILE), "crate", "is missing"),
        (lambda files: files.update({crate.FILE: b"[]"}), "crate", "no JSON with a graph"),
        (lambda files: files.update({crate.FILE: b'{"@graph": [{"@id": []}]}'}), "crate", "no JSON with a graph"),
        (lambda files: files.update({crate.FILE: b"[" * 100_000}), "crate", "no JSON with a graph"),
        (lambda files: files.pop("tables/table.md"), "tables", "tables/table.md is missing"),
        (lambda files: files.update({"tables/own.md": b"lies"}), "tables", "tables/own.md does not follow"),
        (lambda files: files.pop("run/run.json"), "records", "run.json"),
        (lambda files: files.update({"run/cells/zipf-150--swap--s1.json": b"{"}), "records", "not a whole JSON file"),
        (lambda files: files.update({"run/cells/a--b--s1.json": b"{}"}), "records", "no cell of this run"),
        (lambda files: files.update({"run/CLAIMS.toml": b"schema = 9"}), "claims", "schema"),
        (lambda files: files.update({"run/CLAIMS.toml": CLAIMS.format(most=1).encode()}), "claim zcache-wins", "1.50"),
    ],
)
def test_what_was_changed_fails_and_is_named(packed, tmp_path, change, check, said):
    standing, evidence = checks(repacked(packed, tmp_path / "b.zip", change))[check]
    assert standing == "FAIL" and said in evidence and str(tmp_path) not in evidence


def test_a_crate_of_other_shapes_never_ends_in_a_traceback():
    action = {"@id": "#run", "@type": "CreateAction", "result": 1}
    for entity in (
        {"@id": "./", "hasPart": 3},
        {"@id": "./", "hasPart": [[], {"@id": {}}]},
        {**action, "instrument": 1},
        {**action, "instrument": {"@id": []}},
    ):
        graph = [entity]
        assert crate.problems(json.dumps({"@graph": graph, "@context": 7}), {"a.json": crate.Sum(1, "00")})


# ---- archives that nobody should unpack


def zipped(path, names, **info):
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            entry = zipfile.ZipInfo("x")
            entry.filename = name  # past what the constructor mends
            for key, value in info.items():
                setattr(entry, key, value)
            made.writestr(entry, b"{}")
    return path


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["../evil.json"], "leaves the archive"),
        (["a/../../evil.json"], "leaves the archive"),
        (["/tmp/evil.json"], "leaves the archive"),
        (["C:/evil.json"], "leaves the archive"),
        (["..\\evil.json"], "leaves the archive"),
        (["run/evil.py"], "is of no kind that a bundle has"),
        (["run/.hidden.json"], "is not a name that memvirt gives"),
        (["run//a.json"], "is not a name"),
        (["run/a\n.json"], "is not a name"),
        (["a" * 300 + ".json"], "is not a name"),
        (["run/"], "is not a name"),
        (["a.json", "a.json"], "is there twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_no_bundle_has_are_refused(tmp_path, names, said):
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(BundleError, match=said):
        archive.unpack(zipped(tmp_path / "a.zip", names), inside)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "in"]


def test_links_and_encrypted_files_are_refused(tmp_path):
    for info, said in (
        ({"external_attr": 0o120777 << 16}, "a link or a device"),
        ({"external_attr": 0o020666 << 16}, "device"),
    ):
        with pytest.raises(BundleError, match=said):
            archive.unpack(zipped(tmp_path / "a.zip", ["a.json"], **info), tmp_path)
    data = bytearray(zipped(tmp_path / "a.zip", ["a.json"]).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(BundleError, match="is encrypted"):
        archive.unpack(tmp_path / "a.zip", tmp_path)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LEAST_ROOM", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.json", bytes(8 << 20))
    with pytest.raises(BundleError, match="8388608; a bundle of this size takes"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "in")
    assert not (tmp_path / "in").exists()
    monkeypatch.setattr(archive, "MOST_FILES", 1)
    with pytest.raises(BundleError, match="holds 2 files"):
        archive.unpack(zipped(tmp_path / "a.zip", ["a.json", "b.json"]), tmp_path / "in")


def test_what_is_packed_within_an_archive_counts_too(tmp_path, monkeypatch):
    """A packed run of a kilobyte may inflate to any size, and to many members of a size that each may have."""
    member = shelf._member("a.json", b" " * (1 << 20))
    for data, left in ((member * 4, 1 << 20), (member, 1 << 19)):
        monkeypatch.setattr(archive, "LEAST_ROOM", left + len(data))
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("run/run.jsonl.gz", data)
        with (
            tempfile.TemporaryDirectory() as inside,
            pytest.raises(BundleError, match=r"run.jsonl.gz is no run: at byte \d+ it inflates to more than"),
        ):
            archive.unpack(tmp_path / "a.zip", Path(inside))
    monkeypatch.setattr(archive, "LEAST_ROOM", (4 << 20) + len(member) * 4)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("run/run.jsonl.gz", member * 4)
    archive.unpack(tmp_path / "a.zip", tmp_path / "in")
    assert (tmp_path / "in/run/run.jsonl.gz").read_bytes() == member * 4


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_only_deflate_is_undone(tmp_path, packing):
    """Whole or damaged: no decoder of another kind sees a byte."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as made:
        made.writestr("run.json", bytes(range(256)) * 20)
    data = (tmp_path / "a.zip").read_bytes()
    for damaged in (data, data[:60] + bytes(each ^ 0x5A for each in data[60:100]) + data[100:]):
        (tmp_path / "a.zip").write_bytes(damaged)
        with pytest.raises(BundleError, match="'run.json' is packed in another way than by deflate"):
            archive.unpack(tmp_path / "a.zip", tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("name", ["run.json", crate.FILE])
def test_a_file_nested_deep_in_an_archive_is_told(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("SHA256SUMS", "")
        made.writestr(name, "[" * 200_000)
    found = list(verify(tmp_path / "a.zip", Rerun(lambda name: None)))
    assert [check.standing.name for check in found][-1] == "FAIL"
    assert "stand in one another" in found[-1].evidence or name == crate.FILE


def test_a_file_is_cut_off_at_the_size_it_claims(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.json", bytes(1 << 20))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BundleError, match="damaged"):
        archive.unpack(path, tmp_path / "in")
    assert sum(each.stat().st_size for each in (tmp_path / "in").rglob("*") if each.is_file()) <= 100


@pytest.mark.parametrize("data", [b"", b"PK", b"no archive at all" * 100])
def test_what_is_no_archive_is_named(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(BundleError, match=r"a.zip: damaged, or no zip archive"):
        checks(tmp_path / "a.zip")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_named(packed, tmp_path, share):
    whole = packed.read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BundleError, match="damaged"):
        checks(tmp_path / "a.zip")


def test_damage_of_any_kind_is_told_and_never_a_traceback(packed, tmp_path):
    """Bytes of the archive, half of them of its directory; then of its files, by someone who sets all sums right."""
    rng, whole = random.Random(7), packed.read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 2, 8])):
            data[rng.randrange(rng.choice([0, len(data) - 4000]), len(data))] = rng.randrange(256)
        (tmp_path / "b.zip").write_bytes(data)
        with suppress(BundleError):
            checks(tmp_path / "b.zip")
    for _ in range(40):

        def change(files):
            name = rng.choice([name for name in files if name.startswith("run/")])
            data, at = bytearray(files[name]), rng.randrange(len(files[name]))
            data[at : at + rng.choice([1, 1, 20])] = rng.choice([b"", b"{", b"]", b'"', b"9", b"-", b"null"])
            files[name] = bytes(data)

        checks(repacked(packed, tmp_path / "b.zip", change, mend=True))


def test_a_folder_with_links_is_refused(packed, tmp_path):
    archive.unpack(packed, tmp_path)
    (tmp_path / "run" / "link.json").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="link.json: is no plain file"):
        checks(tmp_path)


# ---- commands


def run(*words):
    return CliRunner().invoke(APP, [str(word) for word in words])


def test_verify_ends_with_4_when_anything_failed(packed, tmp_path):
    assert run("verify", packed).exit_code == 0
    broken = repacked(packed, tmp_path / "b.zip", changed_digit)
    done = run("verify", broken)
    assert done.exit_code == 4 and done.stdout.splitlines()[0].startswith("FAIL  sums: ") and "3 failed" in done.stderr
    told = json.loads(run("verify", broken, "--json").stdout)
    assert told[0]["standing"] == "FAIL" and {"check", "evidence"} < set(told[0])


def test_bundle_says_what_it_made(results, tmp_path):
    done = run("bundle", results, "-o", tmp_path / "a.crate.zip")
    assert done.exit_code == 0 and contents.sum_of(tmp_path / "a.crate.zip").sha256 in done.stderr
    assert "--license and --author would say so" in done.stderr


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["bundle", "RUN", "-o", "a.tar"], ConfigError, "a bundle is a zip archive; call it"),
        (["bundle", "RUN", "-o", "/nowhere/a.zip"], ConfigError, "there is no folder /nowhere"),
        (["bundle", "RUN", "-o", "TMP/a.zip", "--license", "my own"], ConfigError, "no SPDX identifier"),
        (["bundle", "/nowhere", "-o", "TMP/a.zip"], FolderError, "not a memvirt results folder"),
        (["bundle", "RUN", "-o", "TMP/a.zip", "--with-pages"], ConfigError, "corpus .* is not here any more"),
        (["verify", "/nowhere"], ConfigError, "does not exist"),
        (["verify", "TMP"], BundleError, "neither a bundle nor a results folder"),
    ],
)
def test_what_cannot_be_is_said(results, tmp_path, monkeypatch, words, error, said):
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path / "cache"))
    words = [word.replace("RUN", str(results)).replace("TMP", str(tmp_path)) for word in words]
    with pytest.raises(error, match=said):
        CliRunner().invoke(APP, words, catch_exceptions=False)
    assert not list(Path(tmp_path).glob("*.zip"))


# ---- what others think of it


def test_the_validator_of_the_profile_accepts_it(results, packed, tmp_path, monkeypatch):
    """roc-validator wants the context from the network; here the library's own copy stands for it."""
    services = pytest.importorskip("rocrate_validator.services")
    from importlib.resources import files

    from rocrate_validator.utils.http import HttpRequester

    data = (files("rocrate") / "data" / "ro-crate.jsonld").read_bytes()

    class Answer:
        status_code, headers, content, text = 200, {"Content-Type": "application/ld+json"}, data, data.decode()

        def json(self):
            return json.loads(data)

    monkeypatch.setattr(HttpRequester, "get", lambda self, url, **how: Answer(), raising=False)

    def issues(path, level="REQUIRED"):
        found = services.validate(
            services.ValidationSettings(
                rocrate_uri=str(path),
                profile_identifier="process-run-crate-0.5",
                requirement_severity=level,
                offline=True,
            )
        )
        return [issue.message for issue in found.get_issues()]

    assert issues(packed) == []
    bundle(results, tmp_path / "told.zip", Wish(license="CC-BY-4.0", authors=("A. Author",)))
    unknown = ("url", "absolute URI", "endTime", "publisher", "affiliation")  # what nobody told, and no one may invent
    assert [
        each for each in issues(tmp_path / "told.zip", "RECOMMENDED") if not any(map(each.__contains__, unknown))
    ] == []

    def without_instrument(files):
        told = json.loads(files[crate.FILE])
        for entity in told["@graph"]:
            entity.pop("instrument", None)
            entity.pop("license", None)
        files[crate.FILE] = json.dumps(told).encode()

    assert issues(repacked(packed, tmp_path / "b.zip", without_instrument))
