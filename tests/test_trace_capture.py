"""Traces captured from programs on this machine, by every way that it offers; what is missing is said, and skipped."""

import errno
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import memvirt
from helpers.program import PLAIN
from memvirt.cli import main
from memvirt.errors import CorpusError
from memvirt.inputs.traces import open_trace
from memvirt.inputs.traces.capture import Target, capture_trace, faults, inject, kernel, lackey, pageout, writes
from memvirt.inputs.traces.capture import process as processes

# Writes pages 1000 to 1511 of a mapping and reads pages 4000 to 5023, again and again; it says where the mapping lies.
PROGRAM = """
import ctypes, mmap, sys, time
memory = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(16384):
    memory[page << 12] = 1
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)) >> 12, flush=True)
end, turn = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    turn += 1
    for page in range(512):
        memory[1000 + page << 12] = turn % 256
    sum(memory[4000 + page << 12] for page in range(1024))
"""
WRITTEN, READ = set(range(1000, 1512)), set(range(4000, 5024))


def can_scan():
    """Why writes of another process cannot be followed here, or nothing."""
    try:
        os.close(kernel.open_pagemap(os.getpid()))
    except CorpusError as error:
        return str(error)
    if platform.machine() != "x86_64":
        return "it is there for x86-64 only"
    return "" if os.geteuid() == 0 else "another process may not be traced without root everywhere"


SCANNED = pytest.mark.skipif(bool(can_scan()), reason=can_scan())
SWAP = len(Path("/proc/swaps").read_text().splitlines()) > 1 if Path("/proc/swaps").exists() else False


@pytest.fixture
def running():
    """The program above: (process, number of the mapping's first page)."""
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, "60"], stdout=subprocess.PIPE, env=PLAIN)
    assert child.stdout is not None
    yield child, int(child.stdout.readline())
    child.kill()
    child.wait()
    child.stdout.close()


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_every_access_of_a_program_by_lackey(tmp_path):
    info = capture_trace(Target(command=("/bin/true",)), "lackey", tmp_path / "t.parquet")
    assert info.format == "capture by lackey" and info.source == "true"
    assert info.touches > 10_000 and 0 < info.writes < info.touches and 10 < info.pages < 5000
    only_data = capture_trace(Target(command=("/bin/true",), fetches=False), "lackey", tmp_path / "d.parquet")
    assert only_data.touches < info.touches and only_data.skipped["instruction fetches"] > 10_000
    with pytest.raises(CorpusError, match="there is no program 'no-such-program'"):
        capture_trace(Target(command=("no-such-program",)), "lackey", tmp_path / "n.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.parquet", "t.parquet"]


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_program_is_ended_when_the_time_is_over(tmp_path):
    began = time.monotonic()
    info = capture_trace(Target(command=("sleep", "600"), seconds=3.0), "lackey", tmp_path / "t.parquet")
    assert info.touches > 0 and time.monotonic() - began < 60


@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_the_first_touch_of_every_page_by_perf(tmp_path):
    program = "x = bytearray(16 << 20)"
    info = capture_trace(Target(command=(sys.executable, "-c", program)), "faults", tmp_path / "t.parquet")
    assert 4096 <= info.pages < 20_000 and info.touches >= info.pages
    assert info.first_ns is not None and info.first_ns < info.last_ns


@SCANNED
def test_the_writes_of_a_live_process_are_exact(tmp_path, running):
    child, base = running
    target = Target(pid=child.pid, seconds=1.5, interval_ms=300)
    info, found = with_map(target, "writes", tmp_path, base)
    assert child.poll() is None, "the process goes on"
    assert info.writes == info.touches and len(found) >= 2
    for pages in found.values():
        assert {page for page in pages if 0 <= page < 16384} == WRITTEN


@SCANNED
def test_a_process_that_sleeps_in_a_system_call_goes_on_sleeping(tmp_path):
    """Its registers, and the system call in which it waits, are what they were."""
    program = "import time; print(flush=True); b = time.monotonic(); time.sleep(2); print(time.monotonic() - b)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=PLAIN)
    assert child.stdout is not None and child.stdout.readline()
    time.sleep(0.2)
    try:  # the kernel may note in the process's memory on which processor it goes on (rseq): no page more
        info = capture_trace(Target(pid=child.pid, seconds=0.3, interval_ms=50), "writes", tmp_path / "t.parquet")
        assert info.pages <= 1
    except CorpusError as error:
        assert "wrote to no memory of its own" in str(error)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0 and float(out) >= 2.0


