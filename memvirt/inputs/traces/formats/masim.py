"""A masim configuration, as the trace that it describes: see memvirt.inputs.masim."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from memvirt.errors import CorpusError

from ... import masim
from ...bits import Bits
from ..registry import Format, Head
from ..requests import Reading, Requests, Where
from ..source import Source


class Masim(Format):
    """A configuration of the memory access simulator masim, made into the accesses that it describes."""

    name = "masim"
    time_unit = "ms"

    per_ms: int = Field(default=1000, ge=1, le=10**6, description="accesses in a millisecond")
    most: int = Field(default=10**9, ge=1, description="the most accesses that may be made")
    seed: int = Field(default=1, ge=0, description="of what is random")

    @classmethod
    def recognise(cls, head: Head) -> bool:
        try:
            masim.parse(head.data if head.whole else b"")
        except CorpusError:
            return False
        return True

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        config = masim.parse(source.read(masim.MOST_TEXT + 1))
        if config.ms * self.per_ms > self.most:
            raise CorpusError(
                f"{config.ms} ms are {config.ms * self.per_ms} accesses, the most is {self.most}; make fewer, --option "
                "per_ms=N, or allow more, --option most=N"
            )
        for accesses in config.accesses(self.per_ms, Bits("masim", self.seed)):
            at = reading.records
            reading.records += len(accesses.pages)
            yield Requests(
                accesses.pages.astype(np.uint64), None, accesses.ops, accesses.time_ns, where=Where("access", at)
            )
