"""Where pages are captured from: a live process, files and folders, dumps of memory; and how they become a corpus."""

from .named import FORMATS, Named, open_named
from .runs import Asked, PageSource, Taking, take

__all__ = ["FORMATS", "Asked", "Named", "PageSource", "Taking", "open_named", "take"]
