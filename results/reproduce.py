"""Makes everything in results/ again, and checks it: `make reproduce`, or `python results/reproduce.py [SUITE ...]`.

Every suite that ships runs at tier quick on the synthetic corpus, which has the same bytes on every machine. What is kept:

    quick/            the records of the suite `quick`, file by file
    SUITE.tar.xz      the records of the others, packed: unpacked it is a folder that every command reads
    SUITE.md          the table, with what was learned and which claims held
    SUITE.html        the report, one file for any browser
    quick-tradeoff-zipf.svg   the figure that README shows
    README.md of the repository: the part of a table that it quotes

A run that was interrupted goes on where it stopped. `--check` runs nothing: it makes tables and README's part from the
records that are there, and says where they differ from what is published. `--show` runs nothing either: it publishes the
records that are there again, shown as suites ask for now (their columns, what was learned, claims: what is shown of a run
lies in its run.json, not in records). Exit code: 1 where a cell failed or something differs, 4 where a claim failed.
"""

from __future__ import annotations

import argparse
import io
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from memvirt.experiment import suite
from memvirt.report import claims, terminal
from memvirt.report.check import Standing
from memvirt.report.figures import plotting
from memvirt.report.page import build, packing
from memvirt.report.runs import read_runs
from memvirt.results import manifest, run_folder

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
WHOLE = "quick"  # the suite whose records are kept file by file
QUOTED = ("zipf: ", " 1.50 ")  # of its table: the scenario and the ratio that README quotes
FIGURE = plotting.Wanted(["tradeoff"], scenario="zipf")  # that README shows
LIBRARY = re.compile(r'<script type="text/plain" id="library">[^<]*</script>|script-src [^;]*')
CARRIED = re.compile(r'(?<=<script type="text/plain" id="read-)([a-z]+">)([^<]*)')
WIDTH = 100


def table(folder: Path) -> str:
    """What SUITE.md holds."""
    return terminal.table_command(folder, "md")


def quoted(folder: Path) -> str:
    """What README quotes: the head of a scenario, one ratio, and what was learned."""
    lines = terminal.table_command(folder, "text", WIDTH).splitlines()
    scenario, ratio = QUOTED
    top = next(at for at, line in enumerate(lines) if line.startswith(scenario))
    rule = next(at for at in range(top, len(lines)) if lines[at].startswith("─"))
    first = next(at for at in range(rule, len(lines)) if lines[at].startswith(ratio))
    last = next(at for at in range(first, len(lines)) if not lines[at])
    learned = next(at for at, line in enumerate(lines) if line.startswith("Learned"))
    end = next((at for at in range(learned, len(lines)) if lines[at].startswith("Expected")), len(lines))
    return "\n".join([*lines[top : rule + 1], *lines[first:last], "", *lines[learned:end]])


def with_quote(readme: str, text: str) -> str:
    """README with its quote replaced: the first block fenced by ```."""
    before, _, rest = readme.partition("\n```\n")
    _, _, after = rest.partition("\n```\n")
    return f"{before}\n```\n{text}\n```\n{after}"


def pack(folder: Path) -> bytes:
    """A folder as .tar.xz, the same bytes whenever and by whomever it is packed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder)}")
            entry.size = path.stat().st_size
            archive.addfile(entry, io.BytesIO(path.read_bytes()))
    return lzma.compress(out.getvalue(), preset=9)


@contextmanager
def records_of(name: str) -> Iterator[Path]:
    """The folder of a suite's published records, unpacked where they are packed."""
    if name == WHOLE:
        yield HERE / name
        return
    with tempfile.TemporaryDirectory() as place, tarfile.open(HERE / f"{name}.tar.xz") as archive:
        # Of our own making; Python before 3.11.4 knows no filter.
        archive.extractall(place, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        yield Path(place) / name


def report(folder: Path) -> str:
    """What SUITE.html holds."""
    return build.html(read_runs([folder]))


def own(page: str) -> str:
    """Of a page, what follows from records: all but the drawing library and its hash. Unpacked, for another zlib packs
    the same into other bytes."""
    return CARRIED.sub(lambda found: found[1] + packing.inflated(found[2]), LIBRARY.sub("", page))


def publish(name: str, run: Path) -> None:
    """Keep the records of a run, and the tables made from them."""
    if run.name != name:
        raise ValueError(f"{run}: a published run's folder bears its suite's name, {name}: it is kept so")
    if name == WHOLE:
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(run, HERE / name)
        (figure,) = plotting.plot([HERE / name], FIGURE, HERE, columns=2, tell=print)
        figure.rename(HERE / f"{name}-{figure.name}")
        README.write_text(with_quote(README.read_text(encoding="utf-8"), quoted(run)), encoding="utf-8")
    else:
        (HERE / f"{name}.tar.xz").write_bytes(pack(run))
    (HERE / f"{name}.md").write_text(table(run), encoding="utf-8")
    (HERE / f"{name}.html").write_text(report(run), encoding="utf-8")


def show(name: str) -> None:
    """Publish the records that are there once more, shown as the suite asks for now."""
    with records_of(name) as there, tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(there, Path(place) / name))
        told = replace(run_folder.read_manifest(folder), shown=suite.load(name).shown())
        (folder / run_folder.MANIFEST).write_text(manifest.dumps(told), encoding="utf-8")
        publish(name, folder)


