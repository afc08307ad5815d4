"""Capture of processes, files and dumps: what is taken, what is left out and told, and what damage comes to."""

import gzip
import itertools
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers.program import PLAIN
from memvirt.errors import CorpusError
from memvirt.inputs import Corpus, fingerprints
from memvirt.inputs.sources import Named, open_named, process, take
from memvirt.inputs.sources.files import data_ranges, without_holes
from memvirt.inputs.sources.process import Process, label_of
from memvirt.inputs.sources.runs import Asked, make_runs

from .helpers.dumps import elf_core, lime

PAGE = 4096


def page(number: int) -> bytes:
    return struct.pack("<Q", number) * 512


def pages(*numbers: int) -> bytes:
    return b"".join(map(page, numbers))


def captured(*texts: str, size: int | None = None, kind: str | None = None, by_mapping: bool = False) -> Corpus:
    asked = [open_named(Named.parse(text), kind, by_mapping) for text in texts]
    try:
        return take(asked, size)
    finally:
        for each in asked:
            each.source.close()


def numbers(corpus: Corpus) -> dict[str, list[int]]:
    """The first word of every page, by class."""
    words = corpus.pages.view("<u8")[:, 0]
    return {entry.name: words[entry.part].tolist() for entry in corpus.classes[1:]}


# --- files and folders ---------------------------------------------------------------------------------------------


def test_a_file_is_taken_whole_its_last_page_padded(tmp_path: Path) -> None:
    file = tmp_path / "guest memory (1).raw"
    file.write_bytes(pages(1, 2, 3) + b"rest")
    made = captured(str(file))
    assert numbers(made) == {"guest-memory-1": [1, 2, 3, int.from_bytes(b"rest", "little")]}
    assert not made.pages[4, 4:].any()
    assert made.provenance == (f"guest-memory-1: {file} (raw)",)
    assert list(numbers(captured(f"vm={file}", f"other={file}"))) == ["vm", "other"]
    assert numbers(captured(f"vm={file}", f"vm={file}"))["vm"][:5] == [1, 2, 3, int.from_bytes(b"rest", "little"), 1]


def test_a_path_with_an_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a=b").write_bytes(page(1))
    monkeypatch.chdir(tmp_path)
    assert numbers(captured("./a=b")) == {"a-b": [1]}
    assert numbers(captured("c=a=b")) == {"c": [1]}
    with pytest.raises(CorpusError, match="^b cannot be read: No such file"):
        captured("a=b")


def test_holes_are_no_pages(tmp_path: Path) -> None:
    file = tmp_path / "sparse.img"
    with open(file, "wb") as out:
        out.seek(64 * PAGE)
        out.write(pages(7, 8))
        out.seek(256 * PAGE)
        out.write(page(9))
        out.truncate(512 * PAGE)
    if data_ranges(os.open(file, os.O_RDONLY), 512 * PAGE) == [(0, 512 * PAGE)]:
        pytest.skip("this file system does not tell holes")
    made = captured(str(file))
    found = [number for number in numbers(made)["sparse"] if number]
    assert found == [7, 8, 9] and len(made) < 64
    assert f"{512 - len(made) + 1} pages that the file has no blocks for left out" in made.provenance[0]
    (tmp_path / "empty.img").touch()
    os.truncate(tmp_path / "empty.img", 10 * PAGE)
    with pytest.raises(
        CorpusError, match="nothing to capture: .*empty.img.* has no pages, 10 that the file has no blocks"
    ):
        captured(str(tmp_path / "empty.img"))


def test_without_holes_against_every_page_asked() -> None:
    """Random parts and data; a page counts when any of its bytes has a block."""
    rng = random.Random(3)
    for _ in range(500):
        edges = sorted(rng.sample(range(40 * PAGE), 2 * rng.randrange(5)))
        data = list(zip(edges[::2], edges[1::2], strict=True))
        parts, at = [], rng.randrange(PAGE)
        while at < 30 * PAGE:
            count = rng.randrange(1, 6)
            parts.append((at, count, rng.randrange(3)))
            at += count * PAGE + rng.randrange(3 * PAGE)
        runs, holes = without_holes(parts, data)
        wanted = [
            (at + i * PAGE, label)
            for at, count, label in parts
            for i in range(count)
            if any(start < at + (i + 1) * PAGE and end > at + i * PAGE for start, end in data)
        ]
        found = [(at + i * PAGE, label) for at, count, label in runs.tolist() for i in range(count)]
        assert found == wanted, (parts, data)
        assert holes == sum(count for _, count, _ in parts) - len(wanted)