@SCANNED
def test_a_process_in_the_middle_of_its_exec_is_followed(monkeypatch):
    """Whoever starts one is told of its exec before the kernel has mapped its code: of a thousand, up to four."""
    whole, looks = inject.mappings, []

    def mappings(pid):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        looks.append(state)
        return whole(pid) if state == "t" else []

    monkeypatch.setattr(inject, "mappings", mappings)
    for _ in range(100):
        child = subprocess.Popen(["sleep", "60"])
        process = os.pidfd_open(child.pid)
        try:
            os.close(inject.userfaultfd_of(child.pid, process))
        finally:
            os.close(process)
            child.kill()
            child.wait()
    assert set(looks) == {"t"}


@SCANNED
def test_a_process_that_ends_in_the_middle_leaves_what_was_seen(tmp_path):
    command = (sys.executable, "-c", PROGRAM, "1.5")
    info = capture_trace(Target(command=command, interval_ms=100), "writes", tmp_path / "t.parquet")
    assert info.touches > 512 and info.last_ns < 60 * 10**9
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, "60"], stdout=subprocess.PIPE, env=PLAIN)
    child.stdout.readline()
    killer = subprocess.Popen(["sh", "-c", f"sleep 1; kill -9 {child.pid}"])
    info = capture_trace(Target(pid=child.pid, seconds=30, interval_ms=100), "writes", tmp_path / "k.parquet")
    assert info.touches >= 512
    killer.wait()
    child.wait()
    child.stdout.close()


@pytest.mark.skipif(os.geteuid() != 0 or not SWAP or bool(can_scan()), reason="root and swap are needed")
def test_reads_and_writes_of_a_live_process_by_paging_it_out(tmp_path, running):
    child, base = running
    info, found = with_map(Target(pid=child.pid, seconds=3, interval_ms=800), "pageout", tmp_path, base)
    assert child.poll() is None
    most = {page for page in max(found.values(), key=len) if 0 <= page < 16384}
    assert most >= WRITTEN | READ
    assert len(most - WRITTEN - READ) <= 64  # neighbours that the kernel read ahead from swap
    assert info.writes == 0


def with_map(target, way, folder, base):
    """(info, {time: pages counted from the mapping's first})."""
    from memvirt.inputs.traces import importer
    from memvirt.inputs.traces.capture import lackey as by_lackey
    from memvirt.inputs.traces.requests import Reading

    modules = {"lackey": by_lackey, "faults": faults, "writes": writes, "pageout": pageout}
    reading = Reading()
    with modules[way].requests(target, reading) as requests:
        info = importer.convert(requests, reading, folder / "t.parquet", folder / "map.parquet", dict)
    import pyarrow.parquet

    called = pyarrow.parquet.read_table(folder / "map.parquet").column("source").to_pylist()
    found = {}
    for chunk in open_trace(folder / "t.parquet").chunks():
        for page, now in zip(chunk.pages.tolist(), chunk.time_ns.tolist(), strict=True):
            found.setdefault(now, set()).add(called[page] - base)
    return info, found


# --- what is missing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "way", "words"),
    [
        (Target(pid=1 << 30), "writes", "there is no process 1073741824"),
        (Target(pid=-1), "faults", "there is no process -1"),
        (Target(pid=1), "lackey", "a process that runs is captured by faults, writes or pageout, not by 'lackey'"),
        (
            Target(command=("true",)),
            "magic",
            "a program is captured by lackey, faults, writes or pageout, not by 'magic'",
        ),
    ],
)
def test_what_cannot_be_captured_is_refused(tmp_path, target, way, words):
    with pytest.raises(CorpusError, match=words):
        capture_trace(target, way, tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_tools_that_are_not_installed_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lackey.shutil, "which", lambda name: None)
    with pytest.raises(CorpusError, match="needs valgrind, which is not installed"):
        capture_trace(Target(command=("true",)), "lackey", tmp_path / "t.parquet")
    with pytest.raises(CorpusError, match="needs perf, which is not installed"):
        capture_trace(Target(command=("true",)), "faults", tmp_path / "t.parquet")


def test_rights_and_features_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pageout.os, "geteuid", lambda: 1000)
    with pytest.raises(CorpusError, match="needs root"):
        capture_trace(Target(pid=os.getpid()), "pageout", tmp_path / "t.parquet")
    monkeypatch.setattr(pageout.os, "geteuid", lambda: 0)
    monkeypatch.setattr(pageout, "SWAPS", tmp_path / "swaps")
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n")
    with pytest.raises(CorpusError, match="needs swap, and none is on"):
        capture_trace(Target(pid=os.getpid()), "pageout", tmp_path / "t.parquet")

    def without(*_):
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(kernel.fcntl, "ioctl", without)
    with pytest.raises(CorpusError, match=r"no PAGEMAP_SCAN: Linux 6.7 or newer"):
        kernel.open_pagemap(os.getpid())


