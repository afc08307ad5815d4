"""The description of a bundle as an RO-Crate, after the profile Process Run Crate 0.5 (which rests on RO-Crate 1.1).

Every file is an entity with its size and SHA-256. Two actions say where files come from: the run, whose result the records
are, and the drawing up, whose result tables and figures are. The instrument of both is memvirt in its version. What is
not known is left out, though the profile recommends it: an action has a start and no end, since a run may have been
resumed; memvirt has no URL, no publisher is named, and authors and a licence are there when the packer gives them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from memvirt.errors import ConfigError
from memvirt.results.manifest import Manifest
from memvirt.untrusted import json_value

FILE = "ro-crate-metadata.json"
VERSION = "1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
TERMS = {"sha256": "https://schema.org/sha256"}  # that the context lacks
NO_LICENSE = "No licence is stated: ask its publisher."
MEMVIRT, RUN, DRAWN = "#memvirt", "#run", "#tables-and-figures"
COMPLETED = "http://schema.org/CompletedActionStatus"
FORMATS = {
    ".json": "application/json",
    ".gz": "application/gzip",
    ".toml": "application/toml",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".tex": "application/x-tex",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


@dataclass(frozen=True, slots=True)
class About:
    """What the description of a bundle says."""

    manifest: Manifest
    command: str  # that makes the records again
    started: str  # of the run, ISO 8601
    license: str = ""  # an SPDX identifier
    authors: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Sum:
    """A file's size and SHA-256, in hex."""

    size: int
    sha256: str


def describe(files: Mapping[str, Sum], about: About) -> str:
    """The text of ro-crate-metadata.json. ConfigError without rocrate."""
    try:
        library, model = import_module("rocrate.rocrate"), import_module("rocrate.model")
    except ImportError as error:
        raise ConfigError(f"a bundle needs rocrate: pip install memvirt[bundle] ({error})") from None
    crate = library.ROCrate(version=VERSION)
    manifest = about.manifest
    crate.name = f"memvirt: {manifest.title or manifest.suite} ({manifest.suite}, tier {manifest.tier})"
    crate.description = (
        f"{len(manifest.cells)} cells of the memory overcommit suite {manifest.suite}: records, tables made from them, and "
        "what is claimed of them. 'memvirt verify' checks it."
    )
    crate.root_dataset["datePublished"] = about.started
    crate.root_dataset["conformsTo"] = {"@id": PROFILE}
    crate.root_dataset["mentions"] = [{"@id": RUN}, {"@id": DRAWN}]

    def add(identity: str, kind: str, **properties: Any) -> dict[str, str]:
        crate.add(model.ContextEntity(crate, identity, properties={"@type": kind, **properties}))
        return {"@id": identity}

    crate.root_dataset["license"] = _license(about, add)
    authors = [add(f"#author-{i}", "Person", name=name) for i, name in enumerate(about.authors, start=1)]
    if authors:
        crate.root_dataset["author"] = _alone(authors)
    add(PROFILE, "CreativeWork", name="Process Run Crate", version="0.5")
    add(MEMVIRT, "SoftwareApplication", name="memvirt", softwareVersion=_version(manifest))
    for name, each in files.items():
        crate.add_file(dest_path=name, properties=_properties(name, each))
    _actions(add, list(files), about, authors)
    return _text(crate.metadata.generate())


def _alone(values: Sequence[Any]) -> Any:
    """One value as itself, several as a list: how RO-Crate wants them."""
    return values[0] if len(values) == 1 else list(values)


def _license(about: About, add: Any) -> Any:
    if not about.license:
        return NO_LICENSE
    return add(f"https://spdx.org/licenses/{about.license}", "CreativeWork", name=about.license)


def _version(manifest: Manifest) -> str:
    return f"{manifest.versions.get('memvirt', 'unknown')}, commit {manifest.commit or 'unknown'}"


