from memvirt.engine.memory.frames import Frames

class Zspages:
    frames: Frames
    aged: bool
    nr_frames: int
    max_words: int
    nr_classes: int

    def __init__(
        self, frames: Frames, chain: int = 8, chain_rule: str = "waste", aged: bool = True, max_words: int = 2**29
    ) -> None: ...
