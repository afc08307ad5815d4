"""trace info: what a trace is like, in tables, JSON and figures."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memvirt.cli import figure_files
from memvirt.cli.show import Json, print_columns, print_json

if TYPE_CHECKING:
    from memvirt.inputs.traces import Trace
    from memvirt.simulation import Curve
    from memvirt.simulation.profile import Profile

EXACT_TOUCHES = 20_000_000  # up to here curves are exact unless a sample is asked for
AUTO_SAMPLE = 0.01
ROWS_SHOWN = 12


def info(
    file: Annotated[Path, typer.Argument(help="A trace that `memvirt trace import` wrote, or .npy of page numbers.")],
    orders: Annotated[
        str,
        typer.Option(
            help="Replacement orders to draw curves of, with commas between, FILE.py:CLASS for one of yours; none for no "
            "curves."
        ),
    ] = "all",
    sizes: Annotated[
        str, typer.Option(help="Memory sizes of the curves, with commas between. Parts of the footprint, unless given.")
    ] = "",
    sample: Annotated[
        str,
        typer.Option(
            help="Share of the pages in each of eight samples to estimate curves from, such as 0.01; none for exact "
            "curves. By default exact up to 20 million touches, and for lru always."
        ),
    ] = "auto",
    figures: figure_files.Folder = None,
    force: Annotated[bool, typer.Option("--force", help="Replace figures that are there.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a trace is like: footprint, sharing between streams, working set, reuse distances, phases, and the
    miss-ratio curves of replacement orders.

    The whole trace is looked at; that takes four bytes of memory for each page touched, and some more for each page.
    """
    from memvirt.inputs.traces import open_trace
    from memvirt.report.figures.traces import FIGURES, of_trace
    from memvirt.simulation.profile import curve_sizes

    names = _orders(orders)
    rate = _rate(sample)
    wanted = _sizes(sizes)
    trace = open_trace(file)
    if figures is not None:
        figure_files.prepare(figures, FIGURES, force)
    profiler = _read(trace)
    plain = profiler.profile()
    capacities = wanted or curve_sizes(plain.pages)
    curves = tuple(_curves(names, profiler.pages, capacities, rate)) if plain.touches else ()
    profile = profiler.profile(curves) if curves else plain
    if figures is not None:
        figure_files.write(figures, of_trace(profile), force)
    if as_json:
        print_json({"trace": str(file), "sha256": trace.info.sha256, **_as_json(profile)})
    else:
        _print(str(file), profile)


def _orders(words: str) -> list[str]:
    """The orders asked for; ConfigError names those that do not exist."""
    from memvirt.errors import ConfigError
    from memvirt.simulation import order_names
    from memvirt.simulation.own import is_own, load_order
    from memvirt.units import suggest

    known = order_names()
    if words in ("all", "none"):
        return list(known) if words == "all" else []
    asked = [word.strip() for word in words.split(",") if word.strip()]
    wrong = []
    for name in asked:
        if is_own(name):
            load_order(name)
        elif name not in known:
            wrong.append(f"unknown order '{name}'{suggest(name, list(known))}")
    if wrong or not asked:
        raise ConfigError(f"--orders: {'; '.join(wrong) or 'names none'} (known: all, none, {', '.join(known)})")
    return list(dict.fromkeys(asked))


def _rate(word: str) -> float | str | None:
    """The share of a sample, None for exact curves, or "auto"; ConfigError for anything else."""
    from memvirt.errors import ConfigError

    if word in ("auto", "none"):
        return None if word == "none" else word
    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"--sample {word!r}: must be auto, none, or a share of the pages such as 0.01") from None


def _sizes(words: str) -> tuple[int, ...]:
    """Page counts, none if nothing was asked for; ConfigError for a size that is none."""
    from memvirt.errors import ConfigError
    from memvirt.units import parse_pages

    try:
        return tuple(sorted({parse_pages(word.strip()) for word in words.split(",") if word.strip()}))
    except ConfigError as error:
        raise ConfigError(f"--sizes: {error}") from error


def _read(trace: "Trace") -> Any:
    """The touches, in a Profiler."""
    from memvirt.simulation.profile import Profiler

    names = [name or f"stream {i}" for i, name in enumerate(trace.info.streams)]
    profiler = Profiler(len(trace), names if len(names) > 1 else trace.info.streams or [""])
    for chunk in trace.chunks():
        profiler.add(chunk.pages, chunk.ops, chunk.stream, chunk.time_ns)
    return profiler


