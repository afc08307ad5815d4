"""The replacement orders by name: where each is written, one line on it, and its options.

Plain data, which the engine's registry and the settings both read: an order is one module in
ext/memvirt/engine/replacement/ and one line here. Whether it draws random numbers its class says.
"""

from collections.abc import Mapping
from typing import NamedTuple

from memvirt.names import Option
from memvirt.units import suggest

Value = int | str


class Order(NamedTuple):
    """An order of replacement."""

    module: str  # in memvirt.engine.replacement
    name: str  # of its class
    summary: str
    options: Mapping[str, Option] = {}


_VARIANT = Option(
    "libcachesim",
    "whose algorithm: libcachesim (as that package has it) or paper (as published)",
    "equal miss counts to libcachesim 0.3.5",
    choices=("libcachesim", "paper"),
)

ORDERS: Mapping[str, Order] = {
    "random": Order(
        "random", "Random", "every resident is equally likely to go, as in ESX's host swapping (Waldspurger, OSDI 2002)"
    ),
    "fifo": Order("fifo", "Fifo", "first in, first out; references are ignored"),
    "clock": Order(
        "clock", "Clock", "first in, first out, but a page referenced since the hand last passed gets another round"
    ),
    "lru": Order("lru", "Lru", "the page whose last reference is longest ago goes first"),
    "twolist": Order(
        "twolist",
        "TwoList",
        "Linux's active and inactive list, with refault distance (mm/vmscan.c, mm/workingset.c)",
        {
            "stats_ns": Option(
                0,
                "how old the statistics may be that it decides by, in ns, on a host; a kernel left alone has 2000000000",
                "of a control group whose memory.stat is read all the time; else FLUSH_TIME, Linux 6.18, mm/memcontrol.c",
                low=0,
                high=1 << 48,
            )
        },
    ),
    "mglru": Order(
        "mglru", "MgLru", "pages are sorted into up to four generations by when they were last seen accessed"
    ),
    "sieve": Order(
        "sieve",
        "Sieve",
        "a queue in order of arrival and a hand that removes what was not referenced and leaves the rest in place",
    ),
    "s3fifo": Order(
        "s3fifo",
        "S3Fifo",
        "a small queue filters what is used once, a main queue keeps the rest, ghosts correct the filter",
        {"variant": _VARIANT},
    ),
    "2q": Order(
        "twoq",
        "TwoQ",
        "pages seen once wait in a short queue; only those that come back after leaving it enter the main LRU list",
        {"variant": _VARIANT},
    ),
    "arc": Order(
        "arc", "Arc", "two LRU lists, pages seen once and pages seen again, whose shares follow the ghosts of both"
    ),
    "lfu": Order(
        "lfu",
        "Lfu",
        "the page with the fewest references since it came in goes first; of equals the first to get that far",
    ),
    "slru": Order(
        "slru",
        "Slru",
        "a page climbs one segment with each reference; what is too much for a segment sinks by one",
        {
            "segments": Option(
                4, "LRU lists that a page climbs, one with each reference", "libcachesim 0.3.5", low=1, high=16
            )
        },
    ),
    "mq": Order(
        "mq",
        "Mq",
        "several LRU lists by the logarithm of references, sinking by age, and ghosts that remember how often",
        {
            "queues": Option(8, "LRU lists, by the logarithm of a page's references", "Zhou 2001", low=1, high=64),
            "lifetime": Option(
                10_000,
                "references and insertions until a page sinks by a list",
                "libcachesim 0.3.5",
                low=1,
                high=1 << 48,
            ),
            "ghost_percent": Option(
                400, "keys remembered after eviction, per cent of the capacity", "Zhou 2001", low=0, high=6400
            ),
        },
    ),
    "lirs": Order(
        "lirs",
        "Lirs",
        "pages whose last two references lay close together are kept, whatever happened since; others pass through",
        {
            "hir_percent": Option(
                1, "share of memory for pages of high inter-reference recency", "Jiang 2002", low=1, high=99
            )
        },
    ),
    "clock-pro": Order(
        "clockpro",
        "ClockPro",
        "LIRS by marks and hands, and with a share of cold pages that finds itself",
        {
            "cold_percent": Option(
                1,
                "share of memory for cold pages, to begin with",
                "LIRS's share; the paper names none",
                low=1,
                high=100,
            )
        },
    ),
    "w-tinylfu": Order(
        "wtinylfu",
        "WTinyLfu",
        "a page enters the main cache only if it was seen more often than the page that would have to go for it",
        {
            "window_percent": Option(
                1,
                "share of memory for new pages, which are admitted without a comparison",
                "Einziger 2017",
                low=1,
                high=99,
            )
        },
    ),
}


def known(value: object) -> str:
    """The name of an order; ValueError, with what was probably meant, for anything else."""
    if isinstance(value, str) and value in ORDERS:
        return value
    if isinstance(value, str) and ".py:" in value:
        raise ValueError(
            f"{value!r}: an order written in Python serves memvirt.simulate only; a host asks its order at every fault, "
            "from code that holds no interpreter lock"
        )
    raise ValueError(f"unknown value {value!r}{suggest(str(value), list(ORDERS))} (known: {', '.join(ORDERS)})")


def options_of(order: str) -> dict[str, Option]:
    """The options of an order by name; none for a name that no order has."""
    return dict(ORDERS[order].options) if order in ORDERS else {}


def resolved(order: str, given: Mapping[str, Value]) -> dict[str, Value]:
    """Every option of an order, defaults included."""
    return {**{name: option.default for name, option in options_of(order).items()}, **given}


def problems(order: str, given: Mapping[str, object]) -> list[tuple[str, str]]:
    """(option, what is wrong with it) for every option that the order cannot be given."""
    own = options_of(order)
    found = []
    for key, value in given.items():
        if key not in own:
            text = f"replacement '{order}' has no option '{key}'{suggest(key, list(own))}"
            found.append((key, f"{text} (known: {', '.join(own) or 'none'})"))
        elif wrong := own[key].problem(value):
            found.append((key, wrong))
    return found
