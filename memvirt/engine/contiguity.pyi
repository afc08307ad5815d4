from typing import Any

from memvirt.engine.host import Engine
from memvirt.engine.vm import Vm

def of_vm(engine: Engine, vm: Vm) -> dict[str, Any]: ...
