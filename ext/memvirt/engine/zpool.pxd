from .frames cimport Frames
from .types cimport hfn_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef class Zpool:
    # Compressed pages in zspages built from host frames (FRAME_ZSPAGE). Knows handles, nothing of VMs or backings.
    cdef readonly Frames frames
    cdef readonly uint32_t nr_objects, nr_pool_frames
    cdef readonly uint64_t stored_bytes             # sum of the accounted lengths

    # Frames that storing an object of this length needs right now (0 when a zspage of its class has room).
    cdef uint32_t frames_needed(self, uint32_t length) noexcept nogil
    # Store payload_bytes bytes, accounted as `length` (equal to payload_bytes for real bytes; fingerprints keep 8).
    # Takes its frames itself, leaving `reserve` free. OK, NO_FRAME or POOL_FULL; counts each reject.
    cdef int store(self, const uint8_t *payload, uint32_t payload_bytes, uint32_t length, uint32_t reserve,
                   uint32_t *handle) except -1 nogil
    # A contiguous view of the object (a scratch copy when it spans frames), valid until the next call.
    cdef const uint8_t *view(self, uint32_t handle, uint32_t *payload_bytes) except NULL nogil
    cdef int free(self, uint32_t handle) except -1 nogil
    # The live object that was stored longest ago, or NONE: the writeback victim. `rotate` gives it a second chance.
    cdef uint32_t oldest(self) noexcept nogil
    cdef int rotate(self, uint32_t handle) except -1 nogil
    # Move objects from sparse zspages to full ones of the same class, returning emptied frames. Frames gained.
    cdef uint32_t compact(self) except? 0xFFFFFFFF nogil
    cpdef object check(self)
