"""What a page-sharing scanner can be told: checks of the options that memvirt.names lists."""

from collections.abc import Mapping

from memvirt.names import SALTING, SCANNERS
from memvirt.units import suggest


def defaults(scanner: str) -> dict[str, int | str | bool]:
    """Every option of a scanner at its default."""
    return {key: option.default for key, option in SCANNERS[scanner].options.items()}


def problem_of(key: str, value: object, known: Mapping[str, object], owner: str) -> str | None:
    """What is wrong with one option of a table of defaults, if anything."""
    if key not in known:
        return f"{owner} has no option '{key}'{suggest(key, list(known))} (known: {', '.join(known) or 'none'})"
    default = known[key]
    if type(value) is not type(default):
        return f"{value!r} is not of the kind of its default, {default!r}"
    if isinstance(value, int) and not isinstance(value, bool) and value < 1 and value != default:
        return f"{value} must be at least 1; the default is {default}"
    largest = 10**18 if key.endswith("_ns") else 2**31 - 1
    if isinstance(value, int) and value > largest:
        return f"{value} is more than {largest}; the default is {default}"
    if key == "max_page_sharing" and value == 1:
        return f"{value} must be at least 2; the default is {default}"
    if key == "salting" and value not in SALTING:
        return f"unknown value {value!r} (known: {', '.join(SALTING)})"
    return None
