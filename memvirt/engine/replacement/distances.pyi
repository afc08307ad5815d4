import numpy as np
import numpy.typing as npt

def reuse_distances(
    pages: npt.NDArray[np.uint32],
    ids: int,
    out: npt.NDArray[np.uint32] | None = None,
    counts: npt.NDArray[np.uint64] | None = None,
) -> None: ...
