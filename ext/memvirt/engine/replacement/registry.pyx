"""Replacement orders by name: the classes that memvirt.settings.orders lists."""

from importlib import import_module

from .order cimport Order

from memvirt.errors import ConfigError
from memvirt.settings import orders

ORDERS = {name: getattr(import_module(f"memvirt.engine.replacement.{written.module}"), written.name)
          for name, written in orders.ORDERS.items()}


cpdef Order make_order(str name, ids, capacity, keys=0, dict options=None, seed=0, bint bounded=False):
    """The order of that name over ids 0 .. ids - 1, planning with `capacity` residents. Raises ConfigError.

    seed: for an order that draws. bounded: there will never be more residents than `capacity`.
    """
    options = options or {}
    try:
        cls = ORDERS[orders.known(name)]
    except ValueError as error:
        raise ConfigError(f"replacement: {error}") from None
    wrong = orders.problems(name, options)
    if wrong:
        raise ConfigError("; ".join([f"{key}: {text}" for key, text in wrong]))
    drawn = {"seed": seed} if cls.draws else {}
    return cls(ids, capacity, keys, bounded=bounded, **orders.resolved(name, options), **drawn)
