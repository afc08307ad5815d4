from typing import Any

from memvirt.engine.host.engine import Engine
from memvirt.engine.host.vm import Vm
from memvirt.engine.stores.swapspace import SwapSpace

def fixed_frames(
    engine: Engine,
    pages: int,
    *,
    guest: dict[str, Any] | None = None,
    nr_vpns: int | None = None,
    disk: SwapSpace | None = None,
) -> int: ...
def fixed_frames_of_copy(engine: Engine, vm: Vm, runs: bool) -> int: ...
def promised(
    engine: Engine, pages: int = 0, reservation: int = 0, limit: int | None = None, fixed: int = 0
) -> dict[str, int]: ...
def lacking(engine: Engine, frames: int) -> int: ...
def bound_records(engine: Engine) -> None: ...
def pinned(engine: Engine, vm: Vm) -> int: ...
