"""The page-sharing scanners by name."""

from memvirt.errors import ConfigError

from .hash import HashScanner

SCANNERS = {
    "hash": (HashScanner, {}, "memvirt's own: frames in order, one hash and one look-up each; exact sharing"),
    "zero-only": (HashScanner, {"zero_only": True}, "merges pages of zeros and looks at nothing else"),
}


def make_scanner(str name not None, index, dict options not None):
    """The scanner of that name over a ShareIndex; ConfigError for unknown names and options."""
    if name not in SCANNERS:
        raise ConfigError(f"sharing: no scanner '{name}'; there are: {', '.join(SCANNERS)}")
    kind, fixed, _ = SCANNERS[name]
    try:
        return kind(index, **fixed, **options)
    except TypeError as error:
        raise ConfigError(f"sharing_options of '{name}': {error}") from None
