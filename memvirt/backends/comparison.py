"""A comparison as a results folder, and as a file alone: what `memvirt validate` leaves.

    DIR/validate.json      rows, and what they depend on: mechanisms asked for, seed, memory, versions, commit, machine

One file is all: a row is a number on both sides, and there are some hundred of them. A folder that has it holds no run
(memvirt.results.run_folder), and a run is never written into it. A comparison that was interrupted holds the rows of the
mechanisms that were finished; `asked` tells which are missing.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memvirt.backends.rows import Row
from memvirt.errors import ConfigError, FolderError
from memvirt.untrusted import Excess, file_bytes, json_value

FORMAT = "memvirt-validate"
SCHEMA = 3
# 3 - in how many ways a row was measured; the trace that was replayed.
# 2 - how far apart the reason of a row lets its numbers be; the mechanisms asked for; the name of the format.
# 1 - first version.
FILE = "validate.json"
MOST_BYTES = 64 << 20  # of that; some hundred rows have a thousandth of it

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Rows, and what they depend on."""

    rows: tuple[Row, ...]
    asked: tuple[str, ...]  # mechanisms
    seed: int
    pages: int  # that engine and processes took together, about
    trace: str  # name and hash of the trace that the grid replayed; "" if none
    versions: dict[str, str]
    commit: str
    environment: dict[str, Any]

    @property
    def missing(self) -> list[str]:
        """The mechanisms that were asked for and not run."""
        told = {row.mechanism for row in self.rows}
        return [name for name in self.asked if name not in told]


def made(rows: list[Row], asked: list[str], seed: int, pages: int, trace: str = "") -> Comparison:
    """A comparison that this memvirt has made on this machine."""
    from memvirt.environment import collect, source_commit
    from memvirt.versions import versions

    return Comparison(
        rows=tuple(rows),
        asked=tuple(asked),
        seed=seed,
        pages=pages,
        trace=trace,
        versions=versions(),
        commit=source_commit(),
        environment=collect(),
    )


def dumps(comparison: Comparison) -> str:
    """The text of validate.json."""
    told = asdict(comparison) | {"rows": [row.as_dict() for row in comparison.rows]}
    return json.dumps({"format": FORMAT, "schema": SCHEMA, **told}, indent=1, ensure_ascii=False) + "\n"


def loads(text: str, source: str) -> Comparison:
    """The comparison in `text`; ConfigError names `source` for what is none."""
    try:
        found = json_value(text)
        if (found["format"], found["schema"]) != (FORMAT, SCHEMA):
            raise ValueError("it is of another version; run it again")
        read = Comparison(
            rows=tuple(_row(entry) for entry in found["rows"]),
            asked=tuple(found["asked"]),
            **{name: found[name] for name in ("seed", "pages", "trace", "versions", "commit", "environment")},
        )
        kinds = (
            (read.seed, int),
            (read.pages, int),
            (read.versions, dict),
            (read.commit, str),
            (read.trace, str),
            (read.environment, dict),
        )
        if not all(isinstance(value, kind) for value, kind in kinds) or not all(
            isinstance(name, str) for name in read.asked
        ):
            raise ValueError("what it says of itself is damaged")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{source} is no comparison that 'memvirt validate --out' has written: {error}") from error
    return read


def _row(entry: dict[str, Any]) -> Row:
    names = ("mechanism", "what", "engine", "kernel", "tolerance", "covered", "unit", "reason", "ways")
    row = Row(**{name: entry[name] for name in names}, apart=entry["difference"])
    texts, shares = (row.mechanism, row.what, row.unit, row.reason), (row.tolerance, row.covered)
    counts = [number for number in (row.engine, row.kernel, row.apart) if number is not None]
    counts.append(row.ways)
    if not all(isinstance(count, int) and abs(count) < 1 << 63 for count in counts) or not row.ways > 0:
        raise ValueError(f"a row whose numbers are not of 64 bits: {entry}")
    kinds = ((texts, str), (shares, float | int), (counts, int))
    if (
        not all(isinstance(value, kind) for values, kind in kinds for value in values)
        or entry["verdict"] != row.verdict
    ):
        raise ValueError(f"a row that cannot be: {entry}")
    return row


def is_folder(path: PathLike) -> bool:
    """Whether this is a folder with a comparison in it."""
    return os.path.isfile(Path(path) / FILE)


def read(path: PathLike) -> Comparison:
    """The comparison of a folder, or of a file; ConfigError for what is none."""
    file = Path(path) / FILE if os.path.isdir(path) else Path(path)
    try:
        return loads(file_bytes(file, MOST_BYTES).decode("utf-8"), str(file))
    except (OSError, Excess) as error:
        raise ConfigError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no comparison that 'memvirt validate --out' has written: {error}") from error


def place(out: Path) -> Path:
    """The file that a comparison kept in `out` is written to: `out` itself where it is named NAME.json, else in a folder of
    that name, which is made. FolderError where the folder holds anything, or cannot be made."""
    if out.suffix == ".json":
        return out
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = sorted(entry.name for entry in out.iterdir())
    except OSError as error:
        raise FolderError(f"{out}: cannot be made: {error.strerror}; use another --out") from None
    if held:
        what = "a comparison" if FILE in held else "something else"
        raise FolderError(f"{out}: holds {what} ({', '.join(held[:5])}); use another --out")
    return out / FILE
