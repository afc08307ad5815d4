"""A results folder as it is sent: without the name of the machine that ran it.

The name tells nothing of results and may tell much of their owner: a person, a network, a building. It stays in the folder,
where one wants to know which node of a cluster ran a cell. Everything else is copied byte for byte, and a file that does
not hold the name, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from memvirt.errors import FolderError
from memvirt.results import run_folder, shelf
from memvirt.results.claims import FILE as CLAIMS
from memvirt.results.record import spelled
from memvirt.untrusted import file_bytes, json_value

NAME = "hostname"  # what a record's environment and pyperf's metadata call it


def copy(folder: Path, to: Path) -> None:
    """The parts of a results folder that memvirt wrote, below `to`."""
    packed = folder / shelf.PACK
    plain = [folder / name for name in (shelf.MANIFEST, CLAIMS) if os.path.exists(folder / name)]
    cells, timings = (sorted((folder / name).glob("[!.]*.json")) for name in (shelf.CELLS, run_folder.TIMINGS))
    for path in [packed, *plain, folder / shelf.CELLS, folder / run_folder.TIMINGS, *cells, *timings]:
        if os.path.islink(path):
            raise FolderError(f"{path}: is a link, and what it names would be sent; put the file itself in its place")
    if os.path.exists(packed):
        _pack(shelf.Pack(folder), shelf.Pack(to))
    for path in [*plain, *cells, *timings]:
        data = file_bytes(path)
        if path.parent != folder and NAME.encode() in data:
            data = _record(data) if path.parent.name == shelf.CELLS else _timing(data)
        target = to / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def without(environment: Mapping[str, Any]) -> dict[str, Any]:
    """An environment, or metadata of pyperf's, without the name."""
    return {name: value for name, value in environment.items() if name != NAME}


def _record(data: bytes) -> bytes:
    parts = json_value(data)
    return spelled({**parts, "environment": without(parts.get("environment", {}))}).encode()


def _timing(data: bytes) -> bytes:
    """A pyperf file, as pyperf spells them."""
    return (json.dumps(_bare(json_value(data)), sort_keys=True, separators=(",", ":")) + "\n").encode()


def _bare(part: Any) -> Any:
    if isinstance(part, list):
        return [_bare(each) for each in part]
    if isinstance(part, dict):
        bare = {key: _bare(value) for key, value in part.items()}
        return {**bare, "metadata": without(bare["metadata"])} if "metadata" in bare else bare
    return part


def _pack(there: shelf.Pack, sent: shelf.Pack) -> None:
    sent.path.parent.mkdir(parents=True, exist_ok=True)
    sent.begin(there.manifest().decode())
    for name in sorted(there.names()):
        record = there.read(name)
        sent.write(replace(record, environment=without(record.environment)))
