from ..memory.frames cimport Frames
from .sizeclass cimport NR_SIZES, SizeClass
from ..types cimport hfn_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "stores/hamming.h" nogil:
    uint16_t mv_guard(uint32_t number)
    uint32_t mv_guarded(uint16_t kept)

cdef extern from "stores/zspage_head.h" nogil:
    uint32_t mv_head(const uint32_t *word, uint32_t at)

cdef enum:
    NR_GROUPS = 12              # 0: empty, 1..10: below 10 % .. below 100 % of the slots used, 11: full
    GROUP_FULL = 11
    FIRST_WORD = 16             # of the first record; heads.h may look at those before
    HEADER_WORDS = 3
    HEAD = 0x80000000           # set in Zspage.prev, the last word before the cells, and in no other
    NO_ZSPAGE = 0x7F7F7F7F      # ends a list; for memset, four equal bytes
    GROW = 256                  # words of records added at least
    MAX_WORDS = 0x20000000      # of all records: a handle has 29 bits

# Zspage.state: size class | first free slot, if there is one (8 bits) | slots with an object (9 bits)
cdef enum:
    USED = 0x1FF
    GIVEN_BACK = 0x1FF          # there, when the zspage is gone and the record waits for another
    FREE_SHIFT = 9
    FREE_MASK = 0xFF
    CLASS_SHIFT = 17

# A cell: 0 | loaded | spare (2 bits) | owner (28 bits); in a free one, SPARE_FREE and the next free slot.
cdef enum:
    LOADED = 0x40000000
    SPARE_SHIFT = 28            # bytes of the slot that the object leaves: 0 or 1, or
    SPARE_MORE = 2              # more, and then the last two say how many (guarded.h)
    SPARE_FREE = 3
    SPARE_MASK = 3
    OWNER = 0x0FFFFFFF

# One zspage, in 32-bit words: the frames of its chain, the last one first; then these three, where its id points; then
# a cell for each slot; then, in a pool that keeps the order, an age for each slot.
cdef struct Zspage:
    uint32_t state
    uint32_t next               # in the list of its (class, group), or of the class's free records
    uint32_t prev               # HEAD | the one before it there
    uint32_t cells[1]           # objects of the class

# Neighbours in store order: handles. The oldest and the youngest are neighbours too.
cdef struct Age:
    uint32_t prev               # the next younger one
    uint32_t next               # the next older one

# Content without bytes: what would lie in the slot.
cdef struct Payload:
    uint8_t word[8]
    uint16_t spare              # as in the last bytes of a slot


cdef inline uint32_t used_of(const Zspage *record) noexcept nogil:
    return record.state & USED


cdef inline uint32_t free_slot_of(const Zspage *record) noexcept nogil:
    return (record.state >> FREE_SHIFT) & FREE_MASK


cdef inline uint32_t spare_of(uint32_t cell) noexcept nogil:
    return (cell >> SPARE_SHIFT) & SPARE_MASK


cdef inline uint32_t handle_of(uint32_t zspage, uint32_t slot) noexcept nogil:
    return zspage + HEADER_WORDS + slot


cdef inline uint32_t slot_of(uint32_t zspage, uint32_t handle) noexcept nogil:
    return handle - zspage - HEADER_WORDS


cdef inline int group_of(uint32_t used, uint32_t objects) noexcept nogil:
    """get_fullness_group of zsmalloc."""
    if used == 0:
        return 0
    return GROUP_FULL if used == objects else 10 * used // objects + 1


