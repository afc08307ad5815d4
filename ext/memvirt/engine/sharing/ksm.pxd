from ..types cimport MAX_VMS, gfn_t, hfn_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, vmid_t
from .advisor cimport Advisor
from .ksm_items cimport Item, Items
from .scanner cimport Scanner
from .stable cimport StableTree
from .treap cimport Treap


cdef class KsmScanner(Scanner):
    cdef readonly StableTree stable
    cdef readonly Treap unstable
    cdef readonly Items items
    cdef uint32_t at_vm                         # where the pass is: the VM and the guest page looked at next
    cdef gfn_t at_gfn
    cdef bint met                               # a VM in this pass
    cdef bint in_pass
    cdef readonly bint smart_scan
    cdef uint64_t nr_shared                     # stable nodes with users
    cdef uint64_t nr_sharing                    # further users
    cdef readonly uint64_t pages_unshared
    cdef readonly uint64_t pages_skipped
    cdef uint64_t no_item                       # pages not looked at for want of a frame for their items
    cdef readonly Advisor advisor               # chooses pages_to_scan; None: it stays as it was set

    cdef bint _next_page(self, hfn_t *frame, uint32_t *id) except? True nogil
    cdef void _forget(self, vmid_t vm, gfn_t first, gfn_t end) noexcept nogil
    cdef void _remove(self, uint32_t id) noexcept nogil
    cdef void _append(self, uint32_t id, uint32_t node) noexcept nogil
    cdef bint _skip(self, Item *item) noexcept nogil
    cdef bint _look(self, hfn_t frame, uint32_t id) except? True nogil
    cdef bint _search(self, hfn_t frame, uint32_t id) except? True nogil
    cdef bint _search_unstable(self, hfn_t frame, uint32_t id) except? True nogil
    cdef bint _merge_two(self, hfn_t frame, uint32_t id, hfn_t other, uint32_t other_id) except? True nogil
    cdef void _begin_pass(self) noexcept nogil
    cdef void _end_pass(self) noexcept nogil
