"""What the replacement orders can be told: each option with its default and its meaning."""

from collections.abc import Mapping
from typing import Literal

from memvirt.units import suggest

Replacement = Literal["random", "fifo", "clock", "lru", "twolist", "mglru", "sieve", "s3fifo", "2q", "arc", "lfu"]
VARIANTS = ("libcachesim", "paper")
# By order; those that are not here take none.
REPLACEMENT_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "s3fifo": {"variant": "libcachesim"},
    "2q": {"variant": "libcachesim"},
}
REPLACEMENT_OPTION_MEANINGS = {
    "variant": "whose algorithm: libcachesim (as that package has it) or paper (as published)",
}


def resolved(order: str, given: Mapping[str, str]) -> dict[str, str]:
    """Every option of an order, defaults included."""
    return {**REPLACEMENT_OPTIONS.get(order, {}), **given}


def problems(order: str, given: Mapping[str, str]) -> list[tuple[str, str]]:
    """(option, what is wrong with it) for every option that the order cannot be given."""
    known = REPLACEMENT_OPTIONS.get(order, {})
    found = []
    for key, value in given.items():
        if key not in known:
            text = f"replacement '{order}' has no option '{key}'{suggest(key, list(known))}"
            found.append((key, f"{text} (known: {', '.join(known) or 'none'})"))
        elif value not in VARIANTS:
            found.append(
                (key, f"unknown value {value!r}{suggest(value, list(VARIANTS))} (known: {', '.join(VARIANTS)})")
            )
    return found
