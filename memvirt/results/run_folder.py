"""A results folder: one run of one suite, and nothing else.

    DIR/run.json                                       what was asked for and run (memvirt.results.manifest)
    DIR/cells/<scenario>--<preset>--s<seed>.json       one record each, written whole when its cell ends
    DIR/cells/…--baseline.json                         the same, of what the columns are held against
    DIR/run.jsonl.gz                                   with --pack, in place of all these (memvirt.results.shelf)
    DIR/timings/<scenario>--<preset>--s<seed>.json     of tier full, ordinary pyperf files (memvirt.timing.samples)
    DIR/CLAIMS.toml                                    claims of the user's own, in place of the suite's

A run holds a lock on the folder while it writes, so two runs never share one; the lock goes with the process, however
that ends. What is not a memvirt run is never written into.
"""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from memvirt.backends import comparison
from memvirt.errors import FolderError, RecordError
from memvirt.results import claims
from memvirt.results import manifest as manifests
from memvirt.results.manifest import Manifest, Shown
from memvirt.results.record import Record, differences
from memvirt.results.shelf import MANIFEST, PACK, Files, Pack, Shelf, shelf_of

NAME_MAX = 255  # bytes of a file's name
SHOWN_PATH = 80  # characters of a path that is too long
SHOWN = 5  # names listed in messages, at most
ARCHIVES = (".tar.xz", ".tar.gz", ".tar.zst", ".tar", ".zip")  # what a folder may have been packed in
TIMINGS = "timings"  # the folder of pyperf files

ConfigOf = Callable[[str], dict[str, Any]]  # the configuration of a cell, by its name


class Results:
    """A results folder opened for a run: locked until closed. Use as a context manager."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        manifest: Manifest,
        *,
        resume: bool = False,
        config_of: ConfigOf | None = None,
        packed: bool = False,
    ) -> None:
        """Make or take up the folder for the run that `manifest` describes. `packed`: one that is made keeps its records
        in one file; one that is taken up goes on as it is.

        `config_of` gives the configuration of a cell by its name: with it, a refusal names the setting that changed.
        FolderError when it holds something else, holds a run and `resume` is off, holds another run, or is in use.
        """
        self.path = Path(folder)
        if not os.path.isdir(self.path):
            examine(self.path, None, resume=resume)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise FolderError(f"{self.path}: cannot be made: {error.strerror}; use another --out") from None
        try:
            self._take_lock()
            self._shelf: Shelf = self._taken_up(manifest, resume, config_of, packed)
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FolderError(
                f"{self.path}: another memvirt run is writing into it; wait for it, or use another --out"
            ) from None

    def _taken_up(self, wanted: Manifest, resume: bool, config_of: ConfigOf | None, packed: bool) -> Shelf:
        there = shelf_of(self.path)
        if there is not None and resume:
            there.mend()
        examine(self.path, wanted, resume=resume, config_of=config_of)
        if there is None:
            there = Pack(self.path) if packed else Files(self.path)
            there.begin(manifests.dumps(wanted))
        return there

    def extend(self, manifest: Manifest) -> None:
        """Write run.json anew: of a search, which finds its cells as it goes. RecordError when it cannot be written."""
        self._shelf.begin(manifests.dumps(manifest))

    def kept(self) -> list[str]:
        """The cells of which there is a record, sorted."""
        return sorted(self._shelf.names())

    def write(self, record: Record) -> Path:
        """Keep a record, whole or not at all; the file that it is in."""
        return self._shelf.write(record)

    def finished(self, cell: str, config_sha256: str) -> Record | None:
        """The record of a cell that needs no second run: valid, of this configuration, and not failed."""
        try:
            record = self._shelf.read(cell)
        except RecordError:
            return None
        same = record.cell == cell and record.config_sha256 == config_sha256
        return record if same and record.status != "failed" else None

    def close(self) -> None:
        """Give the folder free."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def examine(folder: Path, wanted: Manifest | None, *, resume: bool, config_of: ConfigOf | None = None) -> None:
    """FolderError where a run cannot be written into the folder, which need not exist; changes nothing. `wanted`: what
    the run there must be to be resumed; None: not known yet."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise FolderError(f"{folder}: is a file, not a folder; use another --out")
    if any(len(os.fsencode(part)) > NAME_MAX for part in folder.parts):
        raise FolderError(f"{str(folder)[:SHOWN_PATH]}...: a name of more than {NAME_MAX} bytes; use another --out")
    there = next(parent for parent in (folder, *folder.absolute().parents) if os.path.exists(parent))
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        why = "nothing can be written there" if os.path.isdir(there) else f"{there} is a file"
        raise FolderError(f"{folder}: cannot be made: {why}; use another --out")
    if not os.path.exists(folder):
        return
    shelf = shelf_of(folder)
    if shelf is None:
        others = sorted(entry.name for entry in folder.iterdir() if not _is_ours_unborn(entry))
        if others:
            raise FolderError(f"{folder}: holds something else ({_few(others, ())}); use another --out")
        return
    manifest = read_manifest(folder)
    if not resume:
        done = len(shelf.names())
        raise FolderError(
            f"{folder}: holds a run of suite '{manifest.suite}', {done} cells done; "
            "go on with it by --resume, or use another --out"
        )
    if wanted is not None:
        _require_same(folder, shelf, manifest, wanted, config_of)


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The run.json of a folder; FolderError when there is none or it is not ours."""
    if os.path.isfile(folder):
        raise FolderError(f"{folder}: is a file; give a results folder, or unpack the archive first (tar xf)")
    shelf = shelf_of(Path(folder))
    if shelf is None and comparison.is_folder(folder):
        raise FolderError(
            f"{folder}: holds a comparison with a kernel, not a run; 'memvirt table' and 'report' show it"
        )
    try:
        text = Files(Path(folder)).manifest() if shelf is None else shelf.manifest()
    except FileNotFoundError:
        archive = next((path for path in (f"{Path(folder)}{end}" for end in ARCHIVES) if os.path.isfile(path)), None)
        remedy = "'memvirt run' makes one" if archive is None else f"unpack {archive} first"
        raise FolderError(f"{folder}: not a memvirt results folder, it has no {MANIFEST}; {remedy}") from None
    except OSError as error:
        raise FolderError(f"{folder}: not a memvirt results folder: {MANIFEST}: {error.strerror}") from None
    return manifests.loads(text, str(Path(folder) / (PACK if isinstance(shelf, Pack) else MANIFEST)))


