"""What scripts of a page read: figures whose data lie in one shared set, each list of rows once, by column.

Rows as JSON objects would spell every field's name in every row. A column is a list of numbers, or {"names": […], "at":
[…]} for text: which of the names each row has. Numbers keep six figures; the files to download keep all.

What a page carries is packed: deflated, then written in base64, a third of its size. Nothing of a name stands in it as it
is, so nothing of one can end the element that holds it. Browsers unpack it by themselves, since 2023 all of them.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from memvirt.report.figures.style import Figure, Rows


class Shared:
    """The shared set: row lists by number, equal ones once."""

    def __init__(self) -> None:
        self.sets: list[dict[str, Any]] = []
        self._known: dict[str, int] = {}

    def add(self, figure: Figure) -> Figure:
        """The figure without its rows and its title, which the page shows itself; `data` says which set they are."""
        columns = packed(figure["data"]["values"])
        text = json.dumps(columns, sort_keys=True)
        if text not in self._known:
            self._known[text] = len(self.sets)
            self.sets.append(columns)
        kept = {key: part for key, part in figure.items() if key not in ("data", "title", "$schema")}
        return {**kept, "data": self._known[text]}


def packed(rows: Rows) -> dict[str, Any]:
    """Rows by column."""
    fields = list(dict.fromkeys(name for row in rows for name in row))
    return {name: _column([row.get(name) for row in rows]) for name in fields}


def _column(values: Sequence[Any]) -> Any:
    if any(isinstance(value, str) for value in values):
        names = list(dict.fromkeys(values))
        place = {name: index for index, name in enumerate(names)}
        return {"names": names, "at": [place[value] for value in values]}
    return [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]


def deflated(text: str) -> str:
    """A text as the page carries it."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def inflated(carried: str) -> str:
    """The text again."""
    return zlib.decompress(base64.b64decode(carried)).decode()


def plain_json(value: Any) -> str:
    """JSON without spaces and without what no JSON has."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
