from typing import Any

from memvirt.engine.host import Engine
from memvirt.engine.vm import Vm

def check(engine: Engine) -> None: ...
def locate(engine: Engine, vm: Vm, gfn: int) -> Any: ...
