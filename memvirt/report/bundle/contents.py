"""What a bundle holds, and how it is made of a results folder.

    README.md               what this is, and how to check it in a minute
    run/                    the results folder: run.json, records, timings, claims of the user's own; as it is, but
                            without the name of the machine, which says nothing of results and much of an owner
    settings/               the suite's file, if it still is what was run, and what it came to: presets and scenarios with
                            all defaults by value
    inputs.json             what went in, by hash; no bytes of pages, unless they were asked for
    inputs/pages.mvcorpus   these bytes, where they were
    environment.json        the machine, as the records have it
    CLAIMS.toml             what the run is expected to show
    tables/  figures/       made from run/ and nothing else: `MADE` makes them again for a check
    commands.txt            how each of it is made
    SHA256SUMS              of all these, as sha256sum -c reads it
    ro-crate-metadata.json  the same as an RO-Crate

Equal folders give equal bundles, byte for byte: nothing in it is of the moment or the machine of packing.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memvirt.errors import BundleError
from memvirt.report import terminal
from memvirt.report.bundle import again, archive, crate, nameless
from memvirt.report.figures import plotting
from memvirt.report.figures.drawing import WIDTHS, drawn, sized
from memvirt.results import claims, run_folder
from memvirt.results.manifest import Manifest
from memvirt.results.record import Record, require_alike
from memvirt.shipped import SUITES

RUN, SUMS, README, PAGES = "run", "SHA256SUMS", "README.md", "inputs/pages.mvcorpus"
SUITE = "settings/suite.toml"
TABLES = {"md": "table.md", "csv": "table.csv", "latex": "table.tex", "json": "table.json", "html": "table.html"}
FIGURES = {"svg": "svg", "json": plotting.ENDINGS["json"]}
COLUMNS = 2  # of an article, that a figure takes
UNKNOWN_TIME = "1970-01-01T00:00:00+00:00"  # of records that do not say when they were made

Keep = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the packer decides."""

    license: str = ""
    authors: Sequence[str] = ()
    pages: Keep | None = None  # writes the bytes of the corpus to a path


def bundle(folder: Path, out: Path, wish: Wish) -> str:
    """Make the archive; its SHA-256. FolderError and RecordError for a folder that cannot be read, ConfigError without the
    libraries that tables and the crate need, BundleError where it cannot be written."""
    manifest, records = run_folder.read_manifest(folder), run_folder.load(folder)
    require_alike(records)
    run_folder.require_finished(folder, records)
    with tempfile.TemporaryDirectory(prefix="memvirt-bundle-") as place:
        stage = Path(place)
        nameless.copy(folder, stage / RUN)
        for name, text in _written(folder, manifest, records):
            _put(stage / name, text.encode())
        if wish.pages is not None:
            (stage / PAGES).parent.mkdir()
            wish.pages(stage / PAGES)
        for make in MADE.values():
            for name, data in make(stage / RUN):
                _put(stage / name, data)
        command = shlex.join(["memvirt", *manifest.asked.words(), "--out", RUN])
        _put(stage / README, _readme(manifest, records, out.name, command).encode())
        sums = {name: sum_of(stage / name) for name in archive.files_of(stage)}
        _put(stage / SUMS, "".join(f"{each.sha256}  {name}\n" for name, each in sums.items()).encode())
        sums[SUMS] = sum_of(stage / SUMS)
        about = crate.About(manifest, command, _started(records), wish.license, wish.authors)
        _put(stage / crate.FILE, crate.describe(sums, about).encode())
        wrong = [f"{name} {why}" for name in archive.files_of(stage) if (why := archive.problem(name))]
        if wrong:
            raise BundleError(f"{folder}: cannot be bundled: {'; '.join(wrong)}")
        archive.pack(stage, out)
    return sum_of(out).sha256