def test_a_folder_is_every_file_once_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "b" / "deep" / "3").write_bytes(pages(3, 4))
    (folder / "a").write_bytes(page(1) + b"x")
    (folder / "c").write_bytes(page(5))
    (folder / "empty").touch()
    (folder / "link").symlink_to(folder / "c")
    os.link(folder / "c", folder / "d-again")
    os.mkfifo(folder / "pipe")
    made = captured(f"files={folder}")
    assert numbers(made) == {"files": [1, ord("x"), 3, 4, 5]}
    assert numbers(captured(str(folder), size=2))["tree"]


def test_a_folder_of_many_small_files_is_read_across_them(tmp_path: Path) -> None:
    for index in range(300):
        (tmp_path / f"{index:03}").write_bytes(pages(*[index + 1] * (index % 3 + 1)))
    found = numbers(captured(f"all={tmp_path}"))["all"]
    assert found == [index + 1 for index in range(300) for _ in range(index % 3 + 1)]


def test_a_file_that_goes_or_shrinks_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_bytes(pages(1, 2))
    (tmp_path / "x" / "b").write_bytes(pages(3, 4))
    folder, file = open_named(Named.parse(str(tmp_path / "x"))), open_named(Named.parse(f"f={tmp_path / 'x' / 'b'}"))
    (tmp_path / "x" / "a").unlink()
    made = take([folder])
    assert numbers(made) == {"x": [3, 4]} and "2 pages could not be read" in made.provenance[0]
    os.truncate(tmp_path / "x" / "b", PAGE)
    with pytest.raises(CorpusError, match="b shrank while it was read: 8192 bytes before, no more than 4096 now"):
        take([file])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read_are_counted(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(pages(1, 2))
    (tmp_path / "secret").chmod(0)
    (tmp_path / "open").write_bytes(page(3))
    made = captured(f"f={tmp_path}")
    assert numbers(made) == {"f": [3]} and "2 pages of files that this user may not read" in made.provenance[0]
    with pytest.raises(CorpusError, match="secret cannot be read: Permission denied"):
        captured(str(tmp_path / "secret"))


def test_what_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "none").touch()
    for text, what in [
        (str(tmp_path / "pipe"), "pipe is no regular file"),
        ("/dev/zero", "is no regular file"),
        (str(tmp_path / "missing"), "missing cannot be read: No such file"),
        (str(tmp_path / "none"), "nothing to capture: .*none .raw. has no pages"),
        ("zero=x", "class 'zero' is the zero page's"),
        ("pid:", "'' is no number of a process"),
        ("pid:-4", "is no number of a process"),
        ("pid:1x", "is no number of a process"),
        ("pid:4194999", "process 4194999: there is none"),
        ("", "this one is empty"),
    ]:
        with pytest.raises(CorpusError, match=what):
            captured(text)


# --- samples -------------------------------------------------------------------------------------------------------


class Numbered:
    """A source whose pages say where they are; `bad` ones cannot be read."""

    def __init__(self, runs: list[tuple[int, int, int]], bad: frozenset[int] = frozenset()) -> None:
        self.name, self.labels, self.left_out = "numbered", ("a", "b"), Counter[str]()
        self.runs, self.bad = make_runs([(at * PAGE, count, label) for at, count, label in runs]), bad

    def read(self, at: int, rows: np.ndarray) -> int:
        for index in range(len(rows)):
            if at // PAGE + index in self.bad:
                return index
            rows[index].view("<u8")[:] = at // PAGE + index
        return len(rows)

    def close(self) -> None:
        pass


def test_everything_is_taken_once_and_in_order() -> None:
    source = Numbered([(10, 3, 0), (100, 2000, 1), (13, 2, 0), (5000, 1, 0)])
    found = numbers(take([Asked(source, None, True)]))
    assert found == {"a": [*range(10, 15), 5000], "b": list(range(100, 2100))}
    assert numbers(take([Asked(source, "x", True)])).keys() == {"x.a", "x.b"}
    assert numbers(take([Asked(source, "x")]))["x"] == [*range(10, 15), *range(100, 2100), 5000]


