from collections.abc import Sequence
from typing import final

from memvirt.engine.swap import Swap
from memvirt.engine.swapspace import SwapSpace

@final
class SwapSet(SwapSpace):
    areas: tuple[Swap, ...]
    priorities: tuple[int, ...]
    def __init__(self, areas: Sequence[Swap], priorities: Sequence[int]) -> None: ...
