"""The ksm scanner against the kernel's own: the same pages, the same passes, the same counters to the page.

Runs as root on a kernel with KSM, skips otherwise. ksmd is led pass by pass, and its settings are put back, by what
`memvirt validate` uses for that; its lock keeps two runs from using ksmd at once. Here tenants come and go, write whole
pages, and fork.
"""

import random
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest

import memvirt
from memvirt.backends.linux.kernel import Missing, number
from memvirt.backends.linux.ksm import KSM, Ksmd
from memvirt.backends.linux.undo import Changes
from memvirt.errors import ConfigError

PAGE = 4096
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
COUNTED = ("pages_skipped", "pages_scanned", "full_scans")  # since the machine started: differences are compared

# A process whose memory ksmd may merge. It says when it is there, does what it is told, and goes when the line is cut;
# a fork of it is a tenant like any other, with a line of its own.
TENANT = """
import ctypes, mmap, os, signal, socket, sys
path, size = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
libc = ctypes.CDLL(None, use_errno=True)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), 12):
    sys.exit(f"madvise MERGEABLE: errno {ctypes.get_errno()}")

def join():
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)
    return line.makefile("rwb")

line = join()
while order := line.readline().split():
    if order[0] == b"fork":
        if os.fork() == 0:
            line.close()
            line = join()
            continue
    else:
        at, length = int(order[1]), int(order[2])
        data = line.read(length)
        memory[at : at + length] = data
    line.write(b"done\\n")
    line.flush()
"""


@pytest.fixture(scope="module")
def ksmd():
    """ksmd, ours for as long as these tests run."""
    with ExitStack() as stack:
        try:
            led = Ksmd(stack.enter_context(Changes()))
        except (Missing, ConfigError, OSError) as reason:
            pytest.skip(str(reason))
        absent = [name for name in (*COMPARED, *COUNTED, "smart_scan") if not (KSM / name).exists()]
        if absent:
            pytest.skip(f"this kernel's KSM has no {', '.join(absent)}")
        yield led


def read(name):
    return number(KSM / name)


class Kernel:
    """Tenants of this machine's KSM, and ksmd led pass by pass. What it is asked and tells is as Memvirt below."""

    def __init__(self, ksmd, folder, **settings):
        self.ksmd = ksmd
        self.path = str(folder / "line")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.listener.settimeout(30)
        self.lines, self.processes = {}, []
        settings = {"max_page_sharing": 256, "use_zero_pages": 0, "smart_scan": 0} | settings
        ksmd.begin(**{name: int(value) for name, value in settings.items()})
        self.before = {name: read(name) for name in COUNTED}

    def create(self, name, pages):
        self.processes.append(subprocess.Popen([sys.executable, "-c", TENANT, self.path, str(pages * PAGE)]))
        self._answered(name)

    def _answered(self, name):
        connection, _ = self.listener.accept()
        self.lines[name] = connection, connection.makefile("rwb")

    def _tell(self, name, order, data=b""):
        line = self.lines[name][1]
        line.write(order.encode() + b"\n" + data)
        line.flush()
        assert line.readline() == b"done\n"

    def write(self, name, gfn, data):
        self._tell(name, f"write {gfn * PAGE} {len(data)}", data)

    def clone(self, name, child):
        self._tell(name, "fork")
        self._answered(child)

    def destroy(self, name):
        connection, line = self.lines.pop(name)
        connection.shutdown(socket.SHUT_WR)
        assert line.read() == b""  # its memory is gone before its files are

    def scan(self):
        self.ksmd.scan()

    def counters(self):
        counted = {name: read(name) - self.before[name] for name in COUNTED}
        return {name: read(name) for name in COMPARED} | counted

    def close(self):
        for name in list(self.lines):
            self.destroy(name)
        for process in self.processes:
            process.wait(30)
        self.listener.close()
        self.ksmd.end()


class Memvirt:
    """The same with VMs of a host."""

    def __init__(self, **settings):
        options = {"smart_scan": False, **settings}
        self.host = memvirt.Host(memory=16384 * PAGE, sharing="ksm", sharing_options=options)
        self.vms = {}

    def create(self, name, pages):
        self.vms[name] = self.host.create_vm(name, memory=pages * PAGE)

    def write(self, name, gfn, data):
        assert self.vms[name].write(gfn * PAGE, data) == len(data)

    def clone(self, name, child):
        self.vms[child] = self.vms[name].clone(child)

    def destroy(self, name):
        self.vms.pop(name).destroy()

    def scan(self):
        self.host.scan()
        self.host.check()

    def counters(self):
        state = self.host.sharing()
        return {name: state[name] for name in (*COMPARED, *COUNTED)}


