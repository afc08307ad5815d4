class Order:
    draws: bool
    ids: int
    keys: int
    capacity: int
    nr_resident: int
    most: int
    def __init__(self, ids: int, capacity: int, keys: int = 0, *, bounded: bool = False, **options: object) -> None: ...
    def check(self) -> None: ...
