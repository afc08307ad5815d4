"""trace import, export, capture, info: traces of other programs' making, for suites and simulations.

Commands about traces are registered here, on one sub-app.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memvirt.cli.progress import LINE_EVERY_S
from memvirt.cli.show import Json, examples, print_columns, print_json, say
from memvirt.cli.trace_info import info

if TYPE_CHECKING:
    from memvirt.inputs.traces import TraceInfo
    from memvirt.inputs.traces.source import Source

COMMANDS = typer.Typer(
    help="Traces of memory accesses, block and object requests.",
    epilog=examples("memvirt trace import disk.csv.gz -o disk.parquet", "memvirt list formats"),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Fetches = Annotated[bool, typer.Option(help="Take instruction fetches as reads, or drop them.")]
STREAMS_SHOWN = 8


def import_(
    file: Annotated[str, typer.Argument(help="The trace, also as .gz .zst .xz .bz2 .lz4; - is stdin.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write: memvirt's own format, Parquet.")],
    form: Annotated[str, typer.Option("--format", help="Its format. Unless given: what it looks like.")] = "",
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the format; may be repeated.")
    ] = None,
    fetches: Fetches = True,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="Parquet file for the map from page to what the trace called it.")
    ] = None,
    most_pages: Annotated[
        int | None, typer.Option(min=1, help="The most pages one request may touch; 4 GiB of them, unless given.")
    ] = None,
    expand_limit: Annotated[
        str, typer.Option(help="Compressed input may expand beyond this only up to 250 times its size.")
    ] = "1GiB",
    as_json: Json = False,
) -> None:
    """Convert a trace to memvirt's own format: every page touched, numbered by first appearance.

    A request is the list of the 4 KiB pages it touches, first to last. What touches nothing is skipped and counted.
    'memvirt list formats' names the formats, 'memvirt describe NAME' their options.
    """
    from memvirt.inputs.traces import Wanted, import_trace
    from memvirt.inputs.traces.requests import MOST_PAGES
    from memvirt.units import parse_bytes

    wanted = Wanted(
        format=form or None,
        options=_options(option or []),
        fetches=fetches,
        most_pages=most_pages or MOST_PAGES,
        expand_limit=parse_bytes(expand_limit),
        map_file=map_file,
    )
    with shown() as progress:
        info = import_trace(file, out, wanted, progress)
    print_info(info, str(out), as_json)


def export(
    file: Annotated[Path, typer.Argument(help="A trace: memvirt's own, or .npy.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")],
    form: Annotated[str, typer.Option("--format", help="oracle-general or csv.")] = "oracle-general",
) -> None:
    """Write a trace for other programs: libCacheSim's records, or CSV. What the format cannot hold is printed."""
    from memvirt.inputs.traces import export_trace, open_trace

    trace = open_trace(file)
    with shown() as progress:
        lost = export_trace(trace, out, form, lambda done: progress(None, done))
    say(f"{out}: {len(trace)} requests of {trace.info.pages} pages")
    for sentence in lost:
        say(f"note: {sentence}")


