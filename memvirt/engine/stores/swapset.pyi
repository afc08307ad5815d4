from collections.abc import Sequence
from typing import final

from memvirt.engine.stores.swap import Swap
from memvirt.engine.stores.swapspace import SwapSpace

@final
class SwapSet(SwapSpace):
    areas: tuple[Swap, ...]
    priorities: tuple[int, ...]
    def __init__(self, areas: Sequence[Swap], priorities: Sequence[int]) -> None: ...