def shown(folder: str | os.PathLike[str]) -> Shown:
    """How a folder's run is shown, with the claims of its CLAIMS.toml where it has one. FolderError for what is no run,
    ConfigError for claims that are none."""
    told, own = read_manifest(folder).shown, Path(folder) / claims.FILE
    return replace(told, claims=claims.read(own)) if os.path.exists(own) else told


def load(folder: str | os.PathLike[str]) -> list[Record]:
    """Every record of a folder, in the order of the run. FolderError or RecordError names what cannot be read, and what
    belongs to another cell or another run."""
    manifest = read_manifest(folder)
    shelf = shelf_of(Path(folder)) or Files(Path(folder))
    there = shelf.names()
    foreign = sorted(there - set(manifest.cells))
    if foreign:
        raise FolderError(
            f"{shelf.place(foreign[0])}: is no cell of this run ({MANIFEST} does not name it); move it away"
        )
    records = [_own(shelf, name, sha256) for name, sha256 in manifest.cells.items() if name in there]
    if not records:
        raise FolderError(f"{folder}: {nothing_finished(folder)}")
    return records


def require_finished(folder: str | os.PathLike[str], records: Iterable[Record]) -> None:
    """FolderError where no cell of a column is among the records: a baseline alone shows nothing."""
    if not any(record.role == "column" for record in records):
        raise FolderError(f"{folder}: {nothing_finished(folder)}")


def nothing_finished(folder: str | os.PathLike[str]) -> str:
    """That there is nothing to show, and how to go on."""
    again = shlex.join(["memvirt", *read_manifest(folder).asked.words(), "--out", str(folder), "--resume"])
    return f"no cell is finished; go on with '{again}'"


def _own(shelf: Shelf, cell: str, config_sha256: str) -> Record:
    """The record of a cell, which must be that of this configuration."""
    record = shelf.read(cell)
    if (record.cell, record.config_sha256) != (cell, config_sha256):
        what = f"cell {record.cell}" if record.cell != cell else "the same cell in another configuration"
        raise RecordError(f"{shelf.place(cell)}: holds {what}; run it again with --resume, which replaces it")
    return record