@SCANNED
def test_a_process_that_is_debugged_already_is_refused(tmp_path):
    """Two debuggers cannot hold one process."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=PLAIN)
    held = subprocess.Popen(
        [sys.executable, "-c", "import ctypes, sys, time; l = ctypes.CDLL(None); l.ptrace(0x4206, int(sys.argv[1]), 0, 0); "
         "print('held', flush=True); time.sleep(60)", str(child.pid)], stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert held.stdout.readline()
        with pytest.raises(CorpusError, match="may not be traced.* debugged already"):
            capture_trace(Target(pid=child.pid, seconds=1), "writes", tmp_path / "t.parquet")
        assert child.poll() is None
    finally:
        held.kill()
        held.wait()
        held.stdout.close()
        child.kill()
        child.wait()


def test_mappings_are_those_of_the_process():
    own = processes.mappings(os.getpid())
    assert any(each.name == "[heap]" and each.private_memory for each in own)
    assert any(each.name == "[vdso]" and "x" in each.rights for each in own)
    assert not any(each.private_memory for each in own if each.name.endswith(".so"))
    assert processes.mappings(1 << 30) == []


def test_the_command_line_wants_a_program_or_a_process(tmp_path, monkeypatch, capsys):
    for words, said in (
        (["-o", tmp_path / "t"], "name a program after --, or a process by --pid"),
        (["-o", tmp_path / "t", "--pid", "1", "--", "true"], "one of them"),
        (["-o", tmp_path / "t", "--pid", "1", "--interval", "1us"], "whole milliseconds from 1ms to 1h"),
        (["-o", tmp_path / "no" / "t", "--pid", "1"], "there is no folder"),
    ):
        monkeypatch.setattr("sys.argv", ["memvirt", "trace", "capture", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2 and said in capsys.readouterr().err


# --- a server as people have it -----------------------------------------------------------------------------------


@pytest.fixture
def redis(tmp_path):
    """A live Redis with data in it: (pid, function that sends it so many requests)."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)

    def ask(first, count, size=2000):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
            for key in range(first, first + count):
                value = b"v" * size
                link.sendall(b"*3\r\n$3\r\nSET\r\n$9\r\nkey%06d\r\n$%d\r\n%s\r\n" % (key, len(value), value))
                assert link.recv(64).startswith(b"+OK")

    for _ in range(100):
        try:
            ask(0, 1)
            break
        except OSError:
            time.sleep(0.1)
    ask(0, 2000)
    yield server.pid, ask
    server.send_signal(signal.SIGTERM)
    server.wait(20)


def replayed(path):
    """A VM that replays a trace: how many accesses were done, and how many pages the trace has."""
    trace = open_trace(path)
    host = memvirt.Host(memory="64MiB", swap="64MiB", swap_direct=False, content="fingerprint")
    vm = host.create_vm("redis", memory=(trace.info.pages + 64) * 4096)
    from memvirt.workloads import Space, Stream, parse

    batches = parse({"workload": "trace", "file": str(path)}).batches(Space(vm.pages), Stream(1, 0, "measured"))
    done = host.run({vm: batches})[vm]
    host.check()
    return done.done, done.reason, trace.info


@SCANNED
def test_a_live_redis_is_captured_by_its_writes_and_replayed(tmp_path, redis):
    import threading

    pid, ask = redis
    load = threading.Thread(target=ask, args=(0, 2000))
    load.start()
    info = capture_trace(Target(pid=pid, seconds=1.5, interval_ms=100), "writes", tmp_path / "t.parquet")
    load.join()
    assert info.pages > 50 and info.touches == info.writes
    ask(0, 1)  # it serves on
    done, reason, kept = replayed(tmp_path / "t.parquet")
    assert (done, reason) == (kept.touches, "done")


@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_a_live_redis_is_captured_by_its_faults_and_replayed(tmp_path, redis):
    import threading

    pid, ask = redis
    load = threading.Thread(target=lambda: [(ask(10_000 + 50 * turn, 50), time.sleep(0.05)) for turn in range(100)])
    load.start()
    info = capture_trace(Target(pid=pid, seconds=3), "faults", tmp_path / "t.parquet")
    load.join()
    assert info.pages > 100
    done, reason, kept = replayed(tmp_path / "t.parquet")
    assert (done, reason) == (kept.touches, "done")
