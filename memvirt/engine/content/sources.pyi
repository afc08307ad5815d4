import numpy as np
import numpy.typing as npt

from memvirt.engine.content.codec import Codec

def measured(
    pages: npt.NDArray[np.uint8], codec: Codec, first: int = 0
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]: ...
