"""The page-sharing scanners by name, and the share index that each of them needs. memvirt.names says what there is to
say of them: options, defaults, and what they ask of the index."""

from memvirt.errors import AdmissionError, ConfigError
from memvirt.names import SCANNERS

from ..types cimport NONE
from .shareindex cimport ShareIndex
from .esx import EsxScanner
from .hash import HashScanner
from .inline import InlineScanner
from .ksm import KsmScanner

# The class of each, and what it is told beside its options.
CLASSES = {
    "hash": (HashScanner, {"zero_only": False}),
    "ksm": (KsmScanner, {}),
    "esx": (EsxScanner, {}),
    "zero-only": (HashScanner, {"zero_only": True, "hints": False}),
    "inline": (InlineScanner, {}),
}


def make_scanner(str name not None, mapping, dict options not None, seed):
    """The scanner of that name, over a new ShareIndex, with all of its options; ConfigError for unknown names, and for
    options that do not fit."""
    if name not in CLASSES:
        raise ConfigError(f"sharing: no scanner '{name}'; there are: {', '.join(CLASSES)}")
    kind, fixed = CLASSES[name]
    about = SCANNERS[name]
    options = dict(options)
    salting = options.pop("salting", "global")
    bound = 0 if about.own_bound else options.pop("max_page_sharing", 0)
    if about.seeded:
        options["seed"] = seed
    zero_frame = about.zero_frame or options.get("use_zero_pages", False)
    cdef ShareIndex index = ShareIndex(mapping, zero_frame, salting, bound)
    if zero_frame and index.zero_frame == NONE:
        raise AdmissionError(f"sharing: '{name}' keeps a frame of zeros, and the host has no frame for it; give it more "
                             f"memory, or take a scanner without one")
    try:
        return kind(index, **fixed, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sharing_options of '{name}': {error}") from None
