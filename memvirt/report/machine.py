"""What is known of a machine, in words: names without their units, amounts of memory in GiB."""

from __future__ import annotations

from typing import Any

from memvirt.report.summary import MISSING

BYTES = "_bytes"  # at the end of names
LIMIT = "cgroup_memory_max"  # bytes, though its name does not say so; or "max"
GIB = 2**30


def named(name: str) -> str:
    """What a line of an environment is called."""
    return name.removesuffix(BYTES).replace("_", " ")


def told(name: str, value: Any) -> str:
    """A value of an environment: an amount of memory in GiB, with three figures behind small ones, everything else as it
    is; a dash where nothing is known."""
    if value is None:
        return MISSING
    if (name.endswith(BYTES) or name == LIMIT) and str(value).isdigit():
        size = int(value) / GIB
        return f"{size:.1f} GiB" if size >= 1 else f"{size:.3g} GiB"
    return str(value)
