"""validate, restore: the engine beside this machine's own kernel, and a machine left as it was."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import Json, Width, examples, print_json, say, text_width

if TYPE_CHECKING:
    from memvirt.backends.rows import Row


def validate(
    memory: Annotated[str, typer.Option(help="What engine and processes take together, about.")] = "256MiB",
    only: Annotated[
        str, typer.Option(metavar="A,B", help="These mechanisms only, by the first words of their names.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of contents and accesses.")] = 0,
    full: Annotated[
        bool,
        typer.Option("--full", help="Twice as much memory, and the grid of loads."),
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The grid replays this trace in place of the loads that it generates."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep the rows in a results folder, for table and report. NAME.json: in a file."
        ),
    ] = None,
    read: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run nothing; print what --out has kept in this folder or file.")
    ] = None,
    as_json: Json = False,
    width: Width = None,
) -> None:
    """Hold the engine against this machine's own kernel, count by count.

    The same accesses go to VMs of the engine and to processes. What needs root is skipped without it; so is what this
    machine lacks, each with its reason. Settings that are changed are put back at the end; after a kill, by 'memvirt
    restore'.

    What must be exact is counted in six ways: three mixes of contents by two orders of pages. The row shows the way in
    which the two sides differ most. The grid (--full, or --only grid) has five loads with 90, 75, 50 and 25 % of
    their pages resident, over zram, zswap and a swap file, beside every replacement order.

    Exit code 4 when a row fails: its numbers differ by more than its tolerance, and no stated reason covers that. --json
    says how much a reason covers, as a share of the kernel's number (covered). Under a memory limit the order twolist must
    be within its tolerance; any other may differ by 50 % in faults and 60 % in pages that leave.
    """
    from memvirt.backends import comparison, table

    found = list(comparison.read(read).rows) if read is not None else _run(memory, only, seed, full, trace, out)
    if as_json:
        print_json([row.as_dict() for row in found])
    else:
        typer.echo(table.text(found, text_width(width)), nl=False)
    if any(row.failed for row in found):
        raise typer.Exit(4)


def _run(memory: str, only: str, seed: int, full: bool, trace: Path | None, out: Path | None) -> "list[Row]":
    from memvirt.backends import comparison
    from memvirt.backends import validate as compared
    from memvirt.errors import ConfigError
    from memvirt.results.record import write_atomically
    from memvirt.units import parse_pages

    pages = parse_pages(memory) * (2 if full else 1)
    if pages < compared.LEAST_PAGES:
        raise ConfigError(f"memory: {memory} is too little to compare anything; the least is 4MiB")
    names = compared.chosen([name.strip() for name in only.split(",") if name.strip()], full)
    replayed = "" if trace is None else compared.replayed(trace, names)
    file = None if out is None else comparison.place(out)
    found: list[Row] = []
    finished = 0

    def begun(name: str, number: int, total: int) -> None:
        nonlocal finished
        finished = len(found)
        say(f"[{number:{len(str(total))}}/{total}] {name}")

    try:
        for row in compared.run(names, compared.Scale(pages, seed, trace), begun):
            found.append(row)
        finished = len(found)
    finally:  # interrupted: the mechanisms that were finished are kept
        if file is not None and finished:
            write_atomically(file, comparison.dumps(comparison.made(found[:finished], names, seed, pages, replayed)))
    return found


def restore(as_json: Json = False) -> None:
    """Put back what a killed run of validate had changed.

    Every change is written down before it is made; this undoes what is left of the list, last change first. Without a
    list it does nothing. Exit code 1 when something could not be undone: it stays on the list.
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
    second = "memvirt validate --only 'first touch,ksm' --json"
    app.command(epilog=examples("memvirt validate --out results/here", second))(validate)
    app.command(epilog=examples("memvirt restore", "memvirt restore --json"))(restore)
