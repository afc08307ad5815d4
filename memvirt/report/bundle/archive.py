"""Folders into zip archives and back, the way back through hands one does not know.

Packing is deterministic: files in the order of their names, one date, one mode. Unpacking trusts nothing that an archive
says of itself. Every entry is checked before a byte is written: it is a plain file, it is there once, and its name is one
that a bundle may have and stays inside. All entries together may take LEAST_ROOM, or ROOM_FOR_EACH times the archive's own
size, whichever is more; what a packed run inflates to counts, too. While entries are written they are cut off at the size
they claimed. Only deflate is undone: other ways of packing have no bound on what a few bytes of theirs ask for. Nothing in
an archive is ever run: files of programs are refused, as is any other kind that no bundle has.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from memvirt.errors import BundleError
from memvirt.results.shelf import MOST_RECORD
from memvirt.untrusted import Excess, gzip_size, require_plain

LEAST_ROOM = 256 << 20
ROOM_FOR_EACH = 50  # bytes unpacked for each of the archive: records take about a sixth of their size
MOST_FILES = 100_000
CHUNK = 1 << 20
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows
MODE = 0o100644 << 16
PART = re.compile(r"[A-Za-z0-9_+@=][A-Za-z0-9_.+@=,~-]*\Z")
GZIP = ".gz"
KINDS = (".json", ".jsonl.gz", ".toml", ".md", ".csv", ".tex", ".html", ".svg", ".txt", ".mvcorpus", ".mvprints")
PLAIN = ("SHA256SUMS",)
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1


def problem(name: str) -> str:
    """Why no file of a bundle is called so; "" when one may be."""
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
        return "leaves the archive"
    if len(name) > 250 or not all(PART.match(part) for part in name.split("/")):
        return "is not a name that memvirt gives"
    if name not in PLAIN and not name.endswith(KINDS):
        return "is of no kind that a bundle has"
    return ""


def files_of(folder: Path) -> list[str]:
    """The names of all files below a folder, sorted. BundleError for a link, and for what is no file."""
    found = []
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place, name)
            if path.is_symlink() or not (os.path.isfile(path) or os.path.isdir(path)):
                raise BundleError(f"{path}: is no plain file; a bundle has no links and no devices")
        found += [Path(place, name).relative_to(folder).as_posix() for name in files]
    return sorted(found)


def pack(folder: Path, archive: Path) -> None:
    """Write all files of a folder into an archive, whole or not at all."""
    beside = archive.with_name(f".{archive.name}.tmp")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for name in files_of(folder):
                entry = zipfile.ZipInfo(name, DATE)
                entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, MODE, 3
                with (folder / name).open("rb") as source, packed.open(entry, "w", force_zip64=False) as target:
                    while chunk := source.read(CHUNK):
                        target.write(chunk)
        os.replace(beside, archive)
    except OSError as error:
        raise BundleError(f"{archive}: cannot be written: {error.strerror}; nothing was changed") from None
    finally:
        beside.unlink(missing_ok=True)


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive below a folder, which is empty. BundleError names what is wrong with the archive."""
    try:
        require_plain(archive)
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            left = _require_harmless(archive, entries)
            for entry in entries:
                path = folder / PurePosixPath(entry.filename)
                _write(archive, packed, entry, path)
                if path.suffix == GZIP:
                    left -= _inflated(archive, path, left)
    except OSError as error:
        raise BundleError(f"{archive}: cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{archive}: damaged, or no zip archive ({error}); fetch it again") from None


def _require_harmless(archive: Path, entries: list[zipfile.ZipInfo]) -> int:
    """Bytes that its entries leave of what they may take together."""
    if len(entries) > MOST_FILES:
        raise BundleError(f"{archive}: holds {len(entries)} files, more than {MOST_FILES}; nothing was unpacked")
    names: set[str] = set()
    for entry in entries:
        shown = repr(entry.orig_filename[:100])
        why = "is there twice" if entry.filename in names else problem(entry.orig_filename)
        mode = entry.external_attr >> 16
        if not why and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            why = "is a link or a device"
        if not why and entry.flag_bits & ENCRYPTED:
            why = "is encrypted"
        if not why and entry.compress_type not in PACKINGS:
            why = "is packed in another way than by deflate"
        if why:
            raise BundleError(f"{archive}: its file {shown} {why}; nothing was unpacked, for no bundle has such a file")
        names.add(entry.filename)
    size = archive.stat().st_size
    room, asked = max(LEAST_ROOM, ROOM_FOR_EACH * size), sum(entry.file_size for entry in entries)
    if asked > room:
        raise BundleError(
            f"{archive}: {size} bytes that would unpack to {asked}; a bundle of this size takes {room} at most. "
            "Nothing was unpacked"
        )
    return room - asked


def _write(archive: Path, packed: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with packed.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise BundleError(f"{archive}: {entry.filename} is longer than it claims; unpacking was given up")
            target.write(chunk)


def _inflated(archive: Path, path: Path, left: int) -> int:
    """Bytes that the gzip members of a file inflate to, up to the first damage, behind which nobody reads. BundleError
    where that is more than is `left`, or than a record may have."""
    data, at, size = path.read_bytes(), 0, 0
    try:
        while at < len(data):
            more, at = gzip_size(data, at, min(MOST_RECORD, left - size))
            size += more
    except Excess as error:
        raise BundleError(
            f"{archive}: its file {path.name} is no run: at byte {at} {error}; unpacking was given up"
        ) from None
    except ValueError:
        pass
    return size
