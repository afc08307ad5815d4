from .content cimport Content
from ..types cimport hfn_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef class Fingerprints(Content):
    # An id is source:24 | word:9 | tag:31; without a tag, word and tag are 0. Sources at and after nr_sources are
    # same-filled pages that the corpus does not have: those that ids need at the start, then those of fill_same.
    cdef readonly uint32_t nr_all_sources  # with the same-filled ones behind the corpus
    cdef uint32_t _capacity               # sources that the tables have room for
    cdef uint32_t *_canonical             # first source with the same bytes
    cdef uint16_t *_length                # compressed length of each source page as it is; PAGE_SIZE + 1: does not fit
    cdef uint16_t *_length_tagged         # and with one word overwritten by a tag
    cdef uint8_t *_same                   # 1: same-filled, of _same_value
    cdef uint64_t *_same_value            # also the words of sources behind the corpus
    cdef uint64_t *_special               # [8 words per source] bit w: storing a tag in word w needs `special_id`
    cdef uint64_t *_twin_key              # ascending source << 9 | word: sources that others equal but for that word
    cdef uint32_t *_twin_first            # the first of those, which stands for all of them once the word is a tag
    cdef uint32_t _nr_twins
    cdef uint64_t *_alias_id              # ascending tagged ids that are pages of the corpus as they are
    cdef uint32_t *_alias_source          # which
    cdef uint32_t _nr_aliases
    cdef uint32_t *_value_slot            # hash table: value -> same-filled source, NONE where empty
    cdef uint32_t _value_mask
    cdef const uint64_t *_words           # the corpus, 512 words a page, borrowed from _owner; NULL: only a table is known
    cdef object _owner
    cdef uint64_t _payload                # the id that compress() hands out

    cdef uint64_t value_of(self, uint32_t source, uint32_t word) noexcept nogil
    cdef uint64_t special_id(self, uint32_t source, uint32_t word, uint32_t tag) noexcept nogil
    cdef uint32_t value_at(self, uint64_t value) noexcept nogil
    cdef uint32_t intern(self, uint64_t value) except? 0xFFFFFFFF nogil
    cdef void measure(self, uint32_t source) noexcept nogil
    cdef void *table(self, size_t n, size_t size) except NULL
    cdef bint valid(self, uint64_t id_) noexcept nogil
    cdef uint64_t tagged_id(self, uint32_t source, uint32_t word, uint32_t tag) noexcept nogil
    cdef object _make_tables(self, nr_corpus, nr_extra)
    cdef object _adopt(self, canonical, same, value, length, tagged)
    cdef object _attach(self, corpus, words, extra)
    cdef object _describe(self, uint32_t source, row)
    cdef object _set_twins(self, list classes, words)
