"""What a user names: [CLASS=]pid:NUMBER or [CLASS=]PATH, where a path is a file, a dump or a folder."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from memvirt.errors import CorpusError
from memvirt.inputs.corpus import CLASS_NAME, class_name_problem

from .dumps import open_elf_core, open_lime, recognise
from .files import File, Folder, open_regular
from .process import Process
from .runs import Asked, PageSource

FORMATS = ("raw", "elf-core", "lime")
_NAMED = re.compile(rf"(?:(?P<name>{CLASS_NAME.pattern})=)?(?P<what>.+)", re.DOTALL)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.+-]+")


@dataclass(frozen=True, slots=True)
class Named:
    """A source as a user wrote it."""

    text: str
    name: str | None
    pid: int | None
    path: Path | None

    @classmethod
    def parse(cls, text: str) -> "Named":
        """CorpusError for a class that cannot be called so, a process number that is none, and nothing at all."""
        found = _NAMED.fullmatch(text)
        if found is None:
            raise CorpusError("a source is [CLASS=]pid:NUMBER or [CLASS=]PATH, and this one is empty")
        name, what = found["name"], found["what"]
        if name is not None and (problem := class_name_problem(name)):
            raise CorpusError(f"{text}: {problem}")
        if what.startswith("pid:"):
            if not re.fullmatch(r"[1-9][0-9]{0,9}", what[4:]):
                raise CorpusError(f"{text}: '{what[4:]}' is no number of a process; write it as in pid:1234")
            return cls(text, name, int(what[4:]), None)
        return cls(text, name, None, Path(what))


def open_named(named: Named, kind: str | None = None, by_mapping: bool = False) -> Asked:
    """The source that was named, opened, with the names of its classes. CorpusError names it and says what is wrong.

    `kind`: one of FORMATS for a file; recognised from its content unless given. A process, and a dump of one, without a
    name has classes by mapping; any other is called as its file.
    """
    source = _open(named, kind)
    if len(source.labels) > 1:
        return Asked(source, named.name, by_mapping or named.name is None)
    name = named.name or _file_name(named.path)
    return Asked(source, name)


def _open(named: Named, kind: str | None) -> PageSource:
    if named.pid is not None:
        return Process(named.pid)
    path = named.path
    assert path is not None
    if os.path.isdir(path):
        return Folder(path)
    handle = open_regular(path)
    try:
        kind = kind or recognise(handle)
        if kind == "elf-core":
            return open_elf_core(path, handle)
        if kind == "lime":
            return open_lime(path, handle)
        return File(path, handle)
    except CorpusError as error:
        os.close(handle)
        raise CorpusError(f"{path}: {error}") from error


def _file_name(path: Path | None) -> str:
    """A class named after a file: what of its name a class may have."""
    stem = _NOT_IN_A_NAME.sub("-", path.resolve().stem if path else "").strip("-._+")[:64]
    return stem if stem and not class_name_problem(stem) else "pages"
