"""Corpora as commands name, measure, keep and print them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import print_columns, print_json, say
from memvirt.names import CODECS

if TYPE_CHECKING:
    from memvirt.inputs import ClassTable, Corpus, Fingerprints

SYNTHETIC_PAGES = 8192  # 32 MiB
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]
Note = Annotated[
    str, typer.Option(help="What the pages are of. It is published with them, and nothing else about their source is.")
]
SHOWN_LINES = 8
ALL_CODECS = tuple(CODECS)
Codecs = Annotated[
    str,
    typer.Option(
        metavar="NAME[:LEVEL],...", help="Codecs to measure under. By default lz4 and zstd; of fingerprints lz4hc, too."
    ),
]


def require_place(out: Path | None, force: bool) -> None:
    """Known before anything is captured: whether the result can be written."""
    from memvirt.inputs import store

    if out is None:
        store.make_folder(store.cache_folder())
    store.require_writable(out or store.cache_folder() / store.POINTER, force=force or out is None)


def keep_corpus(corpus: "ClassTable", out: Path | None, force: bool, default: bool = False) -> Path:
    from memvirt.inputs import store

    if out is None:
        out = store.keep(corpus, store.cache_folder())
    else:
        store.save(corpus, out, force=force)
    if default:
        store.make_default(out)
    return out


def print_captured(corpus: "ClassTable", path: Path, as_json: bool) -> None:
    rows = [{"name": entry.name, "pages": entry.pages} for entry in corpus.classes[1:]]
    if as_json:
        known = {"corpus": str(path), "sha256": corpus.sha256, "pages": len(corpus), "classes": rows}
        print_json({**known, "provenance": list(corpus.provenance)})
        return
    typer.echo(f"{path}: {len(corpus)} pages, sha256 {corpus.sha256}")
    print_columns([("class", "pages"), *((str(row["name"]), str(row["pages"])) for row in rows)])
    if len(corpus.provenance) <= SHOWN_LINES:
        for line in corpus.provenance:
            say(line)
    say(f"what they are like: memvirt corpus info {path}")


def parse_codecs(text: str, usual: tuple[str, ...] = ("lz4", "zstd")) -> list[tuple[str, int | None]]:
    """(name, level or None) of "lz4,zstd:3"; without a text the usual ones that are installed. ConfigError for another."""
    from memvirt.engine.content.codec import open_codec
    from memvirt.errors import ConfigError
    from memvirt.inputs.measure import available

    if not text.strip():
        return [(name, None) for name in available(usual)]
    found: list[tuple[str, int | None]] = []
    problems = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, _, level = word.partition(":")
        try:
            found.append((name, int(level) if level else None))
            open_codec(*found[-1])
        except ValueError as error:  # ConfigError is one
            problems.append(f"--codecs {word}: {error if isinstance(error, ConfigError) else 'a level is a number'}")
    if problems or not found:
        raise ConfigError("\n".join(problems) or "--codecs: names no codec")
    return found


def measured(
    corpus: "Corpus", codecs: list[tuple[str, int | None]], key: bytes | None = None, note: str = ""
) -> "Fingerprints":
    from memvirt.cli.progress import counted
    from memvirt.inputs import fingerprints

    with counted("measuring") as progress:
        return fingerprints(corpus, codecs, key, progress, note)


def opened(text: str, capture: bool = True) -> "Corpus | Fingerprints":
    """The corpus a user names: a file, "synthetic", a published mix or a model's file, of which as many pages are made, or
    "" for this machine's, which is captured at the first use. Without `capture` one with the same classes stands for what
    is not there yet."""
    from memvirt.inputs import load, store, synthetic
    from memvirt.inputs.model import generate, load_model, mixes

    later = not (text or capture or store.has_default())
    if later:
        store.require_makeable(store.cache_folder())
    if text == "synthetic" or later:
        return synthetic(SYNTHETIC_PAGES, seed=1)
    if text and not os.path.exists(text) and text in (known := mixes()):
        return generate(known[text], SYNTHETIC_PAGES, seed=1)
    if text.endswith(".json"):
        return generate(load_model(Path(text)), SYNTHETIC_PAGES, seed=1)
    return load(Path(text)) if text else default_corpus()


def default_corpus() -> "Corpus | Fingerprints":
    """The corpus of this machine, captured now if this is the first run."""
    from memvirt.inputs import store
    from memvirt.inputs.capture import capture as capturing

    def first() -> "Corpus":
        say(f"capturing pages of this machine into {store.cache_folder()}: done once")
        return capturing()

    return store.default_corpus(first)
