"""Page contents to compress: this machine's own, by class, without pages that need no compression."""

from functools import cache
from typing import Any

import numpy as np

from memvirt.inputs.capture import capture
from memvirt.settings.config import COMPRESS_LIMIT

CLASSES = ("libraries", "source", "heap")
PAGES = 16384  # of each class


@cache
def _corpus() -> Any:
    return capture(4 * PAGES, seed=1, classes=CLASSES)


@cache
def pages_of(name: str) -> Any:
    """PAGES pages of this class that LZ4 brings below the limit of the compressed cache, neither zero nor same-filled;
    repeated from the first on where the machine has fewer."""
    import lz4.block

    corpus = _corpus()
    pages = corpus.pages[corpus.sources([name])]
    words = pages.view(np.uint64)
    pages = pages[(words != words[:, :1]).any(axis=1)]
    fits = [len(lz4.block.compress(page.tobytes(), store_size=False)) <= COMPRESS_LIMIT for page in pages]
    pages = pages[np.array(fits)]
    return np.ascontiguousarray(np.resize(pages, (PAGES, pages.shape[1])))
