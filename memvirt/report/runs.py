"""Runs as reports read them: a folder each, with its records, under a name that tells it from the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memvirt.errors import ConfigError
from memvirt.report.summary import Group, groups
from memvirt.results import run_folder
from memvirt.results.manifest import Manifest
from memvirt.results.record import Record, require_alike


@dataclass(frozen=True, slots=True)
class Run:
    """One results folder."""

    name: str  # of the folder, with as much of its path as tells it from the others
    folder: str
    manifest: Manifest
    records: tuple[Record, ...]
    missing: int  # cells that have no record yet

    def groups(self) -> list[Group]:
        """What its tables show."""
        return groups(self.records, self.manifest.shown)


def read_runs(folders: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """The runs in the order given.

    FolderError and RecordError name what cannot be read or does not belong; ConfigError for a folder given twice.
    """
    paths = [Path(os.path.realpath(folder)) for folder in folders]
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice is not None:
        raise ConfigError(f"{twice}: given twice; give each folder once")
    return [_read(folder, name) for folder, name in zip(folders, _names(paths), strict=True)]


def _read(folder: str | os.PathLike[str], name: str) -> Run:
    records = run_folder.load(folder)
    require_alike(records)
    run_folder.require_finished(folder, records)
    missing, _ = run_folder.unfinished(folder)
    return Run(name, os.fspath(folder), run_folder.read_manifest(folder), tuple(records), missing)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that are all different."""
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names
