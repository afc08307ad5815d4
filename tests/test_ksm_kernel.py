"""The ksm scanner against the kernel's own: the same pages, both settled, the same counters to the page.

Runs as root on a kernel with KSM, skips otherwise. Settings of /sys/kernel/mm/ksm are put back by the benchmarks'
guard, a process that outlives the test, even one that is killed; its lock keeps two sessions from using ksmd at once.
"""

import importlib.util
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import memvirt

KSM = Path("/sys/kernel/mm/ksm")
PAGE = 4096
SETTINGS = {
    "advisor_mode": "none",
    "smart_scan": "0",
    "pages_to_scan": "20000",
    "sleep_millisecs": "1",
    "max_page_sharing": "256",
    "use_zero_pages": "0",
}
COMPARED = (
    "pages_shared",
    "pages_sharing",
    "pages_unshared",
    "pages_volatile",
    "ksm_zero_pages",
    "stable_node_chains",
    "stable_node_dups",
    "general_profit",
)

# A process whose memory ksmd may merge: as many pages as its argument says, their contents from standard input.
TENANT = """
import ctypes, mmap, sys
bytes_ = int(sys.argv[1])
memory = mmap.mmap(-1, bytes_, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
libc = ctypes.CDLL(None, use_errno=True)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
at = 0
while at < bytes_:
    at += sys.stdin.buffer.readinto(memoryview(memory)[at:])
if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(bytes_), 12):
    sys.exit(f"madvise MERGEABLE: errno {ctypes.get_errno()}")
print("ready", flush=True)
sys.stdin.buffer.read()
"""


def read(name):
    return (KSM / name).read_text().strip()


def bench_guard():
    """The benchmarks' guard: puts settings back even when this process is killed, one run on a machine at a time."""
    path = Path(__file__).parents[1] / "bench" / "peers" / "guard.py"
    spec = importlib.util.spec_from_file_location("memvirt_bench_guard", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ksmd():
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("needs root on Linux: writes /sys/kernel/mm/ksm")
    missing = [name for name in (*SETTINGS, *COMPARED, "run") if not os.access(KSM / name, os.R_OK)]
    if missing or not os.access(KSM / "run", os.W_OK):
        pytest.skip(f"this kernel's KSM cannot be used: {', '.join(missing) or 'run'} missing or not writable")
    peers = bench_guard()
    try:
        guard = peers.Guard()
    except peers.Busy as busy:
        pytest.skip(str(busy))
    with guard:
        if read("run") != "0" or int(read("pages_shared")):
            pytest.skip("KSM is in use on this machine")
        for name, value in SETTINGS.items():
            guard.will_undo("write", str(KSM / name), chosen(name))
            (KSM / name).write_text(value)
        guard.will_undo("write", str(KSM / "run"), "0")
        guard.will_undo("write", str(KSM / "run"), "2")  # undone first: nothing stays merged
        yield


def chosen(name):
    """A setting's value as it would be written: of "[none] scan-time" it is none."""
    text = read(name)
    return text.split("[")[1].split("]")[0] if "[" in text else text


def settled_kernel(vms, **settings):
    """ksmd's counters after it has settled over processes that hold these pages."""
    (KSM / "run").write_text("2")
    for name, value in settings.items():
        (KSM / name).write_text(str(int(value)))
    tenants = []
    try:
        for pages in vms:
            tenant = subprocess.Popen(
                [sys.executable, "-c", TENANT, str(len(pages) * PAGE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            tenants.append(tenant)
            tenant.stdin.write(b"".join(pages))
            tenant.stdin.flush()
            assert tenant.stdout.readline() == b"ready\n"
        first = int(read("full_scans"))
        (KSM / "run").write_text("1")
        deadline = time.monotonic() + 60
        while int(read("full_scans")) < first + 5:
            assert time.monotonic() < deadline, "ksmd does not get through a scan"
            time.sleep(0.01)
        (KSM / "run").write_text("0")  # stops ksmd, keeps what is merged
        return {name: int(read(name)) for name in COMPARED}
    finally:
        for tenant in tenants:
            tenant.communicate()


def settled_memvirt(vms, **settings):
    host = memvirt.Host(
        memory=(sum(map(len, vms)) * 2 + 4096) * PAGE, sharing="ksm", sharing_options={"smart_scan": False, **settings}
    )
    for number, pages in enumerate(vms):
        vm = host.create_vm(f"vm{number}", memory=len(pages) * PAGE)
        assert vm.write(0, b"".join(pages)) == len(pages) * PAGE
    for _ in range(5):
        host.scan()
    host.check()
    state = host.sharing()
    return {name: state[name] for name in COMPARED}


def page(token):
    """0: zeros. Odd: differs from its like in the last word only. Even: random bytes."""
    if token == 0:
        return bytes(PAGE)
    if token % 2:
        return b"\x55" * (PAGE - 8) + token.to_bytes(8, "big")
    return random.Random(token).randbytes(PAGE)


def mix(name):
    """Contents of each VM's pages."""
    rng = random.Random(name)
    if name == "unique":
        tokens = [list(range(1, 400))]
    elif name == "identical":
        tokens = [[7] * 300, [7] * 259]
    elif name == "zeros":
        tokens = [[0] * 520, [0] * 3 + [5, 5, 6]]
    elif name == "pairs":
        tokens = [list(range(2, 200)), list(range(100, 300))]
    else:
        tokens = [
            [rng.choice((0, 0, 1, 2, 3, rng.randrange(4, 1000))) for _ in range(rng.randrange(200, 900))]
            for _ in range(3)
        ]
    return [[page(token) for token in vm] for vm in tokens]


@pytest.mark.parametrize("use_zero_pages", [False, True])
@pytest.mark.parametrize(
    ("name", "max_page_sharing"),
    [
        ("unique", 256),
        ("identical", 256),
        ("zeros", 256),
        ("zeros", 2),
        ("pairs", 3),
        ("mixed", 256),
        ("mixed", 10),
        ("another", 3),
        ("third", 2),
    ],
)
def test_memvirt_settles_where_the_kernel_does(ksmd, name, max_page_sharing, use_zero_pages):
    vms = mix(name)
    settings = {"max_page_sharing": max_page_sharing, "use_zero_pages": use_zero_pages}
    kernel = settled_kernel(vms, **settings)
    assert kernel["pages_unshared"] + kernel["pages_sharing"] + kernel["ksm_zero_pages"] > 0, "ksmd did nothing"
    assert settled_memvirt(vms, **settings) == kernel
