"""Small valid files of every trace format, and what each must be read as, in plain Python."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np

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


def npy(array):
    """A .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def damo(snapshots, packed=False):
    """damo's records. Snapshots: (target, end time, [(start, end, accesses)])."""
    text = json.dumps(
        [
            {
                "kdamond_idx": "0",
                "target_id": target,
                "snapshots": [
                    {
                        "start_time": 0,
                        "end_time": time,
                        "regions": [
                            {"start": start, "end": end, "nr_accesses": seen, "age": 1} for start, end, seen in regions
                        ],
                    }
                ],
            }
            for target, time, regions in snapshots
        ],
        indent=4,
    ).encode()
    return zlib.compress(text) if packed else text


SNAPSHOTS = [
    (0, "100 ms", [("4,096", "12,288", {"samples": 3}), (12288, 20480, 0)]),
    (1, 200_000_000, [(4096, 8192, "5 %")]),
]
PERF = b"""        web content 10850/10850   838.850417: page-faults:u:     7f18c7db3b70
         python3 10850/10851   838.850422: page-faults:u:     7f18c7dcce06     7f18c7db47ad
         python3 10850/10850   838.850423: page-faults:u:     7f18c7db3000
           other 9/9 [001]  9.5:          1 page-faults:u:     7f18c7db3000
           other 9/9 [001]  10.000000005: exceptions:page_fault_user: address=0x7f18c7db3fff ip=0x4 error_code=0x7

             sh 9/9 [001]  10.7: cycles:  1234
"""
MASIM = b"""# two regions
a, 10000, none
b, 4096

first
2
# comment
a, 0, 4096, 1, ro

second
1
b, 1, 64, 5, rw
"""

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
    "spc": (
        "spc",
        b"0,8,8192,w,0.551706\n0,7,4096,R,0.554041,more\n1,8,512,r,1\n1, 8 ,0,r, 1.5\n",
        "0w 1w 2r 0r 3r",
        {"no bytes": 1},
    ),
    "csv": (
        "csv",
        b"time_us,address,size,op\n1,4096,1,read\n2,0x1fff,2,WRITE\n2.5,0,0,r\n3,8192,1,delete\n4,0,1,m\n",
        "0r 0w 1w 2r 2w",
        {"no bytes": 1, "other operations": 1},
    ),
    "csv by number": ("csv", b"time;obj_id;obj_size\n1;a b;5\n2;c;0\n3;a b;1\n4;d;1\n", "0r 0r 1r", {"no bytes": 1}),
    "csv quoted": ("csv", b'id,stream\n"a,b",x\n"a,c",y\n"a,b","x"\n', "0r 1r 0r", {}),
    "perf": ("perf-faults", PERF, "0r 1r 0r 2r 2w", {"other lines": 2}),
    "damon": ("damon", damo(SNAPSHOTS), "0r 1r 2r", {"regions that were not accessed": 1}),
    "damon packed": ("damon", damo(SNAPSHOTS, packed=True), "0r 1r 2r", {"regions that were not accessed": 1}),
    "damon by perf": (
        "damon",
        b"kdamond.0  4452 [000] 82877.315633: damon:damon_aggregated: target_id=18446623435582458880 nr_regions=2 "
        b"140731667070976-140731667079168: 3 12\n"
        b"kdamond.0  4452 [000] 82877.315633: damon:damon_aggregated: target_id=18446623435582458880 nr_regions=2 "
        b"140731667079168-140731668037632: 0 3\n# end\n",
        "0r 1r",
        {"regions that were not accessed": 1, "other lines": 1},
    ),
    "npy": ("npy", npy(np.array([1 << 40, 7, 1 << 40])), "0r 1r 0r", {}),
    "npy with ops": ("npy", npy(np.array([[9, 9, 3], [0, 1, 1]], dtype=">i8")), "0r 0w 1w", {}),
}
