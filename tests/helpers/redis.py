"""A Redis of this machine's distribution, running with data of its own, for whoever captures it."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PACKAGES = ("redis-server", "redis-tools", "liblzf1", "libjemalloc2", "liblua5.1-0", "lua-cjson", "lua-bitop")


def server(folder: Path) -> tuple[str, dict[str, str]]:
    """(program, environment): the one that is installed, or else unpacked into the folder from the distribution's packages.
    Skips the test where there is neither."""
    if found := shutil.which("redis-server"):
        return found, dict(os.environ)
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("no redis-server here, and no packages of Debian's kind")
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, capture_output=True, timeout=60, check=False)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder], capture_output=True, check=True)
    program = folder / "usr" / "bin" / "redis-server"
    if program.is_symlink():  # it is one program with several names
        program = program.parent / os.readlink(program)
    libraries = ":".join(str(path) for path in (folder / "usr" / "lib").glob("*-linux-gnu"))
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run([program, "--version"], env=environment, capture_output=True, timeout=20, check=True)
        return str(program), environment
    pytest.skip("redis-server is not installed, and its packages cannot be had")


@contextmanager
def running(folder: Path, keys: int = 20_000) -> Iterator[tuple[int, Path]]:
    """(process, socket) of a server that holds so many values of 400 bytes, hashes and lists among them."""
    program, environment = server(folder)
    place = folder / "redis.sock"
    # The name decides what the program is: redis-check-rdb is the same one.
    words = ["redis-server", "--port", "0", "--unixsocket", str(place), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(words, executable=program, env=environment, stdout=subprocess.DEVNULL)
    try:
        commands = []
        for key in range(keys):
            text = f"user {key} last seen {key * 7919 % 100_000} at /home/{key % 97}/inbox; ".encode() * 6
            commands.append(_command(b"SET", b"value:%d" % key, text[:400]))
            if key % 4 == 0:
                commands.append(_command(b"HSET", b"hash:%d" % (key // 50), b"field:%d" % key, text[:60]))
            if key % 8 == 0:
                commands.append(_command(b"RPUSH", b"list:%d" % (key % 31), b"%d" % (key * key)))
        send(place, commands)
        yield process.pid, place
    finally:
        process.kill()
        process.wait()


def send(place: Path, commands: list[bytes]) -> None:
    """Send commands in batches, each answered before the next."""
    deadline = time.monotonic() + 20
    link = socket.socket(socket.AF_UNIX)
    while link.connect_ex(str(place)):
        assert time.monotonic() < deadline, "redis-server does not answer"
        time.sleep(0.05)
    with link, link.makefile("rb") as answers:
        for start in range(0, len(commands), 1000):
            batch = commands[start : start + 1000]
            link.sendall(b"".join(batch))
            for _ in batch:
                assert answers.readline()[:1] in b"+:"


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
