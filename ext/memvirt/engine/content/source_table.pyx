"""What is known of the pages that fingerprint content is filled from: equal ones, same-filled ones, twins, lengths.

Stores, sharing and every counter must come out as with real bytes, so **two ids are equal exactly when the bytes are**.
Three things could break that, and are settled by tables made when the corpus is attached:

  - Equal pages of the corpus: the first stands for all (`canonical`).
  - A tag that is what the word held anyway: that page is the source itself. Only words of 1 .. 2^31 - 1 can meet it;
    `_special` has a bit for each, and then the corpus is asked.
  - Sources that differ in a single word (*twins*): with a tag in that word they are one page, which the first of them
    stands for; and with the tag that is the other's word, one is the other. Twins are found at the start
    (`twin_classes`); for a page that is the same value everywhere but in one word, the same-filled page is its twin and
    is made a source, whether or not the corpus has it.

One case is left, and it errs on the safe side: two sources that differ in two words, each tagged in one of them with
just the value that the other has there, are equal bytes with different ids: a merge is missed, none is wrong.

Compressed lengths are measured with the real codec, once for a source and once for it with a representative tag.

Instead of a corpus there may be a *table*: what is known of one whose bytes are not there (published fingerprints).
Then nothing is known of words: sources have no twins, and no tag meets what a word held. So a merge of two pages that
the same tag in the same word made equal is missed, none is wrong.

To make a table takes 30 us a page, to copy one next to nothing. A table grows as its host meets values that it did not
know, so hosts that are filled from the same pages have a copy each of one that none of them has: see `copied`.
"""

import hashlib

import numpy

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from .codec cimport Codec
from .sources cimport NO_FIT, lengths_of
from ..types cimport NONE, PAGE_SIZE

from memvirt.engine.content.content import check_corpus
from memvirt.engine.content.sources import almost_same_values, twin_classes
from memvirt.errors import ConfigError, CorpusError, InvariantError

cdef extern from "content/pageops.h" nogil:
    uint64_t mv_mix(uint64_t h)

MAX_SOURCES = 1 << 24
SPARE_SOURCES = 4096        # same-filled pages that may come by fill_same; the engine itself only repeats known ones


