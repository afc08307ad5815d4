"""Zspages: chains of host frames cut into slots for compressed objects, as in Linux's zsmalloc.

A compressed page fits no frame well, and single frames are free where four in a row are not. So a zspage chains up to
16 single frames and cuts them, as if they lay side by side, into equal slots; a slot may span two frames.

    frames      |        f0       |        f1       |        f2       |
    slots       |   0   |   1   |   2   |   3   |   4   |   5   | tail |

All zspages of a size class lie in lists by fullness (deciles, and full). New objects go to the *fullest* zspage that
has a free slot, so that the others may run empty; in a group, to the one that entered it last. The last object to go
takes the frames with it at once. Both rules are deterministic, and independent of what the frames hold.

A slot has no header in the pool: its owner stands in a cell of the zspage's record, 4 bytes a slot. (zsmalloc puts 8
bytes in front of each object, and keeps 8 more outside.) Records lie end to end in one array of 32-bit words; one that
is given back waits for the next zspage of its class, so what a word is for never changes.

    word        | f2 | f1 | f0 | state | next | prev | cell 0 | cell 1 | cell 2 | ...
                                ^ the zspage's id           ^ a handle

The *handle* of an object is the index of its cell. Of all words `prev` alone has its top bit set, so the record is
found by looking back. The last two bytes that an object leaves of its slot hold how many bytes it leaves, in a code that
survives a flipped bit; a mark in the cell says when it leaves fewer than two. Content without bytes keeps what it would
put into a slot in an array by handle; that array stands for page bytes and is not counted as metadata. Sanitizer builds
poison everything but the bytes and lengths of live objects.

Kept, and recounted by zspage_report:
- a zspage is in the list of its class and group; `used` counts its objects, the free slots form one chain;
- Frame.where of each of its frames (FRAME_ZSPAGE) is its id;
- nr_zspages, nr_used and nr_frames are the sums over all zspages; records, live and free, fill `word` up to _end.
"""

cimport cython
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from ..memory.frames cimport FRAME_ZSPAGE
from .sizeclass cimport MAX_CHAIN, ChainRule, build_classes
from ..prefetch cimport prefetch_read, prefetch_write
from ..types cimport NO_FRAME, OK, PAGE_SIZE, POOL_FULL

from memvirt.engine.stores.sizeclass import CHAIN_RULES
from memvirt.errors import ConfigError, InvariantError

cdef extern from "content/poison.h" nogil:
    const int MEMVIRT_POISONS
    void mv_poison(const void *region, size_t n)
    void mv_unpoison(const void *region, size_t n)

cdef extern from "stores/nt_copy.h" nogil:
    void mv_stream(uint8_t *target, const uint8_t *source, size_t n)