cdef class Zspages:
    cdef readonly Frames frames
    cdef readonly bint aged                     # records have ages
    cdef readonly uint32_t nr_frames            # frames of all zspages
    cdef readonly uint32_t max_words
    cdef readonly int nr_classes
    cdef SizeClass classes[NR_SIZES]
    cdef uint8_t class_of[NR_SIZES]             # by size_index(length)
    cdef uint32_t nr_zspages[NR_SIZES]          # by class
    cdef uint32_t nr_used[NR_SIZES]             # slots with an object, by class
    cdef uint32_t head[NR_SIZES][NR_GROUPS]     # most recently inserted zspage of each group
    cdef uint32_t free_record[NR_SIZES]         # records to use again, by class
    cdef uint32_t *word                         # [_room] all records; a handle is the index of a cell
    cdef Payload *_payload                      # [_payloads] by handle, of content without bytes; else NULL
    cdef uint32_t _room, _end, _payloads        # words there are, and were ever used
    cdef uint32_t _first_cell                   # no handle is less

    cdef inline Zspage *at(self, uint32_t zspage) noexcept nogil:
        return <Zspage *>(self.word + zspage)

    cdef inline SizeClass *shape(self, uint32_t zspage) noexcept nogil:
        return &self.classes[self.at(zspage).state >> CLASS_SHIFT]

    cdef inline uint32_t zspage_of(self, uint32_t handle) noexcept nogil:
        """Whose cell this is: that of the nearest HEAD. Some ten words away, at most 256."""
        return mv_head(self.word, handle) - (HEADER_WORDS - 1)

    cdef inline Age *age(self, uint32_t handle) noexcept nogil:
        cdef uint32_t zspage = self.zspage_of(handle)
        return <Age *>(self.at(zspage).cells + self.shape(zspage).objects) + slot_of(zspage, handle)

    # The zspage of the object with this handle, whatever number that is; NO_ZSPAGE when there is none.
    cdef uint32_t find(self, uint32_t handle) noexcept nogil
    # The zspage that the next object of this class goes to: head of the fullest group with a free slot, or NO_ZSPAGE.
    cdef uint32_t roomiest(self, int size_class) noexcept nogil
    # The emptiest zspage with a free slot, but not `other`; NO_ZSPAGE when there is none.
    cdef uint32_t sparsest(self, int size_class, uint32_t other) noexcept nogil
    # An empty zspage, all its frames or none. OK, NO_FRAME, or POOL_FULL: max_words are in use.
    cdef int create(self, int size_class, uint32_t reserve, uint32_t *zspage) except -1 nogil
    cdef uint32_t take_slot(self, uint32_t zspage) noexcept nogil
    # Gives back the frames with the last object; how many.
    cdef int give_slot(self, uint32_t zspage, uint32_t slot) except -1 nogil
    # The object in a slot, and its length. `view` points into the frame, or copies to scratch (PAGE_SIZE bytes) what
    # spans two. Content without bytes has 8 of them, whatever the length.
    cdef void write(self, uint32_t zspage, uint32_t slot, const uint8_t *source, uint32_t length) noexcept nogil
    cdef const uint8_t *view(self, uint32_t zspage, uint32_t slot, uint32_t length, uint8_t *scratch) noexcept nogil
    cdef uint32_t length(self, uint32_t zspage, uint32_t slot) noexcept nogil
    # Ask for the lines that say where an object lies and that give_slot changes; or for its bytes.
    cdef void expect(self, uint32_t handle) noexcept nogil
    cdef void expect_bytes(self, uint32_t handle) noexcept nogil
    # Frame `source` of a zspage becomes `target`, bytes and all; the caller gives `source` back.
    cdef int rewire(self, hfn_t source, hfn_t target) except -1 nogil
    # Of the records; frames are taken for them.
    cdef uint64_t metadata_bytes(self) noexcept nogil
    cdef uint32_t _words(self, int size_class) noexcept nogil
    cdef uint8_t *_byte(self, uint32_t zspage, uint32_t at) noexcept nogil
    cdef uint16_t *_tail(self, uint32_t zspage, uint32_t slot) noexcept nogil
    cdef void _cover(self, uint32_t zspage, uint32_t at, uint32_t end, bint poison) noexcept nogil
    cdef void _shut(self, uint32_t zspage, uint32_t slot) noexcept nogil
    cdef void _insert(self, uint32_t zspage, int group) noexcept nogil
    cdef void _remove(self, uint32_t zspage, int group) noexcept nogil
    cdef void _regroup(self, uint32_t zspage, uint32_t was_used) noexcept nogil
    cdef int _destroy(self, uint32_t zspage) except -1 nogil
    cdef int _take_record(self, int size_class, uint32_t reserve, uint32_t *zspage) except -1 nogil
    cdef void _give_record(self, uint32_t zspage) noexcept nogil
