import numpy as np
import numpy.typing as npt

from memvirt.engine.content.codec import Codec

OPERATIONS: tuple[str, ...]

def per_page(
    operation: str, pages: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8], order: npt.NDArray[np.uint32]
) -> tuple[int, int]: ...
def packed(
    codec: Codec,
    pages: npt.NDArray[np.uint8],
    order: npt.NDArray[np.uint32],
    blocks: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.uint32],
) -> int: ...
def unpacked(
    codec: Codec,
    blocks: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.uint32],
    pages: npt.NDArray[np.uint8],
    order: npt.NDArray[np.uint32],
) -> int: ...
