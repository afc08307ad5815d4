"""Dumps of memory, written by the letter of their formats; what reads them shares nothing with this."""

import struct
from collections.abc import Sequence

CORE, QEMU = b"CORE\0", b"QEMU\0"


def elf_core(
    segments: Sequence[tuple[int, bytes, int]],
    *,
    files: Sequence[tuple[int, int, str]] = (),
    machine: bool = False,
    wide: bool = True,
    order: str = "<",
    many: bool = False,
    align: int = 4096,
) -> bytes:
    """An ELF core of (address, bytes, bytes not dumped) segments. `files`: (start, end, path) of NT_FILE; `many`: the
    count of segments is in section 0, as where there are more than 65534."""
    word = f"{order}{'Q' if wide else 'I'}"
    notes = _note(QEMU, 0, bytes(432), order) if machine else _note(CORE, 1, bytes(336), order)
    if files:
        spans = b"".join(struct.pack(word, each) for start, end, _ in files for each in (start, end, 0))
        head = struct.pack(word, len(files)) + struct.pack(word, 4096)
        notes += _note(CORE, 0x46494C45, head + spans + b"".join(path.encode() + b"\0" for *_, path in files), order)
    header, entry, section = (64, 56, 64) if wide else (52, 32, 40)
    count = len(segments) + 1
    at = header + entry * count
    sections_at = at
    at += section if many else 0
    table = [_program_header(4, at, 0, len(notes), len(notes), wide, order)]
    body = notes
    for address, raw, missing in segments:
        body += bytes(-(at + len(body)) % align)
        table.append(_program_header(1, at + len(body), address, len(raw), len(raw) + missing, wide, order))
        body += raw
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    address = "Q" if wide else "I"
    head = ident + struct.pack(
        f"{order}HHI{address * 3}IHHHHHH",
        4, 62, 1, 0, header, sections_at if many else 0, 0, header, entry, 0xFFFF if many else count,
        section if many else 0, 1 if many else 0, 0,
    )  # fmt: skip
    if many:
        info = struct.pack(f"{order}I", count)
        table.append(bytes(44) + info + bytes(16) if wide else bytes(28) + info + bytes(8))
    return head + b"".join(table) + body


def lime(ranges: Sequence[tuple[int, bytes]]) -> bytes:
    """A LiME dump of (address, bytes) ranges."""
    return b"".join(
        struct.pack("<IIQQ8x", 0x4C694D45, 1, address, address + len(raw) - 1) + raw for address, raw in ranges
    )


def _program_header(kind: int, offset: int, address: int, there: int, memory: int, wide: bool, order: str) -> bytes:
    if wide:
        return struct.pack(f"{order}IIQQQQQQ", kind, 6, offset, address, 0, there, memory, 4096)
    return struct.pack(f"{order}IIIIIIII", kind, offset, address, 0, there, memory, 6, 4096)


def _note(name: bytes, kind: int, content: bytes, order: str) -> bytes:
    return struct.pack(f"{order}III", len(name), len(content), kind) + _padded(name) + _padded(content)


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)
