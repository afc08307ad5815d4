from memvirt.engine.content.content import Content
from memvirt.engine.memory.buddy import Buddy

class Frames:
    buddy: Buddy
    content: Content
    nr_frames: int
    min_pages: int
    low_pages: int
    high_pages: int
    def __init__(self, content: Content, min_pages: int = 0, low_pages: int = 0, high_pages: int = 0) -> None: ...
    def usage(self) -> dict[str, int]: ...
    def check(self) -> None: ...
