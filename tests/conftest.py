"""What tests of several topics ask for by name."""

import shutil

import pytest

from helpers import program

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

KERNELS = ("test_ksm_kernel", "test_swap_kernel", "test_undo", "test_validate")  # lead this machine's one kernel


def pytest_collection_modifyitems(config, items):
    """Beside each other (`-n`), a file's tests stay with one worker, and all that lead the kernel with one."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            name = item.path.stem
            item.add_marker(pytest.mark.xdist_group("kernel" if name in KERNELS else name))


@pytest.fixture(scope="module")
def browser():
    """The distribution's Chromium, driven by playwright; skipped with the reason where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)})")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"], env=program.PLAIN)
        yield opened
        opened.close()


@pytest.fixture
def memvirt(capsys):
    """A function of words: (exit code, stdout, stderr) of `memvirt WORDS`, called in this process."""

    def called(*words):
        code = program.call(*words)
        return code, *capsys.readouterr()

    return called
