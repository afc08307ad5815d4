from ..simtime cimport Clock
from ..content.content cimport Content
from ..counters cimport Histogram, Meter
from ..memory.frames cimport Frames
from ..mapping.listener cimport Listener
from ..mapping.mapping cimport Mapping
from ..types cimport hfn_t, int64_t, uint32_t, uint64_t, vmid_t

cdef struct Cell:
    hfn_t frame                 # NONE: empty
    uint32_t tag                # upper half of the hash

# Whose pages may merge. The order is that of SALTING in memvirt.names.
cdef enum Salting:
    SALT_GLOBAL = 0             # everyone's with everyone's
    SALT_TENANT = 1             # those of VMs of one domain
    SALT_VM = 2                 # those of one VM


cdef class ShareIndex(Listener):
    cdef readonly Mapping mapping
    cdef readonly Frames frames
    cdef readonly Content content
    cdef Clock clock
    cdef Meter meter
    cdef readonly hfn_t zero_frame          # NONE: zero pages are merged like any other
    cdef Salting salting
    cdef Cell *cell                         # [mask + 1] open addressing, linear probing; NULL: no table in use
    cdef uint32_t mask
    cdef readonly uint32_t nr_cells_used
    cdef uint64_t hash_mask                 # tests narrow it to force collisions: bytes must decide
    cdef bint rehash_hints                  # hash an unmerged candidate again before it is compared (ESX)
    cdef bint share_on_arrival              # look a page up as soon as its content has arrived (inline)
    cdef bint last_chance                   # look a page up before it is written out (ESX)
    cdef uint32_t max_page_sharing          # most entries that a look-up lets a frame get; NONE: any number
    cdef uint32_t keep_free                 # frames a merge must leave free for others
    cdef hfn_t *recent                      # [RECENT] ring of frames whose content has just arrived; NULL: not kept
    cdef uint32_t recent_first, nr_recent
    cdef int64_t *since_ns                  # [nr_frames] when the frame was given its page; merged: when it was merged
    cdef Histogram *time_to_merge           # simulated ns from a page being given its frame to that frame being saved
    cdef Histogram *lifetime                # simulated ns for which frames stayed merged
    cdef Listener follower                  # a scanner with structures of its own: told what this is told; or None
    cdef readonly uint64_t breaks           # merged frames that stopped being one
    cdef readonly uint64_t false_matches    # equal hash, different bytes
    cdef readonly uint64_t stale_hints      # candidates that had changed since they were hashed
    cdef readonly uint64_t no_frame         # merges put off for want of a frame
    cdef readonly uint64_t last_chance_merges
    cdef readonly uint64_t arrival_merges

    cdef inline uint32_t salt_of_vm(self, vmid_t vm) noexcept nogil:
        """Pages merge only if their VMs have the same salt."""
        if self.salting == SALT_VM:
            return <uint32_t>vm + 1
        return self.mapping.charges.of[vm].domain if self.salting == SALT_TENANT else 0

    cdef int use_table(self) except -1
    cdef int use_recent(self) except -1
    cdef int arrived(self, hfn_t frame) except -1 nogil
    cdef hfn_t next_recent(self) noexcept nogil
    cdef bint try_share(self, hfn_t frame) except? True nogil
    cdef bint try_last_chance(self, hfn_t frame) except? True nogil
    # A look-up in two steps, so that the cell can be on its way while the next page is hashed: `ahead` hashes and asks
    # for the cell, `find_or_add` uses it. The frame must not change in between.
    cdef uint64_t ahead(self, hfn_t frame) noexcept nogil
    # A hint, with no part in any result: ask for the cell of a frame that `ahead` may be asked for in a while. Where a
    # page is an id, its look-up is one cache line that is far away, and nothing else.
    cdef void foresee(self, hfn_t frame) noexcept nogil
    cdef hfn_t find_or_add(self, hfn_t frame, uint64_t hash) except? 0xFFFFFFFE nogil
    cdef bint room_for(self, uint32_t frames) noexcept nogil
    cdef bint merge(self, hfn_t duplicate, hfn_t kept) except? True nogil
    cdef bint merge_zero(self, hfn_t frame) except? True nogil
    cdef bint is_zero(self, hfn_t frame) noexcept nogil
    cdef void rebuild(self) noexcept nogil
    cdef uint32_t salt_of(self, hfn_t frame) noexcept nogil
    cdef uint64_t key_of(self, hfn_t frame) noexcept nogil
    cdef bint _room(self, hfn_t frame, hfn_t other) noexcept nogil
    cdef void _insert(self, hfn_t frame, uint64_t hash) noexcept nogil
    cdef bint mergeable(self, hfn_t frame) noexcept nogil
    cdef uint32_t _splits(self, hfn_t frame) noexcept nogil
    cdef int _split(self, hfn_t frame) except -1 nogil
    cdef void _saved(self, hfn_t frame) noexcept nogil
