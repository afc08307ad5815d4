"""How far a run is: a bar on a terminal, a line now and then in a log; on stderr, either way."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from memvirt.cli.show import say

if TYPE_CHECKING:
    from memvirt.experiment.loop import Progress

LINE_EVERY_S = 2.0


@contextmanager
def shown(total: int) -> Iterator[Callable[["Progress"], None]]:
    """A function to call after every cell."""
    if sys.stderr.isatty():
        with _bar(total) as show:
            yield show
    else:
        yield _lines()


@contextmanager
def counted(what: str, unit: str = "pages") -> Iterator[Callable[[int, int], None]]:
    """A function to call with how much is done and how much there is in all. What takes under two seconds shows nothing."""
    began = last = time.monotonic()
    bar: Any = None

    def show(done: int, total: int) -> None:
        nonlocal last, bar
        now = time.monotonic()
        if now - last < (0.1 if bar else LINE_EVERY_S):
            return
        last = now
        remaining = left((now - began) * (total - done) / max(1, done))
        if not sys.stderr.isatty():
            say(f"{what}: {done} of {total} {unit}, {remaining}")
            return
        if bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            bar.add_task(what, total=total, left="")
            bar.start()
        bar.update(bar.task_ids[0], completed=done, total=total, left=remaining)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()


def left(seconds: float) -> str:
    """An estimate in words, no finer than it is true."""
    if seconds < 1:
        return "nearly done"
    return f"about {seconds:.0f} s left" if seconds < 100 else f"about {seconds / 60:.0f} min left"


def _lines() -> Callable[["Progress"], None]:
    """Plain lines: not more than one each two seconds, but the last, and every cell that failed."""
    last = 0.0

    def show(progress: "Progress") -> None:
        nonlocal last
        now = time.monotonic()
        record, end = progress.record, progress.done == progress.total
        if end or record.status == "failed" or now - last >= LINE_EVERY_S:
            last = now
            what = "kept" if progress.resumed else record.status
            when = "done" if end else left(progress.left_s)
            when += f"; running: {', '.join(progress.running)}" if progress.running else ""
            say(f"[{progress.done:{len(str(progress.total))}}/{progress.total}] {record.cell}: {what}, {when}")

    return show


@contextmanager
def _bar(total: int) -> Iterator[Callable[["Progress"], None]]:
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.BarColumn(), bars.MofNCompleteColumn(), bars.TextColumn("{task.fields[left]}  {task.description}"))
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=total, left="")

        def show(progress: "Progress") -> None:
            what = ", ".join(progress.running) or progress.record.cell
            bar.update(task, completed=progress.done, description=what, left=left(progress.left_s))

        yield show
