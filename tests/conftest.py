"""What tests of several topics ask for by name."""

import pytest

from helpers import program


@pytest.fixture
def memvirt(capsys):
    """A function of words: (exit code, stdout, stderr) of `memvirt WORDS`, called in this process."""

    def called(*words):
        code = program.call(*words)
        return code, *capsys.readouterr()

    return called
