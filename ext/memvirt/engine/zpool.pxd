from .frames cimport Frames
from .types cimport hfn_t, uint8_t, uint32_t, uint64_t
from .zspage cimport Zspages

# A handle's entry is one word:
#   live    1, loaded (1 bit), length - 1 (12 bits), slot (11 bits), zspage (32 bits)
#   free    the next free handle, or NONE
cdef enum:
    SLOT_SHIFT = 32
    SLOT_MASK = 0x7FF
    LENGTH_SHIFT = 43
    LENGTH_MASK = 0xFFF
    LOADED_SHIFT = 55
    LIVE_SHIFT = 56

# 16 bytes: four share a cache line, and a load touches one.
cdef struct Handle:
    uint64_t entry
    uint32_t older              # neighbours in store order; valid for live handles
    uint32_t younger


# Stores declined, by reason; and how the order and compaction have worked.
cdef enum:
    POOL_LIMIT_HITS = 0         # times the pool became full
    REJECT_POOL_LIMIT           # the pool is at limit_frames
    REJECT_HYSTERESIS           # below it, but not yet down to accept_frames
    REJECT_NO_FRAME             # the host has no frame to spare, for the object or for the tables
    REJECT_NO_HANDLE            # max_objects are stored
    REJECT_TOO_BIG              # longer than reject_above
    ROTATIONS
    COMPACT_MOVED_OBJECTS
    COMPACT_MOVED_BYTES
    COMPACT_FREED_FRAMES
    NR_COUNTS


cdef inline uint32_t zspage_of(uint64_t entry) noexcept nogil:
    return <uint32_t>entry


cdef inline uint32_t slot_of(uint64_t entry) noexcept nogil:
    return (entry >> SLOT_SHIFT) & SLOT_MASK


cdef inline uint32_t length_of(uint64_t entry) noexcept nogil:
    return ((entry >> LENGTH_SHIFT) & LENGTH_MASK) + 1


cdef inline uint64_t entry_for(uint32_t zspage, uint32_t slot, uint32_t length) noexcept nogil:
    return (zspage | <uint64_t>slot << SLOT_SHIFT | <uint64_t>(length - 1) << LENGTH_SHIFT
            | <uint64_t>1 << LIVE_SHIFT)


cdef class Zpool:
    # Compressed pages in zspages built from host frames (FRAME_ZSPAGE). Knows handles, nothing of VMs or backings.
    cdef readonly Frames frames
    cdef readonly Zspages zspages
    cdef readonly uint32_t nr_objects, nr_pool_frames
    cdef readonly uint64_t stored_bytes             # sum of the accounted lengths
    cdef readonly uint32_t limit_frames             # at this many the pool is full
    cdef readonly uint32_t accept_frames            # and full it stays until it has no more than these
    cdef readonly uint32_t reject_above             # bytes: longer objects are declined
    cdef readonly uint32_t max_objects
    cdef readonly bint full                         # limit_frames was reached, accept_frames not yet seen again
    cdef uint64_t count[NR_COUNTS]                  # by the enum above
    cdef Handle *_handle                            # [_capacity]
    cdef uint32_t *owner                            # [_owners] by handle: whose it is, for the caller to keep
    cdef uint64_t *_word                            # [_words] payloads of content without bytes; else NULL
    cdef uint32_t _capacity, _owners, _words, _high, _free_handle
    cdef uint32_t _oldest, _youngest
    cdef bint _in_frames                            # payloads are bytes in the frames
    cdef uint8_t _scratch[4096]                     # view() of an object that spans two frames

    # Store payload_bytes bytes, accounted as `length` (equal to payload_bytes for real bytes; fingerprints keep 8).
    # Takes its frames itself, leaving `reserve` free. OK, NO_FRAME, POOL_FULL or REJECTED; counts each reject.
    cdef int store(self, const uint8_t *payload, uint32_t payload_bytes, uint32_t length, uint32_t reserve,
                   uint32_t *handle) except -1 nogil
    # A contiguous view of the object (a scratch copy when it spans frames), valid until the next call. Marks it loaded.
    cdef const uint8_t *view(self, uint32_t handle, uint32_t *payload_bytes) except NULL nogil
    # Hints that a live object is about to be loaded and freed, each a step deeper and some 100 ns after the one before:
    # 0 its entry, 1 its zspage's record and its neighbours in age, 2 its bytes.
    cdef void expect(self, uint32_t handle, int step) noexcept nogil
    cpdef int free(self, uint32_t handle) except -1 nogil
    # The live object that was stored longest ago, or NONE: the writeback victim. `rotate` gives it a second chance: it
    # becomes the youngest and its loaded mark goes.
    cpdef uint32_t oldest(self) noexcept nogil
    cpdef int rotate(self, uint32_t handle) except -1 nogil
    cdef bint loaded(self, uint32_t handle) noexcept nogil          # viewed since it was stored or rotated
    cdef uint32_t length(self, uint32_t handle) noexcept nogil      # bytes accounted
    # Move objects from sparse zspages to full ones of the same class, returning emptied frames. Frames gained.
    cpdef uint32_t compact(self) except? 0xFFFFFFFF nogil
    # Frame `source` of a zspage becomes `target` (taken as FRAME_ZSPAGE), bytes and all; the caller gives `source`
    # back.
    cpdef int move_frame(self, hfn_t source, hfn_t target) except -1 nogil
    cpdef uint64_t metadata_bytes(self) noexcept nogil
    cdef bint _declines(self, uint32_t length, int *outcome) noexcept nogil
    cdef int _secure_handle(self, uint32_t reserve) except -1 nogil
    cdef bint _is_live(self, uint32_t handle) noexcept nogil
    cdef int _require_live(self, uint32_t handle) except -1 nogil
    cdef void _append(self, uint32_t handle) noexcept nogil
    cdef void _unlink(self, uint32_t handle) noexcept nogil
    cdef uint32_t _compact_class(self, int size_class) except? 0xFFFFFFFF nogil
    cdef int _move_object(self, uint32_t zspage, uint32_t slot, uint32_t target) except -1 nogil
    cdef object _check_entry(self, uint32_t handle, uint64_t entry)
    cdef object _check_totals(self)
    cpdef object check(self)
