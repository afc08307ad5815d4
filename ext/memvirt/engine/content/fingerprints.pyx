"""Page content as a 64-bit id per frame, so that hosts larger than this machine fit into it.

A page is either a source (the zero page, a page of the corpus, or a page with one value in every word) or a source with
one 8-byte word overwritten by a tag: what an access write does. Its id is

     63          40 39    31 30         0
    +--------------+--------+------------+
    |  source      |  word  |  tag       |      no tag: word = tag = 0
    +--------------+--------+------------+

Stores, sharing and every counter must come out as with real bytes, so **two ids are equal exactly when the bytes are**.
Three things could break that, and are settled by tables made when the corpus is attached:

  - Equal pages of the corpus: the first stands for all (`_canonical`).
  - A tag that is what the word held anyway: that page is the source itself. Only words of 1 .. 2^31 - 1 can meet it;
    `_special` has a bit for each, and then the corpus is asked.
  - Sources that differ in a single word (*twins*): with a tag in that word they are one page, which the first of them
    stands for; and with the tag that is the other's word, one is the other. Twins are found at the start
    (`twin_classes`); for a page that is the same value everywhere but in one word, the same-filled page is its twin and
    is made a source, whether or not the corpus has it.

One case is left, and it errs on the safe side: two sources that differ in two words, each tagged in one of them with
just the value that the other has there, are equal bytes with different ids: a merge is missed, none is wrong.

Ids keep no second tag: a page must be tagged in one word only until it is filled anew. The caller sees to that by
choosing the word from the vpn (mv_word in access.h); debug builds assert it.

Compressed lengths are measured with the real codec, once for a source and once for it with a representative tag.

Instead of a corpus there may be a *table*: what is known of one whose bytes are not there (published fingerprints).
Then nothing is known of words: sources have no twins, and no tag meets what a word held. So a merge of two pages that
the same tag in the same word made equal is missed, none is wrong.
"""

import hashlib

import cython
import numpy

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from .codec cimport Codec
from .content cimport Content
from .sources cimport NO_FIT, lengths_of
from ..types cimport CORRUPT, NONE, OK, PAGE_SIZE, PAGE_WORDS

from memvirt.engine.content.codec import open_codec
from memvirt.engine.content.content import check_corpus
from memvirt.engine.content.sources import almost_same_values, twin_classes
from memvirt.errors import ConfigError, CorpusError, InvariantError

cdef extern from "content/pageops.h" nogil:
    uint64_t mv_mix(uint64_t h)

cdef enum:
    SOURCE_SHIFT = 40
    WORD_SHIFT = 31

MAX_SOURCES = 1 << 24
SPARE_SOURCES = 4096        # same-filled pages that may come by fill_same; the engine itself only repeats known ones


