import numpy as np
import numpy.typing as npt

from memvirt.engine.replacement.order import Order

def replay_order(order: Order, pages: npt.NDArray[np.uint32], *, checked: bool = False, more: bool = False) -> int: ...
