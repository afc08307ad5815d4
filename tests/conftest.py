"""What tests of several topics ask for by name."""

import pytest

from helpers import program

KERNELS = ("test_ksm_kernel", "test_swap_kernel", "test_undo", "test_validate")  # lead this machine's one kernel


def pytest_collection_modifyitems(config, items):
    """Beside each other (`-n`), a file's tests stay with one worker, and all that lead the kernel with one."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            name = item.path.stem
            item.add_marker(pytest.mark.xdist_group("kernel" if name in KERNELS else name))


@pytest.fixture
def memvirt(capsys):
    """A function of words: (exit code, stdout, stderr) of `memvirt WORDS`, called in this process."""

    def called(*words):
        code = program.call(*words)
        return code, *capsys.readouterr()

    return called
