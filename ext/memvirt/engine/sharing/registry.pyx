"""The page-sharing scanners by name, and the share index each of them needs."""

from memvirt.errors import ConfigError

from .shareindex import ShareIndex
from .esx import EsxScanner
from .hash import HashScanner
from .inline import InlineScanner
from .ksm import KsmScanner

SCANNERS = {
    "hash": (HashScanner, {}, "memvirt's own: frames in order, one hash and one look-up each; exact sharing"),
    "ksm": (KsmScanner, {}, "Linux's: stable and unstable trees walked by comparing bytes, VM by VM in address order"),
    "esx": (EsxScanner, {}, "VMware ESX's: one hash table with hints, random order, a last chance before a page goes"),
    "zero-only": (HashScanner, {"zero_only": True}, "merges pages of zeros and looks at nothing else"),
    "inline": (InlineScanner, {}, "no scan: a page is looked up when its content arrives"),
}


def make_scanner(str name not None, mapping, dict options not None, seed):
    """The scanner of that name, over a new ShareIndex; ConfigError for unknown names and options."""
    if name not in SCANNERS:
        raise ConfigError(f"sharing: no scanner '{name}'; there are: {', '.join(SCANNERS)}")
    kind, fixed, _ = SCANNERS[name]
    options = dict(options)
    salting = options.pop("salting", "global" if name == "ksm" else "tenant")
    bound = 0 if name == "ksm" else options.pop("max_page_sharing", 0)      # ksm keeps its own, by users
    if name == "esx":
        options["seed"] = seed
    index = ShareIndex(mapping, zero_frame=name != "ksm" or options.get("use_zero_pages", False), salting=salting,
                       max_page_sharing=bound)
    try:
        return kind(index, **fixed, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sharing_options of '{name}': {error}") from None