@pytest.mark.parametrize("size", [1, 63, 64, 65, 500, 1999])
def test_a_sample_keeps_neighbours_and_shares(size: int) -> None:
    source = Numbered([(1, 1000, 0), (4000, 3000, 1)])
    made = take([Asked(source, None, True)], size, seed=4)
    found = numbers(made)
    taken = [number for each in found.values() for number in each]
    assert len(taken) == size == len(set(taken)) and all(each == sorted(each) for each in found.values())
    jumps = sum(one + 1 != other for each in found.values() for one, other in itertools.pairwise(each))
    assert jumps <= size / 64 + 2
    if size == 1999:
        assert 0.15 < len(found["a"]) / size < 0.35
    assert numbers(take([Asked(source, None, True)], size, seed=4)) == found
    assert size < 64 or numbers(take([Asked(source, None, True)], size, seed=5)) != found
    assert made.provenance[-1] == f"a sample: {size} of 4000 pages"


def test_pages_that_cannot_be_read_are_left_out_and_counted() -> None:
    bad = frozenset({0, 5, 6, 1023, 1024, 2999})
    made = take([Asked(Numbered([(0, 3000, 0)], bad), "x")])
    assert numbers(made)["x"] == [number for number in range(3000) if number not in bad]
    assert made.provenance == ("x: numbered; 6 pages could not be read",)
    assert not made.pages[0].any() and len(made) == 2995
    with pytest.raises(CorpusError, match="none of the 3 pages could be read"):
        take([Asked(Numbered([(0, 3, 0)], frozenset(range(3))), "x")])


def test_a_class_of_which_nothing_could_be_read_is_none() -> None:
    made = take([Asked(Numbered([(0, 2, 0), (10, 2, 1)], frozenset({0, 1})), None, True)])
    assert numbers(made) == {"b": [10, 11]}


def test_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match="more than a corpus can have"):
        take([Asked(Numbered([(0, 1 << 40, 0)]), "x")])
    monkeypatch.setattr("memvirt.inputs.sources.runs.memory_problem", lambda needed: f"needs {needed} bytes")
    with pytest.raises(CorpusError, match=r"capturing 8KiB needs 12288 bytes; take a sample of it: --size 1GiB"):
        take([Asked(Numbered([(0, 2, 0)]), "x")])
    monkeypatch.undo()
    assert len(take([Asked(Numbered([(0, 1 << 24, 0)]), "x")], 100)) == 101


# --- dumps ---------------------------------------------------------------------------------------------------------

LIB = "/usr/lib/x86_64-linux-gnu/libc.so.6"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("many", [False, True])
def test_an_elf_core_is_its_segments(tmp_path: Path, order: str, wide: bool, many: bool) -> None:
    dump = elf_core(
        [(0x10000, pages(1, 2), 0), (0x40000, pages(3), 5 * PAGE), (0x80000, pages(4, 5, 6), 0)],
        files=[(0x80000, 0x81000, LIB), (0x82000, 0x83000, "/opt/data.bin")],
        order=order,
        wide=wide,
        many=many,
    )
    (tmp_path / "core").write_bytes(dump)
    made = captured(str(tmp_path / "core"))
    assert numbers(made) == {"anonymous": [1, 2, 3, 5], "libraries": [4], "files": [6]}
    assert "core (ELF core); 5 pages not in the dump" in made.provenance[0]
    assert numbers(captured(f"x={tmp_path / 'core'}")) == {"x": [1, 2, 3, 4, 5, 6]}
    assert set(numbers(captured(f"x={tmp_path / 'core'}", by_mapping=True))) == {
        "x.anonymous",
        "x.libraries",
        "x.files",
    }


def test_a_machines_dump_has_one_class(tmp_path: Path) -> None:
    (tmp_path / "vm.elf").write_bytes(elf_core([(0, pages(1, 2), 0), (1 << 32, pages(3), 0)], machine=True))
    assert numbers(captured(str(tmp_path / "vm.elf"))) == {"vm": [1, 2, 3]}


def test_segments_off_page_boundaries_give_whole_pages(tmp_path: Path) -> None:
    raw = b"abc" + pages(1, 2) + b"tail"
    (tmp_path / "core").write_bytes(elf_core([(0x10000 - 3, raw, 0)], machine=True, align=1))
    made = captured(str(tmp_path / "core"))
    assert numbers(made) == {"core": [1, 2]} and "1 pages or parts of pages at the edges" in made.provenance[0]


