"""doctor: what on this machine will spoil a measurement."""

import typer

from memvirt.cli.show import Json, examples, print_columns, print_json


def doctor(as_json: Json = False) -> None:
    """Show what on this machine will spoil a measurement. Changes nothing.

    Simulated numbers do not depend on any of it; wall times do.
    """
    from memvirt.environment import examine

    found = examine()
    if as_json:
        print_json([finding._asdict() for finding in found])
        return
    print_columns([("ok" if each.ok else "MIND", each.what, each.found, each.remedy) for each in found])
    bad = sum(not each.ok for each in found)
    typer.echo(f"{len(found)} looked at, {bad} to mind" if bad else f"{len(found)} looked at, nothing to mind")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog=examples("memvirt doctor", "memvirt doctor --json"))(doctor)
