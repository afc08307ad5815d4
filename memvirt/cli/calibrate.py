"""calibrate: this machine's costs as a cost model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import Json, examples, print_columns, print_json, say

if TYPE_CHECKING:
    from memvirt.settings.costs import CostFile


def calibrate(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE.toml", help="File to write; replaced if it is there.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Seed of contents and of the order of pages.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure this machine's costs: a cost model that simulated time can use, in under a minute.

    It times the kernel's faults (first touch of 4 KiB and 2 MiB, a copy after a fork) and what comes from zram. It times
    copying, clearing, hashing and comparing a page, and the codecs by kind of content. The disk is timed by depth and size
    of requests, through a file in MEMVIRT_SWAP_DIR or the folder for temporary files.

    The file has the median of each, with its 95 % interval. What needs root or is not there is skipped, and the file says
    so; a constant that cannot be measured keeps its value. An interrupted run writes nothing. Use the file with '--set
    costs=FILE.toml', and '--set swap_device=FILE.toml' for the disk.
    """
    from memvirt.backends import calibrate as calibrated
    from memvirt.errors import ConfigError
    from memvirt.results.record import write_atomically

    if out.suffix != ".toml":
        raise ConfigError(f"{out}: a cost model is a file NAME.toml; did you mean {out}.toml?")
    if not os.path.isdir(out.parent):
        raise ConfigError(f"{out}: there is no folder {out.parent}")
    made = calibrated.model(calibrated.run(seed, _begun))
    write_atomically(out, calibrated.dumps(made))
    if as_json:
        print_json(made.model_dump(mode="json", exclude_none=True))
    else:
        _print(made)
    say(f"wrote {out}: --set costs={out}{f', --set swap_device={out}' if made.swap_device else ''}")


def _begun(name: str, number: int, total: int) -> None:
    say(f"[{number}/{total}] {name}")


def _print(made: "CostFile") -> None:
    from memvirt.settings.costs import load

    default = load("default").flat()
    typer.echo(made.description)
    rows = [("constant", "default", "here", "of")]
    rows += [
        (name, f"{default[name]:,}", f"{value:,}", made.source[name].removeprefix("measured: "))
        for name, value in made.costs.flat().items()
        if made.source[name].startswith("measured")
    ]
    print_columns([("", "", "", ""), *rows])
    rows = [("measured, ns", "median", "95 %", "what")]
    rows += [
        (name, f"{each.median:,}", f"{each.low:,} to {each.high:,}", each.what) for name, each in made.spread.items()
    ]
    print_columns([("", "", "", ""), *rows])
    if made.swap_device:
        told = made.swap_device.constants()
        print_columns([("", ""), ("swap_device", ""), *((name, f"{value:,}") for name, value in told.items())])
    for name, reason in made.skipped.items():
        say(f"skipped: {name}: {reason}")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    second = "memvirt run quick --set costs=here.toml --set swap_device=here.toml"
    app.command(epilog=examples("memvirt calibrate -o here.toml", second))(calibrate)