def _properties(name: str, each: Sum) -> dict[str, str]:
    ending = "." + name.rpartition(".")[2]
    form = FORMATS.get(ending, "text/plain" if name == "SHA256SUMS" else "application/octet-stream")
    return {"name": name, "encodingFormat": form, "contentSize": str(each.size), "sha256": each.sha256}


def _actions(add: Any, names: Sequence[str], about: About, authors: Sequence[dict[str, str]]) -> None:
    def below(*folders: str) -> list[dict[str, str]]:
        return [{"@id": name} for name in names if name.startswith(folders)]

    agent = {"agent": _alone(authors)} if authors else {}
    add(
        RUN,
        "CreateAction",
        name=f"Run of suite {about.manifest.suite}, tier {about.manifest.tier}",
        description=about.command,
        instrument={"@id": MEMVIRT},
        object=below("settings/", "inputs"),
        result=below("run/"),
        startTime=about.started,
        actionStatus=COMPLETED,
        **agent,
    )
    add(
        DRAWN,
        "CreateAction",
        name="Tables and figures",
        description="memvirt bundle",
        instrument={"@id": MEMVIRT},
        object=below("run/"),
        result=below("tables/", "figures/"),
        actionStatus=COMPLETED,
        **agent,
    )


def _text(generated: dict[str, Any]) -> str:
    """One spelling: entities by their identity, properties by name."""
    graph = sorted(
        generated["@graph"], key=lambda entity: (entity["@id"] != FILE, entity["@id"] != "./", entity["@id"])
    )
    for entity in graph:
        if isinstance(entity.get("hasPart"), list):
            entity["hasPart"].sort(key=lambda part: part["@id"])
    whole = {"@context": [CONTEXT, TERMS], "@graph": graph}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def problems(text: str, files: Mapping[str, Sum]) -> list[str]:
    """What is wrong with a description of these files, each a sentence."""
    try:
        crate = json_value(text)
        entities = {entity["@id"]: entity for entity in crate["@graph"]}
    except (ValueError, TypeError, KeyError):
        return [f"{FILE} is no JSON with a graph of entities that have an @id"]
    context = crate.get("@context")
    found = (
        []
        if CONTEXT in (context if isinstance(context, list) else [context])
        else ["its context is not RO-Crate 1.1's"]
    )
    descriptor, root = entities.get(FILE, {}), entities.get("./", {})
    if descriptor.get("about") != {"@id": "./"} or descriptor.get("conformsTo") != {"@id": SPECIFICATION}:
        found.append(f"its descriptor is not about the crate, or not of {SPECIFICATION}")
    wanted = ("name", "description", "datePublished", "license", "hasPart")
    found += [f"the crate has no {name}" for name in wanted if not root.get(name)]
    if root.get("conformsTo") != {"@id": PROFILE}:
        found.append("the crate does not say that it is a Process Run Crate")
    listed = root.get("hasPart")
    parts = {str(part.get("@id")) for part in listed if isinstance(part, dict)} if isinstance(listed, list) else set()
    for name, each in files.items():
        told = entities.get(name, {})
        if name not in parts or told.get("@type") != "File":
            found.append(f"{name} is not described")
        elif (told.get("contentSize"), told.get("sha256")) != (str(each.size), each.sha256):
            found.append(f"{name} is described with another size or SHA-256")
    found += [f"{name} is described, but missing" for name in sorted(parts - set(files))]
    return found + _action_problems(entities)


def _action_problems(entities: Mapping[str, Any]) -> list[str]:
    found = []
    for name in (RUN, DRAWN):
        action = entities.get(name, {})
        if action.get("@type") != "CreateAction" or not action.get("result"):
            found.append(f"action {name} is missing, or has no result")
            continue
        tool = action.get("instrument")
        if not isinstance(tool, dict) or entities.get(str(tool.get("@id")), {}).get("@type") != "SoftwareApplication":
            found.append(f"action {name} has no program as its instrument")
    return found
