"""Every trace parser against damaged files: it reads them or refuses them in words, and does neither for ever.

    python -m pytest tests/test_trace_fuzz.py                     some thousands, as every run of the tests does
    python tests/fuzz_traces.py [--inputs N] [--seconds S] [--jobs J] [--seed FIRST]      a job of its own

Damaged files come from the valid ones of helpers.trace_files, of any format, plain and packed. An input is given by its
seed alone; where one fails its seed is printed, and `--inputs 1 --seed SEED` does it again.
"""

import gzip
import io
import lzma
import random
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import lz4.frame
import zstandard

from helpers.mutate import mutated
from helpers.seeds import Fuzz
from helpers.trace_files import CASES, MASIM
from memvirt.errors import ConfigError, CorpusError
from memvirt.inputs.traces import names
from memvirt.inputs.traces.importer import convert
from memvirt.inputs.traces.registry import lookup, made, recognised
from memvirt.inputs.traces.requests import Reading
from memvirt.inputs.traces.source import Source
from memvirt.inputs.traces.writer import TraceWriter

MOST_PAGES = 1 << 12
PACK = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lz4": lz4.frame.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


class Sink(TraceWriter):
    """Takes what would be written and checks what it must be; there is no file."""

    def __init__(self, path, timed):
        self.timed, self.touches = timed, 0

    def write(self, chunk):
        assert len(chunk.pages) == len(chunk.ops) == len(chunk.stream)
        assert (chunk.time_ns is None) != self.timed and (chunk.ops <= 1).all()
        self.touches += len(chunk.pages)

    def close(self, about):
        assert 0 < about["pages"] <= self.touches
        assert len(about["streams"]) >= 1
        return about

    def __exit__(self, *_):
        pass


def options(form):
    """Options that keep a format from making more than it reads."""
    return {"most": "20000", "per_ms": "3"} if form == "masim" else {}


def valid():
    """(format, bytes) of files as they should be."""
    files = [(form, data) for form, data, _, _ in CASES.values()] + [("masim", MASIM)]
    folder = Path(tempfile.mkdtemp())
    for form, data, _, _ in list(CASES.values())[:2]:  # memvirt's own files, made of some
        reading = Reading()
        about = {"source": "x", "format": form}
        convert(
            lookup(form)().read(Source(io.BytesIO(data), "x"), reading),
            reading,
            folder / "own",
            None,
            lambda a=about: a,
        )
        files.append(("memvirt", (folder / "own").read_bytes()))
    return files


def one(seed, files):
    """Read one damaged file; the outcome in a word. Anything but a refusal in words escapes."""
    draw = random.Random(seed)
    form, data = draw.choice(files)
    pack = draw.choice([None] * 6 + list(PACK))
    if pack and draw.random() < 0.5:
        data = mutated(PACK[pack](data), draw)
    else:
        data = mutated(data, draw)
        data = PACK[pack](data) if pack else data
    form = draw.choice((form, form, None, draw.choice(names())))
    reading = Reading(fetches=draw.random() < 0.8, most_pages=MOST_PAGES)
    try:
        source = Source(io.BytesIO(data), "fuzz", len(data), limit=1 << 20)
        cls = recognised(source) if form is None else lookup(form)
        requests = made(cls, options(cls.name)).read(source, reading)
        convert(requests, reading, Path("/nowhere"), None, dict)
    except (CorpusError, ConfigError) as error:
        text = str(error)
        assert text.strip() and "Traceback" not in text and len(text) < 2000, text
        return "refused"
    return "read"


@contextmanager
def into_nothing():
    """Imports are checked, and not written."""
    import memvirt.inputs.traces.importer as importer

    writer, importer.TraceWriter = importer.TraceWriter, Sink
    try:
        yield
    finally:
        importer.TraceWriter = writer


@contextmanager
def trying(_):
    files = valid()
    with into_nothing():
        yield lambda seed: {one(seed, files): 1, "inputs": 1}


FUZZ = Fuzz(__file__, trying, seed=20_260_000)

if __name__ == "__main__":
    sys.exit(FUZZ.main())
