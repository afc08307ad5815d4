"""The command line, called within the process of a test; and what programs of a test's own are started with."""

import os
import sys

import pytest

from memvirt.cli import main

PLAIN = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # without a sanitizer's terabytes


def call(*words):
    """The exit code of `memvirt WORDS`; what it prints is where pytest's capsys finds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["memvirt", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0
