import os
from typing import Literal, final

from memvirt.engine.device import Device
from memvirt.engine.stores.slots import Slots
from memvirt.engine.stores.swapspace import SwapSpace

@final
class Swap(SwapSpace):
    path: str | None
    slots: Slots
    discard: bool
    device: Device
    def __init__(
        self,
        slots: int,
        path: str | os.PathLike[str] | None = None,
        slot_bytes: Literal[8, 4096] = 4096,
        direct: bool = True,
        cluster: int = 512,
        discard: bool = False,
        device: Device | None = None,
    ) -> None: ...
    def inject(
        self, call: Literal["read", "write"], nth: int, fault: int | Literal["short"], times: int = 1
    ) -> None: ...
