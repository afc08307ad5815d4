from typing import Literal, final

MAX_NS: int

@final
class Device:
    name: str
    read_latency_ns: int
    write_latency_ns: int
    read_page_ns: int
    write_page_ns: int
    channels: int
    nr_reads: int
    nr_writes: int
    pages_read: int
    pages_written: int
    queued_ns: int
    def __init__(self, name: str = "nvme", **constants: int) -> None: ...
    def submit(self, call: Literal["read", "write"], now: int, pages: int) -> int: ...
    def busy_until(self) -> list[int]: ...
    def check(self) -> None: ...
