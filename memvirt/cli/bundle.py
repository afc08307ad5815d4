"""bundle, verify: a run as one archive that proves itself, and the proof."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import Json, examples, print_json, say, say_places

if TYPE_CHECKING:
    from memvirt.report.bundle.contents import Keep
    from memvirt.results.manifest import Manifest

CLAIM_FAILED = 4
SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def bundle(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The archive to write: NAME.crate.zip.")],
    license_: Annotated[
        str, typer.Option("--license", help="An SPDX identifier, as in CC-BY-4.0. None is stated, unless given.")
    ] = "",
    author: Annotated[list[str] | None, typer.Option(help="Who made the run. Repeatable.")] = None,
    with_pages: Annotated[
        bool, typer.Option("--with-pages", help="Put the bytes of the corpus into it. They may hold secrets.")
    ] = False,
) -> None:
    """Pack a run with tables, figures, settings, claims, commands and the SHA-256 of everything into an RO-Crate.

    Equal runs give equal archives. 'memvirt verify' checks one. The machine's name stays out of it.
    """
    from zipfile import is_zipfile as is_archive

    from memvirt.errors import ConfigError
    from memvirt.report.bundle.contents import Wish
    from memvirt.report.bundle.contents import bundle as pack
    from memvirt.results import run_folder

    if not out.name.endswith(".zip"):
        raise ConfigError(f"--out {out}: a bundle is a zip archive; call it {out.name}.crate.zip")
    if os.path.isdir(out) or not os.path.isdir(out.absolute().parent):
        raise ConfigError(f"--out {out}: {'is a folder' if os.path.isdir(out) else f'there is no folder {out.parent}'}")
    if license_ and not SPDX.fullmatch(license_):
        raise ConfigError(
            f"--license {license_}: is no SPDX identifier, as CC-BY-4.0 or CC0-1.0 are (spdx.org/licenses)"
        )
    if os.path.exists(out) and not (os.path.isfile(out) and (os.path.getsize(out) == 0 or is_archive(out))):
        raise ConfigError(f"--out {out}: is there already and is no zip archive; give another name")
    keep = None
    if with_pages:
        keep = _pages(run_folder.read_manifest(folder))
        say(
            f"warning: {out} will hold pages of memory as they were, with whatever was in them: keys, passwords, letters. "
            "Publish it only if you know them"
        )
    sha256 = pack(folder, out, Wish(license_, author or (), keep))
    missing, cells = run_folder.unfinished(folder)
    if missing:
        say(f"{folder}: {missing} of {cells} cells are not run yet; the bundle speaks of the others")
    say(f"{out}: {out.stat().st_size >> 10} KiB, SHA-256 {sha256}; check it by: memvirt verify {out}")
    say_places(out, [folder])
    if any(".py:" in str(record.config.get("host", {}).get("balloon")) for record in run_folder.load(folder)):
        say("note: the suite's file is not in it: whether it is still the run's, a decider's program would have to say")
    absent = [option for option, given in (("--license", license_), ("--author", author)) if not given]
    if absent:
        say(
            f"note: who is sent it will ask whose it is and what may be done with it; {' and '.join(absent)} would say so"
        )


def _pages(manifest: "Manifest") -> "Keep":
    """What writes the corpus of a run; ConfigError where it is not to be had any more, or holds no bytes."""
    from memvirt.cli.corpora import opened
    from memvirt.errors import ConfigError
    from memvirt.inputs import Corpus, store

    corpus, wanted = opened(manifest.asked.corpus, capture=False), manifest.inputs.get("corpus", "")
    if corpus.sha256 != wanted:
        raise ConfigError(
            f"--with-pages: the run's corpus {wanted[:12]} is not here any more, only {corpus.sha256[:12]}; put it back "
            f"where it was ({manifest.asked.corpus or 'the default corpus'}), or leave the option out"
        )
    if not isinstance(corpus, Corpus):
        raise ConfigError("--with-pages: the run was made from fingerprints, which hold no pages; leave the option out")
    return lambda path: store.save(corpus, path)


def verify(
    path: Annotated[Path, typer.Argument(help="A bundle, packed or not, or a results folder.")],
    rerun: Annotated[int, typer.Option(min=0, metavar="N", help="Run N cells again, and compare every digit.")] = 0,
    corpus: Annotated[str, typer.Option(help="For --rerun: the corpus, in place of the one that the run named.")] = "",
    as_json: Json = False,
) -> None:
    """Check a bundle: sums, description, records, tables and figures made again, claims; with --rerun cells, too.

    Prints PASS, FAIL or SKIP a line, and ends with code 4 if anything failed. It writes only into a temporary
    folder, and executes nothing that is in an archive.
    """
    from memvirt.cli.corpora import opened
    from memvirt.errors import ConfigError, absence
    from memvirt.report.bundle.verify import Rerun
    from memvirt.report.bundle.verify import verify as checks
    from memvirt.report.check import Standing
    from memvirt.report.escape import plain

    if why := absence(path):
        raise ConfigError(f"{path}: {why}; give a bundle or a results folder")
    found = []
    for check in checks(path, Rerun(opened, rerun, corpus)):
        found.append(check)
        if not as_json:
            typer.echo("; ".join(plain(line.strip()) for line in str(check).splitlines()))
    counts = {standing: sum(check.standing is standing for check in found) for standing in Standing}
    if as_json:
        print_json([{"standing": each.standing, "check": each.name, "evidence": each.evidence} for each in found])
    said = ", ".join(
        f"{count} {word}" for count, word in zip(counts.values(), ("passed", "failed", "skipped"), strict=True)
    )
    say(f"{path}: {said}")
    if counts[Standing.FAIL]:
        raise typer.Exit(CLAIM_FAILED)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    first = "memvirt bundle results/quick -o quick.crate.zip"
    app.command(epilog=examples(first, f"{first} --license CC-BY-4.0 --author 'A. Author'"))(bundle)
    app.command(epilog=examples("memvirt verify quick.crate.zip", "memvirt verify quick.crate.zip --rerun 2"))(verify)
