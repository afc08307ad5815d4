"""A pyperf hook that lets a benchmark's own counts ride as metadata of its run, under names that begin with mv_.

pyperf copies a run's metadata before the benchmark runs, and a hook's teardown is the one place left to add to it. The
benchmark calls `publish`; what was published last before the process ends is what the run keeps.
"""

from __future__ import annotations

from types import TracebackType

PREFIX = "mv_"

Value = int | float | str

_published: dict[str, Value] = {}


def publish(**values: Value) -> None:
    """Keep values for this process's run. TypeError for what pyperf cannot hold: None, lists, bool, empty text."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or value == "" or "\n" in str(value):
            raise TypeError(f"{name}={value!r}: pyperf metadata are numbers and one-line texts")
    _published.update(values)


class MemvirtHook:
    """What pyperf calls around each timing; `--hook memvirt` names it."""

    def __enter__(self) -> None:
        _published.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to undo."""

    def teardown(self, metadata: dict[str, Value]) -> None:
        """Put what was published into the metadata of the run."""
        metadata.update({PREFIX + name: value for name, value in _published.items()})