def differing(name: str) -> list[str]:
    """What is published of a suite and does not follow from its records."""
    readme = README.read_text(encoding="utf-8")
    with records_of(name) as folder:
        asked = suite.load(name).shown() == run_folder.read_manifest(folder).shown
        wrong = [] if asked else [f"what results/{name}'s run.json says is shown"]
        wrong += [] if (HERE / f"{name}.md").read_text(encoding="utf-8") == table(folder) else [f"results/{name}.md"]
        if own((HERE / f"{name}.html").read_text(encoding="utf-8")) != own(report(folder)):
            wrong.append(f"results/{name}.html")
        if name == WHOLE and with_quote(readme, quoted(folder)) != readme:
            wrong.append("README.md")
    return wrong


def claims_failed(name: str) -> list[str]:
    """The claims of a suite that its published records do not show."""
    with records_of(name) as folder:
        checked = claims.check(run_folder.shown(folder).claims, run_folder.load(folder))
    return [str(each) for each in checked if each.standing is not Standing.PASS]


def run(name: str, place: Path, jobs: str) -> int:
    """Run a suite, or what is missing of it; the exit code."""
    folder = place / name
    words = ["run", name, "--tier", "quick", "--corpus", "synthetic", "--jobs", jobs, "--out", str(folder)]
    words += ["--resume"] if (folder / "run.json").exists() else []
    return subprocess.run([sys.executable, "-m", "memvirt", *words], stdout=subprocess.DEVNULL, check=False).returncode


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="Make everything in results/ again, and check it.")
    parser.add_argument("suites", nargs="*", help="these only; unless given, every suite that ships")
    parser.add_argument("--check", action="store_true", help="run nothing, check what is published")
    parser.add_argument("--show", action="store_true", help="run nothing, show what is published as suites ask for now")
    parser.add_argument("--jobs", default="1", help="cells beside each other, or auto; 1 measures wall times, too")
    parser.add_argument(
        "--runs", type=Path, default=HERE.parent / "build" / "reproduce", help="where the runs are kept"
    )
    asked = parser.parse_args()
    if unknown := sorted(set(asked.suites) - set(suite.names())):
        parser.error(f"no suite is called {', '.join(unknown)}; there are {', '.join(suite.names())}")
    code, published = 0, []
    runs = not (asked.check or asked.show)
    there = [name for name in suite.names() if runs or (HERE / f"{name}.md").exists()]
    for name in asked.suites or there:
        if runs and run(name, asked.runs, asked.jobs):
            print(f"{name}: cells failed; nothing of it is published", file=sys.stderr)
            code = 1
        else:
            published.append(name)
    for name in published:  # after the last run: a record names the commit, with a "+" where the tree was edited
        if runs:
            publish(name, asked.runs / name)
        elif asked.show:
            show(name)
        for what in differing(name):
            print(f"{name}: {what} does not follow from the records", file=sys.stderr)
            code = code or 1
        for what in claims_failed(name):
            print(f"{name}: {what}", file=sys.stderr)
            code = 4
        print(f"{name}: done")
    return code


if __name__ == "__main__":
    sys.exit(main())
