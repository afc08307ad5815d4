import numpy as np
import numpy.typing as npt

from memvirt.engine.host.vm import Vm

STATE_WRITABLE: int
STATE_PRESENT: int
STATE_BACKED: int
STATE_WHERE: int

def states(vm: Vm) -> bytearray: ...

class Watch:
    fd: int
    def close(self) -> None: ...

class Window:
    pages: int
    sequence: int
    tag_base: int
    loaded: int
    def __init__(self, watch: Watch, pages: int, frames: int, tag_base: int = 0, sequence: int = 0) -> None: ...
    def place(self, page: int, frame: int, writable: bool) -> None: ...
    def protect(self, page: int, on: bool) -> None: ...
    def replay(
        self,
        pages: npt.NDArray[np.uint32],
        ops: npt.NDArray[np.uint8],
        sources: npt.NDArray[np.uint32] | None = None,
        corpus: npt.NDArray[np.uint8] | None = None,
        out: npt.NDArray[np.uint8] | None = None,
        first: int = 0,
    ) -> int: ...