def test_no_byte_of_a_dump_is_taken_twice(tmp_path: Path) -> None:
    dump = bytearray(elf_core([(0x10000, pages(1, 2, 3), 0), (0x90000, pages(4), 0)], machine=True))
    first = struct.unpack_from("<Q", dump, 64 + 56 + 8)[0]
    struct.pack_into("<Q", dump, 64 + 2 * 56 + 8, first + PAGE)  # the second segment is a page of the first
    (tmp_path / "core").write_bytes(dump)
    made = captured(str(tmp_path / "core"))
    assert numbers(made)["core"] == [1, 2, 3] and "1 pages that another segment has too" in made.provenance[0]


def test_lime(tmp_path: Path) -> None:
    (tmp_path / "ram.lime").write_bytes(lime([(0x1000, pages(1, 2) + b"odd"), (1 << 32, pages(3))]))
    made = captured(str(tmp_path / "ram.lime"))
    assert numbers(made) == {"ram": [1, 2, 3]} and "1 pages or parts of pages at the edges" in made.provenance[0]
    raw = captured(str(tmp_path / "ram.lime"), kind="raw")
    assert len(raw) == 5


def test_other_formats_are_named_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "dump"
    for start, what in [
        (b"KDUMP   \x06", "kdump-compressed .*dump-guest-memory FILE"),
        (b"makedumpfile\0", "flattened kdump"),
        (b"QFI\xfb\0\0\0\3", "qcow2 image; make it raw: 'qemu-img convert"),
        (struct.pack("<Q", 0x0710198486640000), "Firecracker's state, not its memory"),
        (gzip.compress(b"x"), "compressed with gzip; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    ]:
        file.write_bytes(start + bytes(PAGE))
        with pytest.raises(CorpusError, match=f"^{file}: this is .*{what}.*--format raw"):
            captured(str(file))
        assert len(captured(str(file), kind="raw")) == 3
    file.write_bytes(b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<H", 3) + bytes(PAGE))
    assert numbers(captured(f"so={file}"))["so"]  # a library is a file


@pytest.mark.parametrize(
    ("at", "form", "value", "what"),
    [
        (4, "B", 7, "neither a 32-bit nor a 64-bit"),
        (5, "B", 9, "neither a 32-bit nor a 64-bit"),
        (32, "<Q", 1 << 63, "truncated: the program headers end at"),
        (54, "<H", 57, "program headers of 57 bytes, where they have 56"),
        (56, "<H", 0xFFFE, "truncated: the program headers"),
        (64 + 56 + 8, "<Q", (1 << 64) - 1, "truncated: segment 0 ends at"),
        (64 + 56 + 32, "<Q", (1 << 64) - 1, "truncated: segment 0 ends at"),
        (64 + 56 + 32, "<Q", 1 << 20, "ulimit -c unlimited"),
    ],
)
def test_an_elf_core_that_lies(tmp_path: Path, at: int, form: str, value: int, what: str) -> None:
    dump = bytearray(elf_core([(0x10000, pages(1, 2), 0)]))
    struct.pack_into(form, dump, at, value)
    (tmp_path / "core").write_bytes(dump)
    with pytest.raises(CorpusError, match=f"^{tmp_path / 'core'}: .*{what}"):
        captured(str(tmp_path / "core"))


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (lime([(0, page(1))])[:20], "truncated in the header of range 0"),
        (lime([(0, page(1))]) + b"EM", "truncated in the header of range 1, at offset 4128"),
        (lime([(0, page(1))])[:-1], "range 0 at offset 32 has 4096 bytes, of which 4095 are there"),
        (lime([(0, page(1))]) + bytes(40), "no LiME header of version 1 at offset 4128"),
        (struct.pack("<IIQQ8x", 0x4C694D45, 1, 5, 4) + page(1), "has 0 bytes"),
        (struct.pack("<IIQQ8x", 0x4C694D45, 1, 0, (1 << 64) - 1) + page(1), "range 0 at offset 32"),
        (struct.pack("<IIQQ8x", 0x4C694D45, 2, 0, 4095) + page(1), "no LiME header of version 1"),
    ],
)
def test_a_lime_dump_that_lies(tmp_path: Path, raw: bytes, what: str) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(CorpusError, match=what):
        captured(str(tmp_path / "x"))


DUMPS = {
    "core": elf_core([(0x10000, pages(1, 2), 0), (0x40000, pages(3), 8192)], files=[(0x40000, 0x41000, LIB)]),
    "core32": elf_core([(0x10000, pages(1), 0)], wide=False, order=">", many=True),
    "lime": lime([(0, pages(1)), (1 << 20, pages(2, 3))]),
}


@pytest.mark.parametrize("name", DUMPS)
def test_dumps_cut_at_every_byte(tmp_path: Path, name: str) -> None:
    """A sentence, or fewer pages where the cut left something whole; never more than the file has."""
    file, raw = tmp_path / "x", DUMPS[name]
    for end in (*range(700), *range(700, len(raw), 13), len(raw) - 1):
        file.write_bytes(raw[:end])
        try:
            made = captured(f"x={file}")
        except CorpusError as error:
            assert str(file) in str(error) and "\n" not in str(error)
        else:
            assert len(made) - 1 <= end // PAGE + 1


def test_a_real_core_of_the_kernel(tmp_path: Path) -> None:
    script = """import os, mmap
memory = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = bytes(number % 256 for number in range(1, 257)) * (8 << 12)
os.abort()"""

    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    try:
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=PLAIN, preexec_fn=unlimited, check=False)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("cores are not allowed here")
    cores = [file for file in tmp_path.iterdir() if "core" in file.name]
    if not cores:
        pytest.skip("the kernel writes its cores elsewhere")
    made = captured(str(cores[0]))
    pattern = np.tile(np.arange(1, 257, dtype=np.uint16).astype(np.uint8), 16)
    assert (made.pages[made.sources(["anonymous"])] == pattern).all(axis=1).sum() >= 2048
    assert {"anonymous", "libraries"} <= {entry.name for entry in made.classes}


