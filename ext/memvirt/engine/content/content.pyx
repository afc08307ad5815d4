"""What frames hold, in two forms behind one interface.

*Bytes* keeps real 4096-byte pages in one arena: frame n is the n-th page of it. *Fingerprints* (fingerprints.pyx) keeps
a 64-bit id per frame. Whoever handles frames asks through Content. Only who stores payloads, or hands out raw bytes, asks
which it is (`has_bytes`); what leaves memory is opaque to the stores.

Hashes and checksums name candidates and find damage. That two pages are equal, only compare() says.
"""

import os

import cython
import numpy

from libc.errno cimport errno
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from .codec cimport Codec
from ..types cimport CORRUPT, OK, PAGE_SHIFT, PAGE_SIZE, PAGE_WORDS

from memvirt.engine.content.codec import open_codec
from memvirt.errors import ConfigError, CorpusError, InvariantError

cdef extern from "content/arena.h" nogil:
    size_t mv_arena_reserved(size_t bytes)
    void *mv_arena_map(size_t bytes, uint8_t **arena)
    int mv_arena_populate(uint8_t *arena, size_t bytes)
    void mv_unmap(void *start, size_t bytes)

cdef extern from "content/pageops.h" nogil:
    void mv_clear(uint8_t *page)
    void mv_clear_around(uint8_t *page, uint32_t word)
    void mv_copy_around(uint8_t *target, const uint8_t *source, uint32_t word)
    void mv_expect(uint8_t *page, uint32_t word)
    void mv_fill_words(uint8_t *page, uint64_t value)
    bint mv_same_filled(const uint8_t *page)
    uint64_t mv_hash(const uint8_t *page)

HUGE_PAGE_BYTES = 2 << 20

cdef struct Kept:
    void *reserved      # NULL: none
    uint8_t *arena
    size_t bytes
    size_t huge_bytes

# The arena of the last host that ended, where they are kept: one, so a process never holds more than its largest host.
# All of it is done under the GIL.
cdef Kept _kept
cdef bint _keeping = False


def keep_arena(keep) -> None:
    """From now on the memory of a host that ends is kept for one that is no larger, or no longer. To populate 64 MiB takes
    as long as a short cell. What is kept holds what it held: no more is known of a frame that was freed."""
    global _keeping
    _keeping = keep
    if not keep:
        _give_back_kept()


cdef void _give_back_kept() noexcept:
    if _kept.reserved != NULL:
        mv_unmap(_kept.reserved, mv_arena_reserved(_kept.bytes))
    _kept.reserved = NULL


cdef class Content:
    """The interface. Not made by itself."""

    def __cinit__(self, *args, **kwargs):
        if type(self) is Content:
            raise TypeError("Content is an interface: make Bytes or Fingerprints")

    cdef void clear(self, hfn_t frame) noexcept nogil:
        pass

    cdef void copy(self, hfn_t target, hfn_t source) noexcept nogil:
        pass

    cdef void clear_around(self, hfn_t frame, uint32_t word) noexcept nogil:
        self.clear(frame)

    cdef void copy_around(self, hfn_t target, hfn_t source, uint32_t word) noexcept nogil:
        self.copy(target, source)

    cdef void expect(self, hfn_t frame, uint32_t word) noexcept nogil:
        pass

    cdef void fill(self, hfn_t frame, uint32_t source) noexcept nogil:
        pass

    cdef int fill_same(self, hfn_t frame, uint64_t value) except -1 nogil:
        return 0

    cdef bint same_filled(self, hfn_t frame, uint64_t *value) noexcept nogil:
        return False

    cdef uint64_t load(self, hfn_t frame, uint32_t word) noexcept nogil:
        return 0

    cdef void store_tag(self, hfn_t frame, uint32_t word, uint32_t tag) noexcept nogil:
        pass

    cdef uint64_t hash(self, hfn_t frame) noexcept nogil:
        return 0

    cdef int compare(self, hfn_t a, hfn_t b) noexcept nogil:
        return 0

    cdef int compare_reading(self, hfn_t a, hfn_t b, uint32_t *read) noexcept nogil:
        """Pages without bytes that differ are taken to do so in the first step."""
        cdef int result = self.compare(a, b)
        read[0] = COMPARE_STEP if result else PAGE_SIZE
        return result

    cdef uint32_t checksum(self, hfn_t frame) noexcept nogil:
        return <uint32_t>self.hash(frame)

    cdef uint32_t compress(self, hfn_t frame, const uint8_t **payload, uint32_t *payload_bytes) noexcept nogil:
        return 0

    cdef int expand(self, hfn_t frame, const uint8_t *payload, uint32_t payload_bytes) noexcept nogil:
        return CORRUPT

    cdef const uint8_t *raw(self, hfn_t frame) noexcept nogil:
        return NULL

    cdef uint8_t *raw_target(self, hfn_t frame) noexcept nogil:
        return NULL

    cdef void release(self) noexcept:
        pass

    cpdef object check(self):
        return None


