"""Damaged files made from valid ones: what a parser meets that was written for files as they should be."""

import random

TEXTS = [b",", b"\n", b"\r\n", b" ", b"\0", b"-1", b"0", b"18446744073709551615", b"18446744073709551616", b"9" * 40]
TEXTS += [b"\xff", b"\xc3", b"1e9", b"0x", b"\t", b'"', b".", b":", b"[", b"{", b"}", b"#", b"Read", b"w"]
EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def mutated(data: bytes, draw: random.Random, most: int = 1 << 16) -> bytes:
    """`data` after one to six changes: bits and numbers set, pieces cut out, doubled, moved, or put in."""
    spoilt = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        place = draw.randrange(len(spoilt) + 1)
        kind = draw.randrange(9)
        if kind == 0 and place < len(spoilt):
            spoilt[place] ^= 1 << draw.randrange(8)
        elif kind == 1 and place < len(spoilt):
            spoilt[place] = draw.randrange(256)
        elif kind == 2:
            del spoilt[place:]
        elif kind == 3:
            del spoilt[place : place + draw.randrange(1, 64)]
        elif kind == 4:
            piece = spoilt[place : place + draw.randrange(1, 64)]
            spoilt[place:place] = piece * draw.randrange(1, 4)
        elif kind == 5:
            width = draw.choice((1, 2, 4, 8))
            spoilt[place : place + width] = (draw.choice(EDGES) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        elif kind == 6:
            spoilt[place:place] = draw.choice(TEXTS)
        elif kind == 7:
            spoilt[place : place + draw.randrange(1, 9)] = draw.choice(TEXTS)
        else:
            other = draw.randrange(len(spoilt) + 1)
            spoilt[place : place + 16], spoilt[other : other + 16] = (
                spoilt[other : other + 16],
                spoilt[place : place + 16],
            )
    return bytes(spoilt[:most])
