"""Replacement orders by name."""

from difflib import get_close_matches

from .order cimport Order

from memvirt.engine.replacement.arc import Arc
from memvirt.engine.replacement.clock import Clock
from memvirt.engine.replacement.fifo import Fifo
from memvirt.engine.replacement.lfu import Lfu
from memvirt.engine.replacement.lru import Lru
from memvirt.engine.replacement.mglru import MgLru
from memvirt.engine.replacement.random import Random
from memvirt.engine.replacement.s3fifo import S3Fifo
from memvirt.engine.replacement.sieve import Sieve
from memvirt.engine.replacement.twolist import TwoList
from memvirt.engine.replacement.twoq import TwoQ
from memvirt.errors import ConfigError

ORDERS = {
    "random": Random,
    "fifo": Fifo,
    "clock": Clock,
    "lru": Lru,
    "twolist": TwoList,
    "mglru": MgLru,
    "sieve": Sieve,
    "s3fifo": S3Fifo,
    "2q": TwoQ,
    "arc": Arc,
    "lfu": Lfu,
}


cpdef Order make_order(str name, ids, capacity, keys=0, dict options=None):
    """The order of that name over ids 0 .. ids - 1, planning with `capacity` residents. Raises ConfigError."""
    if name not in ORDERS:
        close = get_close_matches(name, ORDERS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(ORDERS)}"
        raise ConfigError(f"replacement {name!r} does not exist: {hint}")
    try:
        return ORDERS[name](ids, capacity, keys, **(options or {}))
    except TypeError as error:
        raise ConfigError(f"replacement {name!r} does not take options {options}: {error}") from error
