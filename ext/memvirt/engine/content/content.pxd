from libc.string cimport memset

from .codec cimport Codec
from ..types cimport PAGE_SIZE, hfn_t, uint8_t, uint32_t, uint64_t

cdef extern from "content/poison.h" nogil:
    int MEMVIRT_FILL_FREED
    void mv_poison(void *memory, size_t bytes)
    void mv_unpoison(void *memory, size_t bytes)

cdef enum:
    COMPARE_STEP = 256


cdef class Content:
    # What frames hold. Subclasses: Bytes (real 4096-byte pages in an arena) and Fingerprints (a 64-bit id per frame).
    # The payload that stores keep for a page is opaque to them: bytes, or the 8-byte id.
    cdef readonly uint32_t nr_frames
    # A frame is 4096 bytes that its owner may use as memory. Without: metadata lies beside the frames it takes.
    cdef readonly bint has_bytes
    cdef uint8_t *arena                   # has_bytes: the host's memory, nr_frames * 4096 bytes, page-aligned; else NULL
    cdef uint64_t *ids                    # Fingerprints: content id per frame; else NULL. Both are for the hit path alone
    cdef readonly uint32_t nr_sources     # source 0 is the zero page, source r + 1 is row r of the attached corpus
    cdef readonly Codec codec

    cdef inline uint8_t *page(self, hfn_t frame) noexcept nogil:
        """The frame's 4096 bytes. Only with has_bytes."""
        return self.arena + <size_t>frame * PAGE_SIZE

    cdef inline void shut(self, hfn_t frame) noexcept nogil:
        """The frame is free: nobody may touch its bytes, which debug builds fill and sanitizer builds poison."""
        if self.has_bytes:
            if MEMVIRT_FILL_FREED:              # parts of a zspage frame may be poisoned already
                mv_unpoison(self.page(frame), PAGE_SIZE)
                memset(self.page(frame), 0x5A, PAGE_SIZE)
            mv_poison(self.page(frame), PAGE_SIZE)

    cdef inline void unshut(self, hfn_t frame, uint32_t count) noexcept nogil:
        """`count` frames are taken: their bytes may be touched."""
        if self.has_bytes:
            mv_unpoison(self.page(frame), <size_t>count * PAGE_SIZE)

    cdef inline uint32_t payload_bytes(self, uint32_t length) noexcept nogil:
        """How much a store keeps of a page that is compressed to `length` bytes."""
        return length if self.has_bytes else self.raw_bytes

    cdef void clear(self, hfn_t frame) noexcept nogil
    cdef void copy(self, hfn_t target, hfn_t source) noexcept nogil
    # The same for an access that goes on to touch this word and, as far as one can tell, no other (see pageops.h).
    cdef void clear_around(self, hfn_t frame, uint32_t word) noexcept nogil
    cdef void copy_around(self, hfn_t target, hfn_t source, uint32_t word) noexcept nogil
    cdef void expect(self, hfn_t frame, uint32_t word) noexcept nogil           # hint: the next such access
    cdef void fill(self, hfn_t frame, uint32_t source) noexcept nogil           # a whole page from the corpus
    cdef int fill_same(self, hfn_t frame, uint64_t value) except -1 nogil       # every word = value
    cdef bint same_filled(self, hfn_t frame, uint64_t *value) noexcept nogil
    cdef uint64_t load(self, hfn_t frame, uint32_t word) noexcept nogil
    cdef void store_tag(self, hfn_t frame, uint32_t word, uint32_t tag) noexcept nogil
    cdef uint64_t hash(self, hfn_t frame) noexcept nogil                        # never trusted alone: compare decides
    cdef int compare(self, hfn_t a, hfn_t b) noexcept nogil                     # memcmp order; 0 = equal
    # The same; *read: how many bytes of each had to be read for that, COMPARE_STEP at a time.
    cdef int compare_reading(self, hfn_t a, hfn_t b, uint32_t *read) noexcept nogil
    cdef uint32_t checksum(self, hfn_t frame) noexcept nogil                    # guards bytes that leave memory
    # Compress into a scratch buffer owned by the content. Returns the compressed length in bytes (the size that stores
    # account), or 0 when it would exceed a page; *payload / *payload_bytes are what a store must keep and give back. At
    # PAGE_SIZE nothing is gained: the payload is the page as it is, `raw`.
    cdef uint32_t compress(self, hfn_t frame, const uint8_t **payload, uint32_t *payload_bytes) noexcept nogil
    # The reverse: OK or CORRUPT (the codec refuses, or the length is not a page).
    cdef int expand(self, hfn_t frame, const uint8_t *payload, uint32_t payload_bytes) noexcept nogil
    # What a swap slot keeps of a frame: a pointer to PAGE_SIZE bytes, or to the 8-byte id; and its length.
    cdef const uint8_t *raw(self, hfn_t frame) noexcept nogil
    cdef uint8_t *raw_target(self, hfn_t frame) noexcept nogil
    cdef readonly uint32_t raw_bytes
    # Give the host's memory back to this machine; there are no frames any more.
    cdef void release(self) noexcept
    cpdef object check(self)


cdef class Bytes(Content):
    cdef const uint8_t *_corpus           # (nr_sources - 1) * 4096 bytes, borrowed from _corpus_owner
    cdef object _corpus_owner
    cdef void *_reserved                  # the mapping around the arena
    cdef size_t _mapped                   # bytes of the arena: nr_frames pages, or more where it is one that was kept
    cdef uint8_t *_scratch                # one compressed block
    cdef readonly bint huge_pages         # the kernel backs every whole 2 MiB of the arena with huge pages
    cdef readonly uint64_t huge_bytes     # how much of the arena it does back with them

    cdef object _attach(self, corpus, Codec codec)
