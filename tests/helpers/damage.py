"""Files as a crash, a bad disk or an editor leaves them: cut, flipped, and of another type in the middle.

`cuts` are all beginnings of a file. `mutants` are endless and seeded: bytes changed, runs lost or doubled, numbers and
words replaced by those that parsers stumble over, and, where the file is JSON, any value replaced by one of another type.
"""

import json
import random
from collections.abc import Iterator

BYTES = [
    b"",
    b"\0",
    b"\xff",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"'",
    b"\\",
    b"\n",
    b"=",
    b"#",
    b"\xed\xa0\x80",
    b"-",
    b"e9",
]
WORDS = [
    b"null", b"true", b"-1", b"0", b"1e400", b"NaN", b"Infinity", b"18446744073709551616",
    b'"' + b"x" * 300 + b'"', b"[]", b"{}", b"0.1", b"[" * 200, b"{" + b'"a":{' * 200,
    b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"1" + b"0" * 400, b'"' + b"9" * 5_000 + b'"',
    b"../../etc/passwd", b"%s%n", b"$(true)", b"1979-05-27", b"'''", b'"""',
]  # fmt: skip
VALUES = [None, True, -1, 0, 2**64, 0.5, "", "x", "\u202e<script>", [], {}, [[]], {"": {}}, ["a", 1], {"a": [None]},
          10**400, 10**100, -(10**30), 1 << 63, "9" * 5000, "9" * 400 + ".5", "1e400", [[1, 10**400]]]  # fmt: skip


def cuts(data: bytes) -> Iterator[bytes]:
    """Every beginning of `data`, from nothing up to all but the last byte."""
    return (data[:end] for end in range(len(data)))


def mutants(data: bytes, seed: int) -> Iterator[bytes]:
    """Endless damage to `data`, the same for the same seed."""
    rng = random.Random(seed)
    try:
        tree = json.loads(data)
    except ValueError:
        tree = None
    while True:
        if tree is not None and rng.random() < 0.5:
            yield json.dumps(_other_value(json.loads(data), rng)).encode()
        else:
            damaged = data
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                damaged = _other_bytes(damaged, rng)
            yield damaged


def _other_bytes(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    run = rng.choice((1, 1, 2, 8, 64))
    match rng.randrange(5):
        case 0:
            return data[:at] + rng.choice(BYTES) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + run :]
        case 2:
            return data[: at + run] + data[at:]
        case 3:
            return data[:at] + rng.choice(WORDS) + data[at + run :]
    if at == len(data):
        return data + bytes([rng.randrange(256)])
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _other_value(tree, rng: random.Random):
    """`tree` with one value, at any depth, replaced, dropped or put under another key."""
    inner, path = tree, []
    while isinstance(inner, (dict, list)) and inner and (not path or rng.random() < 0.8):
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        path.append((inner, key))
        inner = inner[key]
    if not path:
        return rng.choice(VALUES)
    parent, key = path[-1]
    match rng.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(["", "x" * 50, "__class__", str(key) + "s"])] = parent.pop(key)
        case _:
            parent[key] = rng.choice(VALUES)
    return tree
