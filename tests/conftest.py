"""What tests of several topics ask for by name."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from helpers import program

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Their counts are of whole processes, and a sanitizer is a part of each.
COUNTING = {"test_comparison", "test_killed", "test_undo", "test_userfault", "test_validate", "test_trace_capture"}

# They change settings of the kernel that its processes share, or count what it does by them: one at a time.
LEADING = {
    "test_calibrate", "test_comparison", "test_killed", "test_ksm_kernel", "test_pricing", "test_swap_kernel", "test_undo",
    "test_userfault", "test_validate",
}  # fmt: skip
# How long an input takes to draw is this machine's load, not a fault of what is tested.
settings.register_profile("memvirt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("memvirt")
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


def pytest_collection_modifyitems(items):
    """What a sanitizer would take part in is skipped under one."""
    for item in items:
        if SANITIZED and item.path.stem in COUNTING:
            item.add_marker(pytest.mark.skip(reason="counts what a process does, and a sanitizer does more"))


@pytest.fixture(scope="module", autouse=True)
def alone(request):
    """A module that leads the kernel waits for those of other workers that do. A lock ends with its process."""
    if request.path.stem not in LEADING:
        yield
        return
    place = Path(tempfile.gettempdir()) / f"memvirt-tests-{os.getuid()}.lock"
    with place.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


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