def tables(run: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the tables of a run."""
    of = terminal.opened(run)
    for form, name in TABLES.items():
        yield f"tables/{name}", (terminal.written(of, form).rstrip("\n") + "\n").encode()


def figures(run: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the figures of a run that have something to show, drawn and as specifications."""
    for each in plotting.of_runs([run], plotting.Wanted(), tell=lambda reason: None):
        spec = sized(each.figure or {}, WIDTHS[COLUMNS])
        for form, ending in FIGURES.items():
            yield f"figures/{each.file_name}.{ending}", drawn(spec, form)


# What in a bundle follows from its run and nothing else, by folder.
MADE: dict[str, Callable[[Path], Iterator[tuple[str, bytes]]]] = {"tables": tables, "figures": figures}


def sum_of(path: Path) -> crate.Sum:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return crate.Sum(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _written(folder: Path, manifest: Manifest, records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """(name, text) of the files beside the run and what follows from it."""
    suite = suite_file(manifest.asked.suite)
    if again.is_of(manifest, str(suite)):
        yield SUITE, suite.read_text()
    yield "settings/presets.json", _json(_presets(records))
    yield "settings/scenarios.json", _json({record.scenario: record.config["scenario"] for record in records})
    yield "inputs.json", _json(_inputs(manifest, records))
    every = [nameless.without(record.environment) for record in records]
    machines = list({_json(each): each for each in every}.values())
    environment = {"versions": manifest.versions, "commit": manifest.commit, "machines": machines}
    yield "environment.json", _json(environment)
    expected = run_folder.shown(folder).claims
    if expected:
        yield claims.FILE, claims.dumps(expected)
    yield "commands.txt", "\n".join([*_commands(manifest), ""])


def suite_file(name: str) -> Path:
    """The file of a suite that is named, or given as a file."""
    return Path(name) if name.endswith(".toml") else SUITES.file(name)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _presets(records: Sequence[Record]) -> dict[str, Any]:
    """Every column with what it came to in its first cell, and where each setting is from."""
    found: dict[str, Any] = {}
    for record in records:
        parts = {name: record.config.get(name) for name in ("host", "guest")}
        found.setdefault(record.preset, {"asked": record.asked, "origins": record.origins, **parts})
    return found


def _inputs(manifest: Manifest, records: Sequence[Record]) -> dict[str, Any]:
    files = {place: sha for record in records for place, sha in record.config.get("files", {}).items()}
    named = {"corpus": manifest.asked.corpus or "this machine's own, captured at the first run"}
    return {"sha256": manifest.inputs, "named": named, "files": files}


def _commands(manifest: Manifest) -> Iterator[str]:
    yield shlex.join(["memvirt", *manifest.asked.words(), "--out", RUN])
    for form, name in TABLES.items():
        yield f"memvirt table {RUN} --format {form} > tables/{name}"
    for form in FIGURES:
        yield f"memvirt plot {RUN} --format {form} --columns {COLUMNS} --out figures"


def _started(records: Sequence[Record]) -> str:
    said = max((str(record.environment.get("started", "")) for record in records), default="")
    return said.replace("Z", "+00:00") if said else UNKNOWN_TIME


def _readme(manifest: Manifest, records: Sequence[Record], name: str, command: str) -> str:
    statuses: Mapping[str, int] = {
        status: sum(record.status == status for record in records)
        for status in ("done", "refused", "exhausted", "failed")
    }
    ended = ", ".join(f"{count} {status}" for status, count in statuses.items() if count)
    return f"""# {manifest.title or manifest.suite}

Results of memvirt {manifest.versions.get("memvirt", "")}, suite {manifest.suite}, tier {manifest.tier}: {len(records)} of
{len(manifest.cells)} cells ({ended}).

## Check it in a minute

    pip install 'memvirt[report]'
    memvirt verify {name}

Every line says PASS or FAIL: that no file has changed, that the archive describes itself, that tables come out of the
records again byte for byte, and whether what is claimed in CLAIMS.toml holds. With `--rerun 2` two cells are run again and
have to give the same numbers, digit for digit; that needs LZ4 {manifest.versions.get("lz4", "")} by the same route, and the
same pages.

Without memvirt: `sha256sum -c SHA256SUMS` in the unpacked folder.

## Where to look

tables/table.md shows what the records in run/cells come to. settings/ has every setting of every preset by value.
environment.json tells of the machine. The whole run again:

    {command}
"""
