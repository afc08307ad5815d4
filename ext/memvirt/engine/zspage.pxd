from .frames cimport Frames
from .sizeclass cimport NR_SIZES, SizeClass
from .types cimport hfn_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    NR_GROUPS = 12              # 0: empty, 1..10: below 10 % .. below 100 % of the slots used, 11: full
    GROUP_FULL = 11
    HEADER_WORDS = 4
    NO_GROUP = 255              # group of a record whose zspage is gone
    FREE_SLOT = 0x80000000      # flag of a free slot's owner cell
    LAST_SLOT = 0xFFFF          # ends a chain of free slots

# One zspage: 16 bytes, then its cells: the frames of the chain, then one owner per slot, which is the handle stored
# there, or FREE_SLOT | the next free slot.
cdef struct Zspage:
    uint32_t next               # in the list of its (class, group), or of the class's free records
    uint32_t prev
    uint16_t used               # slots with an object
    uint16_t free_slot          # first free slot, or LAST_SLOT
    uint8_t size_class
    uint8_t group
    uint32_t cells[1]           # frames + objects of the class


cdef inline int group_of(uint32_t used, uint32_t objects) noexcept nogil:
    """get_fullness_group of zsmalloc."""
    if used == 0:
        return 0
    if used == objects:
        return GROUP_FULL
    return 100 * used // objects // 10 + 1


cdef inline uint32_t words_of(const SizeClass *shape) noexcept nogil:
    """32-bit words of a zspage's record."""
    return HEADER_WORDS + shape.frames + shape.objects


cdef class Zspages:
    cdef readonly Frames frames
    cdef readonly uint32_t nr_frames            # frames of all zspages
    cdef readonly int nr_classes
    cdef SizeClass classes[NR_SIZES]
    cdef uint8_t class_of[NR_SIZES]             # by size_index(length)
    cdef uint32_t nr_zspages[NR_SIZES]          # by class
    cdef uint32_t nr_used[NR_SIZES]             # slots with an object, by class
    cdef uint32_t head[NR_SIZES][NR_GROUPS]     # most recently inserted zspage of each group, or NONE
    cdef uint32_t free_record[NR_SIZES]         # records to use again, by class, or NONE
    cdef uint32_t *_word                        # [_room] all records; a zspage's id is where its record starts
    cdef uint32_t _room, _end                   # words there are, and were ever used

    cdef inline Zspage *at(self, uint32_t zspage) noexcept nogil:
        return <Zspage *>(self._word + zspage)

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
    # Ask for the record's lines that say where a slot lies, and that give_slot changes; or for the bytes themselves.
    cdef void expect(self, uint32_t zspage, uint32_t slot) noexcept nogil
    cdef void expect_bytes(self, uint32_t zspage, uint32_t slot, uint32_t n) noexcept nogil
    cdef void expose(self, uint32_t zspage, uint32_t slot, uint32_t n) noexcept nogil
    # The zspage now has its bytes of frame `source` in `target`; which zspage.
    cdef uint32_t rewire(self, hfn_t source, hfn_t target) except? 0xFFFFFFFF nogil
    cdef uint64_t metadata_bytes(self) noexcept nogil
    cdef void _insert(self, uint32_t zspage, int group) noexcept nogil
    cdef void _remove(self, uint32_t zspage) noexcept nogil
    cdef void _regroup(self, uint32_t zspage) noexcept nogil
    cdef int _destroy(self, uint32_t zspage) except -1 nogil
    cdef int _take_record(self, int size_class, uint32_t reserve, uint32_t *zspage) except -1 nogil
    cdef void _give_record(self, uint32_t zspage) noexcept nogil
    cdef SizeClass *_shape(self, uint32_t zspage) noexcept nogil
    cdef void _hide(self, hfn_t frame) noexcept nogil
    cdef void _reveal(self, hfn_t frame) noexcept nogil
    cdef list _members(self, int size_class, int group)
    cdef object _check_listed(self, uint32_t zspage, int size_class, set seen)
    cdef object _check_one(self, uint32_t zspage, int group)
    cpdef object check(self)
