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

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from memvirt.errors import CorpusError

from ..importer import convert, require_place
from ..requests import Reading, Requests
from ..trace import TraceInfo
from . import faults, lackey, pageout, writes


class Way(NamedTuple):
    """One way to capture."""

    requests: Callable[[Target, Reading], AbstractContextManager[Iterator[Requests]]]
    nothing: str  # why a capture may be empty
    time_unit: str = "ns"  # "": it gives no times
    of_processes: bool = True  # and not only of programs that are started for it


WAYS: Mapping[str, Way] = {
    "lackey": Way(lackey.requests, "valgrind may not have started the program", time_unit="", of_processes=False),
    "faults": Way(
        faults.requests,
        "a process that has touched its memory already does not fault again: start the program, or try writes",
    ),
    "writes": Way(writes.requests, "the process wrote to no memory of its own; capture for longer"),
    "pageout": Way(pageout.requests, "the process touched no memory of its own; capture for longer"),
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
    ways = [name for name, each in WAYS.items() if target.command or each.of_processes]
    if way not in ways:
        what = "a program" if target.command else "a process that runs"
        raise CorpusError(f"{what} is captured by {', '.join(ways[:-1])} or {ways[-1]}, not by '{way}'")
    require_place(out)
    chosen, reading = WAYS[way], Reading(fetches=target.fetches)
    about = {"source": target.name, "format": f"capture by {way}", "time_unit": chosen.time_unit}
    with chosen.requests(target, reading) as requests:
        return convert(requests, reading, out, None, lambda: about, empty=chosen.nothing)
