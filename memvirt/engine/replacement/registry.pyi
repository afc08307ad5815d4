from collections.abc import Mapping

from memvirt.engine.replacement.order import Order

ORDERS: dict[str, type[Order]]

def make_order(
    name: str,
    ids: int,
    capacity: int,
    keys: int = 0,
    options: Mapping[str, object] | None = None,
    seed: object = 0,
    bounded: bool = False,
) -> Order: ...
