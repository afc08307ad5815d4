import numpy as np
import numpy.typing as npt

def belady_misses(pages: npt.NDArray[np.uint32], ids: int, capacity: int) -> int: ...
