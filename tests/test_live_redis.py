"""A live Redis is captured, told of, fingerprinted, fitted, and run, as whoever has one would do it."""

import json

import numpy as np
import pytest

from helpers import redis
from memvirt.inputs import load
from memvirt.inputs.sources.process import Process


@pytest.fixture
def printed(memvirt):
    """What `memvirt WORDS` prints."""

    def call(*words):
        code, out, err = memvirt(*words)
        assert not code, err
        return out

    return call


def test_from_the_process_to_the_table(printed, tmp_path):
    one, two, prints = (tmp_path / name for name in ("redis.mvcorpus", "later.mvcorpus", "redis.mvprints"))
    model = tmp_path / "redis.json"
    with redis.running(tmp_path) as (pid, place):
        Process(pid).close()  # or else: who may read it
        printed("corpus", "capture", f"pid:{pid}", "--out", one)
        changed = [redis._command(b"SET", b"value:%d" % key, b"new" * 130) for key in range(0, 20_000, 9)]
        redis.send(place, changed)
        printed("corpus", "capture", f"pid:{pid}", "--out", two)

    found = json.loads(printed("corpus", "info", one, "--json"))
    classes = {row["name"]: row for row in found["classes"]}
    assert {"anonymous", "libraries", "program", "stack"} <= set(classes)
    data = classes["anonymous"]
    assert data["pages"] > 2000 and data["sizes"]["lz4:1"][0]["ratio"] > 2
    captured = load(one)
    assert any(b"user 777 last seen" in page.tobytes() for page in captured.pages[captured.sources(["anonymous"])])

    printed("corpus", "fingerprint", one, "--out", prints, "--codecs", "lz4")
    assert b"last seen" not in prints.read_bytes()
    fill = ("--fill", "image=libraries,program", "--fill", "private=anonymous")
    asked = ("run", "quick", "--tier", "smoke", "--preset", "sharing,zcache", "--json", *fill)
    real = json.loads(printed(*asked, "--corpus", one, "--out", tmp_path / "bytes"))
    told = json.loads(printed(*asked, "--corpus", prints, "--set", "content=fingerprint", "--out", tmp_path / "prints"))
    assert [row["status"] for row in real] == [row["status"] for row in told] and "done" in {
        row["status"] for row in real
    }
    for row, other in zip(real, told, strict=True):
        if row["preset"] == "sharing" and row["status"] == "done":
            saved = [each["derived"].get("saved_gross_frames", 0) for each in (row, other)]
            assert saved[0] == saved[1], row["scenario"]

    rows = json.loads(printed("corpus", "fit", one, "--later", two, "--out", model, "--json"))["differences"]
    for row in rows:
        assert abs(row["zero_points"]) < 0.5 and abs(row["duplicate_points"]) < 1, row
    all_of_it = rows[-1]
    for captured_ratio, generated in all_of_it["ratios"]["lz4:1"]:
        assert generated == pytest.approx(captured_ratio, rel=0.1)
    volatile = {entry["name"]: entry["volatile"] for entry in json.loads(model.read_text())["classes"]}
    assert volatile["anonymous"] > 100_000 > volatile["libraries"]  # one value in nine was written anew
    made = tmp_path / "made.mvcorpus"
    printed("corpus", "make", model, "--size", "16MiB", "--out", made)
    assert np.array_equal(load(made).pages[0], np.zeros(4096, np.uint8))
