"""corpus info: what is in a corpus, in tables, JSON and figures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memvirt.cli import figure_files
from memvirt.cli.corpora import Codecs, Force, measured, opened, parse_codecs
from memvirt.cli.show import Json, examples, print_columns, print_json

if TYPE_CHECKING:
    from memvirt.inputs import Fingerprints
    from memvirt.inputs.summary import ClassSummary, Summary


def info(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...", help="Corpora, fingerprints, 'synthetic'. This machine's default, unless given."
        ),
    ] = None,
    codecs: Codecs = "",
    figures: figure_files.Folder = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show what is in a corpus: zero and same-filled pages, duplicates, near-duplicates, entropy, compressed sizes.

    Of several corpora it also shows what they have in common; their classes are then called FILE/CLASS.
    """
    from memvirt.inputs.summary import summarize
    from memvirt.report.figures.corpora import FIGURES, of_corpus

    names = files or [""]
    if figures:
        figure_files.prepare(figures, FIGURES, force)
    prints = _all_prints(names, parse_codecs(codecs))
    where = ", ".join(name or "the default corpus" for name in names)
    summary = summarize(prints)
    if figures:
        figure_files.write(figures, of_corpus(summary), force)
    if as_json:
        print_json(_as_json(where, prints, summary))
    else:
        _print_summary(where, prints, summary)


def _all_prints(names: Sequence[str], codecs: list[tuple[str, int | None]]) -> "Fingerprints":
    """The fingerprints of one corpus, or of several as one, all under one key that is not kept."""
    import secrets

    from memvirt.errors import ConfigError
    from memvirt.inputs import Fingerprints, merged
    from memvirt.inputs.fingerprints import KEY_BYTES

    key = secrets.token_bytes(KEY_BYTES)
    corpora = [opened(name) for name in names]
    found = [each if isinstance(each, Fingerprints) else measured(each, codecs, key) for each in corpora]
    if len(found) == 1:
        return found[0]
    labels = [Path(name).stem or "default" for name in names]
    if twice := [label for label in dict.fromkeys(labels) if labels.count(label) > 1]:
        raise ConfigError(f"two of the files are called {', '.join(twice)}; give them different names")
    return merged(list(zip(labels, found, strict=True)))


def _as_json(where: str, prints: "Fingerprints", summary: "Summary") -> dict[str, Any]:
    def row(entry: "ClassSummary") -> dict[str, Any]:
        sizes = {
            key: [{**asdict(each), "ratio": each.ratio} for each in distributions]
            for key, distributions in entry.sizes.items()
        }
        return {**asdict(entry), "sizes": sizes}

    return {
        "corpus": where,
        "sha256": prints.sha256,
        "pages": len(prints),
        "codecs": prints.routes,
        "classes": [row(entry) for entry in summary.classes],
        "all": row(summary.total),
        "common": [asdict(pair) for pair in summary.common],
        "provenance": list(prints.provenance),
    }


CONTENT_HEADS = ("class", "pages", "zero", "same-filled", "distinct", "elsewhere", "near", "bits/byte")
SIZE_HEADS = ("class", "codec", "ratio 4 KiB", "16 KiB", "64 KiB", "page bytes p10", "p50", "p90")


def _print_summary(where: str, prints: "Fingerprints", summary: "Summary") -> None:
    typer.echo(f"{where}: {len(prints)} pages")
    rows = [*summary.classes, *([summary.total] if len(summary.classes) > 1 else [])]
    counts = [
        (
            row.name,
            str(row.pages),
            *(f"{row.percent(n):.1f} %" for n in (row.zero, row.same_filled, row.distinct, row.elsewhere, row.near)),
            f"{row.entropy_bits:.2f}",
        )
        for row in rows
    ]
    print_columns([CONTENT_HEADS, *counts])
    sizes = [
        (
            row.name,
            key,
            *(f"{each.ratio:.2f}" for each in distributions),
            *map(str, distributions[0].quantiles.values()),
        )
        for row in rows
        for key, distributions in row.sizes.items()
    ]
    typer.echo("")
    print_columns([SIZE_HEADS, *sizes])
    if summary.common:
        typer.echo("")
        pairs = [(each.one, each.other, str(each.pages_of_one), str(each.pages_of_other)) for each in summary.common]
        print_columns([("pages that both have", "", "of the first", "of the second"), *pairs])


def register(app: typer.Typer) -> None:
    """Add the command of this module to those of corpora."""
    app.command(epilog=examples("memvirt corpus info", "memvirt corpus info one.mvcorpus two.mvprints --json"))(info)
