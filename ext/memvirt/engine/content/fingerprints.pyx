"""Page content as a 64-bit id per frame, so that hosts larger than this machine fit into it.

A page is either a source (the zero page, a page of the corpus, or a page with one value in every word) or a source with
one 8-byte word overwritten by a tag: what an access write does. Its id is

     63          40 39    31 30         0
    +--------------+--------+------------+
    |  source      |  word  |  tag       |      no tag: word = tag = 0
    +--------------+--------+------------+

Stores, sharing and every counter must come out as with real bytes, so **two ids are equal exactly when the bytes are**.
What could break that is settled by the table of sources; see source_table.pyx.

Ids keep no second tag: a page must be tagged in one word only until it is filled anew. The caller sees to that by
choosing the word from the vpn (mv_word in access.h); debug builds assert it.
"""

import cython
import numpy

from libc.stdlib cimport free
from libc.string cimport memcpy

from .codec cimport Codec
from .content cimport Content
from .source_table cimport SOURCE_SHIFT, SourceTable, make_id, new_table, tag_of, word_of
from ..types cimport CORRUPT, OK, PAGE_SIZE, PAGE_WORDS

from memvirt.engine.content.codec import open_codec
from memvirt.errors import ConfigError, InvariantError

cdef extern from "content/pageops.h" nogil:
    uint64_t mv_mix(uint64_t h)


@cython.final
cdef class Fingerprints(Content):
    """Content ids drawn from a corpus.

    nr_frames  ids, 8 bytes each
    corpus     uint8 array [n, 4096], C-contiguous, borrowed; row r is source r + 1
    codec      a Codec, by default open_codec("lz4"); measures the lengths
    table      instead of a corpus: five arrays over all sources, the zero page included. uint32 canonical, the first
               source with the same bytes; uint8, 1 for same-filled; uint64, its value; uint16 twice, the compressed
               length as it is and with a tag, 4097 for one that does not fit. Or a SourceTable of this corpus under
               this codec, beside it or instead of it: a copy is taken, which costs a thousandth of making it

    Raises ConfigError for sizes out of range, CorpusError for an array of another shape, too many pages, or a table
    that contradicts itself.
    """

    def __cinit__(self, nr_frames, corpus=None, Codec codec=None, table=None):
        if not 1 <= nr_frames < 2**32 - 1:
            raise ConfigError(f"{nr_frames} frames: must be 1 to {2**32 - 2}")
        self.codec = open_codec() if codec is None else codec
        self.nr_frames, self.raw_bytes = nr_frames, sizeof(uint64_t)
        self.ids = <uint64_t *>new_table(nr_frames, sizeof(uint64_t))
        self.sources = SourceTable(self.codec, corpus, table)
        self.nr_sources = self.sources.nr

    @property
    def nr_all_sources(self):
        """Sources, with the same-filled ones that the corpus does not have."""
        return self.sources.nr_all

    cdef void release(self) noexcept:
        free(self.ids)
        self.ids = NULL
        self.nr_frames = 0

    def __dealloc__(self):
        self.release()

    cdef void clear(self, hfn_t frame) noexcept nogil:
        assert frame < self.nr_frames
        self.ids[frame] = 0

    cdef void copy(self, hfn_t target, hfn_t source) noexcept nogil:
        assert target < self.nr_frames and source < self.nr_frames
        self.ids[target] = self.ids[source]

    cdef void fill(self, hfn_t frame, uint32_t source) noexcept nogil:
        assert frame < self.nr_frames and source < self.nr_sources
        self.ids[frame] = <uint64_t>self.sources.canonical[source] << SOURCE_SHIFT

    cdef int fill_same(self, hfn_t frame, uint64_t value) except -1 nogil:
        assert frame < self.nr_frames
        self.ids[frame] = <uint64_t>self.sources.intern(value) << SOURCE_SHIFT
        return 0

    cdef bint same_filled(self, hfn_t frame, uint64_t *value) noexcept nogil:
        cdef uint32_t source = <uint32_t>(self.ids[frame] >> SOURCE_SHIFT)
        value[0] = self.sources.same_value[source]
        return tag_of(self.ids[frame]) == 0 and self.sources.same[source]

    cdef uint64_t load(self, hfn_t frame, uint32_t word) noexcept nogil:
        """The tag, in the tagged word; elsewhere a value that depends on source and word alone, since reads are free. Of a
        same-filled page it is the true one: whoever evicts such a page keeps that, and fills another with it."""
        cdef uint64_t id_ = self.ids[frame]
        assert frame < self.nr_frames and word < PAGE_WORDS
        if word_of(id_) == word and tag_of(id_):
            return tag_of(id_)
        if self.sources.same[id_ >> SOURCE_SHIFT]:
            return self.sources.same_value[id_ >> SOURCE_SHIFT]
        return mv_mix(id_ >> SOURCE_SHIFT << 9 | word)

    cdef void store_tag(self, hfn_t frame, uint32_t word, uint32_t tag) noexcept nogil:
        cdef uint64_t id_ = self.ids[frame]
        assert frame < self.nr_frames and word < PAGE_WORDS and tag > 0 and tag >> 31 == 0
        assert tag_of(id_) == 0 or word_of(id_) == word
        self.ids[frame] = self.sources.tagged_id(<uint32_t>(id_ >> SOURCE_SHIFT), word, tag)

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
            out[i] = make_id(self.sources.canonical[sources[i]], 0, 0)
            if tags[i]:
                out[i] = self.sources.tagged_id(self.sources.canonical[sources[i]], words[i], tags[i])
        return ids

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
        length = self.sources.length_tagged[source] if tag_of(self._payload) else self.sources.length[source]
        payload[0], payload_bytes[0] = <const uint8_t *>&self._payload, sizeof(uint64_t)
        return length if length <= PAGE_SIZE else 0

    cdef int expand(self, hfn_t frame, const uint8_t *payload, uint32_t payload_bytes) noexcept nogil:
        cdef uint64_t id_ = 0
        assert frame < self.nr_frames
        if payload_bytes != sizeof(uint64_t):
            return CORRUPT
        memcpy(&id_, payload, sizeof(uint64_t))
        if not self.sources.valid(id_):
            return CORRUPT
        self.ids[frame] = id_
        return OK

    cdef const uint8_t *raw(self, hfn_t frame) noexcept nogil:
        return <const uint8_t *>&self.ids[frame]

    cdef uint8_t *raw_target(self, hfn_t frame) noexcept nogil:
        return <uint8_t *>&self.ids[frame]

    cpdef object check(self):
        """Raises InvariantError for an id that no page can have, or a same-filled source that is not found."""
        cdef uint32_t i
        for i in range(self.nr_frames):
            if not self.sources.valid(self.ids[i]):
                raise InvariantError(f"frame {i}: {self.ids[i]:#x} is no content id")
        self.sources.check()