@cython.final
cdef class Fingerprints(Content):
    """Content ids drawn from a corpus.

    nr_frames  ids, 8 bytes each
    corpus     uint8 array [n, 4096], C-contiguous, borrowed; row r is source r + 1
    codec      a Codec, by default open_codec("lz4"); measures the lengths
    table      instead of a corpus: five arrays over all sources, the zero page included. uint32 canonical, the first
               source with the same bytes; uint8, 1 for same-filled; uint64, its value; uint16 twice, the compressed
               length as it is and with a tag, 4097 for one that does not fit

    Raises ConfigError for sizes out of range, CorpusError for an array of another shape, too many pages, or a table
    that contradicts itself.
    """

    def __cinit__(self, nr_frames, corpus=None, Codec codec=None, table=None):
        if not 1 <= nr_frames < 2**32 - 1:
            raise ConfigError(f"{nr_frames} frames: must be 1 to {2**32 - 2}")
        self.codec = open_codec() if codec is None else codec
        self.codec_name, self.codec_route = self.codec.name, self.codec.route
        self.nr_frames, self.raw_bytes = nr_frames, sizeof(uint64_t)
        self.ids = <uint64_t *>self.table(nr_frames, sizeof(uint64_t))
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
        self._attach(corpus, words, extra)

    cdef void release(self) noexcept:
        free(self.ids)
        self.ids = NULL
        self.nr_frames = 0

    def __dealloc__(self):
        self.release()
        free(self._canonical)
        free(self._length)
        free(self._length_tagged)
        free(self._same)
        free(self._same_value)
        free(self._special)
        free(self._twin_key)
        free(self._twin_first)
        free(self._alias_id)
        free(self._alias_source)
        free(self._value_slot)

    cdef void *table(self, size_t n, size_t size) except NULL:
        cdef void *memory = calloc(n + 1, size)
        if memory == NULL:
            raise ConfigError(f"fingerprint content: no memory for a table of {n} entries of {size} bytes")
        return memory

    cdef object _make_tables(self, nr_corpus, nr_extra):
        cdef uint32_t slot
        if 1 + nr_corpus + nr_extra + SPARE_SOURCES > MAX_SOURCES:
            raise CorpusError(f"a corpus of {nr_corpus} pages: fingerprints have room for "
                              f"{MAX_SOURCES - SPARE_SOURCES - 1 - nr_extra}")
        self.nr_sources = 1 + nr_corpus
        self.nr_all_sources = self.nr_sources + nr_extra
        self._capacity = self.nr_all_sources + SPARE_SOURCES
        self._canonical = <uint32_t *>self.table(self._capacity, sizeof(uint32_t))
        self._length = <uint16_t *>self.table(self._capacity, sizeof(uint16_t))
        self._length_tagged = <uint16_t *>self.table(self._capacity, sizeof(uint16_t))
        self._same = <uint8_t *>self.table(self._capacity, 1)
        self._same_value = <uint64_t *>self.table(self._capacity, sizeof(uint64_t))
        self._special = <uint64_t *>self.table(self._capacity, PAGE_WORDS // 8)
        self._value_mask = (<uint32_t>1 << (2 * int(self._capacity)).bit_length()) - 1
        self._value_slot = <uint32_t *>self.table(self._value_mask, sizeof(uint32_t))
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
            self._canonical[source] = firsts[source]
            self._length[source], self._length_tagged[source] = lengths[source], tagged_lengths[source]
            if firsts[source] != source or not are_same[source]:
                continue
            if self._value_slot[self.value_at(values[source])] != NONE:
                raise CorpusError(f"source {source}: another one is filled with the same value")
            self._same[source], self._same_value[source] = 1, values[source]
            self._value_slot[self.value_at(values[source])] = source
        if not self._same[0] or self._same_value[0]:
            raise CorpusError("source 0 of a table must be the zero page")
        self._set_twins([], None)

    cdef object _attach(self, corpus, words, extra):
        """Fill the tables: which sources are equal, same-filled, twins; how long each is compressed."""
        cdef const uint8_t[:, ::1] rows = corpus
        cdef uint32_t source
        self._owner = memoryview(corpus)
        if len(corpus):
            self._words = <const uint64_t *>&rows[0, 0]
        for i, value in enumerate(extra):
            self._same_value[self.nr_sources + i] = value
        sources = []
        first_of = {}
        for source in range(self.nr_all_sources):
            digest = hashlib.blake2b(self.row(source, words), digest_size=16).digest()
            self._canonical[source] = first_of.setdefault(digest, source)
            if self._canonical[source] == source:
                sources.append(source)
                self._describe(source, self.row(source, words))
        self._set_twins([(word, twins) for word, twins in
                         twin_classes(lambda source: self.row(source, words), sources, 0, PAGE_WORDS)], words)

    def row(self, source, words):
        """The 512 words of a source; `words` is the corpus."""
        if 1 <= source < self.nr_sources:
            return words[source - 1]
        return numpy.full(PAGE_WORDS, self._same_value[<uint32_t>source], numpy.uint64)

    cdef object _describe(self, uint32_t source, row):
        """Tables of a source that stands for itself."""
        cdef const uint8_t[::1] small = numpy.packbits((row - numpy.uint64(1)) < numpy.uint64(2**31 - 1),
                                                       bitorder="little")
        memcpy(self._special + <size_t>source * 8, &small[0], PAGE_WORDS // 8)
        if (row == row[0]).all():
            self._same[source], self._same_value[source] = 1, row[0]
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
        self._nr_twins, self._nr_aliases = len(keys), len(aliases)
        self._twin_key = <uint64_t *>self.table(self._nr_twins, sizeof(uint64_t))
        self._twin_first = <uint32_t *>self.table(self._nr_twins, sizeof(uint32_t))
        self._alias_id = <uint64_t *>self.table(self._nr_aliases, sizeof(uint64_t))
        self._alias_source = <uint32_t *>self.table(self._nr_aliases, sizeof(uint32_t))
        for i, key in enumerate(sorted(keys)):
            self._twin_key[i], self._twin_first[i] = key, keys[key]
        for i, key in enumerate(sorted(aliases)):
            self._alias_id[i], self._alias_source[i] = key, aliases[key]

    cdef uint64_t value_of(self, uint32_t source, uint32_t word) noexcept nogil:
        """What a source holds in a word; of a table, only same-filled ones are known."""
        if self._words != NULL and 1 <= source < self.nr_sources:
            return self._words[<size_t>(source - 1) * PAGE_WORDS + word]
        return self._same_value[source]

    cdef void measure(self, uint32_t source) noexcept nogil:
        """Compress the source, as it is and with a tag."""
        cdef uint64_t page[PAGE_WORDS]
        cdef int word
        for word in range(PAGE_WORDS):
            page[word] = self.value_of(source, word)
        lengths_of(self.codec, page, source, &self._length[source], &self._length_tagged[source])

    cdef uint32_t value_at(self, uint64_t value) noexcept nogil:
        """The slot of the hash table where the same-filled source of this value is, or would be."""
        cdef uint32_t slot = <uint32_t>mv_mix(value) & self._value_mask
        while self._value_slot[slot] != NONE and self._same_value[self._value_slot[slot]] != value:
            slot = (slot + 1) & self._value_mask
        return slot

    cdef uint32_t intern(self, uint64_t value) except? 0xFFFFFFFF nogil:
        """The same-filled source of this value, made if need be."""
        cdef uint32_t slot = self.value_at(value), source = self._value_slot[slot]
        if source != NONE:
            return source
        if self.nr_all_sources == self._capacity:
            with gil:
                raise InvariantError(f"fingerprints: {SPARE_SOURCES} same-filled pages beside those of the corpus are all "
                                     f"there can be")
        source = self.nr_all_sources
        self.nr_all_sources += 1
        self._canonical[source], self._same[source], self._same_value[source] = source, 1, value
        if value > 0 and value >> 31 == 0:
            memset(self._special + <size_t>source * 8, 0xFF, PAGE_WORDS // 8)
        self.measure(source)
        self._value_slot[slot] = source
        return source

    cdef void clear(self, hfn_t frame) noexcept nogil:
        assert frame < self.nr_frames
        self.ids[frame] = 0

    cdef void copy(self, hfn_t target, hfn_t source) noexcept nogil:
        assert target < self.nr_frames and source < self.nr_frames
        self.ids[target] = self.ids[source]

    cdef void fill(self, hfn_t frame, uint32_t source) noexcept nogil:
        assert frame < self.nr_frames and source < self.nr_sources
        self.ids[frame] = <uint64_t>self._canonical[source] << SOURCE_SHIFT

    cdef int fill_same(self, hfn_t frame, uint64_t value) except -1 nogil:
        assert frame < self.nr_frames
        self.ids[frame] = <uint64_t>self.intern(value) << SOURCE_SHIFT
        return 0

    cdef bint same_filled(self, hfn_t frame, uint64_t *value) noexcept nogil:
        cdef uint32_t source = <uint32_t>(self.ids[frame] >> SOURCE_SHIFT)
        value[0] = self._same_value[source]
        return tag_of(self.ids[frame]) == 0 and self._same[source]

    cdef uint64_t load(self, hfn_t frame, uint32_t word) noexcept nogil:
        """The tag, in the tagged word; elsewhere a value that depends on source and word alone, since reads are free. Of a
        same-filled page it is the true one: whoever evicts such a page keeps that, and fills another with it."""
        cdef uint64_t id_ = self.ids[frame]
        assert frame < self.nr_frames and word < PAGE_WORDS
        if word_of(id_) == word and tag_of(id_):
            return tag_of(id_)
        if self._same[id_ >> SOURCE_SHIFT]:
            return self._same_value[id_ >> SOURCE_SHIFT]
        return mv_mix(id_ >> SOURCE_SHIFT << 9 | word)

    cdef void store_tag(self, hfn_t frame, uint32_t word, uint32_t tag) noexcept nogil:
        cdef uint64_t id_ = self.ids[frame]
        assert frame < self.nr_frames and word < PAGE_WORDS and tag > 0 and tag >> 31 == 0
        assert tag_of(id_) == 0 or word_of(id_) == word
        self.ids[frame] = self.tagged_id(<uint32_t>(id_ >> SOURCE_SHIFT), word, tag)

    cdef uint64_t tagged_id(self, uint32_t source, uint32_t word, uint32_t tag) noexcept nogil:
        """The id of a source with a tag in a word."""
        if (self._special[<size_t>source * 8 + (word >> 6)] >> (word & 63)) & 1:
            return self.special_id(source, word, tag)
        return make_id(source, word, tag)

    def ids_of(self, const uint32_t[::1] sources not None, const uint32_t[::1] words not None,
               const uint32_t[::1] tags not None):
        """uint64[n]: the id of a page filled from each source, with a tag (0: none) in a word. For whoever expects
        content and asks whether a VM has it."""
        cdef Py_ssize_t i, n = sources.shape[0]
        ids = numpy.empty(n, numpy.uint64)
        cdef uint64_t[::1] out = ids
        if words.shape[0] != n or tags.shape[0] != n:
            raise ValueError("sources, words and tags must be of one length")
        for i in range(n):
            if sources[i] >= self.nr_sources or words[i] >= PAGE_WORDS or tags[i] >> 31:
                raise ConfigError(f"page {i}: no source {sources[i]}, word {words[i]} or tag {tags[i]}")
            out[i] = make_id(self._canonical[sources[i]], 0, 0)
            if tags[i]:
                out[i] = self.tagged_id(self._canonical[sources[i]], words[i], tags[i])
        return ids

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

    cdef uint64_t hash(self, hfn_t frame) noexcept nogil:
        assert frame < self.nr_frames
        return mv_mix(self.ids[frame] + 1)      # the mix of 0 is 0, and no page may look like "never seen"

    cdef int compare(self, hfn_t a, hfn_t b) noexcept nogil:
        """An order of its own, not that of the bytes; 0 exactly when the bytes are equal."""
        assert a < self.nr_frames and b < self.nr_frames
        return (self.ids[a] > self.ids[b]) - (self.ids[a] < self.ids[b])

    cdef uint32_t compress(self, hfn_t frame, const uint8_t **payload, uint32_t *payload_bytes) noexcept nogil:
        cdef uint32_t source, length
        assert frame < self.nr_frames
        self._payload = self.ids[frame]
        source = <uint32_t>(self._payload >> SOURCE_SHIFT)
        length = self._length_tagged[source] if tag_of(self._payload) else self._length[source]
        payload[0], payload_bytes[0] = <const uint8_t *>&self._payload, sizeof(uint64_t)
        return length if length <= PAGE_SIZE else 0

    cdef int expand(self, hfn_t frame, const uint8_t *payload, uint32_t payload_bytes) noexcept nogil:
        cdef uint64_t id_ = 0
        assert frame < self.nr_frames
        if payload_bytes != sizeof(uint64_t):
            return CORRUPT
        memcpy(&id_, payload, sizeof(uint64_t))
        if not self.valid(id_):
            return CORRUPT
        self.ids[frame] = id_
        return OK

    cdef bint valid(self, uint64_t id_) noexcept nogil:
        """True if a page can have this id."""
        cdef uint32_t source = <uint32_t>(id_ >> SOURCE_SHIFT)
        if source >= self.nr_all_sources or self._canonical[source] != source:
            return False
        return tag_of(id_) > 0 or word_of(id_) == 0

    cdef const uint8_t *raw(self, hfn_t frame) noexcept nogil:
        return <const uint8_t *>&self.ids[frame]

    cdef uint8_t *raw_target(self, hfn_t frame) noexcept nogil:
        return <uint8_t *>&self.ids[frame]

    cpdef object check(self):
        """Raises InvariantError for an id that no page can have, or a same-filled source that is not found."""
        cdef uint32_t i
        for i in range(self.nr_frames):
            if not self.valid(self.ids[i]):
                raise InvariantError(f"frame {i}: {self.ids[i]:#x} is no content id")
        for i in range(self.nr_all_sources):
            if self._same[i] and self._value_slot[self.value_at(self._same_value[i])] != i:
                raise InvariantError(f"source {i}: same-filled with {self._same_value[i]:#x}, and not found as such")


cdef inline uint64_t make_id(uint32_t source, uint32_t word, uint32_t tag) noexcept nogil:
    return <uint64_t>source << SOURCE_SHIFT | <uint64_t>word << WORD_SHIFT | tag


cdef inline uint32_t tag_of(uint64_t id_) noexcept nogil:
    return id_ & 0x7FFFFFFF


cdef inline uint32_t word_of(uint64_t id_) noexcept nogil:
    return (id_ >> WORD_SHIFT) & (PAGE_WORDS - 1)


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
