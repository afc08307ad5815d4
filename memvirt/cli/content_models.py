"""corpus fit, corpus make: models of what pages are like, and pages made from them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memvirt.cli.corpora import (
    Codecs,
    Force,
    Note,
    keep_corpus,
    measured,
    opened,
    parse_codecs,
    print_captured,
    require_place,
)
from memvirt.cli.show import Json, examples, print_columns, print_json, say

if TYPE_CHECKING:
    from memvirt.inputs import Fingerprints
    from memvirt.inputs.fit import Difference
    from memvirt.inputs.model import ContentModel

HEADS = (
    "class",
    "zero",
    "same-filled",
    "duplicates",
    "near",
    "codec",
    "distance",
    "bytes",
    "4 KiB",
    "16 KiB",
    "64 KiB",
)


def fit(
    file: Annotated[
        str, typer.Argument(help="A corpus, fingerprints, or 'synthetic'. The default corpus, unless given.")
    ] = "",
    later: Annotated[
        str, typer.Option(help="A later capture of the same source: what changed in between is the volatility.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the model. Unless given: that of FILE.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="File to write, JSON. Unless given, only the differences are printed.")
    ] = None,
    note: Note = "",
    codecs: Codecs = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit a content model to a corpus, and say how far pages made from it are from the captured ones.

    A model holds shares and sizes, and no bytes. In the table, shares are points: generated less captured. Sizes under a
    codec are compared in three ways: by the greatest distance of their distributions, by the mean gap of sizes of equal
    rank in bytes, and by the ratios captured/generated of 4, 16 and 64 KiB units.
    """
    import secrets

    from memvirt.inputs import store
    from memvirt.inputs.fingerprints import KEY_BYTES
    from memvirt.inputs.fit import fit as fitting
    from memvirt.inputs.fit import judged

    if out:
        store.require_writable(out, force=force)
    key, asked = secrets.token_bytes(KEY_BYTES), parse_codecs(codecs)
    prints = _prints(file, asked, key)
    model = fitting(prints, name or Path(file).stem or "default", _prints(later, asked, key) if later else None, note)
    found = judged(prints, model)
    if out:
        store.write_text(out, model.text(), force=force)
    if as_json:
        print_json(
            {"model": str(out) if out else None, "name": model.name, "differences": [_as_json(row) for row in found]}
        )
        return
    print_columns([HEADS, *(line for row in found for line in _lines(row))])
    if later:
        changed = [(entry.name, f"{entry.volatile / 10_000:.1f} %") for entry in model.classes]
        typer.echo("")
        print_columns([("class", "changed in between"), *changed])
    if out:
        say(f"pages of it: memvirt corpus make {out}")


def _prints(text: str, codecs: list[tuple[str, int | None]], key: bytes) -> "Fingerprints":
    from memvirt.inputs import Fingerprints

    corpus = opened(text)
    return corpus if isinstance(corpus, Fingerprints) else measured(corpus, codecs, key)


def _lines(row: "Difference") -> list[tuple[str, ...]]:
    points = (row.zero_points, row.same_filled_points, row.duplicate_points, row.near_points)
    return [
        (
            row.name,
            *(f"{each:+.2f}" for each in points),
            key,
            f"{row.size_distance[key]:.3f}",
            f"{row.size_bytes[key]:.0f}",
            *(f"{captured:.2f}/{generated:.2f}" for captured, generated in row.ratios[key]),
        )
        for key in row.ratios
    ]


def _as_json(row: "Difference") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(row)


def make(
    model: Annotated[
        str, typer.Argument(help="A model's file, or the name of a published mix: 'memvirt list corpora'.")
    ],
    size: Annotated[str, typer.Option(help="How many pages to make.")] = "64MiB",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 1,
    step: Annotated[int, typer.Option(min=0, help="How often the volatile pages have changed.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File to write. Unless given: the cache folder.")] = None,
    force: Force = False,
    default: Annotated[bool, typer.Option("--default", help="Use it in all runs from now on.")] = False,
    as_json: Json = False,
) -> None:
    """Make a corpus from a content model: the same bytes on every machine."""
    from memvirt.environment import memory_problem
    from memvirt.errors import ConfigError
    from memvirt.inputs.corpus import PAGE_SIZE
    from memvirt.inputs.model import generate
    from memvirt.units import format_pages, parse_pages

    problems = ["--default: is for a corpus in the cache folder; leave --out away"] if out and default else []
    pages = 0
    try:
        pages = parse_pages(size)
        if problem := memory_problem(2 * pages * PAGE_SIZE):
            problems.append(f"--size: {format_pages(pages)} {problem}; make it smaller")
    except ConfigError as error:
        problems.append(f"--size: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    require_place(out, force)
    made = generate(_model(model), pages, seed, step)
    print_captured(made, keep_corpus(made, out, force, default), as_json)


def _model(text: str) -> "ContentModel":
    from memvirt.inputs.model import load_model, mix, mixes

    named = text in mixes() or not (os.path.exists(text) or "/" in text)
    return mix(text) if named else load_model(Path(text))


def register(app: typer.Typer) -> None:
    """Add the commands of this module to those of corpora."""
    app.command(
        epilog=examples(
            "memvirt corpus fit mine.mvcorpus --out mine.json", "memvirt corpus fit one.mvcorpus --later two.mvcorpus"
        )
    )(fit)
    app.command(
        epilog=examples(
            "memvirt corpus make mine.json --size 1GiB --out made.mvcorpus", "memvirt corpus make debian-12 --default"
        )
    )(make)
