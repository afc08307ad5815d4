"""Traces of a program on this machine, by what the machine offers.

    lackey     every access, in order, of a program that is started for it, about a hundred times slower
    faults     the first touch of every page of a process, in order, by perf: with address and time
    writes     which pages were written in each interval, exactly: userfaultfd's asynchronous write protection, put into
               the process from outside, and PAGEMAP_SCAN (Linux 6.7). A written page costs one fault an interval
    pageout    which pages were read or written in each interval: all are paged out at its beginning, those that are
               back at its end were touched. It needs root and swap, and slows the process down

What happens within an interval has no order: pages stand by address there, and have the time of its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memvirt.errors import CorpusError

from ..importer import convert, require_place
from ..requests import Reading
from ..trace import TraceInfo
from . import faults, lackey, pageout, writes

PROGRAM_WAYS = ("lackey", "faults", "writes", "pageout")
PROCESS_WAYS = ("faults", "writes", "pageout")

NOTHING = {
    "lackey": "could valgrind start the program?",
    "faults": "a process that has touched its memory already does not fault again: start the program, or try writes",
    "writes": "the process wrote to no memory of its own; capture for longer",
    "pageout": "the process touched no memory of its own; capture for longer",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What is captured: a program to start, or a process that runs; for how long; how finely."""

    command: tuple[str, ...] = ()
    pid: int | None = None
    seconds: float | None = None  # None: until the program ends
    interval_ms: int = 100
    fetches: bool = True

    @property
    def name(self) -> str:
        """What the trace says it is of."""
        return Path(self.command[0]).name if self.command else f"process {self.pid}"


def capture_trace(target: Target, way: str, out: Path) -> TraceInfo:
    """Capture a trace and write it to `out`, all or nothing. CorpusError says what is missing, and what to do."""
    ways = PROGRAM_WAYS if target.command else PROCESS_WAYS
    if way not in ways:
        what = "a program" if target.command else "a process that runs"
        raise CorpusError(f"{what} is captured by {', '.join(ways[:-1])} or {ways[-1]}, not by '{way}'")
    require_place(out)
    modules = {"lackey": lackey, "faults": faults, "writes": writes, "pageout": pageout}
    reading = Reading(fetches=target.fetches)
    about = {"source": target.name, "format": f"capture by {way}", "time_unit": "" if way == "lackey" else "ns"}
    with modules[way].requests(target, reading) as requests:
        return convert(requests, reading, out, None, lambda: about, empty=NOTHING[way])
