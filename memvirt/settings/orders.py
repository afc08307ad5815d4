"""The replacement orders by name: where each is written, and what it can be told.

Plain data, which the engine's registry and the settings both read: an order is one module in
ext/memvirt/engine/replacement/ and one line here. Whether it draws random numbers its class says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from memvirt.units import suggest

Value = int | str


@dataclass(frozen=True, slots=True)
class Option:
    """One thing an order can be told. A number has bounds, a text has choices."""

    name: str
    default: Value
    meaning: str
    source: str  # of the default
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, if anything."""
        if self.choices:
            if value in self.choices:
                return None
            known = ", ".join(self.choices)
            return f"unknown value {value!r}{suggest(str(value), list(self.choices))} (known: {known})"
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            return f"{value!r} must be a whole number in {self.low} .. {self.high}; the default is {self.default}"
        return None


@dataclass(frozen=True, slots=True)
class Written:
    """Where an order is written, and its options."""

    module: str  # in memvirt.engine.replacement
    name: str  # of its class
    options: tuple[Option, ...] = ()


VARIANT = Option(
    "variant",
    "libcachesim",
    "whose algorithm: libcachesim (as that package has it) or paper (as published)",
    "equal miss counts to libcachesim 0.3.5",
    choices=("libcachesim", "paper"),
)

SEGMENTS = Option(
    "segments", 4, "LRU lists that a page climbs, one with each reference", "libcachesim 0.3.5", low=1, high=16
)
MQ_OPTIONS = (
    Option("queues", 8, "LRU lists, by the logarithm of a page's references", "Zhou 2001", low=1, high=64),
    Option(
        "lifetime", 10_000, "references and insertions until a page sinks by a list", "libcachesim 0.3.5", 1, 1 << 48
    ),
    Option("ghost_percent", 400, "keys remembered after eviction, per cent of the capacity", "Zhou 2001", 0, 6400),
)
HIR_PERCENT = Option(
    "hir_percent", 1, "share of memory for pages of high inter-reference recency", "Jiang 2002", low=1, high=99
)
COLD_PERCENT = Option(
    "cold_percent", 1, "share of memory for cold pages, to begin with", "LIRS's share; the paper names none", 1, 100
)
WINDOW_PERCENT = Option(
    "window_percent", 1, "share of memory for new pages, which are admitted unasked", "Einziger 2017", low=1, high=99
)

ORDERS: Mapping[str, Written] = {
    "random": Written("random", "Random"),
    "fifo": Written("fifo", "Fifo"),
    "clock": Written("clock", "Clock"),
    "lru": Written("lru", "Lru"),
    "twolist": Written("twolist", "TwoList"),
    "mglru": Written("mglru", "MgLru"),
    "sieve": Written("sieve", "Sieve"),
    "s3fifo": Written("s3fifo", "S3Fifo", (VARIANT,)),
    "2q": Written("twoq", "TwoQ", (VARIANT,)),
    "arc": Written("arc", "Arc"),
    "lfu": Written("lfu", "Lfu"),
    "slru": Written("slru", "Slru", (SEGMENTS,)),
    "mq": Written("mq", "Mq", MQ_OPTIONS),
    "lirs": Written("lirs", "Lirs", (HIR_PERCENT,)),
    "clock-pro": Written("clockpro", "ClockPro", (COLD_PERCENT,)),
    "w-tinylfu": Written("wtinylfu", "WTinyLfu", (WINDOW_PERCENT,)),
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
    """What an order can be told, by name; nothing for a name that is none of ours."""
    return {option.name: option for option in ORDERS[order].options} if order in ORDERS else {}


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