@cython.final
cdef class Bytes(Content):
    """Real page bytes.

    nr_frames  pages of the arena, which is mapped, populated and asked to use huge pages here
    corpus     uint8 array [n, 4096], C-contiguous, borrowed and never written; row r is source r + 1
    codec      a Codec, by default open_codec("lz4")

    Raises ConfigError when the machine does not have the memory, CorpusError for an array of another shape.
    """

    def __cinit__(self, nr_frames, corpus=None, Codec codec=None):
        if not 1 <= nr_frames < 2**32 - 1:
            raise ConfigError(f"{nr_frames} frames: must be 1 to {2**32 - 2}")
        self._attach(corpus, codec)
        self.nr_frames, self.raw_bytes = nr_frames, PAGE_SIZE
        self._scratch = <uint8_t *>malloc(PAGE_SIZE)
        if self._scratch == NULL:
            raise MemoryError("compression scratch")
        cdef size_t bytes_ = <size_t>nr_frames << PAGE_SHIFT
        if _kept.reserved != NULL and _kept.bytes >= bytes_:
            self._reserved, self.arena, self.huge_bytes = _kept.reserved, _kept.arena, _kept.huge_bytes
            self._mapped = _kept.bytes
            _kept.reserved = NULL
        else:
            _give_back_kept()
            _map(self, bytes_)
        self.has_bytes = True
        self.huge_pages = 0 < self._mapped // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES <= self.huge_bytes

    def __dealloc__(self):
        free(self._scratch)
        self.release()

    cdef void release(self) noexcept:
        if self._reserved != NULL and _keeping:
            _give_back_kept()
            _kept.reserved, _kept.arena, _kept.bytes = self._reserved, self.arena, self._mapped
            _kept.huge_bytes = self.huge_bytes
        elif self._reserved != NULL:
            mv_unmap(self._reserved, mv_arena_reserved(self._mapped))
        self._reserved = self.arena = NULL
        self.has_bytes = False
        self.nr_frames = 0

    cdef object _attach(self, corpus, Codec codec):
        cdef const uint8_t[:, ::1] rows
        self.codec = open_codec() if codec is None else codec
        self.nr_sources = 1
        if corpus is not None and len(corpus):
            check_corpus(corpus)
            rows = corpus
            self._corpus_owner, self._corpus = memoryview(corpus), &rows[0, 0]
            self.nr_sources += rows.shape[0]

    cdef void clear(self, hfn_t frame) noexcept nogil:
        mv_clear(self.page(frame))

    cdef void copy(self, hfn_t target, hfn_t source) noexcept nogil:
        memcpy(self.page(target), self.page(source), PAGE_SIZE)

    cdef void clear_around(self, hfn_t frame, uint32_t word) noexcept nogil:
        mv_clear_around(self.page(frame), word)

    cdef void copy_around(self, hfn_t target, hfn_t source, uint32_t word) noexcept nogil:
        mv_copy_around(self.page(target), self.page(source), word)

    cdef void expect(self, hfn_t frame, uint32_t word) noexcept nogil:
        mv_expect(self.arena + (<size_t>frame << PAGE_SHIFT), word)

    cdef void fill(self, hfn_t frame, uint32_t source) noexcept nogil:
        assert source < self.nr_sources
        if source == 0:
            mv_clear(self.page(frame))
        else:
            memcpy(self.page(frame), self._corpus + (<size_t>(source - 1) << PAGE_SHIFT), PAGE_SIZE)

    cdef int fill_same(self, hfn_t frame, uint64_t value) except -1 nogil:
        mv_fill_words(self.page(frame), value)
        return 0

    cdef bint same_filled(self, hfn_t frame, uint64_t *value) noexcept nogil:
        cdef uint8_t *page = self.page(frame)
        value[0] = (<uint64_t *>page)[0]
        return mv_same_filled(page)

    cdef uint64_t load(self, hfn_t frame, uint32_t word) noexcept nogil:
        assert word < PAGE_WORDS
        return (<uint64_t *>self.page(frame))[word]

    cdef void store_tag(self, hfn_t frame, uint32_t word, uint32_t tag) noexcept nogil:
        assert word < PAGE_WORDS and tag > 0 and tag >> 31 == 0
        (<uint64_t *>self.page(frame))[word] = tag

    cdef uint64_t hash(self, hfn_t frame) noexcept nogil:
        return mv_hash(self.page(frame))

    cdef int compare(self, hfn_t a, hfn_t b) noexcept nogil:
        return memcmp(self.page(a), self.page(b), PAGE_SIZE)

    cdef int compare_reading(self, hfn_t a, hfn_t b, uint32_t *read) noexcept nogil:
        cdef int result = 0
        read[0] = 0
        while read[0] < PAGE_SIZE and result == 0:
            result = memcmp(self.page(a) + read[0], self.page(b) + read[0], COMPARE_STEP)
            read[0] += COMPARE_STEP
        return result

    cdef uint32_t compress(self, hfn_t frame, const uint8_t **payload, uint32_t *payload_bytes) noexcept nogil:
        # Always into a whole page: what a codec makes of less room is not the same for each, nor quite exact.
        payload_bytes[0] = self.codec.compress(self.page(frame), self._scratch, PAGE_SIZE)
        payload[0] = self._scratch if payload_bytes[0] < PAGE_SIZE else self.page(frame)
        return payload_bytes[0]

    cdef int expand(self, hfn_t frame, const uint8_t *payload, uint32_t payload_bytes) noexcept nogil:
        if payload_bytes == PAGE_SIZE:
            memcpy(self.page(frame), payload, PAGE_SIZE)
        elif self.codec.decompress(payload, payload_bytes, self.page(frame)) != PAGE_SIZE:
            return CORRUPT
        return OK

    cdef const uint8_t *raw(self, hfn_t frame) noexcept nogil:
        return self.page(frame)

    cdef uint8_t *raw_target(self, hfn_t frame) noexcept nogil:
        return self.page(frame)

    cpdef object check(self):
        """Raises InvariantError if the corpus is not what was attached. Bytes derive nothing else."""
        rows = 0 if self._corpus_owner is None else len(self._corpus_owner)
        if rows + 1 != self.nr_sources:
            raise InvariantError(f"content: {rows} corpus pages, {self.nr_sources} sources")


