"""Checking a bundle, or a results folder, by what is in it alone.

    sums       every file has the SHA-256 that SHA256SUMS says; none is missing, none has come
    crate      ro-crate-metadata.json describes these files, as Process Run Crate wants it
    records    every record is whole, of this run, and has the configuration that its hash says
    derived    numbers that follow from a record's counters, histograms and times do: slowdown, latencies, shares. That
               those came about so, only a rerun shows
    tables     tables come out of the records again, byte for byte
    figures    so do figures
    claim …    each claim holds
    rerun …    cells run again here come out digit for digit; where that is asked for

A results folder has records, derived, claims and reruns only. What cannot be checked here is skipped with a reason: it
has not failed, and it has not passed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from memvirt.errors import BundleError, ConfigError, FolderError, MemvirtError
from memvirt.report import claims
from memvirt.report.bundle import again, archive, contents, crate
from memvirt.report.check import Check, Standing, checked, skipped
from memvirt.results import derived, run_folder, shelf
from memvirt.results.record import Record, require_alike

LINE = re.compile(r"([0-9a-f]{64})  (\S+)\Z")


@dataclass(frozen=True, slots=True)
class Rerun:
    """Cells to run again."""

    open_corpus: again.OpenCorpus
    count: int = 0
    corpus: str = ""  # in place of what the run named


def verify(path: Path, rerun: Rerun) -> Iterator[Check]:
    """Every check, as it is made. BundleError for an archive that cannot be unpacked, or is not to be."""
    with ExitStack() as kept:
        folder = path
        if not os.path.isdir(path):
            folder = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="memvirt-verify-")))
            archive.unpack(path, folder)
        if shelf.shelf_of(folder) is not None:
            yield from _of_run(folder, folder, rerun)
            return
        if not os.path.exists(folder / crate.FILE) and not os.path.exists(folder / contents.SUMS):
            raise BundleError(
                f"{path}: is neither a bundle nor a results folder (it has no {crate.FILE} and no run.json); "
                "make one by 'memvirt bundle'"
            )
        yield from _of_bundle(folder)
        yield from _of_run(folder / contents.RUN, folder, rerun)


def _of_bundle(folder: Path) -> Iterator[Check]:
    names = archive.files_of(folder)
    sums = {name: contents.sum_of(folder / name) for name in names if name != crate.FILE}
    yield checked(
        "sums", list(_sum_problems(folder, sums)), f"{len(sums) - 1} files have the SHA-256 that {contents.SUMS} says"
    )
    try:
        text = (folder / crate.FILE).read_text()
    except (OSError, UnicodeDecodeError):
        yield Check(Standing.FAIL, "crate", f"{crate.FILE} is missing, or no text")
        return
    right = f"it describes its {len(sums)} files as Process Run Crate {crate.PROFILE.rpartition('/')[2]} wants it"
    yield checked("crate", crate.problems(text, sums), right)


def _sum_problems(folder: Path, sums: dict[str, crate.Sum]) -> Iterator[str]:
    try:
        lines = (folder / contents.SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        yield f"{contents.SUMS} is missing, or no text"
        return
    told: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        found = LINE.match(line)
        if found is None or found[2] in told:
            yield f"{contents.SUMS}:{number}: is not a line of such a list, or names a file twice"
            continue
        told[found[2]] = found[1]
    for name, sha256 in told.items():
        if name not in sums:
            yield f"{name} is missing"
        elif sums[name].sha256 != sha256:
            yield f"{name} has changed: its SHA-256 is {sums[name].sha256[:12]}…, not {sha256[:12]}…"
    for name in sums:
        if name not in told and name != contents.SUMS:
            yield f"{name} is not in {contents.SUMS}: it came later"


def contradictions(records: Sequence[Record]) -> Iterator[str]:
    """Derived numbers that do not follow from the counters, histograms and times beside them. A slowdown must follow from
    one of the baselines of its scenario and seed."""
    baselines: dict[tuple[str, int], set[int]] = {}
    for record in records:
        if record.role == "baseline" and record.status == "done":
            baselines.setdefault((record.scenario, record.seed), set()).add(record.sim_ns)
    for record in records:
        if record.status != "done" or record.kind == "trace":
            continue
        beside = baselines.get((record.scenario, record.seed), set())
        found = derived.again(record, 0)
        slowdowns = {str(derived.again(record, ns)["slowdown"]) for ns in beside} or {str(found["slowdown"])}
        if not beside and not found["slowdown"]:
            slowdowns.add(str(record.derived.get("slowdown")))  # its baseline is not in this folder
        if record.role == "column" and record.derived.get("slowdown") not in slowdowns:
            yield f"{record.cell}: slowdown is {record.derived.get('slowdown')}, and follows as {min(slowdowns)}"
        for name, value in found.items():  # an older record has fewer
            if name != "slowdown" and record.derived.get(name, value) != value:
                yield f"{record.cell}: {name} is {record.derived[name]}, and follows as {value or 'none'}"


def _of_run(run: Path, folder: Path, rerun: Rerun) -> Iterator[Check]:
    """The checks of a results folder; with those of what was made from it, where it lies in a bundle."""
    try:
        manifest, records = run_folder.read_manifest(run), run_folder.load(run)
        require_alike(records)
    except MemvirtError as error:
        yield Check(Standing.FAIL, "records", _relative(str(error), folder))
        return
    missing, cells = run_folder.unfinished(run)
    unverified = [
        f"{record.cell}: its VMs were not read back"
        for record in records
        if record.status == "done" and not record.verified
    ]
    unfinished = f"; {missing} cells are not run yet" if missing else ""
    yield checked("records", unverified, f"{cells - missing} of {cells} cells, each whole and of this run{unfinished}")
    yield checked(
        "derived", list(contradictions(records)), "slowdown, latencies and shares follow from counts and times"
    )
    if folder != run:
        yield from _made_again(run, folder)
    yield from _claimed(run, folder, records)
    if rerun.count:
        suite = again.suite_of(folder, manifest, contents.SUITE)
        corpus = rerun.corpus or (str(folder / contents.PAGES) if os.path.exists(folder / contents.PAGES) else "")
        yield from again.run_again(
            manifest, records, rerun.count, suite, rerun.open_corpus, corpus or manifest.asked.corpus
        )


def _claimed(run: Path, folder: Path, records: Sequence[Record]) -> Iterator[Check]:
    """Each claim; one failed check where the file of claims cannot be read."""
    try:
        claimed = run_folder.shown(run).claims
    except MemvirtError as error:
        yield Check(Standing.FAIL, "claims", _relative(str(error), folder))
        return
    for claim in claims.check(claimed, records):
        yield claim.check
    if not claimed:
        yield skipped("claims", "nothing is claimed of this run")


def _made_again(run: Path, folder: Path) -> Iterator[Check]:
    """Tables and figures, against those in the bundle."""
    for kind, make in contents.MADE.items():
        names = [name for name in archive.files_of(folder) if name.startswith(f"{kind}/")]
        try:
            made = dict(make(run))
        except FolderError:
            raise
        except ConfigError as error:
            yield skipped(kind, str(error))
            continue
        wrong = [f"{name} is missing" for name in made if name not in names]
        wrong += [f"{name} does not follow from the records" for name in names if name not in made]
        wrong += [
            f"{name} comes out otherwise"
            for name in made
            if name in names and made[name] != (folder / name).read_bytes()
        ]
        yield checked(kind, wrong, f"{len(made)} come out of the records again, byte for byte")


def _relative(text: str, folder: Path) -> str:
    """A message without the folder that an archive was unpacked to."""
    return text.replace(f"{folder}/", "")
