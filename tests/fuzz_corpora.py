"""Every reader of page contents against damaged files: it reads them or refuses them in a sentence, and does neither for
ever.

    python -m pytest tests/test_corpus_fuzz.py                    some thousands, as every run of the tests does
    python tests/fuzz_corpora.py [--inputs N] [--seconds S] [--jobs J] [--seed FIRST]     a job of its own

Damaged are ELF cores and LiME dumps, mostly in their headers; corpora and fingerprints, half of them sealed again with the
right hash of a wrong header, which is the way past the first check; and content models. An input is given by its seed
alone; where one fails its seed is printed, and `--inputs 1 --seed SEED` does it again.
"""

import hashlib
import random
import struct
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from helpers.dumps import elf_core, lime
from helpers.mutate import EDGES, mutated
from helpers.seeds import Fuzz
from memvirt.errors import CorpusError
from memvirt.inputs import Corpus, Fingerprints, fingerprints, load, save
from memvirt.inputs.model import ClassModel, ContentModel, generate, read_model
from memvirt.inputs.sources import Named, open_named, take
from memvirt.inputs.summary import summarize

PAGE = 4096
HEADERS = 1200  # bytes: where a dump's tables lie
LIB = "/usr/lib/x86_64-linux-gnu/libc.so.6"


def pages(*numbers):
    return b"".join(struct.pack("<Q", number) * 512 for number in numbers)


def small_corpus():
    rows = np.frombuffer(pages(0, 7, 7, 1 << 60), np.uint8).reshape(-1, PAGE).copy()
    rows[3, 100:200] = np.arange(100)
    return Corpus.of([("a", rows[:2]), ("b", rows[2:])], ["nowhere"])


def valid(folder):
    """(kind, bytes) of files as they should be."""
    made = small_corpus()
    save(made, folder / "a.mvcorpus")
    save(fingerprints(made, [("lz4", None)], bytes(32)), folder / "a.mvprints")
    model = ContentModel(
        name="m",
        source="made up",
        classes=[
            ClassModel(name="a", weight=2, zero=9, copies=[(2, 99)], kinds=[(1000, 256, 1, 1, 5), (64, 9, 2, 8, 5)]),
            ClassModel(
                name="b", weight=1, borrowed=[("a", 500)], volatile=5, carried=100, kinds=[(4096, 256, 1, 1, 1)]
            ),
        ],
    )
    mapped = [(0x40000, 0x41000, LIB)]
    return [
        ("dump", elf_core([(0x10000, pages(1, 2), 0), (0x40000, pages(3), 8192)], files=mapped)),
        ("dump", elf_core([(0x10000, pages(1), 0)], wide=False, order=">", many=True)),
        ("dump", elf_core([(0x10003, pages(1, 2), 0)], machine=True, align=1)),
        ("dump", lime([(0, pages(1)), (1 << 20, pages(2, 3))])),
        ("corpus", (folder / "a.mvcorpus").read_bytes()),
        ("corpus", (folder / "a.mvprints").read_bytes()),
        ("model", model.text().encode()),
    ]


def damaged(kind, data, draw):
    """A damaged file of a kind; of dumps mostly headers and numbers, of corpora half the time with the hash made right."""
    if kind == "corpus" and draw.random() < 0.7:
        length = struct.unpack_from("<I", data, 12)[0]
        header = mutated(data[48 : 48 + length], draw)
        prefix = data[:12] + struct.pack("<I", len(header)) + hashlib.sha256(header).digest()
        return prefix + header + bytes(-(len(prefix) + len(header)) % PAGE) + data[PAGE:]
    if kind == "dump" and draw.random() < 0.8:
        spoilt = bytearray(data)
        for _ in range(draw.randrange(1, 5)):
            place, width = draw.randrange(min(len(data), HEADERS)), draw.choice((1, 2, 4, 8))
            value = draw.choice([*EDGES, draw.getrandbits(64), len(data), len(data) - PAGE])
            spoilt[place : place + width] = (value & ((1 << 8 * width) - 1)).to_bytes(
                width, draw.choice(("little", "big"))
            )
        return bytes(spoilt)
    return mutated(data, draw, most=1 << 20)


def read(kind, data, file):
    """Read it to the end, as a command would."""
    if kind == "model":
        assert len(generate(read_model(data), 8, 1, step=1)) == 9
        return
    file.write_bytes(data)
    if kind == "dump":
        asked = open_named(Named.parse(f"x={file}"))
        try:
            assert len(take([asked])) - 1 <= len(data) // PAGE + 1  # no more pages than the file has
        finally:
            asked.source.close()
        return
    made = load(file)
    if isinstance(made, Fingerprints):
        summarize(made)
        made.table("lz4", 1)


def one(seed, files, folder):
    """Read one damaged file; the outcome in a word. Anything but a refusal in a sentence escapes."""
    draw = random.Random(seed)
    kind, data = draw.choice(files)
    try:
        read(kind, damaged(kind, data, draw), folder / "x")
    except CorpusError as error:
        text = str(error)
        assert text.strip() and "\n" not in text and "Traceback" not in text and len(text) < 2000, text
        return "refused"
    return "read"


@contextmanager
def trying(_):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = valid(folder)
        yield lambda seed: {one(seed, files, folder): 1, "inputs": 1}


FUZZ = Fuzz(__file__, trying, seed=20_270_000)

if __name__ == "__main__":
    sys.exit(FUZZ.main())
