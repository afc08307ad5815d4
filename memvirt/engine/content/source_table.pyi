import numpy as np
import numpy.typing as npt

from memvirt.engine.content.codec import Codec

MAX_SOURCES: int
SPARE_SOURCES: int

class SourceTable:
    nr: int
    nr_all: int
    def __init__(
        self,
        codec: Codec,
        corpus: npt.NDArray[np.uint8] | None,
        table: SourceTable | tuple[npt.NDArray[np.generic], ...] | None,
    ) -> None: ...
    def copied(self) -> SourceTable: ...
    def check(self) -> None: ...
