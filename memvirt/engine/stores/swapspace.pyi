from memvirt.engine.device import Device

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
    def attach(self, device: Device) -> None: ...
    def name_of(self, slot: int) -> str: ...
    def check(self) -> None: ...
