from typing import Literal, final

import numpy as np
import numpy.typing as npt

from memvirt.engine.content.codec import Codec

def keep_arena(keep: bool) -> None: ...

class Content:
    nr_frames: int
    nr_sources: int
    raw_bytes: Literal[8, 4096]
    codec: Codec
    def check(self) -> None: ...

@final
class Bytes(Content):
    huge_pages: bool
    huge_bytes: int
    def __init__(
        self, nr_frames: int, corpus: npt.NDArray[np.uint8] | None = None, codec: Codec | None = None
    ) -> None: ...

def check_corpus(corpus: object) -> None: ...
def available_bytes() -> int | None: ...
