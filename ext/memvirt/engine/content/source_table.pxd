from .codec cimport Codec
from ..types cimport PAGE_WORDS, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    SOURCE_SHIFT = 40
    WORD_SHIFT = 31


cdef inline uint64_t make_id(uint32_t source, uint32_t word, uint32_t tag) noexcept nogil:
    return <uint64_t>source << SOURCE_SHIFT | <uint64_t>word << WORD_SHIFT | tag


cdef inline uint32_t tag_of(uint64_t id_) noexcept nogil:
    return id_ & 0x7FFFFFFF


cdef inline uint32_t word_of(uint64_t id_) noexcept nogil:
    return (id_ >> WORD_SHIFT) & (PAGE_WORDS - 1)


cdef class SourceTable:
    # Sources from nr on are same-filled pages that the corpus does not have: those that ids need at the start, then those
    # that are interned.
    cdef readonly uint32_t nr             # the zero page and the corpus
    cdef readonly uint32_t nr_all         # with the same-filled ones behind the corpus
    cdef Codec codec
    cdef uint32_t _capacity               # sources that the tables have room for
    cdef uint32_t *canonical              # first source with the same bytes
    cdef uint16_t *length                 # compressed length of each source page as it is; PAGE_SIZE + 1: does not fit
    cdef uint16_t *length_tagged          # and with one word overwritten by a tag
    cdef uint8_t *same                    # 1: same-filled, of same_value
    cdef uint64_t *same_value             # also the words of sources behind the corpus
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

    cdef inline uint64_t tagged_id(self, uint32_t source, uint32_t word, uint32_t tag) noexcept nogil:
        """The id of a source with a tag in a word."""
        if (self._special[<size_t>source * 8 + (word >> 6)] >> (word & 63)) & 1:
            return self.special_id(source, word, tag)
        return make_id(source, word, tag)

    # The same-filled source of this value, made if need be.
    cdef uint32_t intern(self, uint64_t value) except? 0xFFFFFFFF nogil
    # True if a page can have this id.
    cdef bint valid(self, uint64_t id_) noexcept nogil
    cdef uint64_t value_of(self, uint32_t source, uint32_t word) noexcept nogil
    cdef uint64_t special_id(self, uint32_t source, uint32_t word, uint32_t tag) noexcept nogil
    cdef uint32_t value_at(self, uint64_t value) noexcept nogil
    cdef void measure(self, uint32_t source) noexcept nogil
    cdef object _make_tables(self, nr_corpus, nr_extra)
    cdef object _adopt(self, canonical, same, value, length, tagged)
    cdef object _copy(self, SourceTable other)
    cdef object _attach(self, words, extra)
    cdef object _borrow(self, corpus)
    cdef object _describe(self, uint32_t source, row)
    cdef object _set_twins(self, list classes, words)
    cdef object _make_twins(self, uint32_t nr_twins, uint32_t nr_aliases)
    cpdef object check(self)


# Room for n things and one, all zero; ConfigError without memory.
cdef void *new_table(size_t n, size_t size) except NULL
