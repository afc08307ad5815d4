from collections.abc import Sequence

MAX_SLOTS: int

class SwapSpace:
    nr_slots: int
    nr_used: int
    slot_bytes: int
    direct_io: bool
    last_errno: int
    write_calls: int
    read_calls: int
    write_failures: int
    read_failures: int
    discards: int
    def take_slots(self, n: int) -> list[int]: ...
    def give_slot(self, slot: int) -> None: ...
    def slot_in_use(self, slot: int) -> bool: ...
    def write_slots(self, slots: Sequence[int], payloads: Sequence[bytes]) -> list[bool]: ...
    def read_slots(self, slots: Sequence[int]) -> list[bytes | None]: ...
    def check(self) -> None: ...
