import numpy as np
from numpy.typing import NDArray

from memvirt.engine.host.vm import Vm

FIELDS: tuple[str, ...]
NO_LIMIT: int

def see(vms: list[Vm], out: NDArray[np.int64]) -> None: ...
def see_ages(vms: list[Vm]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]: ...
def mark(vms: list[Vm], ages: bool) -> None: ...
