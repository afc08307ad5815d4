"""What fingerprints have to know of the pages that frames are filled from, found once from their bytes.

How long each is compressed, as it is and after an access write; and which are *twins*: equal but for one 8-byte word.
"""

import hashlib

import numpy

from libc.string cimport memcpy

from .codec cimport Codec
from ..types cimport PAGE_SIZE, PAGE_WORDS

from memvirt.engine.content.content import check_corpus

cdef extern from "pageops.h" nogil:
    uint64_t mv_mix(uint64_t h)


cdef void lengths_of(Codec codec, const uint64_t *page, uint32_t source, uint16_t *length,
                     uint16_t *tagged) noexcept nogil:
    """The compressed length of a source page, and with a representative tag: at a place and of a value all its own."""
    cdef uint64_t copy[PAGE_WORDS]
    cdef uint8_t block[PAGE_SIZE]
    cdef uint64_t pick = mv_mix(<uint64_t>source + 1)
    cdef uint32_t found = codec.compress(<const uint8_t *>page, block, PAGE_SIZE)
    length[0] = found if found else NO_FIT
    memcpy(copy, page, PAGE_SIZE)
    copy[pick % PAGE_WORDS] = (pick >> 33) | 1
    found = codec.compress(<const uint8_t *>copy, block, PAGE_SIZE)
    tagged[0] = found if found else NO_FIT


def measured(pages, Codec codec not None, uint32_t first=0):
    """Two uint16[n] for pages of which row r is source first + r: the compressed length as it is and with a tag, just as
    content made of these pages has them; 4097 where it does not fit. CorpusError for an array of another shape."""
    check_corpus(pages)
    cdef const uint8_t[:, ::1] rows = pages
    cdef Py_ssize_t row
    length, tagged = numpy.empty(len(pages), numpy.uint16), numpy.empty(len(pages), numpy.uint16)
    cdef uint16_t[::1] lengths = length, tagged_lengths = tagged
    with nogil:
        for row in range(rows.shape[0]):
            lengths_of(codec, <const uint64_t *>&rows[row, 0], first + <uint32_t>row, &lengths[row], &tagged_lengths[row])
    return length, tagged


def almost_same_values(words):
    """Values v of pages that hold v in all words but one: the same-filled pages that those are twins of."""
    values = set()
    for start in range(0, len(words), 4096):
        part = words[start:start + 4096]
        common = numpy.where(part[:, 0] == part[:, 1], part[:, 0], part[:, 2])
        almost = (part != common[:, None]).sum(axis=1) == 1
        values.update(common[almost].tolist())
    return sorted(values)


def twin_classes(row, sources, low, high):
    """All (word, sources that are equal but for it), given sources that are equal outside words low .. high - 1.

    Pages that differ in one word have one half in common: group by each half, and look for the word in the other.
    """
    if high - low == 1:
        yield low, sources
        return
    middle = (low + high) // 2
    for common, other in (((low, middle), (middle, high)), ((middle, high), (low, middle))):
        groups = {}
        for source in sources:
            key = hashlib.blake2b(row(source)[common[0]:common[1]], digest_size=16).digest()
            groups.setdefault(key, []).append(source)
        for group in groups.values():
            if len(group) > 1:
                yield from twin_classes(row, group, *other)
