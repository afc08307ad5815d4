MAX_SOURCES: int
SPARE_SOURCES: int

class SourceTable:
    nr: int
    nr_all: int
    def check(self) -> None: ...
