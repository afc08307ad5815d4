"""This machine's own memory runs out inside the engine: every malloc, calloc and realloc of its is refused once.

The frames of a host are refused by test_faults_injected; here it is the heap beneath the engine's tables. A small library
loaded before everything else refuses the n-th allocation that comes from an extension module of the engine (Python's and
NumPy's own go through). Whatever the operation was, it raises MemoryError or goes on; afterwards the recount holds, every
page reads back, and the same operation works.

The same library counts the bytes that the engine has from the heap: what a host keeps per frame, per swap slot and per
page that is out is charged to its memory, all of it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memvirt.settings import orders

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <string.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
static long left;     /* allocations until the one refused; 0: none is to come */
static int counting;  /* bytes are counted */
static long asked;    /* bytes asked for since */
static long live;     /* bytes had since and not given back */

void shim_arm(long nth) { left = nth; }
long shim_left(void) { return left; }
void shim_count(void) { counting = 1, asked = live = 0; }
long shim_asked(void) { return counting = 0, asked; }
long shim_live(void) { return counting = 0, live; }

static int engine(void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) && strstr(info.dli_fname, "/memvirt/engine/") != NULL;
}
static int refuse(void *caller)
{
    if (left == 0 || !engine(caller) || --left > 0)
        return 0;
    errno = ENOMEM;
    return 1;
}
static void *counted(void *caller, void *p, size_t n, size_t before)
{
    if (counting && p != NULL && engine(caller)) {
        asked += n;
        live += malloc_usable_size(p) - before;
    }
    return p;
}
#define CALLER __builtin_return_address(0)
void *malloc(size_t n) { return refuse(CALLER) ? NULL : counted(CALLER, __libc_malloc(n), n, 0); }
void *calloc(size_t n, size_t m) { return refuse(CALLER) ? NULL : counted(CALLER, __libc_calloc(n, m), n * m, 0); }
void *realloc(void *p, size_t n)
{
    size_t before = counting ? malloc_usable_size(p) : 0;
    return refuse(CALLER) ? NULL : counted(CALLER, __libc_realloc(p, n), n, before);
}
void free(void *p)
{
    if (counting && p != NULL && engine(CALLER))
        live -= malloc_usable_size(p);
    __libc_free(p);
}
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


def parted_everywhere(replacement):
    """As above, while guests that share their tables part: a copy, then the one they were made of, then the last copy."""
    from test_faults_injected import Shadow, host_of, noise

    shim = ctypes.CDLL(None)
    shim.shim_left.restype = ctypes.c_long
    for nth in range(1, MOST):
        host = host_of()
        options = {"swap": "256KiB", "cache_percent": 10, "report_order": 1, "replacement": replacement}
        family = [Shadow(host.create_vm("parent", 1 << 19, guest=options))]
        for page in range(40):
            family[0].write(page, noise(page))
        family += [family[0].copy_to(family[0].vm.clone(name)) for name in "abc"]
        shim.shim_arm(nth)
        for number in (2, 0, 1):
            try:
                assert family[number].write(100, noise(number))
            except MemoryError:
                host.check()
                assert family[number].write(100, noise(number)), "the second try works"
        late = shim.shim_left() > 0
        shim.shim_arm(0)
        host.check()
        for member in family:
            member.verify()
        if late:
            return nth - 1
    raise AssertionError(f"{replacement}: {MOST} allocations and no end")


def hosts_pay_for_every_frame_and_slot(**settings):
    """A host twice as large asks the heap for more exactly as it charges itself more."""
    from test_faults_injected import MIB

    import memvirt
    from memvirt.engine.testing.host import fixed_bytes

    shim, sizes = ctypes.CDLL(None), []
    for scale in (1, 2):
        shim.shim_count()
        host = memvirt.Host(memory=scale * 8 * MIB, swap=scale * 24 * MIB, zpool_percent=20, **settings)
        asked, engine = shim.shim_asked(), host.engine
        charged = fixed_bytes(engine)
        if engine.index is not None:
            charged += engine.index.metadata_bytes() + engine.scanner.metadata_bytes()
        assert charged <= 4096 * host.usage()["fixed"] < charged + 64 * 4096, (settings, charged, host.usage())
        sizes.append((asked, charged))
    (asked, charged), (twice_asked, twice_charged) = sizes
    assert twice_asked - asked == twice_charged - charged, (settings, sizes)


def pages_out_are_paid_for(settings):
    """Whatever grows on the heap while pages go out is in usage()."""
    from test_faults_injected import MIB, Shadow, host_of, noise, text

    host, shim = host_of(**settings), ctypes.CDLL(None)
    shadow = Shadow(host.create_vm("a", 32 * MIB))
    for page in range(8000):
        if page == 2500:  # out go the first pages; what is measured (stalls) has its tables
            shim.shim_count()
            before = host.engine.frames.heap_bytes
        shadow.write(page, noise(page) if page % 4 == 0 else text(page))
    live, paid = shim.shim_live(), host.engine.frames.heap_bytes - before
    lists = 2 * 12 * (host.usage()["backing"] + host.usage()["table"])  # of slabs: where their frames lie
    host.check()
    assert host.usage()["backing"] >= host.engine.frames.heap_bytes / 4096
    assert paid > 40_000 or not settings["zpool_percent"]
    assert live <= paid * 1.02 + lists + 2048, (live, paid, lists)


LARGER = (
    {"memory": 8 << 20, "swap": 64 << 20, "zpool_percent": 60},
    {"memory": 8 << 20, "swap": 64 << 20, "zpool_percent": 0},
)
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
    for replacement in ("clock", "s3fifo", "lfu"):
        print("parting", parted_everywhere(replacement), flush=True)


def charges():
    for order in orders.ORDERS:
        hosts_pay_for_every_frame_and_slot(replacement=order)
    for scanner in ("hash", "ksm", "esx", "inline"):
        hosts_pay_for_every_frame_and_slot(sharing=scanner)
    hosts_pay_for_every_frame_and_slot(readahead=0)
    for settings in LARGER:
        pages_out_are_paid_for(settings)


needs_shim = pytest.mark.skipif(
    shutil.which("cc") is None or "LD_PRELOAD" in os.environ, reason="no C compiler, or something else is preloaded"
)


def below_the_shim(folder, function):
    """Runs a function of this file in a process of its own, the library loaded before everything; its output."""
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    root = Path(__file__).parents[1]
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": f"{root}:{root / 'tests'}"}
    command = [sys.executable, "-c", f"import test_heap_exhausted as here; here.{function.__name__}()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_shim
def test_a_refused_allocation_undoes_cleanly_at_every_call(tmp_path):
    lines = below_the_shim(tmp_path, main).splitlines()
    counts = [int(line.split()[-1]) for line in lines]
    assert min(counts[-len(GROWING) :]) > 5 and sum(counts) > 50, lines


@needs_shim
def test_what_the_engine_has_from_the_heap_is_charged_to_the_host(tmp_path):
    below_the_shim(tmp_path, charges)