@cython.final
cdef class Zspages:
    def __cinit__(self, Frames frames not None, int chain=8, str chain_rule="waste", bint aged=True,
                  uint32_t max_words=MAX_WORDS):
        if chain_rule not in CHAIN_RULES:
            raise ConfigError(f"chain_rule is {chain_rule!r}: must be one of {list(CHAIN_RULES)}")
        if not 1 <= chain <= MAX_CHAIN:
            raise ConfigError(f"chain is {chain} frames: must be from 1 to {MAX_CHAIN}")
        self.frames = frames
        self.aged = aged
        self.max_words = max_words
        self._end = self._first_cell = FIRST_WORD
        self.nr_classes = build_classes(chain, <ChainRule><int>CHAIN_RULES[chain_rule], self.classes, self.class_of)
        memset(self.head, 0x7F, sizeof(self.head))
        memset(self.free_record, 0x7F, sizeof(self.free_record))

    def __dealloc__(self):
        free(self.word)
        free(self._payload)

    # ---- an object ----

    cdef uint32_t find(self, uint32_t handle) noexcept nogil:
        cdef uint32_t zspage
        if not self._first_cell <= handle < self._end:
            return NO_ZSPAGE
        zspage = self.zspage_of(handle)
        if slot_of(zspage, handle) < self.shape(zspage).objects and spare_of(self.word[handle]) != SPARE_FREE:
            return zspage
        return NO_ZSPAGE

    cdef uint8_t *_byte(self, uint32_t zspage, uint32_t at) noexcept nogil:
        cdef uint32_t frame = self.word[zspage - 1 - at // PAGE_SIZE]
        return self.frames.content.page(frame) + at % PAGE_SIZE

    cdef uint16_t *_tail(self, uint32_t zspage, uint32_t slot) noexcept nogil:
        if not self.frames.content.has_bytes:
            return &self._payload[handle_of(zspage, slot)].spare
        return <uint16_t *>self._byte(zspage, (slot + 1) * self.shape(zspage).size - sizeof(uint16_t))

    cdef uint32_t length(self, uint32_t zspage, uint32_t slot) noexcept nogil:
        cdef uint32_t spare = spare_of(self.at(zspage).cells[slot])
        if spare == SPARE_MORE:
            spare = min(mv_guarded(self._tail(zspage, slot)[0]), self.shape(zspage).size - 1)
        return self.shape(zspage).size - spare

    cdef void write(self, uint32_t zspage, uint32_t slot, const uint8_t *source, uint32_t length) noexcept nogil:
        """Puts an object into a slot that was taken for it."""
        cdef uint32_t *cell = &self.at(zspage).cells[slot]
        cdef uint32_t size = self.shape(zspage).size, start = slot * size, first
        cdef uint32_t spare = min(size - length, <uint32_t>SPARE_MORE)
        cell[0] = (cell[0] & ~(<uint32_t>SPARE_MASK << SPARE_SHIFT)) | spare << SPARE_SHIFT
        self._cover(zspage, start, start + size, False)
        if spare == SPARE_MORE:
            self._tail(zspage, slot)[0] = mv_guard(size - length)
        if not self.frames.content.has_bytes:
            memcpy(self._payload[handle_of(zspage, slot)].word, source, sizeof(uint64_t))
            return
        first = min(length, PAGE_SIZE - start % PAGE_SIZE)
        mv_stream(self._byte(zspage, start), source, first)
        if first < length:
            mv_stream(self._byte(zspage, start + first), source + first, length - first)
        self._shut(zspage, slot)

    cdef const uint8_t *view(self, uint32_t zspage, uint32_t slot, uint32_t length, uint8_t *scratch) noexcept nogil:
        cdef uint32_t start, first
        if not self.frames.content.has_bytes:
            return self._payload[handle_of(zspage, slot)].word
        start = slot * self.shape(zspage).size
        first = PAGE_SIZE - start % PAGE_SIZE
        if length <= first:
            return self._byte(zspage, start)
        memcpy(scratch, self._byte(zspage, start), first)
        memcpy(scratch + first, self._byte(zspage, start + first), length - first)
        return scratch

    cdef void expect(self, uint32_t handle) noexcept nogil:
        prefetch_write(self.word + handle)
        prefetch_write(self.word + handle - 16)          # most records begin there

    cdef void expect_bytes(self, uint32_t handle) noexcept nogil:
        cdef uint32_t zspage = self.zspage_of(handle), size = self.shape(zspage).size
        cdef uint32_t start = slot_of(zspage, handle) * size, at
        cdef uint8_t *bytes = self._byte(zspage, start)
        for at in range(0, min(size, PAGE_SIZE - start % PAGE_SIZE, 256), 64):  # all would keep it waiting
            prefetch_read(bytes + at)
        prefetch_read(self._byte(zspage, start + size - 1))             # the length

    cdef void _cover(self, uint32_t zspage, uint32_t at, uint32_t end, bint poison) noexcept nogil:
        """Poisons bytes of the chain, or makes them accessible."""
        cdef uint32_t n
        while MEMVIRT_POISONS and self.frames.content.has_bytes and at < end:
            n = min(end - at, PAGE_SIZE - at % PAGE_SIZE)
            (mv_poison if poison else mv_unpoison)(self._byte(zspage, at), n)
            at += n

    cdef void _shut(self, uint32_t zspage, uint32_t slot) noexcept nogil:
        """Poisons what nobody may touch of a slot: all, or all but the object and the granule with its length."""
        cdef uint32_t size = self.shape(zspage).size, spare = spare_of(self.at(zspage).cells[slot])
        if MEMVIRT_POISONS:
            self._cover(zspage, slot * size + (0 if spare == SPARE_FREE else self.length(zspage, slot)),
                        slot * size + size - (8 if spare == SPARE_MORE else 0), True)

    # ---- fullness groups ----

    cdef void _insert(self, uint32_t zspage, int group) noexcept nogil:
        cdef Zspage *record = self.at(zspage)
        cdef uint32_t *head = &self.head[record.state >> CLASS_SHIFT][group]
        record.prev = HEAD | <uint32_t>NO_ZSPAGE
        record.next = head[0]
        if head[0] != NO_ZSPAGE:
            self.at(head[0]).prev = HEAD | zspage
        head[0] = zspage

    cdef void _remove(self, uint32_t zspage, int group) noexcept nogil:
        cdef Zspage *record = self.at(zspage)
        if record.prev == HEAD | <uint32_t>NO_ZSPAGE:
            self.head[record.state >> CLASS_SHIFT][group] = record.next
        else:
            self.at(record.prev & ~<uint32_t>HEAD).next = record.next
        if record.next != NO_ZSPAGE:
            self.at(record.next).prev = record.prev

    cdef void _regroup(self, uint32_t zspage, uint32_t was_used) noexcept nogil:
        cdef uint32_t objects = self.shape(zspage).objects
        cdef int was = group_of(was_used, objects), group = group_of(used_of(self.at(zspage)), objects)
        if group != was:
            self._remove(zspage, was)
            self._insert(zspage, group)

    cdef uint32_t roomiest(self, int size_class) noexcept nogil:
        cdef int group
        for group in range(GROUP_FULL - 1, -1, -1):
            if self.head[size_class][group] != NO_ZSPAGE:
                return self.head[size_class][group]
        return NO_ZSPAGE

    cdef uint32_t sparsest(self, int size_class, uint32_t other) noexcept nogil:
        cdef uint32_t zspage
        cdef int group
        for group in range(1, GROUP_FULL):
            zspage = self.head[size_class][group]
            if zspage == other:
                zspage = self.at(zspage).next
            if zspage != NO_ZSPAGE:
                return zspage
        return NO_ZSPAGE

    # ---- slots ----

    cdef uint32_t take_slot(self, uint32_t zspage) noexcept nogil:
        """A free slot, of which there must be one; from now on owner 0 has it."""
        cdef Zspage *record = self.at(zspage)
        cdef uint32_t slot = free_slot_of(record)
        assert spare_of(record.cells[slot]) == SPARE_FREE
        record.state += 1 + ((record.cells[slot] & FREE_MASK) - slot << FREE_SHIFT)
        record.cells[slot] = 0
        self.nr_used[record.state >> CLASS_SHIFT] += 1
        self._regroup(zspage, used_of(record) - 1)
        return slot

    cdef int give_slot(self, uint32_t zspage, uint32_t slot) except -1 nogil:
        """Empties a slot. Gives the frames back with the last object; how many (0 while others live there)."""
        cdef Zspage *record = self.at(zspage)
        cdef uint32_t first = free_slot_of(record)
        assert spare_of(record.cells[slot]) != SPARE_FREE
        record.cells[slot] = <uint32_t>SPARE_FREE << SPARE_SHIFT | first
        record.state += (slot - first << FREE_SHIFT) - 1
        self.nr_used[record.state >> CLASS_SHIFT] -= 1
        if used_of(record) == 0:
            return self._destroy(zspage)
        self._shut(zspage, slot)
        self._regroup(zspage, used_of(record) + 1)
        return 0

    # ---- birth and death ----

    cdef int create(self, int size_class, uint32_t reserve, uint32_t *zspage) except -1 nogil:
        """An empty zspage with all its frames, or nothing at all."""
        cdef const SizeClass *shape = &self.classes[size_class]
        cdef uint32_t new, taken = 0, i
        cdef int outcome = self._take_record(size_class, reserve, &new)
        if outcome != OK:
            return outcome
        for i in range(shape.objects):          # before anything can fail: in a record that waits no cell is an object's
            self.at(new).cells[i] = <uint32_t>SPARE_FREE << SPARE_SHIFT | ((i + 1) & FREE_MASK)
        while taken < shape.frames and self.frames.take(0, FRAME_ZSPAGE, reserve, &self.word[new - 1 - taken]) == OK:
            taken += 1
        if taken < shape.frames:
            for i in range(taken):
                self.frames.give(self.word[new - 1 - i], 0)
            self._give_record(new)
            return NO_FRAME
        for i in range(shape.frames):
            self.frames.frame[self.word[new - 1 - i]].where = new
        self._cover(new, 0, shape.frames * PAGE_SIZE, True)
        self.at(new).state = <uint32_t>size_class << CLASS_SHIFT
        self.nr_zspages[size_class] += 1
        self.nr_frames += shape.frames
        self._insert(new, 0)
        zspage[0] = new
        return OK

    cdef int _destroy(self, uint32_t zspage) except -1 nogil:
        """Of a zspage that has just lost its last object."""
        cdef const SizeClass *shape = self.shape(zspage)
        cdef uint32_t i
        self._remove(zspage, group_of(1, shape.objects))
        self._cover(zspage, 0, shape.frames * PAGE_SIZE, False)
        for i in range(shape.frames):
            self.frames.give(self.word[zspage - 1 - i], 0)
        self.nr_zspages[self.at(zspage).state >> CLASS_SHIFT] -= 1
        self.nr_frames -= shape.frames
        self._give_record(zspage)
        return shape.frames

    cdef uint32_t _words(self, int size_class) noexcept nogil:
        cdef const SizeClass *shape = &self.classes[size_class]
        return HEADER_WORDS + shape.frames + shape.objects * (1 + (sizeof(Age) // sizeof(uint32_t) if self.aged else 0))

    cdef int _take_record(self, int size_class, uint32_t reserve, uint32_t *zspage) except -1 nogil:
        """A record of the class: one that was given back last, or a new one at the end."""
        cdef uint32_t words = self._words(size_class)
        cdef Payload *grown
        zspage[0] = self.free_record[size_class]
        if zspage[0] != NO_ZSPAGE:
            self.free_record[size_class] = self.at(zspage[0]).next
            return OK
        if self._end + words > self.max_words:
            return POOL_FULL
        if self._end + words > self._room and self.frames.grow(
                <void **>&self.word, &self._room, sizeof(uint32_t), max(self._end + words - self._room, <uint32_t>GROW),
                self.max_words, reserve) != OK:
            return NO_FRAME
        if not self.frames.content.has_bytes and self._payloads < self._room:
            grown = <Payload *>realloc(self._payload, self._room * sizeof(Payload))
            if grown == NULL:
                return NO_FRAME
            self._payload = grown
            self._payloads = self._room
        zspage[0] = self._end + self.classes[size_class].frames
        if self._end == FIRST_WORD:
            self._first_cell = handle_of(zspage[0], 0)
            memset(self.word, 0, FIRST_WORD * sizeof(uint32_t))
        memset(self.word + self._end, 0, words * sizeof(uint32_t))
        self.at(zspage[0]).state = <uint32_t>size_class << CLASS_SHIFT
        self.at(zspage[0]).prev = HEAD | <uint32_t>NO_ZSPAGE
        self._end += words
        return OK

    cdef void _give_record(self, uint32_t zspage) noexcept nogil:
        cdef uint32_t *head = &self.free_record[self.at(zspage).state >> CLASS_SHIFT]
        self.at(zspage).state |= GIVEN_BACK
        self.at(zspage).next = head[0]
        head[0] = zspage

    # ---- moving a frame ----

    cdef int rewire(self, hfn_t source, hfn_t target) except -1 nogil:
        cdef uint32_t zspage = self.frames.frame[source].where, i = 0
        cdef const SizeClass *shape
        if self.frames.frame[source].state != FRAME_ZSPAGE or zspage >= self._end:
            with gil:
                raise InvariantError(f"frame {source} belongs to no zspage: it cannot be moved to {target}")
        shape = self.shape(zspage)
        while self.word[zspage - 1 - i] != source:
            i += 1
            assert i < shape.frames
        self._cover(zspage, i * PAGE_SIZE, (i + 1) * PAGE_SIZE, False)
        self.frames.content.copy(target, source)
        self.word[zspage - 1 - i] = target
        self.frames.frame[target].where = zspage
        self._cover(zspage, shape.objects * shape.size, shape.frames * PAGE_SIZE, True)
        for i in range(shape.objects if MEMVIRT_POISONS else 0):
            self._shut(zspage, i)
        return OK

    # ---- accounts ----

    cdef uint64_t metadata_bytes(self) noexcept nogil:
        return self._room * sizeof(uint32_t)