@contextmanager
def both(ksmd, folder, **settings):
    """A function that asks the same of the kernel and of memvirt, and the two."""
    kernel, ours = Kernel(ksmd, folder, **settings), Memvirt(**settings)

    def ask(what, *arguments):
        getattr(kernel, what)(*arguments)
        getattr(ours, what)(*arguments)

    try:
        yield ask, kernel, ours
    finally:
        kernel.close()


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
def test_memvirt_settles_where_the_kernel_does(ksmd, tmp_path, name, max_page_sharing, use_zero_pages):
    with both(ksmd, tmp_path, max_page_sharing=max_page_sharing, use_zero_pages=use_zero_pages) as (ask, kernel, ours):
        for number, pages in enumerate(mix(name)):
            ask("create", f"vm{number}", len(pages))
            ask("write", f"vm{number}", 0, b"".join(pages))
        for _ in range(5):
            ask("scan")
            assert ours.counters() == kernel.counters()
    state = ours.counters()
    assert state["pages_unshared"] + state["pages_sharing"] + state["ksm_zero_pages"] > 0, "nothing was compared"


@pytest.mark.parametrize("smart_scan", [False, True])
@pytest.mark.parametrize("use_zero_pages", [False, True])
def test_every_pass_counts_as_the_kernels(ksmd, tmp_path, use_zero_pages, smart_scan):
    """Tenants write between passes, end, and others begin: what is merged breaks, what was volatile settles.

    (A small max_page_sharing has the next test to itself.)"""
    rng = random.Random(use_zero_pages * 2 + smart_scan)
    settings = {"use_zero_pages": use_zero_pages, "smart_scan": smart_scan}
    with both(ksmd, tmp_path, **settings) as (ask, kernel, ours):
        for name in "abc":
            ask("create", name, 300)
        names = ["a", "b", "c"]
        for step in range(40):
            for _ in range(rng.choice((0, 0, 20, 120))):
                token = rng.choice((0, rng.randrange(12), rng.randrange(200)))
                ask("write", rng.choice(names), rng.randrange(300), page(token))
            if step in (13, 26):
                ask("destroy", names.pop(0))
                names.append(f"late{step}")
                ask("create", names[-1], 300)
            ask("scan")
            assert ours.counters() == kernel.counters(), step
        state = ours.counters()
    assert state["pages_sharing"] > 0 and (state["pages_skipped"] > 0) == smart_scan


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("limit", [2, 3, 7])
def test_chains_break_and_fill_up_as_the_kernels(ksmd, tmp_path, limit, several):
    """Writes take users from frames of a chain here and there, and where each page goes next follows from its order.
    With one content all is settled by that chain; with several, others are passed on the way through the tree.

    (Counted are nodes and users: a chain with one node left is one to the kernel until the next search.)"""
    rng = random.Random(limit)

    def content():
        return page(rng.choice((1, 2, 3, 4, rng.randrange(5, 900))) if several else 7)

    compared = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "general_profit")
    seen = set()
    with both(ksmd, tmp_path, max_page_sharing=limit) as (ask, kernel, ours):
        for name in "ab":
            ask("create", name, 120)
            ask("write", name, 0, b"".join(content() for _ in range(100)))
        for step in range(30):
            for _ in range(rng.choice((0, 5, 30, 60))):
                ask("write", rng.choice("ab"), rng.randrange(120), content())
            ask("scan")
            told, theirs = ours.counters(), kernel.counters()
            assert {name: told[name] for name in compared} == {name: theirs[name] for name in compared}, step
            seen.add((told["pages_shared"], told["pages_sharing"]))
    assert len(seen) > 5


@pytest.mark.parametrize("use_zero_pages", [False, True])
def test_clones_settle_as_forks(ksmd, tmp_path, use_zero_pages):
    """A parent with something merged, something unique and zeros; clones of clones; writes on both sides; ends."""
    rng = random.Random(use_zero_pages)
    with both(ksmd, tmp_path, use_zero_pages=use_zero_pages) as (ask, kernel, ours):
        for name in ("parent", "other"):
            ask("create", name, 200)
            for gfn in range(0, 200, 2):
                ask("write", name, gfn, page(rng.choice((0, 0, 1, 2, rng.randrange(1000)))))

        def settle():
            for _ in range(5):
                ask("scan")
            assert ours.counters() | {"pages_scanned": 0} == kernel.counters() | {"pages_scanned": 0}

        settle()
        ask("clone", "parent", "child")
        settle()
        ask("clone", "child", "grandchild")
        for name in ("parent", "child", "grandchild", "other"):
            for _ in range(40):
                ask("write", name, rng.randrange(200), page(rng.choice((0, 1, 2, rng.randrange(1000)))))
        settle()
        ask("destroy", "child")
        settle()
        ask("destroy", "parent")
        settle()
        assert ours.counters()["pages_sharing"] > 0
