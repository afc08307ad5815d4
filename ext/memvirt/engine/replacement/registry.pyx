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
    key = (name, tuple([(option, type(value), value) for option, value in options.items()]))  # True equals 1, but is none
    try:
        found = _found.get(key)
    except TypeError:       # an option that is no plain value, which no order has
        found = None
    if found is None:
        found = _looked_up(name, options)
        _found[key] = found
    cls, resolved = found
    drawn = {"seed": seed} if cls.draws else {}
    return cls(ids, capacity, keys, bounded=bounded, **resolved, **drawn)


# What was looked up before: an order of a kind that there is already is made without a call of Python code, in which a
# signal could interrupt guests that part.
cdef dict _found = {}


cdef tuple _looked_up(str name, dict options):
    """(class, all its options). Raises ConfigError."""
    try:
        cls = ORDERS[orders.known(name)]
    except ValueError as error:
        raise ConfigError(f"replacement: {error}") from None
    wrong = orders.problems(name, options)
    if wrong:
        raise ConfigError("; ".join([f"{key}: {text}" for key, text in wrong]))
    return cls, orders.resolved(name, options)
