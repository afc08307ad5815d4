from .frames cimport Frames
from .sizeclass cimport NR_SIZES, SizeClass
from .types cimport hfn_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    NR_GROUPS = 12              # 0: empty, 1..10: below 10 % .. below 100 % of the slots used, 11: full
    GROUP_FULL = 11
    NO_CLASS = 255              # size_class of a zspage id that is not in use
    FREE_SLOT = 0x80000000      # flag of a free slot's owner cell
    LAST_SLOT = 0xFFFF          # ends a chain of free slots

# One zspage, 24 bytes. Its cells are the frame numbers of the chain, then one owner per slot: the handle stored there,
# or FREE_SLOT | the next free slot.
cdef struct Zspage:
    uint32_t *cells             # valid unless the class has one frame and one slot: then the two cells lie in here
    uint32_t next               # in the list of its (class, group), or of free ids
    uint32_t prev
    uint16_t used               # slots with an object
    uint16_t free_slot          # first free slot, or LAST_SLOT
    uint8_t size_class
    uint8_t group


cdef inline int group_of(uint32_t used, uint32_t objects) noexcept nogil:
    """get_fullness_group of zsmalloc."""
    if used == 0:
        return 0
    if used == objects:
        return GROUP_FULL
    return 100 * used // objects // 10 + 1


cdef inline uint64_t cell_bytes(const SizeClass *size_class) noexcept nogil:
    """What the cells of a zspage occupy on the heap: a multiple of 16 from 32 up, 8 of it the allocator's own."""
    cdef uint64_t n = size_class.frames + size_class.objects
    return 0 if n <= 2 else max(<uint64_t>32, (4 * n + 8 + 15) & ~<uint64_t>15)


cdef class Zspages:
    cdef readonly Frames frames
    cdef readonly uint32_t nr_frames            # frames of all zspages
    cdef readonly int nr_classes
    cdef SizeClass classes[NR_SIZES]
    cdef uint8_t class_of[NR_SIZES]             # by size_index(length)
    cdef uint32_t nr_zspages[NR_SIZES]          # by class
    cdef uint32_t nr_used[NR_SIZES]             # slots with an object, by class
    cdef uint32_t head[NR_SIZES][NR_GROUPS]     # most recently inserted zspage of each group, or NONE
    cdef Zspage *zspage                         # [_capacity]; ids below _high have been used
    cdef uint32_t _capacity, _high, _free_id
    cdef uint64_t _cell_bytes                   # allocated for cells that are not inline

    cdef uint32_t *cells(self, uint32_t zspage) noexcept nogil
    cdef uint32_t owner(self, uint32_t zspage, uint32_t slot) noexcept nogil
    # The zspage that the next object of this class goes to: head of the fullest group with a free slot, or NONE.
    cdef uint32_t roomiest(self, int size_class) noexcept nogil
    # The emptiest zspage with a free slot, but not `other`; NONE when there is none.
    cdef uint32_t sparsest(self, int size_class, uint32_t other) noexcept nogil
    # An empty zspage, all its frames or none. OK or NO_FRAME.
    cdef int create(self, int size_class, uint32_t reserve, uint32_t *zspage) except -1 nogil
    cdef uint32_t take_slot(self, uint32_t zspage, uint32_t owner) noexcept nogil
    # Gives back the frames with the last object; how many.
    cdef int give_slot(self, uint32_t zspage, uint32_t slot) except -1 nogil
    # Bytes of a slot. `view` points into the frame, or copies to scratch (PAGE_SIZE bytes) what spans two.
    cdef void write(self, uint32_t zspage, uint32_t slot, const uint8_t *source, uint32_t n) noexcept nogil
    cdef const uint8_t *view(self, uint32_t zspage, uint32_t slot, uint32_t n, uint8_t *scratch) noexcept nogil
    cdef void expose(self, uint32_t zspage, uint32_t slot, uint32_t n) noexcept nogil
    # The zspage now has its bytes of frame `source` in `target`; which zspage.
    cdef uint32_t rewire(self, hfn_t source, hfn_t target) except? 0xFFFFFFFF nogil
    cdef uint64_t metadata_bytes(self) noexcept nogil
    cdef void _insert(self, uint32_t zspage, int group) noexcept nogil
    cdef void _remove(self, uint32_t zspage) noexcept nogil
    cdef void _regroup(self, uint32_t zspage) noexcept nogil
    cdef int _grow(self) except -1 nogil
    cdef int _destroy(self, uint32_t zspage) except -1 nogil
    cdef bint _inline(self, uint32_t zspage) noexcept nogil
    cdef uint32_t _adopt(self, int size_class, const uint32_t *cells) noexcept nogil
    cdef void _hide(self, hfn_t frame) noexcept nogil
    cdef void _reveal(self, hfn_t frame) noexcept nogil
    cdef list _members(self, int size_class, int group)
    cdef object _check_one(self, uint32_t zspage, int size_class, int group)
    cpdef object check(self)
