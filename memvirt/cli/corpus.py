"""corpus capture, corpus fingerprint: the pages that VMs are filled with."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli import content_models, corpus_info
from memvirt.cli.corpora import (
    ALL_CODECS,
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
from memvirt.cli.show import Json, examples

if TYPE_CHECKING:
    from memvirt.inputs import ClassTable
    from memvirt.inputs.sources import Asked


def capture(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[[CLASS=]SOURCE]...",
            help="pid:NUMBER, a file, a dump or a folder. This machine's libraries, heap and so on, unless given.",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="How much to capture: a sample of the sources. Without sources 64MiB, else all.")
    ] = "",
    classes: Annotated[
        str, typer.Option(help="Without sources: classes, with commas between; all, unless given.")
    ] = "",
    by_mapping: Annotated[
        bool, typer.Option("--by-mapping", help="Classes of a process that has a name, too: NAME.heap, NAME.stack, …")
    ] = False,
    form: Annotated[
        str, typer.Option("--format", help="Of files: raw, elf-core, lime. Recognised from content, unless given.")
    ] = "",
    as_prints: Annotated[
        bool, typer.Option("--fingerprints", help="Write fingerprints; the bytes are written nowhere.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice among files, or of the sample.")] = 1,
    out: Annotated[Path | None, typer.Option(help="File to write. Unless given: the cache folder.")] = None,
    force: Force = False,
    default: Annotated[bool, typer.Option("--default", help="Use it in all runs from now on.")] = False,
    as_json: Json = False,
) -> None:
    """Capture a corpus: pages of processes, files, dumps and folders, or of this machine at large.

    A dump is an ELF core (of the kernel, gcore, QEMU's dump-guest-memory), LiME, or raw memory (pmemsave, Firecracker).
    You may name a class. Otherwise it has the name of the file; the classes of a process are named after its mappings:
    heap, stack, anonymous, shared, libraries, program, files. What was left out, and why, is part of the corpus and printed.
    """
    from memvirt.errors import ConfigError
    from memvirt.inputs import capture as capturing
    from memvirt.inputs import store

    problems = ["--default: is for a corpus in the cache folder; leave out --out"] if out and default else []
    names = [name.strip() for name in classes.split(",") if name.strip()]
    pages = _asked_pages(size, problems)
    own_pages, own_names = pages or capturing.DEFAULT_PAGES, names or list(capturing.SHARES)
    problems += _source_problems(form, names) if sources else capturing.problems(own_pages, seed, own_names)
    if problems:
        raise ConfigError("\n".join(problems))
    require_place(out, force)
    if sources:
        kept, path = _captured(_opened(sources, form, by_mapping), pages, seed, as_prints, out, force)
    else:
        kept = capturing.capture(own_pages, seed, own_names)
        kept = measured(kept, parse_codecs("", ALL_CODECS)) if as_prints else kept
        path = keep_corpus(kept, out, force)
    if default:
        store.make_default(path)
    print_captured(kept, path, as_json)


def _asked_pages(size: str, problems: list[str]) -> int | None:
    from memvirt.errors import ConfigError
    from memvirt.units import parse_pages

    try:
        return parse_pages(size) if size else None
    except ConfigError as error:
        problems.append(f"--size: {error}")
        return None


def _source_problems(form: str, classes: Sequence[str]) -> list[str]:
    from memvirt.inputs.sources import FORMATS
    from memvirt.units import suggest

    found = []
    if form and form not in FORMATS:
        found.append(f"--format: no format is called '{form}'{suggest(form, FORMATS)} (formats: {', '.join(FORMATS)})")
    if classes:
        found.append("--classes: is for this machine's own pages; name the classes of sources as in heap=pid:1234")
    return found


def _opened(texts: Sequence[str], form: str, by_mapping: bool) -> "list[Asked]":
    from memvirt.errors import CorpusError
    from memvirt.inputs.sources import Named, open_named

    asked, problems = [], []
    for text in texts:
        try:
            asked.append(open_named(Named.parse(text), form or None, by_mapping))
        except CorpusError as error:
            problems.append(str(error))
    if problems:
        for each in asked:
            each.source.close()
        raise CorpusError("\n".join(problems))
    return asked


def _captured(
    asked: "list[Asked]", pages: int | None, seed: int, as_prints: bool, out: Path | None, force: bool
) -> "tuple[ClassTable, Path]":
    """What was captured, and its file: pages go straight into it, or become fingerprints and are written nowhere."""
    from memvirt.cli.progress import counted
    from memvirt.inputs import written
    from memvirt.inputs.sources import Taking, take

    try:
        with counted("capturing") as progress:
            if not as_prints:
                return written.write(Taking(asked, pages, seed), out, force=force, progress=progress)
            corpus = take(asked, pages, seed, progress)
    finally:
        for each in asked:
            each.source.close()
    prints = measured(corpus, parse_codecs("", ALL_CODECS))
    return prints, keep_corpus(prints, out, force)


def fingerprint(
    file: Annotated[
        str, typer.Argument(help="A corpus file, or 'synthetic'. This machine's default, unless given.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="File to write. Unless given: FILE with the ending .mvprints.")
    ] = None,
    codecs: Codecs = "",
    key: Annotated[
        Path | None, typer.Option(help="File of a key kept before: two captures can then be compared.")
    ] = None,
    keep_key: Annotated[Path | None, typer.Option(help="Keep the new key in this file. It is a secret.")] = None,
    note: Note = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make fingerprints of a corpus, which hold no bytes and may be published.

    Per page: a hash under a key that is thrown away, compressed sizes, entropy, a sketch. A run on them with --set
    content=fingerprint shares what the bytes would. They still show which pages are equal or alike, and a long file can
    be recognised by the row of its pages' sizes.
    """
    from memvirt.errors import ConfigError
    from memvirt.inputs import Fingerprints, store

    if key and keep_key:
        raise ConfigError("--keep-key: keeps a new key, and --key gives one; leave one of them away")
    corpus = opened(file)
    if isinstance(corpus, Fingerprints):
        raise ConfigError(f"{file or 'the default corpus'}: these are fingerprints already")
    if out is None and not file:
        raise ConfigError("--out: say where to write the fingerprints of the default corpus")
    path = out or Path(file).with_suffix(store.PRINTS_SUFFIX)
    store.require_writable(path, force=force)
    secret = _read_key(key) if key else _new_key(keep_key, force)
    prints = measured(corpus, parse_codecs(codecs, ALL_CODECS), secret, note)
    store.save(prints, path, force=force)
    print_captured(prints, path, as_json)


def _read_key(path: Path) -> bytes:
    from memvirt.errors import CorpusError
    from memvirt.inputs.fingerprints import KEY_BYTES

    try:
        with open(path, encoding="ascii") as file:
            key = bytes.fromhex(file.read(4 * KEY_BYTES).strip())
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise CorpusError(f"key {path} cannot be read: {why}; it is a file that --keep-key wrote") from error
    if len(key) != KEY_BYTES:
        raise CorpusError(
            f"key {path}: {len(key)} bytes, but a key has {KEY_BYTES}; it is a file that --keep-key wrote"
        )
    return key


def _new_key(path: Path | None, force: bool) -> bytes:
    import secrets

    from memvirt.inputs import store
    from memvirt.inputs.fingerprints import KEY_BYTES

    key = secrets.token_bytes(KEY_BYTES)
    if path:
        store.write_text(path, key.hex(), force=force)
    return key


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    commands = typer.Typer(
        help="The pages that VMs are filled with.",
        epilog=examples("memvirt corpus capture pid:1234", "memvirt corpus info"),
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    commands.command(
        epilog=examples(
            "memvirt corpus capture web=pid:1234 db=/var/tmp/vm.dump --out fleet.mvcorpus",
            "memvirt corpus capture --size 16MiB --default",
        )
    )(capture)
    commands.command(
        epilog=examples(
            "memvirt corpus fingerprint mine.mvcorpus",
            "memvirt corpus fingerprint mine.mvcorpus --keep-key mine.key --codecs lz4,zstd:3",
        )
    )(fingerprint)
    corpus_info.register(commands)
    content_models.register(commands)
    app.add_typer(commands, name="corpus")