cdef class SourceTable:
    """Of a corpus, uint8 [n, 4096], whose row r is source r + 1 and which is borrowed; or of a table, see Fingerprints.

    Of another SourceTable: a copy, which grows on its own. It knows words only if the same corpus comes with it."""

    def __cinit__(self, Codec codec not None, corpus, table):
        self.codec = codec
        if isinstance(table, SourceTable):
            self._copy(table)
            if corpus is not None:
                self._borrow(corpus)
            return
        if table is not None:
            canonical, same, value, length, tagged = table
            self._adopt(canonical, same, value, length, tagged)
            return
        if corpus is None:
            corpus = numpy.zeros((0, PAGE_SIZE), numpy.uint8)
        check_corpus(corpus)
        words = corpus.view(numpy.uint64)
        extra = almost_same_values(words)
        self._make_tables(len(corpus), len(extra))
        self._borrow(corpus)
        self._attach(words, extra)

    def __dealloc__(self):
        free(self.canonical)
        free(self.length)
        free(self.length_tagged)
        free(self.same)
        free(self.same_value)
        free(self._special)
        free(self._twin_key)
        free(self._twin_first)
        free(self._alias_id)
        free(self._alias_source)
        free(self._value_slot)

    cdef object _make_tables(self, nr_corpus, nr_extra):
        cdef uint32_t slot
        if 1 + nr_corpus + nr_extra + SPARE_SOURCES > MAX_SOURCES:
            raise CorpusError(f"a corpus of {nr_corpus} pages: fingerprints have room for "
                              f"{MAX_SOURCES - SPARE_SOURCES - 1 - nr_extra}")
        self.nr = 1 + nr_corpus
        self.nr_all = self.nr + nr_extra
        self._capacity = self.nr_all + SPARE_SOURCES
        self.canonical = <uint32_t *>new_table(self._capacity, sizeof(uint32_t))
        self.length = <uint16_t *>new_table(self._capacity, sizeof(uint16_t))
        self.length_tagged = <uint16_t *>new_table(self._capacity, sizeof(uint16_t))
        self.same = <uint8_t *>new_table(self._capacity, 1)
        self.same_value = <uint64_t *>new_table(self._capacity, sizeof(uint64_t))
        self._special = <uint64_t *>new_table(self._capacity, PAGE_WORDS // 8)
        self._value_mask = (<uint32_t>1 << (2 * int(self._capacity)).bit_length()) - 1
        self._value_slot = <uint32_t *>new_table(self._value_mask, sizeof(uint32_t))
        for slot in range(self._value_mask + 1):
            self._value_slot[slot] = NONE

    cdef object _adopt(self, canonical, same, value, length, tagged):
        """Fill the tables from one that somebody else made."""
        cdef const uint32_t[::1] firsts = canonical
        cdef const uint8_t[::1] are_same = same
        cdef const uint64_t[::1] values = value
        cdef const uint16_t[::1] lengths = length, tagged_lengths = tagged
        cdef uint32_t source, n = len(canonical)
        if not 0 < n == len(same) == len(value) == len(length) == len(tagged):
            raise CorpusError("a table of sources has five arrays of one length")
        self._make_tables(n - 1, 0)
        for source in range(n):
            if firsts[source] > source or firsts[firsts[source]] != firsts[source]:
                raise CorpusError(f"source {source} is said to equal source {firsts[source]}, which comes later or is "
                                  f"said to equal another")
            if not 0 < lengths[source] <= NO_FIT or not 0 < tagged_lengths[source] <= NO_FIT:
                raise CorpusError(f"source {source}: a compressed length is 1 to {NO_FIT}")
            self.canonical[source] = firsts[source]
            self.length[source], self.length_tagged[source] = lengths[source], tagged_lengths[source]
            if firsts[source] != source or not are_same[source]:
                continue
            if self._value_slot[self.value_at(values[source])] != NONE:
                raise CorpusError(f"source {source}: another one is filled with the same value")
            self.same[source], self.same_value[source] = 1, values[source]
            self._value_slot[self.value_at(values[source])] = source
        if not self.same[0] or self.same_value[0]:
            raise CorpusError("source 0 of a table must be the zero page")
        self._set_twins([], None)

    def copied(self):
        """The same table, of no corpus: no page is kept alive by it."""
        return SourceTable(self.codec, None, self)

    cdef object _copy(self, SourceTable other):
        """Fill the tables with what another one knows. Lengths are those of its codec, so this one's must be the same."""
        if (self.codec.name, self.codec.level) != (other.codec.name, other.codec.level):
            raise ConfigError(f"a table of lengths under {other.codec.name}:{other.codec.level} is none under "
                              f"{self.codec.name}:{self.codec.level}")
        self._make_tables(other.nr - 1, other._capacity - SPARE_SOURCES - other.nr)
        self.nr_all = other.nr_all
        memcpy(self.canonical, other.canonical, self.nr_all * sizeof(uint32_t))
        memcpy(self.length, other.length, self.nr_all * sizeof(uint16_t))
        memcpy(self.length_tagged, other.length_tagged, self.nr_all * sizeof(uint16_t))
        memcpy(self.same, other.same, self.nr_all)
        memcpy(self.same_value, other.same_value, self.nr_all * sizeof(uint64_t))
        memcpy(self._special, other._special, <size_t>self.nr_all * (PAGE_WORDS // 8))
        memcpy(self._value_slot, other._value_slot, (<size_t>self._value_mask + 1) * sizeof(uint32_t))
        self._make_twins(other._nr_twins, other._nr_aliases)
        memcpy(self._twin_key, other._twin_key, self._nr_twins * sizeof(uint64_t))
        memcpy(self._twin_first, other._twin_first, self._nr_twins * sizeof(uint32_t))
        memcpy(self._alias_id, other._alias_id, self._nr_aliases * sizeof(uint64_t))
        memcpy(self._alias_source, other._alias_source, self._nr_aliases * sizeof(uint32_t))

    cdef object _borrow(self, corpus):
        """Ask this corpus from now on what its words are."""
        cdef const uint8_t[:, ::1] rows
        check_corpus(corpus)
        if len(corpus) != self.nr - 1:
            raise CorpusError(f"a table of {self.nr - 1} pages is none of a corpus of {len(corpus)}")
        rows = corpus
        self._owner = memoryview(corpus)
        if len(corpus):
            self._words = <const uint64_t *>&rows[0, 0]

    cdef object _attach(self, words, extra):
        """Fill the tables: which sources are equal, same-filled, twins; how long each is compressed."""
        cdef uint32_t source
        for i, value in enumerate(extra):
            self.same_value[self.nr + i] = value
        sources = []
        first_of = {}
        for source in range(self.nr_all):
            digest = hashlib.blake2b(self.row(source, words), digest_size=16).digest()
            self.canonical[source] = first_of.setdefault(digest, source)
            if self.canonical[source] == source:
                sources.append(source)
                self._describe(source, self.row(source, words))
        self._set_twins([(word, twins) for word, twins in
                         twin_classes(lambda source: self.row(source, words), sources, 0, PAGE_WORDS)], words)

    def row(self, source, words):
        """The 512 words of a source; `words` is the corpus."""
        if 1 <= source < self.nr:
            return words[source - 1]
        return numpy.full(PAGE_WORDS, self.same_value[<uint32_t>source], numpy.uint64)

    cdef object _describe(self, uint32_t source, row):
        """Tables of a source that stands for itself."""
        cdef const uint8_t[::1] small = numpy.packbits((row - numpy.uint64(1)) < numpy.uint64(2**31 - 1),
                                                       bitorder="little")
        memcpy(self._special + <size_t>source * 8, &small[0], PAGE_WORDS // 8)
        if (row == row[0]).all():
            self.same[source], self.same_value[source] = 1, row[0]
            self._value_slot[self.value_at(row[0])] = source
        self.measure(source)

    cdef object _set_twins(self, list classes, words):
        """The sorted tables that special_id() searches."""
        cdef uint32_t i, source
        keys, aliases = {}, {}
        for word, twins in classes:
            for source in twins:
                keys[source << 9 | word] = twins[0]
                self._special[<size_t>source * 8 + word // 64] |= <uint64_t>1 << (word % 64)
                value = int(self.row(source, words)[word])
                if 1 <= value < 2**31:
                    aliases[twins[0] << SOURCE_SHIFT | word << WORD_SHIFT | value] = source
        self._make_twins(len(keys), len(aliases))
        for i, key in enumerate(sorted(keys)):
            self._twin_key[i], self._twin_first[i] = key, keys[key]
        for i, key in enumerate(sorted(aliases)):
            self._alias_id[i], self._alias_source[i] = key, aliases[key]

    cdef object _make_twins(self, uint32_t nr_twins, uint32_t nr_aliases):
        self._nr_twins, self._nr_aliases = nr_twins, nr_aliases
        self._twin_key = <uint64_t *>new_table(nr_twins, sizeof(uint64_t))
        self._twin_first = <uint32_t *>new_table(nr_twins, sizeof(uint32_t))
        self._alias_id = <uint64_t *>new_table(nr_aliases, sizeof(uint64_t))
        self._alias_source = <uint32_t *>new_table(nr_aliases, sizeof(uint32_t))

    cdef uint64_t value_of(self, uint32_t source, uint32_t word) noexcept nogil:
        """What a source holds in a word; of a table, only same-filled ones are known."""
        if self._words != NULL and 1 <= source < self.nr:
            return self._words[<size_t>(source - 1) * PAGE_WORDS + word]
        return self.same_value[source]

    cdef void measure(self, uint32_t source) noexcept nogil:
        """Compress the source, as it is and with a tag."""
        cdef uint64_t page[PAGE_WORDS]
        cdef int word
        for word in range(PAGE_WORDS):
            page[word] = self.value_of(source, word)
        lengths_of(self.codec, page, source, &self.length[source], &self.length_tagged[source])

    cdef uint32_t value_at(self, uint64_t value) noexcept nogil:
        """The slot of the hash table where the same-filled source of this value is, or would be."""
        cdef uint32_t slot = <uint32_t>mv_mix(value) & self._value_mask
        while self._value_slot[slot] != NONE and self.same_value[self._value_slot[slot]] != value:
            slot = (slot + 1) & self._value_mask
        return slot

    cdef uint32_t intern(self, uint64_t value) except? 0xFFFFFFFF nogil:
        """The same-filled source of this value, made if need be."""
        cdef uint32_t slot = self.value_at(value), source = self._value_slot[slot]
        if source != NONE:
            return source
        if self.nr_all == self._capacity:
            with gil:
                raise InvariantError(f"fingerprints: {SPARE_SOURCES} same-filled pages beside those of the corpus are all "
                                     f"there can be")
        source = self.nr_all
        self.nr_all += 1
        self.canonical[source], self.same[source], self.same_value[source] = source, 1, value
        if value > 0 and value >> 31 == 0:
            memset(self._special + <size_t>source * 8, 0xFF, PAGE_WORDS // 8)
        self.measure(source)
        self._value_slot[slot] = source
        return source

    cdef uint64_t special_id(self, uint32_t source, uint32_t word, uint32_t tag) noexcept nogil:
        """The id of a source with a tag in a word that the tag may not change, or that has twins."""
        cdef uint64_t id_
        cdef uint32_t at
        if self.value_of(source, word) == tag:
            return make_id(source, 0, 0)
        at = find(self._twin_key, self._nr_twins, <uint64_t>source << 9 | word)
        id_ = make_id(self._twin_first[at] if at != NONE else source, word, tag)
        at = find(self._alias_id, self._nr_aliases, id_)
        return make_id(self._alias_source[at], 0, 0) if at != NONE else id_

    cdef bint valid(self, uint64_t id_) noexcept nogil:
        """True if a page can have this id."""
        cdef uint32_t source = <uint32_t>(id_ >> SOURCE_SHIFT)
        if source >= self.nr_all or self.canonical[source] != source:
            return False
        return tag_of(id_) > 0 or word_of(id_) == 0

    cpdef object check(self):
        """Raises InvariantError for a same-filled source that is not found."""
        cdef uint32_t i
        for i in range(self.nr_all):
            if self.same[i] and self._value_slot[self.value_at(self.same_value[i])] != i:
                raise InvariantError(f"source {i}: same-filled with {self.same_value[i]:#x}, and not found as such")


cdef void *new_table(size_t n, size_t size) except NULL:
    cdef void *memory = calloc(n + 1, size)
    if memory == NULL:
        raise ConfigError(f"fingerprint content: no memory for a table of {n} entries of {size} bytes")
    return memory


cdef uint32_t find(const uint64_t *table, uint32_t n, uint64_t key) noexcept nogil:
    """Where `key` is in an ascending table, or NONE."""
    cdef uint32_t low = 0, high = n, middle
    while low < high:
        middle = low + (high - low) // 2
        if table[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < n and table[low] == key else NONE
