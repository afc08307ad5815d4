"""How soon the program answers: `--help` and every list, whole processes, in processor time.

The bound is 0.3 s. Beside each stands what the libraries for arguments and settings take that no command can do without
(typer, pydantic): what a machine is slow at, both are slow at.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from harness import Reference, Row, compare

from memvirt.cli.catalog_entry import SINGULAR

BOUND_S = 0.3
LIBRARIES = "import typer.main, pydantic.types"


def rows(repeats: int) -> Iterator[Row]:
    """`--help` and the list that takes longest, each against 0.3 s and beside the libraries alone."""
    lists = {kind: spent("-m", "memvirt", "list", kind) for kind in SINGULAR}
    slowest = max(lists, key=lambda kind: lists[kind])
    for words in (("--help",), ("list", slowest)):
        references = [
            Reference(name="0.3 s", measure=lambda: BOUND_S, target=1.0),
            Reference(name="typer and pydantic alone", measure=lambda: spent("-c", LIBRARIES), target=None),
        ]
        measure = partial(spent, "-m", "memvirt", *words)
        yield from compare(f"start: memvirt {' '.join(words)}", measure, references, unit="s", repeats=repeats)


def spent(*words: str) -> float:
    """Processor time of a Python with these arguments, s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
