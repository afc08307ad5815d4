from typing import Final

from memvirt.engine.memory.buddy import Buddy

class GuestMemory:
    nr_vpns: Final[int]
    nr_pages: Final[int]
    cache_border: Final[int]
    swap_slots: Final[int]
    kernel_pages: Final[int]
    report_order: Final[int]
    replacement: Final[str]
    buddy: Final[Buddy]
    nr_balloon: int
    nr_clean_anon: int
    nr_locked: int
    def metadata_bytes(self) -> int: ...
    def check(self) -> None: ...