def _curves(
    names: Sequence[str], pages: Any, capacities: tuple[int, ...], rate: float | str | None
) -> Iterator["Curve"]:
    from memvirt.simulation import ONE_PASS, simulate
    from memvirt.simulation.curve import FEWEST_PAGES, REPLICAS

    if rate == "auto":
        enough = max(AUTO_SAMPLE, FEWEST_PAGES / min(capacities))
        rate = enough if len(pages) > EXACT_TOUCHES and enough <= 1 / REPLICAS else None
    terminal = sys.stderr.isatty()
    for i, name in enumerate(names, 1):
        if terminal:
            sys.stderr.write(f"\rcurve {i} of {len(names)}: {name}\x1b[K")
            sys.stderr.flush()
        share = None if name in ONE_PASS else rate  # these are exact for nothing
        yield simulate(name, pages, capacities=capacities, sample=share)  # type: ignore[arg-type]
    if terminal:
        sys.stderr.write("\r\x1b[K")


def _as_json(profile: "Profile") -> dict[str, Any]:
    found = asdict(profile)
    for plain, curve in zip(found["curves"], profile.curves, strict=True):
        plain["miss_ratios"] = curve.miss_ratios()
    return found


def _print(where: str, profile: "Profile") -> None:
    from memvirt.units import format_pages

    share = profile.writes / max(1, profile.touches)
    span = "none: the trace has no times" if profile.span_ns is None else f"{profile.span_ns / 1e9:.6g} s"
    print_columns(
        [
            ("trace", where),
            ("pages touched", f"{profile.touches}: {profile.reads} reads, {profile.writes} writes ({share:.1%})"),
            ("footprint", f"{profile.pages} pages, {format_pages(profile.pages) if profile.pages else '0'}"),
            ("time", span),
            ("streams", str(len(profile.streams))),
        ]
    )
    for title, rows in _sections(profile):
        typer.echo(f"\n{title}")
        print_columns(rows, "  ")


def _sections(profile: "Profile") -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Title and rows of each table that has something to show; the first row is its head."""
    if len(profile.streams) > 1:
        yield (
            "Streams",
            _shortened(
                ("stream", "touches", "writes", "pages", "its own"),
                [(s.name, str(s.touches), str(s.writes), str(s.pages), str(s.own_pages)) for s in profile.streams],
            ),
        )
        rows: list[tuple[str, ...]] = [(str(i), str(pages)) for i, pages in enumerate(profile.pages_by_streams, 1)]
        yield "Pages by how many streams touch them", _shortened(("streams", "pages"), rows)
    if profile.intervals:
        shown = profile.intervals[:: -(-len(profile.intervals) // ROWS_SHOWN)]
        yield (
            f"Working set: different pages in windows of {profile.intervals[0].touches} touches "
            f"({len(shown)} of {len(profile.intervals)} windows)",
            [
                ("from touch", "pages", "never before", "writes"),
                *((str(i.start), str(i.pages), str(i.new_pages), f"{i.writes / i.touches:.1%}") for i in shown),
            ],
        )
        yield "Reuse distances, in pages", _reuse_rows(profile)
        yield (
            "Phases",
            _shortened(
                ("phase", "from touch", "touches", "mean working set"),
                [(p.name, str(p.start), str(p.touches), str(p.pages)) for p in profile.phases],
            ),
        )
    if profile.curves:
        estimated = any(curve.errors is not None for curve in profile.curves)
        about = ", estimated from samples: ± half of a 95 % interval" if estimated else ""
        yield f"Miss ratios by memory size{about}", _curve_rows(profile.curves)


def _shortened(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    left = len(rows) - ROWS_SHOWN
    more = [(f"… and {left} more", *("" for _ in head[1:]))] if left > 0 else []
    return [head, *rows[:ROWS_SHOWN], *more]


def _reuse_rows(profile: "Profile") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("distance", "touches", "share", "this far or nearer")]
    near = 0
    for each in profile.reuse:
        near += each.touches
        span = str(each.low) if each.low == each.high else f"{each.low} .. {each.high}"
        rows.append((span, str(each.touches), f"{each.touches / profile.touches:.1%}", f"{near / profile.touches:.1%}"))
    first = profile.first_touches
    rows.append(("first touch", str(first), f"{first / profile.touches:.1%}", ""))
    return rows


def _curve_rows(curves: Sequence["Curve"]) -> list[tuple[str, ...]]:
    from memvirt.units import format_pages

    rows = [("order", *(format_pages(capacity) for capacity in curves[0].capacities))]
    for curve in curves:
        errors = [f" ±{error:.3f}" for error in curve.errors] if curve.errors else [""] * len(curve.misses)
        ratios = [f"{ratio:.4f}{error}" for ratio, error in zip(curve.miss_ratios(), errors, strict=True)]
        rows.append((curve.replacement, *ratios))
    return rows
