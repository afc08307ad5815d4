"""Where pages are captured from: a live process, files and folders, dumps of memory; and how they become a corpus."""

from .named import FORMATS, Named, open_named
from .runs import PageSource, take

__all__ = ["FORMATS", "Named", "PageSource", "open_named", "take"]
