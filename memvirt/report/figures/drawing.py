"""From a specification to a file: SVG, PDF or PNG for print, by vl-convert, without a browser and without the network.

A figure is drawn twice. The first drawing shows how much of its width goes to axes and legends; the second has panels of
what is left, so that the figure as a whole is as wide as a column of a paper. The second drawing is the same, byte for
byte, each time: identifiers that the library counts up over the life of a process are numbered again.

PDF embeds its fonts. One font in one weight is used, for the library writes two in either order; the resources of a page
come in any order, too, and are sorted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from memvirt.errors import ConfigError
from memvirt.report.figures.style import GROUND, IN_PRINT, LETTER, LETTERS, PAPER, PRINT_NAME_LIMIT, Figure, in_print

FORMATS = ("svg", "pdf", "png", "json")
WIDTHS = {1: 240, 2: 504}  # points: a column of ACM's and IEEE's two, and both with the gap between them
DOTS_PER_INCH = 300
NEAR = 0.5  # points: a figure as wide as that is as wide as was asked for
LEAST_PANEL = 0.2  # of its width: a panel gets no narrower, however long names are
IDENTIFIER = re.compile(r'(id="|url\(#|href="#)(clip|gradient_?)(\d+)')
RESOURCES = re.compile(rb"(?:^ +/[a-z]+\d+ \d+ 0 R\n){2,}", re.MULTILINE)  # sorted, they are as long: offsets stay
SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)"')


def draw(figure: Figure, form: str, columns: int = 1) -> bytes:
    """The file of a figure as wide as `columns` columns; `json` is the specification itself. ConfigError without vl-convert
    and for a specification that it refuses."""
    return drawn(sized(figure, WIDTHS[columns]), form)


def drawn(spec: Figure, form: str) -> bytes:
    """The same of a specification that has its size."""
    if form == "json":
        return (json.dumps(spec, indent=1, ensure_ascii=False) + "\n").encode()
    if form == "png":  # where a picture is shown is not known: black on black would say nothing
        spec = {**spec, "background": PAPER[GROUND]}
    svg = _svg(spec)
    if form == "svg":
        return svg.encode()
    library = _library()
    if form == "png":
        return bytes(library.svg_to_png(svg, scale=1, ppi=DOTS_PER_INCH))
    return RESOURCES.sub(lambda m: b"".join(sorted(m[0].splitlines(keepends=True))), bytes(library.svg_to_pdf(svg)))


def sized(figure: Figure, width: int) -> Figure:
    """The specification for print, its panels as wide as makes the whole `width` points."""
    legend = {**IN_PRINT["legend"], "columns": legend_columns(figure, width)}
    spec = {**in_print(figure, {**IN_PRINT, "legend": legend}), "padding": 2}
    across = figure["usermeta"]["across"]
    for _ in range(2):  # the second time ticks and legends know their places
        found = SIZE.match(_svg(spec))
        drawn = float(found[1]) if found else width
        if abs(width - drawn) < NEAR:
            break
        factor = max(LEAST_PANEL, (width - (drawn - across)) / across)
        spec, across = _stretched(spec, factor), across * factor
    return {**spec, "usermeta": {**figure["usermeta"], "across": round(across)}}


def legend_columns(figure: Any, width: int) -> int:
    """How many names of its legends stand beside each other, four at most."""
    longest = max((len(name) for names in _legends(figure, "values") for name in names), default=1)
    stroke = max(_legends(figure, "symbolSize"), default=0) ** 0.5
    each = min(longest * LETTER * LETTERS, PRINT_NAME_LIMIT) + 3 * LETTERS + stroke
    return max(1, min(4, int(width / each)))


def _legends(part: Any, key: str) -> Iterator[Any]:
    """What the legends of a specification have under a key."""
    if isinstance(part, Mapping):
        legend = part.get("legend")
        yield from [legend[key]] if isinstance(legend, Mapping) and key in legend else []
        for name, each in part.items():
            yield from _legends(each, key) if name != "data" else ()
    elif isinstance(part, list):
        for each in part:
            yield from _legends(each, key)


def _stretched(spec: Any, factor: float) -> Any:
    """Every panel's width times a factor."""
    if isinstance(spec, Mapping):
        return {
            key: round(value * factor, 2)
            if key == "width" and isinstance(value, (int, float))
            else value
            if key in ("data", "config", "encoding", "mark")
            else _stretched(value, factor)
            for key, value in spec.items()
        }
    return [_stretched(each, factor) for each in spec] if isinstance(spec, list) else spec


def _svg(spec: Figure) -> str:
    """What a specification says to us alone is left out: with it, the last look at a width is not known again."""
    return _drawn_once(_library(), json.dumps({key: part for key, part in spec.items() if key != "usermeta"}))


@lru_cache(maxsize=2)
def _drawn_once(library: Any, spec: str) -> str:
    """The drawing of a specification in JSON, remembered: what was drawn to see how wide it is need not be drawn again."""
    try:
        svg = str(library.vegalite_to_svg(json.loads(spec), allowed_base_urls=[]))
    except ValueError as error:
        raise ConfigError(f"a figure cannot be drawn: {error}") from None
    numbers: dict[str, int] = {}
    return IDENTIFIER.sub(lambda m: f"{m[1]}{m[2]}{numbers.setdefault(m[2] + m[3], len(numbers))}", svg)


def _library() -> Any:
    try:
        return import_module("vl_convert")
    except ImportError:
        raise ConfigError("figures need vl-convert: pip install memvirt[report]") from None
