"""The kinds of names, one line of `memvirt list`, and what `memvirt describe` adds to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

SINGULAR = {  # every kind that is listed, and what one of it is called
    "suites": "suite",
    "presets": "preset",
    "workloads": "workload",
    "corpora": "corpus",
    "formats": "trace format",
    "metrics": "metric",
    "deciders": "decider",
    "scanners": "scanner",
    "replacements": "replacement",
    "codecs": "codec",
    "devices": "device",
    "costs": "cost model",
    "settings": "setting",
    "figures": "figure",
    "topics": "topic",
}


class Detail(NamedTuple):
    """What `describe` adds to a name and its line: a text and a table."""

    text: str = ""
    heads: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Entry:
    """A name and one line on it. The rest is made when it is asked for: what a name stands for takes long to import."""

    name: str
    summary: str
    make: Callable[[], Detail] = Detail

    @cached_property
    def detail(self) -> Detail:
        """What `describe` adds."""
        return self.make()

    @property
    def text(self) -> str:
        return self.detail.text

    @property
    def heads(self) -> tuple[str, ...]:
        return self.detail.heads

    @property
    def rows(self) -> Sequence[tuple[str, ...]]:
        return self.detail.rows
