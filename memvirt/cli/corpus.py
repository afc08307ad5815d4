"""corpus capture, corpus info: the pages that VMs are filled with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memvirt.cli.show import Json, examples, print_columns, print_json, say

if TYPE_CHECKING:
    from memvirt.inputs import Corpus

SYNTHETIC_PAGES = 8192  # 32 MiB: every class is longer than what a VM of the suites takes from it
HEADS = ("class", "pages", "zero pages", "distinct", "LZ4 ratio")


def capture(
    size: Annotated[str, typer.Option(help="How much to capture.")] = "64MiB",
    classes: Annotated[str, typer.Option(help="Classes, with commas between; all, unless given.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice among this machine's files.")] = 1,
    out: Annotated[Path | None, typer.Option(help="File to write. Unless given: the cache folder.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Use it in all runs from now on.")] = False,
    as_json: Json = False,
) -> None:
    """Capture a corpus of this machine's own pages: libraries, programs, source text, a live heap, numbers."""
    from memvirt.errors import ConfigError
    from memvirt.inputs import capture as capturing
    from memvirt.inputs import store
    from memvirt.units import parse_pages

    problems = ["--default: is for a corpus in the cache folder; leave --out away"] if out and default else []
    pages = capturing.DEFAULT_PAGES
    try:
        pages = parse_pages(size)
    except ConfigError as error:
        problems.append(f"--size: {error}")
    names = [name.strip() for name in classes.split(",") if name.strip()] or list(capturing.SHARES)
    problems += capturing.problems(pages, seed, names)
    if problems:
        raise ConfigError("\n".join(problems))
    store.require_writable(out.parent if out else store.cache_folder())
    captured = capturing.capture(pages, seed, names)
    if out is None:
        path = store.keep(captured, store.cache_folder())
    else:
        store.save(captured, path := out)
    if default:
        store.make_default(path)
    _print(captured, str(path), as_json)


def info(
    file: Annotated[
        str, typer.Argument(help="A corpus file, or 'synthetic'. This machine's default, unless given.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Tell what is in a corpus: per class its share of zero pages, its duplication, its LZ4 ratio."""
    _print(opened(file), file or "the default corpus", as_json)


def opened(text: str) -> "Corpus":
    """The corpus a user names: a file, "synthetic", or "" for this machine's, which is captured at the first use."""
    from memvirt.inputs import load, synthetic

    if text == "synthetic":
        return synthetic(SYNTHETIC_PAGES, seed=1)
    return load(Path(text)) if text else default_corpus()


def default_corpus() -> "Corpus":
    """The corpus of this machine, captured now if this is the first run."""
    from memvirt.inputs import store
    from memvirt.inputs.capture import capture as capturing

    def first() -> "Corpus":
        say(f"capturing pages of this machine into {store.cache_folder()}: done once")
        return capturing()

    return store.default_corpus(first)


def _print(corpus: "Corpus", where: str, as_json: bool) -> None:
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "name": row.name,
                "pages": row.pages,
                "zero_percent": row.zero_percent,
                "distinct_percent": row.distinct_percent,
                "lz4_ratio": row.lz4_ratio,
            }
            for row in corpus.rows()
        ]
        print_json({"corpus": where, "sha256": corpus.sha256, "pages": len(corpus), "classes": rows})
        return
    typer.echo(f"{where}: {len(corpus)} pages, sha256 {corpus.sha256}")
    lines = [
        (row.name, str(row.pages), f"{row.zero_percent:.1f} %", f"{row.distinct_percent:.1f} %", f"{row.lz4_ratio:.2f}")
        for row in corpus.rows()
    ]
    print_columns([HEADS, *lines])


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    commands = typer.Typer(
        help="The pages that VMs are filled with.",
        epilog=examples("memvirt corpus capture --default", "memvirt corpus info"),
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    commands.command(epilog=examples("memvirt corpus capture --default", "memvirt corpus capture --size 16MiB"))(
        capture
    )
    commands.command(epilog=examples("memvirt corpus info", "memvirt corpus info synthetic --json"))(info)
    app.add_typer(commands, name="corpus")
