"""One line of `memvirt list`, and what `memvirt describe` adds to it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A name, one line on it, and what `describe` adds: a text and a table."""

    name: str
    summary: str
    text: str = ""
    heads: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()

    @property
    def options(self) -> list[str]:
        return [row[0] for row in self.rows] if self.heads[:1] == ("option",) else []
