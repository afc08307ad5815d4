"""A results folder: one run of one suite, and nothing else.

    DIR/run.json                                       what was run; a resumed run must be the same
    DIR/cells/<scenario>--<preset>--s<seed>.json       one record each, written whole when its cell ends
    DIR/timings/<scenario>--<preset>--s<seed>.json     of tier full, ordinary pyperf files (memvirt.timing.samples)

A run holds a lock on the folder while it writes, so two runs never share one; the lock goes with the process, however
that ends. What is not a memvirt run is never written into.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from memvirt.errors import ConfigError
from memvirt.results.record import Record, RecordError, cell_name, dumps, read, write_atomically

MANIFEST = "run.json"
FORMAT = "memvirt-run"
SCHEMA = 1
# 1 - first version.
SHOWN = 5  # names listed in messages, at most


class FolderError(ConfigError):
    """A results folder that cannot be used: what it holds, and what to do."""


class Results:
    """A results folder opened for a run: locked until closed. Use as a context manager."""

    def __init__(self, folder: str | os.PathLike[str], manifest: Mapping[str, Any], *, resume: bool = False) -> None:
        """Make or take up the folder for the run that `manifest` describes (plain JSON values).

        FolderError when it holds something else, holds a run and `resume` is off, holds another run, or is in use.
        """
        self.path = Path(folder)
        wanted = {"format": FORMAT, "schema": SCHEMA, **manifest}
        if self.path.exists() and not self.path.is_dir():
            raise FolderError(f"{self.path}: is a file, not a folder; use another --out")
        try:
            (self.path / "cells").mkdir(parents=True, exist_ok=True) if not self.path.exists() else None
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise FolderError(f"{self.path}: cannot be made: {error.strerror}; use another --out") from None
        try:
            self._take_lock()
            self._take_up(wanted, resume)
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

    def _take_up(self, wanted: dict[str, Any], resume: bool) -> None:
        manifest = self.path / MANIFEST
        if manifest.exists():
            there = read_manifest(self.path)
            if not resume:
                done = len(list(self.cell_files()))
                raise FolderError(
                    f"{self.path}: holds a run of suite '{there.get('suite')}', {done} cells done; "
                    "go on with it by --resume, or use another --out"
                )
            _require_same(self.path, there, wanted)
        else:
            others = sorted(entry.name for entry in self.path.iterdir() if not _is_ours_unborn(entry))
            if others:
                shown = ", ".join(others[:SHOWN]) + (f" and {len(others) - SHOWN} more" if len(others) > SHOWN else "")
                raise FolderError(f"{self.path}: holds something else ({shown}); use another --out")
            (self.path / "cells").mkdir(exist_ok=True)
            write_atomically(manifest, json.dumps(wanted, indent=1) + "\n")

    def cell_files(self) -> Iterator[Path]:
        """The record files there are, sorted."""
        yield from sorted((self.path / "cells").glob("[!.]*.json"))

    def write(self, record: Record) -> Path:
        """Keep a record: whole or not at all."""
        path = self.path / "cells" / f"{record.cell}.json"
        write_atomically(path, dumps(record))
        return path

    def finished(self, scenario: str, preset: str, seed: int, config_sha256: str) -> Record | None:
        """The record of a cell that needs no second run: valid, of this configuration, and not failed."""
        path = self.path / "cells" / f"{cell_name(scenario, preset, seed)}.json"
        if not path.exists():
            return None
        try:
            record = read(path)
        except RecordError:
            return None
        return record if record.config_sha256 == config_sha256 and record.status != "failed" else None

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


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The run.json of a folder; FolderError when there is none or it is not ours."""
    path = Path(folder) / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FolderError(f"{folder}: not a memvirt results folder: {MANIFEST}: {error.strerror}") from None
    except ValueError:
        raise FolderError(f"{path}: damaged: not a whole JSON file; use another folder") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise FolderError(f"{path}: not of a memvirt run")
    if data.get("schema") != SCHEMA:
        raise FolderError(f"{path}: schema {data.get('schema')!r}, this memvirt reads {SCHEMA}")
    return data


def load(folder: str | os.PathLike[str]) -> list[Record]:
    """Every record of a folder, in the order of the run. FolderError or RecordError names what cannot be read."""
    manifest = read_manifest(folder)
    files = {path.stem: path for path in (Path(folder) / "cells").glob("[!.]*.json")}
    order = [name for name in manifest.get("cells", {}) if name in files]
    order += sorted(set(files) - set(order))
    records = [read(files[name]) for name in order]
    if not records:
        again = f"memvirt run {manifest.get('suite')} --tier {manifest.get('tier')} --out {folder} --resume"
        raise FolderError(f"{folder}: no cell is finished; go on with '{again}'")
    return records


def unfinished(folder: str | os.PathLike[str]) -> tuple[int, int]:
    """How many cells of a folder's run have no record yet, and how many there are in all."""
    cells = read_manifest(folder).get("cells", {})
    return sum(not (Path(folder) / "cells" / f"{name}.json").exists() for name in cells), len(cells)


def next_folder(base: Path, suite: str) -> Path:
    """`base/<suite>-NNN`, the first that does not exist."""
    return base / f"{suite}-{(_numbers(base, suite) or [0])[-1] + 1:03d}"


def latest_folder(base: Path, suite: str) -> Path:
    """The `base/<suite>-NNN` made last; FolderError when there is none."""
    numbers = _numbers(base, suite)
    if not numbers:
        raise FolderError(f"{base}: no run of suite '{suite}' to resume; run without --resume first")
    return base / f"{suite}-{numbers[-1]:03d}"


def _numbers(base: Path, suite: str) -> list[int]:
    endings = [path.name.removeprefix(f"{suite}-") for path in base.glob(f"{suite}-*") if path.is_dir()]
    return sorted(int(ending) for ending in endings if ending.isdigit())


def _is_ours_unborn(entry: Path) -> bool:
    """What a run killed before its manifest leaves: an empty cells folder, a half-written manifest."""
    if entry.name == "cells":
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name == f".{MANIFEST}.tmp"


def _require_same(folder: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = sorted(key for key in {*there, *wanted} if there.get(key) != wanted.get(key))
    if differing:
        told = "; ".join(f"{key}: {_short(there.get(key))} there, {_short(wanted.get(key))} now" for key in differing)
        raise FolderError(f"{folder}: holds another run, which cannot be resumed ({told}); use another --out")


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and len(value) > SHOWN:
        return f"{len(value)} entries"
    return str(value)
