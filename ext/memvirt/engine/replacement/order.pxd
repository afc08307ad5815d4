from libc.stddef cimport size_t

from ..types cimport int64_t, uint32_t, uint64_t

cdef enum:
    LAST_ID = 0xFFFFFFEF                       # of ids and keys: leaves NONE and the numbers of list sentinels free


cdef class Marks:
    # The accessed marks in page tables of whoever asks an order: it may clear those of its residents. Not 0: it was set.
    cdef int clear(self, uint32_t id) except -1 nogil


cdef class Order:
    # A passive replacement order: it is told what happens and asked who goes. It knows nothing of frames or VMs.
    #   ids  0 .. ids - 1 name residents (a Host uses frame numbers, simulate uses page numbers)
    #   keys 0 .. keys - 1 name contents across evictions, for ghosts (a Host uses backing ids, simulate page numbers);
    #   key NONE = no history (a first touch)
    cdef readonly uint32_t ids, keys
    cdef readonly uint32_t capacity            # residents the order may plan with (its queue shares, ghost sizes)
    cdef readonly uint32_t nr_resident
    cdef readonly uint32_t most                # residents there can ever be: ids, or capacity if bounded

    cdef int expect(self, uint32_t key) except -1 nogil                 # hint: key comes in next, room is made for it
    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil    # id became resident; key: what it comes back as
    cdef int touch(self, uint32_t id) except -1 nogil                   # id was referenced
    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil              # who should go next (stays in); NONE: nobody
    # The same of who has page tables: an order that moves pages between lists may clear their marks on the way.
    cdef uint32_t choose(self, Marks marks) except? 0xFFFFFFFE nogil
    # Of who has as many as it wants: whether more pages are to be asked for now, as the order looks at several at a time.
    cdef bint goes_on(self, Marks marks) except? True nogil
    cdef void pass_time(self, int64_t now) noexcept nogil               # simulated time, for an order that goes by it
    cdef int spare(self, uint32_t id) except -1 nogil                   # the candidate may not go now: next one, please
    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil      # id is evicted and leaves `key` behind
    cdef int forget(self, uint32_t id) except -1 nogil                  # id left for another reason (freed, pinned)
    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil    # the page of id is called new from now on
    # This order, new, gets other's residents: it evicts them as other would if it made one round now, which other makes.
    # Both are of one class and size. Keys and ghosts are not copied.
    cdef int copy_from(self, Order other) except -1
    cdef int forget_key(self, uint32_t key) except -1 nogil             # this content will never come back
    cdef bint holds(self, uint32_t id) noexcept nogil
    # The page that comes back as key was active, and will be: memory thrashes. Of an order that knows which ones are.
    cdef bint thrashes(self, uint32_t key) noexcept nogil
    # Misses of a demand-paged run in which ids and keys are both the page numbers and every hit is seen.
    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil
    cpdef object check(self)
