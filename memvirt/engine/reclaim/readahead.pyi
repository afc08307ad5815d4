class Window:
    page_cluster: int
    previous: int
    hits: int
    last_pages: int
    def __init__(self, page_cluster: int = 3) -> None: ...

class Readahead:
    window: Window
    nr_slots: int
    def check(self) -> None: ...
