"""A run in parts, for batch systems: each part is a run of its own folder, and merging gives the folder of the whole.

A cell belongs to the part that the hash of its name gives. So it stays where it is when cells are added, and the parts
need not know of each other. A part also runs the baselines that its cells are held against; where two parts ran the same
one, both records are the same, digit for digit, and merging holds them to it.

run.json of a part names all cells of the whole run, and which of them it runs (`part`). Merging refuses parts that are
not of one run, and says in what they differ. What no part has run is not lost: the merged folder is resumed as any other.

Parts take no wall times: presets take turns on one machine, and a part has not all of them. A run of tier full is timed
when its parts are merged, by resuming it. Where folders have timings nevertheless, and claims of the user's own, these are
merged with the rest, and of two that are not the same none is taken in silence.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memvirt.errors import ConfigError, FolderError
from memvirt.results import claims
from memvirt.results import manifest as manifests
from memvirt.results.manifest import Manifest
from memvirt.results.record import Record, comparable, differences
from memvirt.results.run_folder import TIMINGS, Results, load, read_manifest
from memvirt.untrusted import file_bytes, whole

MOST = 100_000


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` of `count`, from 1 on."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The part that "3/64" stands for; ConfigError for anything else."""
        first, _, second = text.partition("/")
        number, count = whole(first, MOST), whole(second, MOST)
        if number is None or count is None:
            raise ConfigError(f"--shard {text}: give the number of a part and of all parts, as in 3/64")
        if not 1 <= number <= count:
            raise ConfigError(f"--shard {text}: parts are numbered 1 to {count}")
        return cls(number, count)

    def holds(self, cell: str) -> bool:
        """Whether a cell is of this part."""
        digest = hashlib.sha256(cell.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def merge(
    folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, packed: bool = False
) -> tuple[int, int]:
    """Make `out` the folder of the whole run whose parts `folders` are: (records in it, cells of the run). Of a cell that
    failed in one part and not in another, as a baseline may, the other record is kept. `packed`: as --pack has it.

    FolderError names the parts that are not of one run and in what they differ, a cell of which two records differ or two
    have timings, and claims that differ. Nothing is written then.
    """
    parts = [read_manifest(folder) for folder in folders]
    for folder, part in zip(folders[1:], parts[1:], strict=True):
        if apart := manifests.differing(parts[0], part):
            told = "; ".join(f"{name}: {_told(parts[0], part, name)}" for name in apart)
            raise FolderError(f"{folder}: is not of the same run as {folders[0]} ({told}); merge parts of one run")
    records: dict[str, tuple[Record, Path]] = {}
    for folder in map(Path, folders):
        for record in load(folder):
            there, before = records.setdefault(record.cell, (record, folder))
            if "failed" in (there.status, record.status):
                records[record.cell] = (there, before) if record.status == "failed" else (record, folder)
                continue
            if apart_in := next(differences(comparable(there), comparable(record)), None):
                place, one, two = apart_in
                raise FolderError(f"{folder}: cell {record.cell} is not the one of {before}: {place}: {one} and {two}")
    beside = _beside(list(map(Path, folders)), set(parts[0].cells))
    with Results(Path(out), replace(parts[0], part=[]), packed=packed) as results:
        for name in parts[0].cells:
            if name in records:
                results.write(records[name][0])
        for where, file in beside.items():
            _copy(file, results.path / where)
    return len(records), len(parts[0].cells)


def _beside(folders: Sequence[Path], cells: set[str]) -> dict[Path, Path]:
    """What parts hold beside their records, by its place in a folder: timings of cells, and claims."""
    found: dict[Path, Path] = {}
    for folder in folders:
        timed = [file for file in sorted((folder / TIMINGS).glob("[!.]*.json")) if file.stem in cells]
        for file in [*timed, *folder.glob(claims.FILE)]:
            if os.path.islink(file) or os.path.islink(folder / TIMINGS):
                raise FolderError(
                    f"{file}: is a link, and what it names would be copied; put the file itself in its place"
                )
            place = file.relative_to(folder)
            before = found.setdefault(place, file)
            if file_bytes(before) != file_bytes(file):
                what = "timings are not pooled" if file in timed else "claims are those of a whole run"
                raise FolderError(f"{file}: is not the same as {before}; {what}: remove one of the two")
    return found


def _copy(file: Path, place: Path) -> None:
    """Copy a file to its place, whole or not at all."""
    part = place.with_name(f".{place.name}.tmp")
    try:
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, part)
        os.replace(part, place)
    except OSError as error:
        raise FolderError(f"{place}: cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _told(one: Manifest, other: Manifest, name: str) -> str:
    """In what a part of two manifests differs: the first entry of a table, both values of anything else."""
    before, now = getattr(one, name), getattr(other, name)
    if isinstance(before, dict):
        key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        return f"{key}: {str(before.get(key, 'none'))[:40]} and {str(now.get(key, 'none'))[:40]}"
    return f"{before} and {now}"
