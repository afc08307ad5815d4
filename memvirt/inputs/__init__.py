"""What VMs are filled with: corpora of real or synthetic 4 KiB pages."""

from .corpus import ClassTable, Corpus, PageClass
from .fingerprints import Fingerprints, fingerprints, merged
from .store import cache_folder, default_corpus, keep, load, make_default, save
from .synthetic import synthetic

__all__ = [
    "ClassTable",
    "Corpus",
    "Fingerprints",
    "PageClass",
    "cache_folder",
    "default_corpus",
    "fingerprints",
    "keep",
    "load",
    "make_default",
    "merged",
    "save",
    "synthetic",
]
