from .replacement.order cimport Order
from .shareindex cimport ShareIndex
from .stall cimport Stalls
from .types cimport hfn_t, int64_t, uint8_t, uint32_t, uint64_t, vmid_t
from .writeback cimport CLUSTER, Writeback


cdef class Reclaim(Writeback):
    cdef readonly Stalls stalls
    cdef Order order
    cdef readonly uint32_t compress_limit       # a page that does not compress to this many bytes is not kept compressed
    cdef ShareIndex index                       # asked to share a page before it is written out; None: nobody is
    cdef bint last_chance
    cdef uint64_t evictions                     # grows whenever entries changed: "classify again"
    cdef bint awake                             # the background reclaimer is working
    cdef int64_t background_ns                  # its clock
    cdef int64_t harvest_interval_ns            # 0: marks are only read when a page is a candidate
    cdef int64_t next_harvest_ns
    cdef hfn_t batch[CLUSTER]                   # pages isolated for one write to swap
    cdef uint32_t nr_batch

    cdef int secure(self, vmid_t vm, uint32_t guest_frames, uint32_t table_frames) except -1 nogil
    cdef int make_room(self, uint32_t frames) except -1 nogil
    cdef int catch_up(self, int64_t now) except -1 nogil
    cdef uint32_t shrink(self, uint32_t want, vmid_t only_vm) except? 0xFFFFFFFF nogil
    cdef int harvest(self) except -1 nogil
    cdef int _direct(self, vmid_t vm, uint32_t frames) except -1 nogil
    cdef int _own_limit(self, vmid_t vm, uint32_t guest_frames) except -1 nogil
    cdef bint _evictable(self, hfn_t frame, vmid_t only_vm, hfn_t *insisted) except? True nogil
    cdef int _evict(self, hfn_t frame) except -1 nogil
    cdef int _to_zpool(self, hfn_t frame) except -1 nogil
    cdef uint32_t _flush(self) except? 0xFFFFFFFF nogil
