"""Every speed and size target of memvirt, measured beside its references: peers of the kernel, libraries, limit loops.

    python bench/ratios.py [--json FILE] [--only NAME,...] [--full] [--repeats N]

Prints one table and writes the same rows as JSON: what, ours, reference, unit, ratio (larger is better), target,
spread, met, note. A peer that is not to be had here (no root, a package that is not installed) makes its row *absent*,
which counts neither way. Peers of the kernel change the settings of the machine; peers/guard.py puts them back.

Nothing else should run meanwhile: two timed processes on two processors slow each other by half or more.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import REPEATS, Row

# name -> what it holds; each is rows/NAME.py with rows(repeats). `scale` takes minutes: only when named, or --full.
GROUPS = {
    "hit": "hits in the translation cache",
    "buddy": "the buddy allocator",
    "fault": "first touch, COW break, copy of a leaf",
    "clone": "clones beside fork()",
    "sharing": "page-sharing scans beside KSM",
    "compress": "compressed pages beside LZ4 alone and zram",
    "swap": "swap beside raw file I/O",
    "thrash": "half the set resident beside memcg with zram",
    "simulate": "replacement simulation beside libcachesim",
    "metadata": "bytes of metadata",
    "scale": "a host of 512 GiB",
}
SLOW = ("scale",)


def names(text: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in GROUPS]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown) or 'nothing'}; there are {', '.join(GROUPS)}")
    return chosen


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--only", type=names, metavar="NAME,...", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--full", action="store_true", help=f"with {', '.join(SLOW)}, which takes minutes")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"turns per row (default {REPEATS})")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats}: at least 1")
    return options


def measure(chosen: list[str], repeats: int) -> Iterator[Row]:
    """The rows, as they are measured."""
    for name in chosen:
        rows: Callable[[int], Iterator[Row]] = import_module(f"rows.{name}").rows
        yield from rows(repeats)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def line(row: Row) -> str:
    verdict = {True: "met", False: "MISSED", None: "absent" if row.note.startswith("absent") else "-"}[row.met]
    spread = "-" if row.spread is None else f"{row.spread:.0%}"
    cells = (
        f"{number(row.ours):>9}",
        f"{number(row.reference):>9}",
        f"{row.unit:<12}",
        f"{number(row.ratio):>8}",
        f"{number(row.target):>7}",
        f"{spread:>6}",
        f"{verdict:<7}",
    )
    return f"{row.what:<92.92}" + " ".join(cells) + (f" {row.note}" if row.note else "")


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    chosen = options.only or [name for name in GROUPS if options.full or name not in SLOW]
    print(f"{'what / reference':<92}{'ours':>9} {'reference':>9} {'unit':<12} {'ratio':>8} {'target':>7} {'spread':>6}")
    rows = []
    for row in measure(chosen, options.repeats):
        print(line(row), flush=True)
        rows.append(row)
    met = sum(row.met is True for row in rows)
    judged = sum(row.met is not None for row in rows)
    print(
        f"{met} of {judged} targets met; {sum(row.note.startswith('absent') for row in rows)} references absent",
        file=sys.stderr,
    )
    if options.json:
        options.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
