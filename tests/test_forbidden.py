"""Places that this user may not look into, and disks that are full: every command says so in a sentence, with exit code 2,
and leaves nothing."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import contextlib, io, json, sys
from memvirt.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv, err, code = ["memvirt", *words], io.StringIO(), None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, err.getvalue()]))
"""
QUICK = ("run", "quick", "--tier", "smoke", "--out", "x", "--corpus")
COMMANDS = [
    (*QUICK, "SHUT/a.mvcorpus"),
    (*QUICK, "synthetic", "--trace", "SHUT/a.parquet"),
    (*QUICK, "synthetic", "--preset", "SHUT/a.toml"),
    (*QUICK, "synthetic", "--set", "balloon=SHUT/a.py:Mine"),
    ("run", "quick", "--tier", "smoke", "--corpus", "synthetic", "--out", "SHUT/out"),
    ("run", "SHUT/suite.toml", "--corpus", "synthetic", "--out", "x"),
    ("merge", "SHUT/a", "--out", "y"),
    ("table", "SHUT/a"),
    ("compare", "SHUT/a", "SHUT/b"),
    ("report", "SHUT/a", "-o", "r.html"),
    ("timeline", "SHUT/a"),
    ("plot", "SHUT/a", "--figure", "tradeoff"),
    ("bundle", "SHUT/a", "-o", "x.zip"),
    ("verify", "SHUT/a"),
    ("explain", "SHUT/p.toml"),
    ("trace", "import", "t.npy", "-o", "SHUT/x.parquet"),
    ("trace", "import", "t.npy", "-o", "SHUT/deep/x.parquet"),
    ("trace", "import", "t.npy", "-o", "x.parquet", "--map", "SHUT/map.parquet"),
    ("trace", "import", "SHUT/t.npy", "-o", "x.parquet"),
    ("trace", "export", "t.npy", "-o", "SHUT/x.csv", "--format", "csv"),
    ("trace", "info", "SHUT/t.parquet"),
    ("trace", "info", "t.npy", "--figures", "SHUT/figures"),
    ("trace", "capture", "-o", "SHUT/x.parquet", "--", "true"),
    ("corpus", "info", "SHUT/a.mvcorpus"),
    ("corpus", "fit", "SHUT/a.mvcorpus"),
    ("corpus", "fit", "synthetic", "--out", "SHUT/a.json"),
    ("corpus", "make", "SHUT/a.json", "--out", "b.mvcorpus"),
    ("corpus", "make", "debian-12", "--size", "1MiB", "--out", "SHUT/a.mvcorpus"),
    ("corpus", "fingerprint", "SHUT/a.mvcorpus"),
    ("corpus", "fingerprint", "synthetic", "--out", "a.mvprints", "--key", "SHUT/key"),
    ("corpus", "capture", "t.npy", "--out", "SHUT/a.mvcorpus"),
    ("corpus", "capture", "SHUT/vm.raw", "--out", "a.mvcorpus"),
    ("corpus", "capture", "SHUT", "--out", "a.mvcorpus"),
]  # fmt: skip


FULL = [
    ("trace", "import", "big.npy", "-o", "x.parquet"),
    ("trace", "export", "big.npy", "-o", "x.bin"),
    ("trace", "export", "big.npy", "-o", "x.csv", "--format", "csv"),
    ("corpus", "capture", "big.npy", "--out", "a.mvcorpus"),
    ("corpus", "make", "debian-12", "--size", "1MiB", "--out", "a.mvcorpus"),
]  # fmt: skip


def test_a_disk_that_is_full_in_the_middle(tmp_path):
    """A limit on the size of files stands for it: a write fails behind 256 KiB."""
    np.save(tmp_path / "big.npy", np.random.default_rng(1).permutation(200_000).astype(np.uint32))
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))\n"
    command = [sys.executable, "-c", limit + PROGRAM, json.dumps(FULL)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for words, (code, err) in zip(FULL, told, strict=False):
        assert code == 2 and "cannot be written: File too large" in err, (words, code, err)
    assert len(told) == len(FULL) and [file.name for file in tmp_path.iterdir()] == ["big.npy"], done.stderr


def test_a_folder_that_may_not_be_entered(tmp_path):
    """Root runs without the capabilities that open every folder to it."""
    np.save(tmp_path / "t.npy", np.arange(3, dtype=np.uint32))
    shut = tmp_path / "shut"
    shut.mkdir(mode=0)
    asked = [[word.replace("SHUT", str(shut)) for word in words] for words in COMMANDS]
    command = [sys.executable, "-c", PROGRAM, json.dumps(asked)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv here, and root may enter every folder")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(COMMANDS), done.stderr
    for words, (code, err) in zip(COMMANDS, told, strict=True):
        assert code == 2 and "[Errno" not in err, (words, code, err)
        assert "ermission denied" in err or "nothing can be" in err or "may not" in err, (words, err)
    assert sorted(tmp_path.iterdir()) == before