def test_a_real_dump_of_qemu(tmp_path: Path) -> None:
    """Of a machine that has begun its firmware and nothing else: the ELF form and the raw one have the same pages."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("no qemu-system-x86_64 here")
    words = [qemu, "-machine", "pc,accel=tcg", "-m", "32", "-display", "none", "-nic", "none", "-qmp", "stdio"]
    machine = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    commands: list[tuple[str, dict[str, object]]] = [
        ("qmp_capabilities", {}),
        ("stop", {}),
        ("dump-guest-memory", {"paging": False, "protocol": f"file:{tmp_path / 'vm.elf'}"}),
        ("pmemsave", {"val": 0, "size": 32 << 20, "filename": str(tmp_path / "vm.raw")}),
        ("dump-guest-memory", {"paging": False, "protocol": f"file:{tmp_path / 'vm.kdump'}", "format": "kdump-zlib"}),
        ("quit", {}),
    ]
    time.sleep(1)
    for name, arguments in commands:
        machine.stdin.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        machine.stdin.flush()
        answer: dict[str, object] = {}
        while "return" not in answer:
            answer = json.loads(machine.stdout.readline())
            assert "error" not in answer, answer
    machine.communicate(timeout=20)
    elf, raw = (captured(f"vm={tmp_path / name}") for name in ("vm.elf", "vm.raw"))
    assert len(raw) - 1 == 8192 <= len(elf) - 1
    assert (elf.pages[1:161] == raw.pages[1:161]).all()  # the first 640 KiB; behind them lies what is no memory
    assert set(fingerprints(raw, [("lz4", None)], bytes(32)).hash[300:].tolist()) <= set(
        fingerprints(elf, [("lz4", None)], bytes(32)).hash.tolist()
    )
    with pytest.raises(CorpusError, match="kdump"):
        captured(str(tmp_path / "vm.kdump"))


# --- processes -----------------------------------------------------------------------------------------------------

VICTIM = """
import mmap, struct, sys
hold = mmap.mmap(-1, 64 << 20)                  # 16384 pages, of which 300 are written and 100 only read
for i in range(300):
    struct.pack_into("<512Q", hold, i * 4096, *[0x5EED0000 + i] * 512)
