from memvirt.engine.memory.frames import Frames
from memvirt.engine.stores.zspage import Zspages

COUNT_NAMES: tuple[str, ...]

class Zpool:
    frames: Frames
    zspages: Zspages
    nr_objects: int
    nr_pool_frames: int
    stored_bytes: int
    limit_frames: int
    accept_frames: int
    reject_above: int
    keep_raw: bool
    nr_raw: int
    full: bool

    def __init__(
        self,
        frames: Frames,
        limit_frames: int,
        accept_percent: int = 90,
        chain_rule: str = "waste",
        chain: int = 8,
        reject_above: int = 4096,
        keep_raw: bool = False,
        aged: bool = True,
        max_words: int = 2**29,
    ) -> None: ...
    def metadata_bytes(self) -> int: ...
    def stats(self) -> dict[str, int | bool]: ...
    def check(self) -> None: ...
