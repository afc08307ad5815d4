"""validate, restore: the engine beside this machine's own kernel, and a machine left as it was."""

from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import Json, examples, print_json, say, text_width

if TYPE_CHECKING:
    from memvirt.backends.rows import Row

HEADS = ("", "engine", "kernel", "difference", "tolerance", "verdict")


def validate(
    memory: Annotated[str, typer.Option(help="What engine and processes take together, about.")] = "256MiB",
    only: Annotated[
        str, typer.Option(metavar="A,B", help="These mechanisms only, by the first words of their names.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of contents and accesses.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Four times as much memory as is asked for.")] = False,
    as_json: Json = False,
) -> None:
    """Hold the engine against this machine's own kernel, count by count.

    The same accesses go to VMs of the engine and to processes. What needs root is skipped without it; so is what this
    machine lacks, each with its reason. Settings that are changed are put back at the end; after a kill, by 'memvirt
    restore'. Exit code 4 when a row differs and its reason is not known.
    """
    from memvirt.backends import validate as compared
    from memvirt.errors import ConfigError
    from memvirt.units import parse_pages

    pages = parse_pages(memory) * (4 if full else 1)
    if pages < compared.LEAST_PAGES:
        raise ConfigError(f"memory: {memory} is too little to compare anything; the least is 4MiB")
    names = compared.chosen([name.strip() for name in only.split(",") if name.strip()])
    found: list[Row] = []
    for row in compared.run(names, compared.Scale(pages, seed), _begun):
        found.append(row)
    if as_json:
        print_json([row.as_dict() for row in found])
    else:
        _print(found)
    if any(row.failed for row in found):
        raise typer.Exit(4)


def _begun(name: str, number: int, total: int) -> None:
    say(f"[{number:{len(str(total))}}/{total}] {name}")


def _print(found: "list[Row]") -> None:
    """A table for each mechanism, then how it went."""
    from memvirt.backends.rows import counted

    cells = [_cells(row) for row in found]
    widths = [max(len(line[column]) for line in [HEADS, *cells]) for column in range(len(HEADS))]
    lines = iter(cells)
    for name, rows in groupby(found, key=lambda row: row.mechanism):
        typer.echo(f"{name:{widths[0]}}" + _line(("", *HEADS[1:]), widths)[widths[0] :])
        reasons = []
        for row in rows:
            typer.echo(_line(next(lines), widths))
            if row.reason and row.reason not in reasons:
                reasons.append(row.reason)
        for reason in reasons:
            _wrapped(reason)
        typer.echo("")
    said = ", ".join(f"{count} {verdict}" for verdict, count in counted(found).items() if count)
    typer.echo(f"{len(found)} rows: {said}")


def _wrapped(text: str) -> None:
    import textwrap

    for line in textwrap.wrap(text, text_width() - 4, initial_indent="    ", subsequent_indent="    "):
        typer.echo(line)


def _cells(row: "Row") -> tuple[str, ...]:
    numbers = [row.engine, row.kernel, row.difference]
    engine, kernel, difference = ("–" if number is None else f"{number:,}" for number in numbers)
    tolerance = "–" if row.verdict == "skipped" else "equal" if not row.tolerance else f"±{row.tolerance * 100:g} %"
    return f"  {row.what}", engine, kernel, difference, tolerance, row.verdict + ("*" if row.reason else "")


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *numbers, verdict = cells
    parts = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False))]
    return "  ".join([*parts, verdict]).rstrip()


def restore(as_json: Json = False) -> None:
    """Put back what a run of validate has changed that was killed.

    Every change is written down before it is made; this undoes what is left of the list, last change first. Without one
    it does nothing. Exit code 1 when something could not be undone: it stays on the list.
    """
    from memvirt.backends.linux import undo

    done, problems = undo.restore()
    if as_json:
        print_json({"undone": done, "left": problems})
    else:
        for problem in problems:
            say(f"memvirt: not undone: {problem}")
        typer.echo(f"{done} changes undone" if done or problems else "nothing to restore")
    if problems:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog=examples("memvirt validate", "memvirt validate --only 'first touch,ksm' --json"))(validate)
    app.command(epilog=examples("memvirt restore", "memvirt restore --json"))(restore)
