from typing import Any

from memvirt.engine.host.host import Engine
from memvirt.engine.host.vm import Vm

def of_vm(engine: Engine, vm: Vm) -> dict[str, Any]: ...
def usage_of_vm(engine: Engine, vm: Vm) -> dict[str, int]: ...
