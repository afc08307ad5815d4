"""Replay: the accesses come from an array, page numbers already dense, instead of a generator."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from memvirt.errors import CorpusError
from memvirt.inputs.files import file_sha256

from .base import BATCH, WRITE, Batch, Space, Stream, Workload
from .registry import register


def replay(pages: NDArray[np.integer], ops: NDArray[np.integer] | None = None) -> Iterator[Batch]:
    """Batches of recorded accesses; without `ops`, all are reads. ValueError for what cannot be an access."""
    if pages.ndim != 1 or not np.issubdtype(pages.dtype, np.integer):
        raise ValueError(f"page numbers must be one row of integers, not {pages.ndim} dimensions of {pages.dtype}")
    if len(pages) and not 0 <= int(pages.min()) <= int(pages.max()) < 1 << 31:
        raise ValueError(f"page numbers must lie in 0..2147483647, not {int(pages.min())}..{int(pages.max())}")
    if ops is None:
        ops = np.zeros(len(pages), dtype=np.uint8)
    if ops.shape != pages.shape or not np.issubdtype(ops.dtype, np.integer):
        raise ValueError(f"{len(pages)} page numbers need as many operations, not {ops.shape} of {ops.dtype}")
    if len(ops) and not 0 <= int(ops.min()) <= int(ops.max()) <= WRITE:
        raise ValueError("recorded operations are 0 (read) or 1 (write)")
    return _cut(pages.astype(np.uint32), ops.astype(np.uint8))


def _cut(pages: NDArray[np.uint32], ops: NDArray[np.uint8]) -> Iterator[Batch]:
    for start in range(0, len(pages), BATCH):
        yield Batch(pages[start : start + BATCH], ops[start : start + BATCH])


@register
class Trace(Workload):
    """Accesses from a .npy file: page numbers in one row, or page numbers and operations (0 read, 1 write) in two."""

    name = "trace"
    file: Path = Field(description="the .npy file")

    def file_hashes(self) -> dict[str, str]:
        return {"file": file_sha256(self.file)}

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        try:
            rows = np.load(self.file, allow_pickle=False)
            if not isinstance(rows, np.ndarray) or rows.ndim not in (1, 2) or (rows.ndim == 2 and len(rows) != 2):
                raise ValueError("it does not hold one row of page numbers, or a row of them and one of operations")
            pages, ops = (rows, None) if rows.ndim == 1 else (rows[0], rows[1])
            if pages.size and int(pages.max()) >= space.pages:
                raise ValueError(f"it asks for page {int(pages.max())} of a VM with {space.pages}")
            return replay(pages, ops)
        except (OSError, ValueError, EOFError) as error:
            raise CorpusError(f"trace {self.file}: {error}") from error
