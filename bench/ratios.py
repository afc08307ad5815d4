"""Every speed and size target of memvirt, measured beside its references: peers of the kernel, libraries, limit loops.

Prints one table and writes the same rows as JSON, a list with one object for each reference and target: what, ours,
reference, unit, ratio (larger is better), interval (of the ratio, 96 %), target (the least ratio), turns, answer, note.
How turns are taken and answers found is told in harness.py. A peer that is not to be had here (no root, a package that
is not installed) makes its row *absent*. Peers of the kernel change the settings of the machine; peers/guard.py puts
them back.

Nothing else should run meanwhile: two timed processes on two processors slow each other by half or more.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import MIN_TURNS, REPEATS, Answer, Row, tell

from memvirt.errors import MemvirtError

# name -> what it holds; each is rows/NAME.py with rows(repeats). SLOW ones take minutes: only when named, or --full.
GROUPS = {
    "start": "how soon the program answers",
    "hit": "hits in the translation cache",
    "buddy": "the buddy allocator",
    "fault": "first touch, COW break, copy of a leaf",
    "clone": "clones beside fork()",
    "sharing": "page-sharing scans beside KSM",
    "compress": "compressed pages beside LZ4 alone and zram",
    "swap": "swap beside raw file I/O",
    "thrash": "half the set resident beside memcg with zram",
    "traces": "import, records a second",
    "capture": "pages of a live process",
    "simulate": "replacement simulation beside libcachesim",
    "metadata": "bytes of metadata",
    "growth": "what should not grow with how much there is",
    "life": "fleets that live on a host of 64 GiB",
    "fleet": "500 VMs on 256 GiB for 30 minutes",
    "policies": "a policy's decision over 1,000 VMs",
    "timeline": "what the time line of a cell costs",
    "cells": "cells beside each other, and on dask",
    "scale": "a host of 512 GiB",
}
SLOW = ("life", "fleet", "cells", "scale")
QUIET = 0.75  # of the processors; one of two is this program itself, run before
INTERRUPTED = 130  # exit code
HEAD = (
    f"{'what / reference':<92}{'ours':>9} {'reference':>9} {'unit':<10} {'ratio':>8} {'96 % interval':>17} "
    f"{'target':>7} {'turns':>5} answer"
)
EPILOG = """examples:
  python bench/ratios.py --only hit,fault                     two groups, a few minutes
  python bench/ratios.py --repeats 40 --json ratios.json      patient, and for programs, too

groups:
""" + "\n".join(f"  {name:<10}{held}" for name, held in GROUPS.items())


def names(text: str) -> list[str]:
    """The groups of --only."""
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in GROUPS]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown) or 'nothing'}; there are {', '.join(GROUPS)}")
    return list(dict.fromkeys(chosen))


def writable(text: str) -> Path:
    """A file that can be written, told before anything is measured and not after."""
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: cannot be written; name a file in a folder that can")
    return path


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The options; exits with 2 and a sentence when they are wrong."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=writable, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--only", type=names, metavar="NAME,...", help="these groups only")
    parser.add_argument("--full", action="store_true", help=f"with {', '.join(SLOW)}, which takes minutes")
    parser.add_argument(
        "--repeats",
        type=int,
        default=REPEATS,
        help=f"turns of a row at most (default {REPEATS}); a row ends sooner when its answer is clear. "
        f"Below {MIN_TURNS} there are figures and no answers",
    )
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats}: at least 1")
    return options


def measure(chosen: Sequence[str], repeats: int) -> Iterator[Row]:
    """The rows, as they are measured."""
    for name in chosen:
        rows: Callable[[int], Iterator[Row]] = import_module(f"rows.{name}").rows
        yield from rows(repeats)


def number(value: float | None) -> str:
    """Three places below ten and three figures above, or a dash."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def line(row: Row) -> str:
    """A row as it is printed."""
    interval = f"{number(row.interval.low)} to {number(row.interval.high)}" if row.interval and row.turns else "-"
    cells = (
        f"{number(row.ours):>9}",
        f"{number(row.reference):>9}",
        f"{row.unit:<10}",
        f"{number(row.ratio):>8}",
        f"{interval:>17}",
        f"{number(row.target):>7}",
        f"{row.turns or '-':>5}",
        f"{shown(row.answer):<11}",
    )
    return (f"{row.what:<92.92}" + " ".join(cells) + f" {row.note}").rstrip()


def shown(answer: Answer | None) -> str:
    """An answer so that what is missed is seen."""
    return {None: "-", Answer.MISSED: "MISSED"}.get(answer, str(answer))


def summary(rows: Sequence[Row]) -> str:
    """The line under the table."""
    found = Counter(row.answer for row in rows)
    judged = sum(found[each] for each in (Answer.MET, Answer.MISSED, Answer.CANNOT_TELL))
    said = f"{found[Answer.MET]} of {judged} targets met, {found[Answer.MISSED]} missed"
    return f"{said}, {found[Answer.CANNOT_TELL]} cannot be told; {found[Answer.ABSENT]} references absent"


def unrest(load: float, processors: int) -> str:
    """What to say of a machine that does something else meanwhile; empty when it does not."""
    if load <= QUIET * processors:
        return ""
    return f"note: the load here is {load:.1f} on {processors} processors: expect wide intervals, and peers in favour"


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write. What was measured before an error or Ctrl-C is written, too."""
    options = parse(argv)
    chosen = options.only or [name for name in GROUPS if options.full or name not in SLOW]
    if note := unrest(os.getloadavg()[0], os.cpu_count() or 1):
        print(note, file=sys.stderr)
    print(HEAD)
    rows: list[Row] = []
    try:
        for row in measure(chosen, options.repeats):
            print(line(row), flush=True)
            rows.append(row)
    except KeyboardInterrupt:
        tell("")
        print("interrupted: the rows above are all there are", file=sys.stderr)
        return INTERRUPTED
    except MemvirtError as error:
        tell("")
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        print(summary(rows), file=sys.stderr)
        if options.json:
            options.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
