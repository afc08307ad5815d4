"""What VMs are filled with: corpora of real or synthetic 4 KiB pages."""

from .corpus import ClassRow, Corpus, Fingerprints, PageClass
from .store import cache_folder, default_corpus, keep, load, make_default, save
from .synthetic import synthetic

__all__ = [
    "ClassRow",
    "Corpus",
    "Fingerprints",
    "PageClass",
    "cache_folder",
    "default_corpus",
    "keep",
    "load",
    "make_default",
    "save",
    "synthetic",
]
