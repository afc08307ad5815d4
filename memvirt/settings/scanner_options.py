"""What the page-sharing scanners can be told: each option with its default and its meaning."""

from collections.abc import Mapping

from memvirt.units import suggest

# By scanner. KSM's are Linux's, ESX's those of ESX 4 (scanning) and 6 (salting).
SCANNER_OPTIONS: Mapping[str, Mapping[str, int | str | bool]] = {
    "hash": {"pages_to_scan": 4096, "sleep_ns": 20_000_000, "hints": False, "max_page_sharing": 0, "salting": "tenant"},
    "ksm": {
        "pages_to_scan": 100,
        "sleep_ns": 20_000_000,
        "max_page_sharing": 256,
        "use_zero_pages": False,
        "smart_scan": True,
        "advisor": False,
        "advisor_target_ns": 200_000_000_000,
        "advisor_max_cpu": 70,
        "advisor_min_pages": 500,
        "advisor_max_pages": 30_000,
        "hints": False,
        "salting": "global",
    },
    # Shortest time for a pass over a VM, most pages per simulated second for the host and for one VM.
    "esx": {
        "scan_time_ns": 3_600_000_000_000,
        "pages_per_s": 1024,
        "vm_pages_per_s": 1024,
        "max_page_sharing": 0,
        "salting": "vm",
    },
    "zero-only": {"pages_to_scan": 4096, "sleep_ns": 20_000_000},
    "inline": {"max_page_sharing": 0, "salting": "tenant"},
}
SCANNER_OPTION_MEANINGS = {
    "pages_to_scan": "pages looked at before the scanner sleeps",
    "sleep_ns": "simulated time it sleeps, ns; with pages_to_scan, its pace",
    "hints": "look first at pages whose content has just arrived from a device or a store, as XLH does; at most half of "
    "what is looked at between two sleeps",
    "salting": "whose pages may merge: global (everyone's), tenant (those of VMs of one domain), vm (each VM's own); "
    "ESX's Mem.ShareForceSalting 0, 1, 2",
    "max_page_sharing": "most pages that one frame may serve, 0: any number; further equal ones get another, which bounds "
    "what a walk of its reverse map costs",
    "use_zero_pages": "pages of zeros go to the zero frame and are kept track of no more",
    "smart_scan": "pass over pages, ever more often, that were looked at often without a merge",
    "advisor": "set pages_to_scan after each pass, so that passes take advisor_target_ns",
    "advisor_target_ns": "time for a pass that the advisor aims at, simulated ns",
    "advisor_max_cpu": "most processor time the advisor may ask for, per cent of one core",
    "advisor_min_pages": "pages_to_scan that the advisor begins with",
    "advisor_max_pages": "largest pages_to_scan the advisor may set",
    "scan_time_ns": "shortest time for a pass over one VM, simulated ns (Mem.ShareScanTime)",
    "pages_per_s": "most pages looked at on the host in a simulated second",
    "vm_pages_per_s": "most pages looked at in one VM in a simulated second",
}
SALTING = ("global", "tenant", "vm")  # who may share with whom: everyone, VMs of one domain, each VM with itself


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
