from typing import Any

from memvirt.engine.host import Engine, Vm

def of_vm(engine: Engine, vm: Vm) -> dict[str, Any]: ...
