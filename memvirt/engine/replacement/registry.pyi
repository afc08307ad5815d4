from memvirt.engine.replacement.order import Order

ORDERS: dict[str, type[Order]]

def make_order(
    name: str, ids: int, capacity: int, keys: int = 0, options: dict[str, object] | None = None
) -> Order: ...