def capture(
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write: memvirt's own format, Parquet.")],
    program: Annotated[
        list[str] | None, typer.Argument(metavar="-- PROGRAM...", help="A program to start, with its arguments.")
    ] = None,
    pid: Annotated[int | None, typer.Option(help="A process that runs, in place of a program.")] = None,
    by: Annotated[
        str,
        typer.Option(help="lackey (programs), faults, writes, pageout. Unless given: lackey, or writes with --pid."),
    ] = "",
    seconds: Annotated[
        float | None,
        typer.Option(min=0.01, help="How long to capture. Unless given: a program to its end, a process for 10 s."),
    ] = None,
    interval: Annotated[str, typer.Option(help="How finely writes and pageout look.")] = "100ms",
    fetches: Fetches = True,
    as_json: Json = False,
) -> None:
    """Capture the accesses of a program or a process on this machine.

    lackey: every access in order, by valgrind, 100 times slower. faults: the first touch of every page, by perf. writes:
    the pages written in each interval (Linux 6.7). pageout: the pages read or written in each interval (root, swap).
    """
    from memvirt.errors import ConfigError
    from memvirt.inputs.traces.capture import Target, capture_trace
    from memvirt.units import parse_time

    if bool(program) == (pid is not None):
        raise ConfigError("name a program after --, or a process by --pid; one of them")
    interval_ns = parse_time(interval)
    if not 10**6 <= interval_ns <= 3600 * 10**9 or interval_ns % 10**6:
        raise ConfigError(f"--interval {interval}: whole milliseconds from 1ms to 1h")
    target = Target(tuple(program or ()), pid, seconds, interval_ns // 10**6, fetches)
    info = capture_trace(target, by or ("lackey" if program else "writes"), out)
    print_info(info, str(out), as_json)


def _options(words: list[str]) -> dict[str, str]:
    """KEY=VALUE as a table; ConfigError for anything else."""
    from memvirt.errors import ConfigError

    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"--option {word!r}: write KEY=VALUE")
        if key in found:
            raise ConfigError(f"--option {key}: is given twice")
        found[key] = value
    return found


def print_info(info: "TraceInfo", where: str, as_json: bool) -> None:
    """What was imported, and what was not."""
    from memvirt.inputs.traces.trace import info_as_json
    from memvirt.units import format_pages

    if as_json:
        print_json({"trace": where, **info_as_json(info)})
        return
    rows = [
        ("trace", where),
        ("source", f"{info.source}, {info.format}, {info.records} records"),
        ("pages touched", f"{info.touches}: {info.reads} reads, {info.writes} writes"),
        ("different pages", f"{info.pages}, {format_pages(info.pages)}"),
        ("streams", _streams(info.streams)),
        ("time", _time(info)),
        *(("skipped", f"{reason}: {count}") for reason, count in info.skipped.items()),
        ("sha256", info.sha256),
    ]
    print_columns(rows)


def _streams(names: list[str]) -> str:
    named = [name for name in names[:STREAMS_SHOWN] if name]
    more = ", …" if len(names) > STREAMS_SHOWN else ""
    return f"{len(names)}" + (f": {', '.join(named)}{more}" if named else "")


def _time(info: "TraceInfo") -> str:
    if info.first_ns is None or info.last_ns is None:
        return "none: the source has no times"
    return f"{(info.last_ns - info.first_ns) / 1e9:.6g} s, in units of {info.time_unit or 'ns'}"


@contextmanager
def shown() -> Iterator[Callable[["Source | None", int], None]]:
    """A function to call while a trace is read. Every two seconds it says on stderr how far reading has come."""
    last, told = time.monotonic(), False
    terminal = sys.stderr.isatty()

    def show(source: "Source | None", touches: int) -> None:
        nonlocal last, told
        if time.monotonic() - last < LINE_EVERY_S:
            return
        last, told = time.monotonic(), True
        share = f", {100 * source.taken // source.size} % of the file" if source and source.size else ""
        text = f"{touches / 1e6:.1f} million pages touched{share}"
        if terminal:
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
        else:
            say(text)

    try:
        yield show
    finally:
        if told and terminal:
            sys.stderr.write("\r\x1b[K")


def command(name: str, first: str, second: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: a command of the sub-app, with its two examples."""
    return COMMANDS.command(name, epilog=examples(first, second))


command(
    "import",
    "memvirt trace import prxy_0.csv.gz -o prxy.parquet",
    "memvirt trace import log.csv -o log.parquet --option address=vaddr --option time=ts",
)(import_)
command(
    "export",
    "memvirt trace export prxy.parquet -o prxy.oracleGeneral",
    "memvirt trace export prxy.parquet -o prxy.csv --format csv",
)(export)
command(
    "capture",
    "memvirt trace capture -o sort.parquet -- sort --parallel=1 words.txt",
    "memvirt trace capture -o redis.parquet --pid 4711 --by writes --seconds 30",
)(capture)


command("info", "memvirt trace info disk.parquet", "memvirt trace info disk.parquet --orders lru,clock,belady --json")(
    info
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(COMMANDS, name="trace")
