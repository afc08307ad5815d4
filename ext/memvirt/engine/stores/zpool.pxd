from ..memory.frames cimport Frames
from ..types cimport PAGE_SIZE, hfn_t, uint8_t, uint32_t, uint64_t
from .zspage cimport LOADED, OWNER, Zspages, slot_of

# Stores declined, by reason; and how the order and compaction have worked.
cdef enum:
    POOL_LIMIT_HITS = 0         # times the pool became full
    REJECT_POOL_LIMIT           # the pool is at limit_frames
    REJECT_HYSTERESIS           # below it, but not yet down to accept_frames
    REJECT_NO_FRAME             # the host has no frame to spare, for the object or for the records
    REJECT_NO_HANDLE            # max_words of records are in use
    REJECT_TOO_BIG              # longer than reject_above
    STORED_RAW                  # stores of pages as they are
    ROTATIONS
    COMPACT_MOVED_OBJECTS
    COMPACT_MOVED_BYTES
    COMPACT_FREED_FRAMES
    NR_COUNTS


cdef class Zpool:
    # Compressed pages in zspages built from host frames (FRAME_ZSPAGE). Knows owners as numbers, nothing of VMs.
    cdef readonly Frames frames
    cdef readonly Zspages zspages
    cdef readonly uint32_t nr_objects, nr_pool_frames
    cdef readonly uint64_t stored_bytes             # sum of the accounted lengths
    cdef readonly uint32_t limit_frames             # at this many the pool is full
    cdef readonly uint32_t accept_frames            # and full it stays until it has no more than these
    cdef readonly uint32_t reject_above             # bytes: longer objects are declined
    cdef readonly bint keep_raw                     # but not pages as they are
    cdef readonly uint32_t nr_raw                   # objects of PAGE_SIZE: pages as they are, not compressed
    cdef readonly bint full                         # limit_frames was reached, accept_frames not yet seen again
    cdef uint64_t count[NR_COUNTS]                  # by the enum above
    cdef uint32_t _oldest                           # handle, or NONE; always NONE where no order is kept
    cdef uint8_t _scratch[4096]                     # view() of an object that spans two frames

    # Whose a live object is: 28 bits for the caller to keep, 0 at first.
    cdef inline uint32_t owner(self, uint32_t handle) noexcept nogil:
        return self.zspages.word[handle] & OWNER

    cdef inline void set_owner(self, uint32_t handle, uint32_t owner) noexcept nogil:
        assert owner <= OWNER
        self.zspages.word[handle] = (self.zspages.word[handle] & ~<uint32_t>OWNER) | owner

    cdef inline bint loaded(self, uint32_t handle) noexcept nogil:
        """Viewed since it was stored or rotated."""
        return self.zspages.word[handle] & LOADED != 0

    cdef inline bint is_raw(self, uint32_t handle) noexcept nogil:
        """A live object is a page as it is: to be copied, not decompressed."""
        cdef uint32_t zspage = self.zspages.find(handle)
        return self.zspages.length(zspage, slot_of(zspage, handle)) == PAGE_SIZE

    # Store payload_bytes bytes, accounted as `length` (equal to payload_bytes for real bytes; fingerprints keep 8).
    # Takes its frames itself, leaving `reserve` free. OK, NO_FRAME, POOL_FULL or REJECTED; counts each reject.
    cdef int store(self, const uint8_t *payload, uint32_t payload_bytes, uint32_t length, uint32_t reserve,
                   uint32_t *handle) except -1 nogil
    # Frames that the pool and its records come to at most, with that many objects in it.
    cdef uint64_t most_frames(self, uint64_t objects) noexcept nogil
    # A contiguous view of the object (a scratch copy when it spans frames), valid until the next call. Marks it loaded.
    cdef const uint8_t *view(self, uint32_t handle, uint32_t *payload_bytes) except NULL nogil
    # Hints that a live object is about to be loaded and freed, the second some 100 ns after the first: the record of
    # its zspage; its bytes, and its neighbours in the order.
    cdef void expect(self, uint32_t handle) noexcept nogil
    cdef void expect_bytes(self, uint32_t handle) noexcept nogil
    cdef int free(self, uint32_t handle) except -1 nogil
    # The live object that was stored longest ago, or NONE: the writeback victim. `rotate` gives it a second chance: it
    # becomes the youngest and its loaded mark goes. Only of a pool that is `aged`.
    cdef uint32_t oldest(self) noexcept nogil
    cdef int rotate(self, uint32_t handle) except -1 nogil
    # Move one object from a sparse zspage to a full one of the same class, or say that there is nothing to gain by it.
    # Such classes are looked for from size_class[0] down, which becomes the one where it was. The caller is told who
    # has which handle from now on.
    cdef bint compact_one(self, int *size_class, uint32_t *owner, uint32_t *handle) except -1 nogil
    # Frame `source` of a zspage becomes `target` (taken as FRAME_ZSPAGE), bytes and all; the caller gives `source`
    # back. No handle changes.
    cdef int move_frame(self, hfn_t source, hfn_t target) except -1 nogil
    cpdef uint64_t metadata_bytes(self) noexcept nogil
    cdef bint _declines(self, uint32_t length, int *outcome) noexcept nogil
    cdef uint32_t _require(self, uint32_t handle) except? 0xFFFFFFFF nogil
    cdef void _append(self, uint32_t handle) noexcept nogil
    cdef void _unlink(self, uint32_t handle) noexcept nogil
    cdef void _replace(self, uint32_t old, uint32_t new) noexcept nogil
    cdef int _move_object(self, uint32_t source, uint32_t target, uint32_t *owner, uint32_t *handle) except -1 nogil
    cdef object _check_objects(self, set live)
    cdef object _check_order(self, set live)
    cdef object _check_totals(self)
    cpdef object check(self)
