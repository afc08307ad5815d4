"""Every access of a program, as valgrind's lackey prints it, through a pipe: the text is never on disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memvirt.errors import CorpusError

from ..formats.lackey import Lackey
from ..requests import Reading, Requests
from ..source import Source
from .process import ended, found

if TYPE_CHECKING:
    from . import Target


@contextmanager
def requests(target: Target, reading: Reading) -> Iterator[Iterator[Requests]]:
    """The accesses of the program; it is ended when they are not wanted any more."""
    if shutil.which("valgrind") is None:
        raise CorpusError(
            "capturing by lackey needs valgrind, which is not installed (Debian: apt-get install valgrind)"
        )
    command = found(target.command)
    read, write = os.pipe()
    tool = ["valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-fd={write}", *command]
    try:
        child = subprocess.Popen(tool, pass_fds=(write,))
    except OSError as error:
        os.close(read)
        raise CorpusError(f"valgrind cannot be started: {error.strerror or error}") from error
    finally:
        os.close(write)
    with os.fdopen(read, "rb") as pipe, ended(child, target.seconds):
        yield Lackey().read(Source(pipe, "valgrind"), reading)