def check_corpus(corpus):
    """Raises CorpusError unless `corpus` is a C-contiguous uint8 array [n, 4096] with ids to spare."""
    shape, kind = getattr(corpus, "shape", None), getattr(corpus, "dtype", None)
    if kind != numpy.uint8 or len(shape) != 2 or shape[1] != PAGE_SIZE or not corpus.flags.c_contiguous:
        raise CorpusError(f"a corpus is a C-contiguous uint8 array [pages, {PAGE_SIZE}], not {kind} {shape}")


def available_bytes():
    """Bytes that the kernel can give without swapping, or None where /proc does not say."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


cdef object _map(Bytes self, size_t bytes_):
    """Give it an arena of its own, every page of it present."""
    available = available_bytes()
    if available is not None and bytes_ > available:
        raise ConfigError(f"host memory of {bytes_} bytes: this machine has {available} bytes available")
    self._reserved = mv_arena_map(bytes_, &self.arena)
    if self._reserved == NULL:
        raise ConfigError(f"host memory of {bytes_} bytes: {os.strerror(errno)}")
    failed = mv_arena_populate(self.arena, bytes_)
    if failed:
        mv_unmap(self._reserved, mv_arena_reserved(bytes_))
        self._reserved = self.arena = NULL
        raise ConfigError(f"host memory of {bytes_} bytes: {os.strerror(failed)}")
    self._mapped = bytes_
    self.huge_bytes = huge_bytes_at(<uintptr_t>self.arena)


def huge_bytes_at(uintptr_t start):
    """AnonHugePages of the mapping that starts at this address: what the kernel did, not what it was asked."""
    found = False
    try:
        with open("/proc/self/smaps") as lines:
            for line in lines:
                if line.startswith(f"{start:x}-"):
                    found = True
                elif found and line.startswith("AnonHugePages:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
