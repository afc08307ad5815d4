"""Content with a face for tests: what frames hold, read and written from Python. Every argument is examined here."""

cimport cython
from libc.string cimport memcpy

from ..content.content cimport Content
from ..types cimport OK, PAGE_WORDS, hfn_t, uint8_t, uint32_t, uint64_t

from memvirt.errors import ConfigError


@cython.final
cdef class PageProbe:
    """Some content. What it offers by itself is offered here, too."""

    cdef readonly Content content

    def __init__(self, Content content not None):
        self.content = content

    def __getattr__(self, name):
        return getattr(self.content, name)

    def clear_frame(self, frame):
        """Make the frame a page of zeros."""
        self.content.clear(self._frame(frame))

    def copy_frame(self, target, source):
        """Copy frame `source` to frame `target`."""
        self.content.copy(self._frame(target), self._frame(source))

    def fill_frame(self, frame, source):
        """Fill the frame with source page `source`: 0 for zeros, r + 1 for row r of the corpus."""
        if not 0 <= source < self.content.nr_sources:
            raise ConfigError(f"source {source}: must be 0 to {self.content.nr_sources - 1}")
        self.content.fill(self._frame(frame), source)

    def fill_frame_same(self, frame, value):
        """Set every 8-byte word of the frame to `value`, which is 0 to 2^64 - 1."""
        self.content.fill_same(self._frame(frame), value)

    def frame_same_filled(self, frame):
        """The value that every word has, or None."""
        cdef uint64_t value = 0
        return value if self.content.same_filled(self._frame(frame), &value) else None

    def load_word(self, frame, word):
        """The 8-byte word number `word` (0 to 511) of the frame."""
        return self.content.load(self._frame(frame), self._word(word))

    def tag_word(self, frame, word, tag):
        """An access write: word number `word` becomes `tag`, 1 to 2^31 - 1."""
        if not 1 <= tag < 2**31:
            raise ConfigError(f"tag {tag}: must be 1 to {2**31 - 1}")
        self.content.store_tag(self._frame(frame), self._word(word), tag)

    def frame_hash(self, frame):
        """64-bit hash of the content."""
        return self.content.hash(self._frame(frame))

    def frame_checksum(self, frame):
        """32-bit checksum of the content."""
        return self.content.checksum(self._frame(frame))

    def compare_frames(self, a, b):
        """-1, 0 or 1 as frame a sorts before, equals or sorts after frame b."""
        cdef int order = self.content.compare(self._frame(a), self._frame(b))
        return (order > 0) - (order < 0)

    def compress_frame(self, frame):
        """(compressed length, payload) of the frame, or None when it would exceed a page."""
        cdef const uint8_t *payload = NULL
        cdef uint32_t payload_bytes = 0
        cdef uint32_t length = self.content.compress(self._frame(frame), &payload, &payload_bytes)
        return (length, payload[:payload_bytes]) if length else None

    def expand_frame(self, frame, payload):
        """Fill the frame from a payload; False when it is corrupt (the frame's content is then undefined)."""
        cdef bytes source = bytes(payload)
        return self.content.expand(self._frame(frame), <const uint8_t *><const char *>source, len(source)) == OK

    def frame_raw(self, frame):
        """What a swap slot would keep of the frame: raw_bytes bytes."""
        return self.content.raw(self._frame(frame))[:self.content.raw_bytes]

    def set_frame_raw(self, frame, raw):
        """The reverse of frame_raw."""
        cdef bytes source = bytes(raw)
        if len(source) != self.content.raw_bytes:
            raise ConfigError(f"{len(source)} raw bytes: must be {self.content.raw_bytes}")
        memcpy(self.content.raw_target(self._frame(frame)), <const char *>source, self.content.raw_bytes)

    cdef hfn_t _frame(self, frame) except? 0xFFFFFFFF:
        if not 0 <= frame < self.content.nr_frames:
            raise ConfigError(f"frame {frame}: must be 0 to {int(self.content.nr_frames) - 1}")
        return frame

    cdef uint32_t _word(self, word) except? 0xFFFFFFFF:
        if not 0 <= word < PAGE_WORDS:
            raise ConfigError(f"word {word}: must be 0 to {PAGE_WORDS - 1}")
        return word