def unfinished(folder: str | os.PathLike[str]) -> tuple[int, int]:
    """How many cells of a folder's run have no record yet, and how many there are in all."""
    manifest = read_manifest(folder)
    cells = manifest.part or list(manifest.cells)
    there = (shelf_of(Path(folder)) or Files(Path(folder))).names()
    return sum(name not in there for name in cells), len(cells)


def next_folder(base: Path, suite: str) -> Path:
    """`base/<suite>-NNN`, the first that does not exist."""
    return base / f"{suite}-{(_numbers(base, suite) or [0])[-1] + 1:03d}"


def claimed_folder(base: Path, suite: str) -> Path:
    """The same, made now, so that two runs that begin at once have one each."""
    while True:
        folder = next_folder(base, suite)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise FolderError(f"{folder}: cannot be made: {error.strerror}; use --out") from None
        return folder


def latest_folder(base: Path, suite: str) -> Path:
    """The `base/<suite>-NNN` made last; FolderError when there is none."""
    numbers = _numbers(base, suite)
    if not numbers:
        raise FolderError(f"{base}: no run of suite '{suite}' to resume; run without --resume first")
    return base / f"{suite}-{numbers[-1]:03d}"


def _numbers(base: Path, suite: str) -> list[int]:
    endings = [path.name.removeprefix(f"{suite}-") for path in base.glob(f"{suite}-*") if os.path.isdir(path)]
    return sorted(int(ending) for ending in endings if ending.isdecimal())


def _is_ours_unborn(entry: Path) -> bool:
    """What a run killed before its manifest leaves: an empty cells folder, a half-written manifest."""
    if entry.name == "cells":
        return os.path.isdir(entry) and not any(entry.iterdir())
    return entry.name in (f".{MANIFEST}.tmp", f".{PACK}.tmp")


def _require_same(folder: Path, shelf: Shelf, there: Manifest, wanted: Manifest, config_of: ConfigOf | None) -> None:
    """FolderError with what keeps a run from being resumed: the parts that differ, of cells the settings."""
    told = ["another part of the run"] if there.part != wanted.part else []
    for part in manifests.differing(there, wanted):
        before, now = getattr(there, part), getattr(wanted, part)
        if part != "cells":
            told.append(f"{part}: {before or 'none'} there, {now or 'none'} now")
            continue
        cells, changed = _cells_apart(before, now)
        told += [*cells, *_settings_apart(shelf, changed, config_of)]
    if told:
        raise FolderError(
            f"{folder}: holds another run, which cannot be resumed ({'; '.join(told)}); use another --out"
        )


def _settings_apart(shelf: Shelf, changed: Sequence[str], config_of: ConfigOf | None) -> Iterator[str]:
    """The settings that changed, of the first cell of which there is a record."""
    if config_of is None:
        return
    for name in changed:
        try:
            before = shelf.read(name).config
        except (RecordError, FolderError):
            continue
        now = config_of(name)
        for place, one, other in list(differences(before, now))[:SHOWN]:
            yield _setting_apart(place, one, other, now)
        return


def _setting_apart(place: str, one: Any, other: Any, config: Mapping[str, Any]) -> str:
    """A setting that changed; of a file that another setting names, which file that is."""
    first, _, setting = place.partition(".")
    if first != "files":
        return f"{place}: {one} there, {other} now"
    named: Any = config
    for part in setting.split("."):
        named = named.get(part) if isinstance(named, Mapping) else None
    file = f"{setting}, {named}" if named else setting
    return f"the file of {file}: sha256 {one[:12] or 'none'} there, {other[:12] or 'none'} now"


def _cells_apart(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What is different about the cells of two runs, in a few words, and the cells whose configuration changed."""
    told = [f"cells {_few(before, now)} there only"] if set(before) - set(now) else []
    told += [f"cells {_few(now, before)} now only"] if set(now) - set(before) else []
    changed = [name for name in before if name in now and before[name] != now[name]]
    return [*told, f"configuration of {_few(changed, ())} changed"] if changed else told, changed


def _few(names: Iterable[str], without: Container[str]) -> str:
    several = [name for name in names if name not in without]
    return ", ".join(several[:SHOWN]) + (f" and {len(several) - SHOWN} more" if len(several) > SHOWN else "")
