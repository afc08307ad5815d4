"""The command line, called within the process of a test."""

import sys

import pytest

from memvirt.cli import main


def call(*words):
    """The exit code of `memvirt WORDS`; what it prints is where pytest's capsys finds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["memvirt", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0
