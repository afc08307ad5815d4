from typing import Final

from memvirt.engine.guests.guest_memory import GuestMemory
from memvirt.engine.guests.hardware import Hardware

class Guest:
    memory: GuestMemory
    low_pages: Final[int]
    high_pages: Final[int]
    swappiness: Final[int]
    balloon_floor: Final[int]
    oom_deflate_pages: Final[int]
    balloon_target: int
    report_delay_ns: Final[int]
    elastic: Final[str | None]
    driver: Final[str]
    partition: Final[int]
    partitions: Final[int]
    unit: Final[int]
    reports: Final[bool]
    installs: Final[bool]
    def __init__(
        self,
        hardware: Hardware,
        vpns: int,
        pages: int,
        *,
        cache_border: int | None = None,
        swap_slots: int = 0,
        kernel_pages: int = 0,
        low_pages: int = 0,
        high_pages: int = 0,
        balloon_floor: int = 0,
        oom_deflate_pages: int = 256,
        report_order: int | None = None,
        replacement: str = "clock",
        swappiness: int = 0,
        report_delay_ns: int = 2_000_000_000,
        elastic: str | None = None,
        partition: int = 0,
        base: int = 0,
        driver: str = "beside",
    ) -> None: ...
    def metadata_bytes(self) -> int: ...
    def check(self) -> None: ...
    def set_target(self, pages: int) -> None: ...
    def copy_for(self, hardware: Hardware, seed: int) -> Guest: ...
    def counters(self) -> dict[str, int]: ...
