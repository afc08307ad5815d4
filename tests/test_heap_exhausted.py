"""This machine's own memory runs out inside the engine: every malloc, calloc and realloc of its is refused once.

The frames of a host are refused by test_faults_injected; here it is the heap beneath the engine's tables. A small library
loaded before everything else refuses the n-th allocation that comes from an extension module of the engine (Python's and
NumPy's own go through). Whatever the operation was, it raises MemoryError or goes on; afterwards the recount holds, every
page reads back, and the same operation works.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static long left; /* allocations until the one refused; 0: none is to come */

void shim_arm(long nth) { left = nth; }
long shim_left(void) { return left; }

static int refuse(void *caller)
{
    Dl_info info;
    if (left == 0 || !dladdr(caller, &info) || strstr(info.dli_fname, "/memvirt/engine/") == NULL || --left > 0)
        return 0;
    errno = ENOMEM;
    return 1;
}
void *malloc(size_t n) { return refuse(__builtin_return_address(0)) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return refuse(__builtin_return_address(0)) ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return refuse(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n); }
"""
MOST = 300


def refused_everywhere(name, operation, settings):
    """How many allocations the operation makes; each was refused once, on a host of its own."""
    from test_faults_injected import HOSTS, prepare

    from memvirt.errors import AdmissionError

    shim = ctypes.CDLL(None)
    shim.shim_arm.argtypes, shim.shim_left.restype = [ctypes.c_long], ctypes.c_long
    for nth in range(1, MOST):
        host, shadows = prepare(**HOSTS[settings])
        names = [vm.name for vm in host.vms]
        shim.shim_arm(nth)
        failed = False
        try:
            operation(host, shadows)
        except (MemoryError, AdmissionError):
            failed = True
        late = shim.shim_left() > 0
        shim.shim_arm(0)
        host.check()
        if failed:
            assert [vm.name for vm in host.vms] == names, f"{name} on {settings}: a VM that was not made is gone"
            for shadow in shadows:
                shadow.verify()
            operation(host, shadows)
            host.check()
        for shadow in shadows:
            shadow.verify()
        host.check()
        if late:
            return nth - 1
    raise AssertionError(f"{name} on {settings}: {MOST} allocations and no end")


def grown_everywhere(settings):
    """As above, for a host whose tables grow: thousands of pages go out, and come back to several VMs at once."""
    from test_faults_injected import MIB, Shadow, host_of, noise, text

    shim = ctypes.CDLL(None)
    shim.shim_left.restype = ctypes.c_long
    for nth in range(1, MOST):
        host = host_of(**settings)
        shadows = [Shadow(host.create_vm(name, 4 * MIB)) for name in "ab"]
        shim.shim_arm(nth)
        for page in range(1000):
            for number, shadow in enumerate(shadows):
                data = noise(page) if page % 4 == number else text(2 * page + number)
                try:
                    assert shadow.write(page, data)
                except MemoryError:
                    host.check()
                    assert shadow.write(page, data), "the second try works"
        try:
            host.run({shadow.vm: [(range(1000), [0] * 1000)] for shadow in shadows})
        except MemoryError:
            host.check()
            host.run({shadow.vm: [(range(1000), [0] * 1000)] for shadow in shadows})
        late = shim.shim_left() > 0
        shim.shim_arm(0)
        host.check()
        for shadow in shadows:
            shadow.verify()
        host.check()
        if late:
            return nth - 1
    raise AssertionError(f"{settings}: {MOST} allocations and no end")


GROWING = (
    {"memory": 2 << 20, "swap": 16 << 20, "zpool_percent": 60},
    {"memory": 2 << 20, "swap": 8 << 20, "swap_areas": [{"size": 8 << 20}], "sharing": "ksm"},
)


def main():
    from test_faults_injected import HOSTS, OPERATIONS

    for settings in HOSTS:
        for operation in OPERATIONS:
            print(settings, operation.__name__, refused_everywhere(operation.__name__, operation, settings), flush=True)
    for settings in GROWING:
        print("growing", grown_everywhere(settings), flush=True)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="something else is loaded before everything already")
def test_a_refused_allocation_undoes_cleanly_at_every_call(tmp_path):
    source, library = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    root = Path(__file__).parents[1]
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": f"{root}:{root / 'tests'}"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert min(counts[-len(GROWING) :]) > 5 and sum(counts) > 50, done.stdout


if __name__ == "__main__":
    main()
