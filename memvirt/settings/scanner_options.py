"""Options of page-sharing scanners, held against the table of memvirt.names."""

from memvirt.names import SCANNERS
from memvirt.units import suggest


def defaults(scanner: str) -> dict[str, int | str | bool]:
    """Every option of a scanner at its default."""
    return {key: option.default for key, option in SCANNERS[scanner].options.items()}


def problem_of(scanner: str, key: str, value: object) -> str | None:
    """What is wrong with one option of a scanner, if anything."""
    own = SCANNERS[scanner].options
    if key not in own:
        known = ", ".join(own) or "none"
        return f"scanner '{scanner}' has no option '{key}'{suggest(key, list(own))} (known: {known})"
    return own[key].problem(value)
