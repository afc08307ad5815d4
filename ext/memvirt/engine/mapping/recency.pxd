from ..memory.frames cimport Frames
from ..replacement.order cimport Order
from ..types cimport MAX_VMS, NONE, NONE16, gfn_t, hfn_t, uint8_t, uint32_t, vmid_t
from .ages cimport Ages
from .lazylist cimport LazyList
from .leaf cimport Leaves
from .rmap cimport ReverseMap

# The order of a VM's own pages.
cdef struct Own:
    void *order                 # an Order that _kept holds; NULL: this VM has none
    uint32_t *frame_of          # [ids] of a resident, its frame
    uint32_t *spare             # [ids] ids that no resident has; the last is given out first
    uint8_t *left               # [ids] of a page: it went out, and nothing has come back there since
    uint32_t nr_spare
    uint32_t ids                # as many as the VM has pages


cdef class Recency:
    cdef readonly Order order                   # of all pages; its ids are frames, its keys backing records
    cdef readonly LazyList lazies               # pages that were given up lazily; they are in no order
    cdef readonly uint32_t nr_own               # VMs that have an order of their own
    cdef Own own[MAX_VMS]
    cdef Frames frames
    cdef Leaves leaves
    cdef ReverseMap rmap
    cdef Ages ages
    cdef uint32_t *_id_of                       # [nr_frames] its id in the order of who pays for it, or NONE
    cdef dict _kept                             # vm -> its Order
    cdef tuple _recipe                          # name, options and seed of the host's order

    cdef inline bint has_own(self, vmid_t vm) noexcept nogil:
        return self.nr_own != 0 and vm != NONE16 and self.own[vm].order != NULL

    cdef inline int insert(self, hfn_t frame, uint32_t key, gfn_t gfn) except -1 nogil:
        """The frame is resident. key, gfn: what it comes back as, the record and the VM's page; NONE: as nothing."""
        self.order.insert(frame, key)
        return self.join(frame, gfn) if self.nr_own else 0

    cdef inline int touch(self, hfn_t frame) except -1 nogil:
        self.order.touch(frame)
        return self.touch_own(frame) if self.nr_own else 0

    cdef inline int forget(self, hfn_t frame) except -1 nogil:
        self.order.forget(frame)
        return self.part(frame) if self.nr_own else 0

    cdef inline int spare(self, hfn_t frame) except -1 nogil:
        self.order.spare(frame)
        return self.spare_own(frame) if self.nr_own else 0

    # The frame may be reclaimed from now on: it is in the orders. key, gfn: as insert has them.
    cdef int enter(self, hfn_t frame, uint32_t key, gfn_t gfn) except -1 nogil
    # It may not, or is about to be free: it is in no order, and in no list.
    cdef int leave(self, hfn_t frame) except -1 nogil
    # Its page is given up lazily: from the orders into the list.
    cdef int give_up(self, hfn_t frame) except -1 nogil
    # If it was, it is like any other from now on: a newcomer in the orders.
    cdef int keep(self, hfn_t frame) except -1 nogil
    # The VM's page (the lowest) at which the payer of this frame will miss it, asked before the frame loses its entries.
    cdef gfn_t page_of(self, hfn_t frame) noexcept nogil
    cdef int take(self, hfn_t frame, uint32_t key, gfn_t gfn) except -1 nogil
    # The page is in another frame; `new` has the flags of the old already.
    cdef int rename(self, hfn_t frame, hfn_t new) except -1 nogil
    # Of the order of who pays for the frame, if there is one.
    cdef int join(self, hfn_t frame, gfn_t gfn) except -1 nogil
    cdef int part(self, hfn_t frame) except -1 nogil
    cdef int touch_own(self, hfn_t frame) except -1 nogil
    cdef int spare_own(self, hfn_t frame) except -1 nogil
    cdef Order order_of(self, vmid_t vm)
    cdef bint thrashes(self, vmid_t vm, gfn_t gfn, uint32_t key) noexcept nogil

    cdef void set_recipe(self, str name, dict options, object seed)
    cdef int begin(self, vmid_t vm, uint32_t nr_pages, uint32_t capacity) except -1
    cdef int end(self, vmid_t vm) except -1
    cdef void _release(self, Own *own) noexcept
    cdef int forget_history(self, vmid_t vm) except -1 nogil
    cdef int _take_in(self, vmid_t vm, uint32_t nr_pages) except -1
    cdef hfn_t _frame_at(self, vmid_t vm, gfn_t gfn) noexcept nogil
    cpdef object check(self)
