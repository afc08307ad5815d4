class Backings:
    nr_kind: list[int]
    nr_cached: list[int]
    def check(self) -> None: ...
