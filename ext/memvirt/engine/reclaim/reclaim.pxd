from ..counters cimport Meter
from ..device cimport Device
from .evict cimport Eviction
from .harvest cimport Harvester
from .lazyfree cimport LazyFree
from ..mapping.charges cimport Charges
from ..mapping.leaf cimport Leaves
from ..mapping.mapping cimport Mapping
from ..mapping.recency cimport Recency
from ..mapping.tables cimport Tables
from ..memory.frames cimport Frames
from .marks cimport TableMarks
from .readahead cimport Readahead
from .sweep cimport Sweep
from ..simtime cimport Actor
from ..stall cimport Stalls
from ..stores.zpool cimport Zpool
from ..types cimport MAX_VMS, backing_t, gfn_t, hfn_t, int64_t, uint32_t, uint64_t, vmid_t
from .writeback cimport Writeback


cdef class Reclaim(Actor):
    cdef readonly Mapping mapping
    cdef Charges charges
    cdef Tables tables
    cdef Leaves leaves
    cdef readonly Device device
    cdef readonly Stalls stalls
    cdef readonly Harvester harvester
    cdef readonly Readahead readahead
    cdef readonly Writeback shrinker            # of the zpool
    cdef readonly Eviction eviction             # how a page goes
    cdef Frames frames
    cdef Recency recency
    cdef Sweep sweep                            # of a VM's pages by address
    cdef LazyFree lazyfree                      # of pages that were given up: they go first
    cdef TableMarks marks
    cdef Zpool zpool
    cdef Meter meter
    cdef vmid_t whose                           # whose pages go: NONE16: anyone's
    cdef bint for_limit                         # because its limit is so low, and not because they are cold
    cdef readonly bint ease_pool                # the pool bears its share before it is full
    cdef uint64_t swap_ins_seen                 # swap_pages_in when the pool was last eased
    cdef readonly bint by_shares                # pages go of the VM that pays least for a frame
    cdef bint foretold                          # what is reclaimed for is known to be there

    # OK: guest_frames + table_frames frames can be taken now. AGAIN: they can, and entries may have changed on the way.
    # Else NO_FRAME or LIMITED. The only step of a fault that reclaims.
    cdef int secure(self, vmid_t vm, uint32_t guest_frames, uint32_t table_frames) except -1 nogil
    cdef int _secure(self, vmid_t vm, uint32_t guest_frames, uint32_t want) except -1 nogil
    cdef uint32_t _floor(self) noexcept nogil
    cdef uint32_t highest_floor(self, bint huge) noexcept nogil
    cdef int _free_up(self, vmid_t vm, uint32_t want) except -1 nogil
    # Before a page comes back for the VM: if from swap, room for what its window holds, as far as it can be had; *done: it
    # was asked for. OK, or AGAIN.
    cdef int make_room_ahead(self, vmid_t vm, gfn_t gfn, backing_t backing, bint *done) except -1 nogil
    # True if `frames` frames are free, or would be once every page has gone that may go.
    cdef bint could_free(self, uint64_t frames, vmid_t but) noexcept nogil
    cdef bint could_take(self, uint32_t frames, bint secured) noexcept nogil
    cdef uint32_t _sleep_level(self) noexcept nogil
    cdef int make_room(self, uint64_t frames, int64_t now) except -1
    cdef int keep_aside(self) except -1 nogil
    cdef int keep_limits(self) except -1 nogil
    cdef int pass_time(self, int64_t now) except -1 nogil
    cdef uint32_t shrink(self, uint32_t want) except? 0xFFFFFFFF nogil
    cdef uint32_t shrink_own(self, vmid_t vm, uint32_t want) except? 0xFFFFFFFF nogil
    cdef int _ease_pool(self) except -1 nogil
    cdef int _direct(self, vmid_t vm, uint32_t frames) except -1 nogil
    cdef int _own_limit(self, vmid_t vm, uint32_t guest_frames) except -1 nogil
    cdef bint _asked_of(self, hfn_t frame, hfn_t *insisted) except? True nogil
    cdef bint _evictable(self, hfn_t frame, hfn_t *insisted) except? True nogil
