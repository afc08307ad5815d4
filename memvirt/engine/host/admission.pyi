from typing import Any

from memvirt.engine.host.engine import Engine
from memvirt.engine.host.vm import Vm
from memvirt.engine.stores.swapspace import SwapSpace

def create_vm(
    engine: Engine,
    name: str,
    nr_pages: int,
    *,
    limit: int | None = None,
    reservation: int = 0,
    shares: int = 1000,
    domain: int = 0,
    guest: dict[str, Any] | None = None,
    nr_vpns: int | None = None,
    disk: SwapSpace | None = None,
    hints: bool = False,
) -> Vm: ...
