"""The program `memvirt`, also python -m memvirt. The rest is imported below, so that Ctrl-C is ours from the start."""

import sys

from memvirt import interrupts
from memvirt.errors import Stopped


def main() -> None:
    """The program; exit codes: see memvirt.cli."""
    try:
        interrupts.watch()
        from memvirt import cli

        cli.main()
    except BaseException as error:
        why = interrupts.asked()
        if why is None:
            raise
        interrupts.unwatch()
        if getattr(error, "code", None) != why.code or isinstance(error, Stopped):
            sys.stderr.write(f"memvirt: {why.said}\n")
        sys.exit(why.code)
    finally:
        interrupts.unwatch()


if __name__ == "__main__":
    main()
