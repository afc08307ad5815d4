from typing import final

import numpy as np
import numpy.typing as npt

from memvirt.engine.content.codec import Codec
from memvirt.engine.content.content import Content
from memvirt.engine.content.source_table import SourceTable

@final
class Fingerprints(Content):
    sources: SourceTable
    nr_all_sources: int
    def __init__(
        self,
        nr_frames: int,
        corpus: npt.NDArray[np.uint8] | None = None,
        codec: Codec | None = None,
        table: tuple[
            npt.NDArray[np.uint32],
            npt.NDArray[np.uint8],
            npt.NDArray[np.uint64],
            npt.NDArray[np.uint16],
            npt.NDArray[np.uint16],
        ]
        | SourceTable
        | None = None,
    ) -> None: ...
    def ids_of(
        self, sources: npt.NDArray[np.uint32], words: npt.NDArray[np.uint32], tags: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint64]: ...
