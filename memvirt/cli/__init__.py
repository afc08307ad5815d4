"""The command line: `memvirt run`, and what it takes to understand what was run.

Data goes to stdout, messages to stderr. Commands import what they need when they run, so that `--help` answers at
once. What a user got wrong ends with a message and exit code 2, never with a traceback; an InvariantError is no user
error: memvirt is broken, and its traceback is what a report needs.

    0   done
    1   some cells failed, or the executor was lost, or a record or the output could not be written
    2   usage or configuration
    3   regression beyond the threshold
    4   a claim failed, or what verify looks at, a row of validate differs, or not even the smallest fleet met its objectives
    124 timeout
    130 interrupted (Ctrl-C, SIGTERM, SIGHUP), with everything finished so far kept
"""

import os
import re
import sys
from typing import Annotated

import typer

from memvirt.cli import (
    bundle,
    calibrate,
    capacity,
    compare,
    corpus,
    doctor,
    export,
    merge,
    plot,
    report,
    run,
    show,
    table,
    timeline,
    trace,
    validate,
)
from memvirt.untrusted import looking

LOOKING = ("compare", "merge", "table", "plot", "report", "export", "timeline", "bundle", "verify")  # at results

APP = typer.Typer(
    name="memvirt",
    help="How far can memory be overcommitted, by which mechanism, and at what cost?",
    epilog=show.examples("memvirt run quick --out results/mine", "memvirt list presets"),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    """Package, commit, and the route to LZ4, which compressed sizes depend on."""
    if asked:
        import memvirt
        from memvirt.environment import source_commit
        from memvirt.versions import lz4_route

        commit = source_commit()
        typer.echo(f"memvirt {memvirt.__version__}")
        typer.echo(f"commit {commit or 'unknown: not a checkout'}")
        typer.echo(f"codec {lz4_route()['lz4_route']}")
        raise typer.Exit


@APP.callback()
def _program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Package, commit and codec route.")
    ] = False,
) -> None:
    if context.invoked_subcommand in LOOKING:
        context.with_resource(looking())


for module in (
    run,
    capacity,
    compare,
    merge,
    table,
    plot,
    report,
    export,
    timeline,
    bundle,
    show,
    corpus,
    trace,
    doctor,
    validate,
    calibrate,
):
    module.register(APP)


def main() -> None:
    """The program. Exit codes: see the module."""
    from memvirt.errors import InvariantError, MemvirtError

    for name in ("COLUMNS", "LINES"):  # libraries take any digits of Unicode for a number, and however many
        if not re.fullmatch("[0-9]{1,6}", os.environ.get(name, "0")):
            del os.environ[name]
    try:
        try:
            APP()
        finally:
            sys.stdout.flush()  # here, for when Python ends it could only be ignored
    except InvariantError:
        raise
    except MemvirtError as error:
        typer.echo(f"memvirt: {_plain(error)}", err=True)
        sys.exit(2)
    except OSError as error:  # what this machine refuses: a full disk under our output, say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the rest of it goes
        if not isinstance(error, BrokenPipeError):  # who reads no more wants to hear no more
            typer.echo(f"memvirt: {_plain(error)}", err=True)
        sys.exit(1)


def _plain(error: Exception) -> str:
    """What an error says, line by line; it may quote names, which must not move a cursor or turn numbers around."""
    from memvirt.report.escape import plain

    return "\n".join(map(plain, str(error).splitlines()))