sum(hold[i * 4096] for i in range(1000, 1100))
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def victim():
    child = subprocess.Popen([sys.executable, "-c", VICTIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=PLAIN)
    assert child.stdout.readline() == b"ready\n"
    yield child
    child.kill()
    child.communicate()


def readable(pid: int) -> None:
    try:
        Process(pid).close()
    except CorpusError as error:
        if "cannot be read" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("scans", [True, False])
def test_a_process_is_what_it_holds(victim, scans: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    readable(victim.pid)
    if not scans:
        monkeypatch.setattr(Process, "_scanned", lambda *_: None)
    made = captured(f"pid:{victim.pid}")
    found = numbers(made)
    assert set(found) <= set(process.LABELS) and {"anonymous", "heap", "stack", "libraries"} <= set(found)
    written = [number for each in found.values() for number in each if number >> 16 == 0x5EED]
    assert sorted(written) == list(range(0x5EED0000, 0x5EED0000 + 300))
    resident = int(Path(f"/proc/{victim.pid}/statm").read_text().split()[1])
    assert abs(len(made) - resident) < resident / 5 + 200  # and not the 16384 that are reserved
    assert made.provenance[0].startswith(f"by mapping: process {victim.pid} (")
    assert set(numbers(captured(f"web=pid:{victim.pid}"))) == {"web"}
    assert "web.heap" in numbers(captured(f"web=pid:{victim.pid}", by_mapping=True))


def test_both_ways_to_ask_the_kernel_agree(victim) -> None:
    readable(victim.pid)
    one = Process(victim.pid)
    try:
        with open(f"/proc/{victim.pid}/pagemap", "rb") as pagemap:
            for start, end, _ in one._mappings():
                scanned = one._scanned(pagemap.fileno(), start, end)
                if scanned is None:
                    pytest.skip("this kernel has no PAGEMAP_SCAN")
                held = {at for first, last in scanned for at in range(first, last, PAGE)}
                listed = one._listed(pagemap.fileno(), start, end)
                assert held <= {at for first, last in listed for at in range(first, last, PAGE)}
    finally:
        one.close()


def test_a_process_that_ends_in_the_middle(victim, monkeypatch: pytest.MonkeyPatch) -> None:
    readable(victim.pid)
    asked = open_named(Named.parse(f"pid:{victim.pid}"))
    calls = []

    def read(at: int, rows: np.ndarray) -> int:
        calls.append(at)
        if len(calls) == 3:
            victim.send_signal(signal.SIGKILL)
            while Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                time.sleep(0.01)  # it is a zombie until its parent has asked
        return Process.read(asked.source, at, rows)

    monkeypatch.setattr(asked.source, "read", read)
    with pytest.raises(CorpusError, match=rf"process {victim.pid} \(.*\) ended while its memory was read; nothing was"):
        take([asked])
    asked.source.close()
    with pytest.raises(CorpusError, match="there is none of this number, or it has ended"):
        captured(f"pid:{victim.pid}")


def test_a_kernel_thread_has_nothing() -> None:
    for folder in Path("/proc").glob("[0-9]*"):
        if (
            not (folder / "cmdline").read_bytes()
            and (folder / "stat").read_text().rpartition(")")[2].split()[0] in "SI"
        ):
            break
    else:
        pytest.skip("no kernel thread is visible here")
    with pytest.raises(CorpusError, match="has no memory of its own|cannot be read"):
        captured(f"pid:{folder.name}")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_somebody_elses_process(victim, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, sys; os.setgid(65534); os.setuid(65534); from memvirt.inputs.sources import Named, open_named\n"
    )
    script += f"try: open_named(Named.parse('pid:{victim.pid}'))\nexcept Exception as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if not done.stdout:
        pytest.skip(done.stderr.strip().rpartition("\n")[2])  # that user may not read this folder
    assert "cannot be read: Permission denied; it belongs to another user: run as that user, or as root" in done.stdout


def test_denied_by_the_kernels_own_rule(victim, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: object, *more: int) -> int:
        if str(path).endswith("/mem"):
            raise PermissionError(13, "Permission denied")
        return real(path, *more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CorpusError, match="cannot be read: Permission denied; run as root"):
        captured(f"pid:{victim.pid}")


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("", "anonymous"),
        ("[anon:malloc]", "anonymous"),
        ("[heap]", "heap"),
        ("[stack]", "stack"),
        ("[stack:77]", "stack"),
        ("[vdso]", ""),
        ("[vvar_vclock]", ""),
        ("[vsyscall]", ""),
        ("/dev/dri/card0", ""),
        ("/dev/shm/x (deleted)", "shared"),
        ("/dev/zero (deleted)", "shared"),
        ("/memfd:x (deleted)", "shared"),
        (LIB, "libraries"),
        ("/usr/bin/redis", "program"),
        ("/usr/bin/redis (deleted)", "program"),
        ("/var/data.rdb", "files"),
    ],
)
def test_what_mappings_are(path: str, label: str) -> None:
    assert label_of(path, "/usr/bin/redis") == label
