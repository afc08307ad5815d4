"""What an episode is made of: settings and operations drawn from a seed, as plain data that JSON can hold.

An operation names VMs, pages and snapshots by numbers that are taken modulo what there is when it runs. So any subset of
the operations of an episode is an episode too, which is what shrinking needs.
"""

import random

import numpy as np

from memvirt import policies
from memvirt.errors import ConfigError
from memvirt.names import DECIDERS, SCANNERS
from memvirt.settings import costs as cost_models
from memvirt.settings.costs import CostModel, GivingCosts
from memvirt.settings.orders import ORDERS

PAGE = 4096
SOURCES = 24
MIXES = [[0], [1], [0, 1], [2], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 2, 4]]
LEVELS = {"lz4": [1, 9, 65537], "lz4hc": [3, 9, 12], "zstd": [-1, 1, 3]}
IN_BLOCKS = ("balloon-huge", "virtio-mem", "hyperalloc", "squeezy")
PLAIN_MIXES = MIXES[:3]  # after an error they can be told by the number of writes


def corpus():
    """Pages of zeros, of one word, of text, of noise; some twice, and some that differ from another in a single word."""
    noise = np.random.Generator(np.random.PCG64(7))
    text = np.frombuffer((b"nothing is lost, whatever is done to it; " * 100)[:PAGE], np.uint8)
    pages = [np.zeros(PAGE, np.uint8), np.full(PAGE, 0x41, np.uint8), np.full(PAGE, 1, np.uint8), text, text]
    pages += [np.frombuffer(noise.bytes(PAGE), np.uint8) for _ in range(6)]
    pages += [np.roll(text, shift) for shift in (1, 2, 3)]
    pages.append(np.concatenate([text[:2048], np.frombuffer(noise.bytes(2048), np.uint8)]))
    while len(pages) < SOURCES:  # twins, in a word each
        page = pages[int(noise.integers(1, 12))].copy()
        page[8 * int(noise.integers(0, 512))] ^= 1 + int(noise.integers(0, 255))
        pages.append(page)
    return np.stack(pages)


CORPUS = corpus()


def contents(kind, seed):
    """A page of a kind: 0 zeros, 1 one word, 2 what compresses, 3 noise; equal seeds give equal pages."""
    if kind == 0:
        return bytes(PAGE)
    if kind == 1:
        return (seed % 5 + 1).to_bytes(8, "little") * 512
    if kind == 2:
        return (b"%06d of what compresses well. " % (seed % 40) * 160)[:PAGE]
    return np.random.Generator(np.random.PCG64(seed % 60)).bytes(PAGE)


class Draw(random.Random):
    """Random, and a few words for what is drawn most."""

    def maybe(self, chance):
        return self.random() < chance

    def size(self, pages):
        """Bytes of about so many pages, at least one."""
        return max(1, int(pages)) * PAGE


def frames(draw, profile):
    if profile == "tiny" or draw.maybe(0.35):
        return draw.randint(4, 60)
    return draw.choice([draw.randint(60, 300), draw.randint(300, 900), draw.randint(1100, 2600)])


def device(draw):
    if draw.maybe(0.6):
        return draw.choice(["nvme", "sata-ssd", "hdd"])
    times = {
        f"{way}_{what}_ns": draw.choice([0, 1, 700, 50_000, 3_000_000])
        for way in ("read", "write")
        for what in ("latency", "page")
    }
    return times | {"channels": draw.choice([1, 1, 2, 7, 64])}


def order(draw):
    """A replacement order and some of its options."""
    name, options = draw.choice(sorted(ORDERS)), {}
    for key, option in ORDERS[name].options.items():
        if draw.maybe(0.3):
            near = [
                option.low,
                option.high,
                option.default,
                draw.randint(option.low, min(option.high, option.low + 50)),
            ]
            options[key] = draw.choice(option.choices or near)
    return name, options


# What is near to the work of some milliseconds, of options that have no bounds of their own to draw from.
NEAR = {
    "pages_to_scan": [1, 20, 200, 4096],
    "sleep_ns": [30_000, 1_000_000, 20_000_000],
    "max_page_sharing": [0, 2, 2, 3, 8],
    "scan_time_ns": [1_000_000, 10_000_000],
    "pages_per_s": [10_000, 10**6],
    "vm_pages_per_s": [10_000, 10**6],
    "advisor_target_ns": [1_000_000, 100_000_000],
    "advisor_max_cpu": [1, 70, 1000],
    "advisor_min_pages": [1, 500],
    "advisor_max_pages": [1, 100, 30_000],
}
BUSY = ("pages_to_scan", "sleep_ns", "scan_time_ns", "pages_per_s", "vm_pages_per_s")  # defaults take seconds


