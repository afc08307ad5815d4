"""Which colour and which shape a preset has: the same in every figure of every report.

Presets that ship, and the columns of suites that do, have looks of their own here, so that two reports that are laid beside
each other, or a report and a figure of a paper, agree. No two have both alike, and no two of one suite have one colour, as
long as there are colours for all of them. Any other name takes, in the order in which names are shown, what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COLOURS, SHAPES = 8, 9  # of memvirt.report.figures.style
Look = tuple[int, int]  # places in the lists of colours, and of shapes and dashes

# fmt: off
FIXED: Mapping[str, Look] = {
    "swap": (0, 0), "zcache": (1, 1), "balloon": (2, 2), "sharing": (3, 3), "all": (4, 4), "none": (5, 5),
    "conservative": (3, 4), "esx-2002": (4, 5), "esxi-6": (1, 2), "guest-swap": (5, 6), "hash": (0, 1),
    "hash-hints": (2, 3), "ksm": (3, 5), "ksm-hints": (4, 6), "inline": (5, 7), "senpai": (2, 4), "tmo": (7, 4),
    "far-memory": (3, 6), "lz4": (1, 3), "lz4hc": (2, 5), "zstd": (4, 7), "zram": (5, 1), "off": (1, 4),
    "hash-and-swap": (2, 6), "thin": (0, 3), "thin-compact": (5, 0), "thin-huge": (1, 5),
    "thin-huge-compact": (3, 7), "thick": (4, 1), "thick-balloon": (2, 7), "tax-0": (1, 6), "tax-75": (5, 2),
    "ksm-6": (3, 1), "ksmtuned": (4, 2), "mom": (5, 3), "random": (0, 4), "fifo": (4, 0), "clock": (1, 7),
    "lru": (2, 1), "twolist": (3, 2), "mglru": (5, 4), "sieve": (6, 6), "s3fifo": (7, 3), "2q": (0, 5),
    "arc": (3, 0), "lfu": (4, 3), "hash-tenants": (2, 0), "ksm-zero": (7, 2), "esx": (6, 3), "esx-salted": (0, 6),
    "zero-only": (6, 5), "belady": (6, 0), "virtio-fpr": (7, 7), "kubevirt-ksm": (6, 7), "proxmox": (7, 0),
    "squeezed": (6, 1), "hyperv": (7, 6), "coach": (7, 1), "senpai-poking": (6, 2), "damon-reclaim": (0, 2),
    "hyperalloc": (6, 4), "virtio-mem": (7, 5), "balloon-huge": (1, 0), "reporting": (0, 7), "hyperalloc-soft": (5, 8),
    "mom-first": (2, 8), "squeezy": (4, 8), "balloon-vcpu": (0, 8), "virtio-mem-vcpu": (7, 8),
    "hyperalloc-vcpu": (6, 8), "squeezy-vcpu": (3, 8), "hinting": (1, 8),
}
# fmt: on


def of(names: Sequence[str]) -> list[Look]:
    """The looks of names that are shown together, in their order: fixed ones, and for the others colours that none of them
    has, then shapes that are free in colours that they share."""
    taken = [FIXED[name] for name in dict.fromkeys(names) if name in FIXED]
    found: dict[str, Look] = {}
    for name in dict.fromkeys(names):
        if name not in FIXED:
            found[name] = _free(taken)
            taken.append(found[name])
    return [FIXED.get(name) or found[name] for name in names]


def _free(taken: Sequence[Look]) -> Look:
    """The look of a colour that is used least; of these the first, with a shape of its own where there is one."""
    used = [sum(colour == each for each, _ in taken) for colour in range(COLOURS)]
    colour = used.index(min(used))
    shapes = [(colour + used[colour] + turn) % SHAPES for turn in range(SHAPES)]
    return colour, next((shape for shape in shapes if (colour, shape) not in taken), shapes[0])
