"""Small valid files of every trace format, and what each must be read as, in plain Python."""

import struct
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "traces"
MAGIC = struct.pack("<Q", 0x123456789ABCDEF0)


def numbered(touches):
    """ "0r 1w …" for (page, operation) pairs: pages by first appearance."""
    table = {}
    return " ".join(f"{table.setdefault(page, len(table))}{op}" for page, op in touches)


def lcs(version, rows, requests=None, magic=MAGIC):
    """An LCS file with a long header. Rows: (time, id, size, op, tenant, next)."""
    requests = len(rows) if requests is None else requests
    head = magic + struct.pack("<Qqq", version, 1, requests) + bytes(8192 - 40) + MAGIC
    features = {4: 1, 5: 2, 6: 4, 7: 8, 8: 16}.get(version, 0)
    body = b""
    for time, name, size, op, tenant, following in rows:
        body += struct.pack("<IQ" + ("I" if version < 3 else "q"), time, name, size)
        body += struct.pack("<I", op | tenant << 8) if version > 1 else b""
        body += struct.pack("<I", 77) if version > 2 else b""
        body += struct.pack("<q", following) + bytes(4 * features)
    return head + body


def short_lcs(fields, roles, rows, requests=None, length=None):
    """An LCS file of 2024. `roles`: {place in the header's list of fields: number of the field, from 1}."""
    places = bytearray(9)
    for place, number in roles.items():
        places[place] = number
    requests = len(rows) if requests is None else requests
    length = struct.calcsize(fields) if length is None else length
    head = MAGIC + fields.encode().ljust(240, b"\0") + bytes(places) + bytes(231)
    head += struct.pack("<q", requests) + bytes(8 * 63) + struct.pack("<IIQ", len(fields) - 1, length, 1) + MAGIC
    return head + b"".join(struct.pack(fields, *row) for row in rows)


def oracle(rows):
    """oracleGeneral. Rows: (time, id, size, next)."""
    return b"".join(struct.pack("<IQIq", *row) for row in rows)


def vscsi1(rows):
    """Rows: (serial, bytes, segments, command, version, block, time)."""
    return b"".join(struct.pack("<IIIHHQQ", *row) for row in rows)


def vscsi2(rows):
    """Rows: (command, version, serial, bytes, segments, block, time, response)."""
    return b"".join(struct.pack("<HHIIIQQQ", *row) for row in rows)


def champsim(rows):
    """Rows: (ip, [written, written], [read, read, read, read])."""
    return b"".join(struct.pack("<QBB6B2Q4Q", ip, 0, 0, *range(6), *written, *read) for ip, written, read in rows)


OPS = [(1, 7, 4096, 1, 5, 2), (1, 8, 10, 3, 6, -1), (2, 7, 4096, 9, 5, -1), (2, 9, 0, 12, 5, -1), (3, 10, 1, 13, 5, -1)]
OPS += [(3, 10, 1, 200, 6, -1)]

# name of a case -> (format, bytes, pages, skipped)
CASES = {
    "lackey": ("lackey", (DATA / "lackey.txt").read_bytes(), "0r 1w 2r 3r 4r 4w", {"other lines": 3}),
    "msr": ("msr", (DATA / "msr.csv").read_bytes(), "0r 0w 1w 2r 1r 2r", {}),
    "oracle": ("oracle-general", (DATA / "oracle.bin").read_bytes(), "0r 1r 0r", {"no bytes": 1}),
    "vscsi1": ("vscsi", (DATA / "vscsi1.bin").read_bytes(), "0r 1r 2w 0w", {"other commands": 1}),
    "names": ("names", (DATA / "names.txt").read_bytes(), "0r 1r 0r", {}),
    "vscsi2": (
        "vscsi",
        vscsi2(
            [
                (0x88, 0x0200, 1, 512, 1, 1 << 55, 1000, 10),
                (0x8A, 0x0201, 2, 8192, 1, 7, 2000, 10),
                (0x42, 0x0200, 3, 8192, 1, 7, 3000, 10),
                (0x0A, 0x0200, 4, 0, 1, 7, 4000, 10),
            ]
        ),
        "0r 1w 2w 3w",
        {"other commands": 1, "no bytes": 1},
    ),
    "champsim": (
        "champsim",
        champsim([(0x401000, (0, 0), (0x7FFC00001000, 0, 0x401FFF, 0)), (0x401004, (0x7FFC00001008, 0), (0, 0, 0, 0))]),
        "0r 1r 0r 0r 1w",
        {},
    ),
    "lcs1": ("lcs", lcs(1, OPS), "0r 1r 0r 2r 2r", {"no bytes": 1}),
    **{
        f"lcs{version}": (
            "lcs",
            lcs(version, OPS),
            "0r 1w 2w",
            {"deletions": 1, "no bytes": 1, "unknown operations": 1},
        )
        for version in range(2, 9)
    },
    "lcs-2024": (
        "lcs",
        short_lcs("<IQIHq", {0: 2, 1: 3, 2: 1, 4: 5, 7: 4}, [(1, 7, 4096, 3, 2), (1, 8, 0, 4, -1), (2, 7, 1, 4, -1)]),
        "0r 0r",
        {"no bytes": 1},
    ),
}