def scanner(draw):
    """A page-sharing scanner and some of its options."""
    name, options = draw.choice(["hash", "hash", "ksm", "ksm", "esx", "zero-only", "inline"]), {}
    for key, option in SCANNERS[name].options.items():
        if key in BUSY or draw.maybe(0.4):
            fits = [value for value in NEAR.get(key, ()) if option.problem(value) is None]
            options[key] = draw.choice(option.choices or fits or [False, True])
    return name, options


def decider(draw):
    """A decider that is asked often enough to be heard, and some of its options, larger and smaller."""
    name = draw.choice(sorted(DECIDERS))
    options = {"interval_ns": draw.choice([200_000, 5_000_000])}
    for key, default in policies.options_of(name, {}).items():
        if key == "interval_ns" or not draw.maybe(0.3):
            continue
        changed = (
            not default if isinstance(default, bool) else draw.choice([default // 1000, default // 2, 2 * default])
        )
        try:
            policies.build(name, options | {key: changed})
        except ConfigError:  # it does not go with the others
            continue
        options[key] = changed
    return name, options


def costs(draw):
    """A cost model: by name, or one of one's own in which much is free and something dear."""
    if draw.maybe(0.3):
        return draw.choice(cost_models.names())
    dear = draw.choice([[0], [0, 1], [0, 1, 700, 40_000]])
    model = {key: draw.choice(dear) for key in CostModel.model_fields if key != "giving"}
    if draw.maybe(0.5):
        model["giving"] = {key: draw.choice(dear) for key in GivingCosts.model_fields}
    return model | {"wait_quantum": draw.choice([1_000, 1_000_000])}


def host(draw, profile):
    """The keyword arguments of a Host, as JSON."""
    n = frames(draw, profile)
    settings = {"memory": n * PAGE, "seed": draw.randrange(1 << 20), "replacement": "clock"}
    settings["replacement"], settings["replacement_options"] = order(draw)
    if draw.maybe(0.75):
        settings["swap"] = draw.size(draw.choice([n // 4 + 1, n, 3 * n, 700]))
        settings |= {"swap_device": device(draw), "swap_discard": draw.maybe(0.15)}
    if draw.maybe(0.2):
        settings["swap_areas"] = [
            {"size": draw.size(draw.randint(1, n)), "priority": draw.choice([-5, 0, 0, 3]), "device": device(draw)}
            for _ in range(draw.choice([1, 1, 2, 3, 9]))
        ]
    if draw.maybe(0.45) and profile != "lockstep":
        settings |= {
            "zpool_percent": draw.choice([1, 5, 20, 50, 100]),
            "zpool_accept_percent": draw.choice([0, 50, 90, 100]),
            "zpool_reject_above": draw.choice([32, 1000, 2990, 4096]),
            "zpool_incompressible": draw.choice(["reject", "keep"]),
            "zpool_chain": draw.choice([1, 4, 8, 16]),
            "zpool_chain_rule": draw.choice(["waste", "used"]),
            "zpool_shrinker": draw.maybe(0.4),
            "codec": draw.choice(["lz4", "lz4", "lz4hc", "zstd"]),
        }
        if draw.maybe(0.5):
            settings["codec_level"] = draw.choice(LEVELS[settings["codec"]])
    settings["same_filled"] = draw.choice(["word", "word", "zero"])
    settings["readahead"] = draw.choice([0, 0, 1, 3, 5])
    settings["readahead_kind"] = draw.choice(["cluster", "vma"])
    if settings["replacement"] == "twolist":
        settings["psi"] = draw.choice(["all-waits", "linux"])
    if draw.maybe(0.5):
        settings["sharing"], settings["sharing_options"] = scanner(draw)
        if profile == "lockstep" and settings["sharing"] == "ksm":  # its trees are ordered by content
            settings |= {"sharing": "hash", "sharing_options": {}}
    settings["victims"] = random.Random(f"victims {settings['seed']}").choice(["order", "order", "shares"])
    settings["on_exhausted"] = draw.choice(["stop", "stop", "kill", "wait"])
    settings["provisioning"] = draw.choice(["thin", "thin", "thin", "thin-huge", "thick", "on-write"])
    settings["commit"] = draw.choice(["always", "always", "heuristic", "nominal", "strict"])
    settings["harvest_interval"] = draw.choice([20_000, 1_000_000, 100_000_000])
    if draw.maybe(0.3):
        settings["compact_threshold"] = draw.choice([0, 300, 900])
    if draw.maybe(0.3):
        settings["collapse_interval"] = draw.choice([50_000, 10_000_000])
    if draw.maybe(0.3):
        low = draw.randint(0, n // 8)
        settings["watermarks"] = {
            "min": low,
            "low": low + draw.randint(0, n // 8),
            "high": n // 4 + draw.randint(0, n // 4),
        }
    if draw.maybe(0.1):
        settings["watermarks"] = {"min": 0, "low": 0, "high": 0}
    if draw.maybe(0.2):
        settings["balloon"], settings["decider_options"] = decider(draw)
    if draw.maybe(0.3):
        settings["quantum"] = draw.choice([1_000, 300_000, 20_000_000])
    if draw.maybe(0.2):
        settings["costs"] = costs(draw)
    return unhurried(settings)


def unhurried(settings):
    """Where time passes by milliseconds and seconds (a slow device, a host that waits in vain), nothing acts each few
    microseconds: a million harvests of twenty frames find nothing that a thousand do not, and take all the time."""
    devices = [settings.get("swap_device"), *(area["device"] for area in settings.get("swap_areas", ()))]
    slow = [each for each in devices if each == "hdd" or (isinstance(each, dict) and max(each.values()) > 1_000_000)]
    if slow or settings["on_exhausted"] == "wait":
        settings["harvest_interval"] = max(settings["harvest_interval"], 3_000_000)
        if "collapse_interval" in settings:
            settings["collapse_interval"] = max(settings["collapse_interval"], 3_000_000)
        settings["quantum"] = max(settings.get("quantum", 0), 50_000)
        for options, name in (("sharing_options", "sleep_ns"), ("decider_options", "interval_ns")):
            if name in settings.get(options, ()):
                settings[options][name] = max(settings[options][name], 3_000_000)
    return settings


def guest(draw, pages):
    if draw.maybe(0.3):
        return True
    kernel = draw.choice([0, 0, pages // 8, pages // 2]) if pages > 1 else 0
    high = draw.choice([0, 0, min(8, pages // 4)])
    name, options = order(draw)
    way = draw.choice([None, None, None, "balloon", "balloon-huge", "virtio-mem", "squeezy", "hyperalloc"])
    reports = draw.choice([None, None, 0, 3] if way != "hyperalloc" else [None, 9])
    return {
        "elastic": way,
        "cache_percent": draw.choice([0, 0, 25, 60, 100]),
        "swap": draw.choice([0, 4, pages, 2 * pages]) * PAGE,
        "kernel": kernel * PAGE,
        "low_pages": draw.randint(0, high),
        "high_pages": high,
        "balloon_floor": draw.choice([0, 0, pages // 4]) * PAGE,
        "oom_deflate_pages": draw.choice([0, 1, 256]),
        "report_order": reports,
        "hinting": reports is not None and way != "hyperalloc" and draw.maybe(0.5),
        "report_delay": draw.choice(["1us", "30us", "2ms"]),
        "swappiness": draw.choice([0, 60, 100, 200]),
        "replacement": name,
        "replacement_options": options,
    }


def partitioned(made, pages):
    """The guest with partitions, and a size of its VM in which there are some: of draws of its own, so that all others are
    what they would be."""
    own = Draw(f"partitions {made} {pages}")
    pages = own.choice([1024, 1100, 1700, 2100])
    made |= {
        "swap": 0,
        "kernel": own.choice([0, 70]) * PAGE,
        "balloon_floor": own.choice([0, 0, pages // 4]) * PAGE,
        "cache_percent": own.choice([0, 25]),
        "base_percent": own.choice([0, 10, 30]),
        "partition": own.choice([512, 512, 1024 if pages > 2000 else 512]) * PAGE,
    }
    return made, pages


def driven(made):
    """Where its driver works, and what its kernel keeps of all memory, by draws of their own."""
    own = Draw(f"driver {made}")
    return made | {"driver": own.choice(["beside", "vcpu"]), "kernel_percent": own.choice([0, 0, 5])}


def new_vm(draw, n):
    pages = draw.choice([1, 5, 40, 40, 120, n // 2 + 1, 2 * n, 530, 1100 if n > 500 else 90])
    limit = draw.choice([None, None, None, draw.randint(1, pages)])
    reservation = draw.choice([0, 0, 0, draw.randint(0, min(pages, n))])
    made = guest(draw, pages) if draw.maybe(0.35) else False
    if isinstance(made, dict) and made["elastic"] in IN_BLOCKS and draw.maybe(0.5):
        pages = max(pages, draw.choice([1024, 1100, 1700]))  # of less there are no blocks to give
    if isinstance(made, dict) and made["elastic"] == "squeezy":
        made, pages = partitioned(made, pages)
    if isinstance(made, dict):
        made = driven(made)
    return {
        "pages": pages,
        "limit": limit,
        "reservation": min(reservation, limit or reservation),
        "guest": made,
        "files": draw.choice([0, 0, pages // 2, 2 * pages]) if made else 0,
        "shares": draw.choice([0, 1000, 5000]),
        "domain": draw.choice([0, 0, 1, 2]),
    }


def a_vm(draw, n):
    return {"vm": draw.randrange(64)}


def a_place(draw, pages):
    return {"vm": draw.randrange(64), "at": draw.randrange(1 << 30), "pages": draw.choice(pages)}


def a_write(draw, n):
    what = {"kind": draw.randrange(4), "seed": draw.randrange(200), "shift": draw.choice([0, 0, 8, 1000])}
    return a_place(draw, [1, 1, 3, 12]) | what


def a_run(draw, n):
    """`pace`: what VMs compute between accesses, and how far apart requests are due. A decider is Python code, and a host
    that waits in vain asks it ten thousand times: so that has an end in time."""
    batches = [batch(draw) for _ in range(draw.randint(1, 3))]
    decider = draw.choice([None, None, draw.randrange(1 << 16)])
    until = (
        draw.choice([None, None, 20_000, 3_000_000])
        if decider is None
        else draw.choice([20_000, 3_000_000, 40_000_000])
    )
    paces = [None, None, {"work": draw.choice([0, 70, 90_000]), "gap": draw.choice([None, 0, 400, 60_000])}]
    return {
        "vms": draw.randrange(256),
        "batches": batches,
        "until": until,
        "decider": decider,
        "pace": draw.choice(paces),
    }


def a_fault(draw, n):
    kind, times = draw.choice([5, 28, "short"]), draw.choice([1, 1, 2, 50])
    where = draw.choice(["read", "write", "frame", "guest"])
    return {"where": where, "nth": draw.randint(1, 12), "kind": kind, "times": times}


# What is done, how often: name -> (weight, what it is drawn with).
OPERATIONS = {
    "create": (7, new_vm),
    "clone": (5, a_vm),
    "snapshot": (3, a_vm),
    "revert": (3, lambda draw, n: {"vm": draw.randrange(64), "saved": draw.randrange(64)}),
    "drop": (2, lambda draw, n: {"saved": draw.randrange(64)}),
    "destroy": (4, a_vm),
    "freeze": (1, a_vm),
    "write": (18, a_write),
    "access": (18, lambda draw, n: {"vm": draw.randrange(64), **batch(draw)}),
    "discard": (8, lambda draw, n: a_place(draw, [1, 5, 40, 600])),
    "read": (8, lambda draw, n: a_place(draw, [1, 4, 30])),
    "run": (8, a_run),
    "pin": (2, lambda draw, n: a_place(draw, range(1, 10))),
    "unpin": (2, lambda draw, n: {"vm": draw.randrange(64), "all": draw.maybe(0.5)}),
    "balloon": (4, lambda draw, n: {"vm": draw.randrange(64), "share": draw.choice([0, 10, 50, 90, 100])}),
    "reclaim": (3, lambda draw, n: {"vm": draw.randrange(64), "pages": draw.choice([1, 40, 300])}),
    "scan": (4, lambda draw, n: {"pages": draw.choice([None, 1, 50, 500])}),
    "compact": (2, lambda draw, n: {"blocks": draw.choice([None, 1])}),
    "collapse": (2, lambda draw, n: {}),
    "harvest": (3, lambda draw, n: {}),
    "idle": (1, lambda draw, n: {}),
    "domains": (1, lambda draw, n: {"vm": draw.randrange(64), "domain": draw.randrange(3)}),
    "look": (3, lambda draw, n: {}),
    "fault": (8, a_fault),
}
ONLY_IN = {"fault": ("faults",)}
NOT_IN = {"write": ("lockstep",), "read": ("lockstep",)}


def batch(draw):
    return {"seed": draw.randrange(1 << 16), "n": draw.choice([1, 3, 40, 300]), "mix": draw.randrange(len(MIXES)),
            "spread": draw.choice([1, 8, 64, 1 << 20])}  # fmt: skip


def operations(draw, n, profile, steps):
    names = [
        name for name in OPERATIONS if profile in ONLY_IN.get(name, (profile,)) and profile not in NOT_IN.get(name, ())
    ]
    weights = [OPERATIONS[name][0] for name in names]
    drawn = [["create", new_vm(draw, n)]]
    for name in draw.choices(names, weights, k=steps - 1):
        drawn.append([name, OPERATIONS[name][1](draw, n)])
    return drawn
