"""Zspages: chains of host frames cut into slots for compressed objects, as in Linux's zsmalloc.

A compressed page fits no frame well, and a frame can be had anywhere while four in a row cannot. So a zspage strings up
to 16 single frames together and cuts them, as if they lay side by side, into equal slots; a slot may span two frames.

    frames      |        f0       |        f1       |        f2       |
    slots       |   0   |   1   |   2   |   3   |   4   |   5   | tail |

All zspages of a size class lie in lists by fullness (deciles, and full). New objects go to the *fullest* zspage that
has a free slot, so that the others may run empty; in a group, to the one that entered it last. The last object to go
takes the frames with it at once. Both rules are deterministic, and independent of what the frames hold.

A slot has no header in the pool: who lives there is a cell of the zspage's record, 4 bytes a slot. (zsmalloc puts 8
bytes in front of each object. The cell also serves content without bytes, spares free() a visit to cold payload, and
chains the free slots.) Records lie end to end in one array, 16 bytes and 4 for each frame and slot; one that is given
back waits for the next zspage of its class. In sanitizer builds all but the bytes of live objects is poisoned.

Kept, and recounted by check():
- a zspage is in the list of its class and group; `used` counts its owners, the free slots form one chain;
- Frame.where of each of its frames (FRAME_ZSPAGE) is its id;
- nr_zspages, nr_used and nr_frames are the sums over all zspages; records, live and free, fill _word up to _end.
"""

cimport cython
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from .frames cimport FRAME_ZSPAGE
from .sizeclass cimport MAX_CHAIN, ChainRule, build_classes
from .types cimport NO_FRAME, NONE, OK, PAGE_SIZE

from memvirt.engine.sizeclass import CHAIN_RULES
from memvirt.errors import ConfigError, InvariantError

cdef extern from "poison.h" nogil:
    void memvirt_poison(const void *region, size_t n)
    void memvirt_unpoison(const void *region, size_t n)

cdef extern from *:
    void __builtin_prefetch(const void *at, int for_write) nogil

cdef extern from "stream.h" nogil:
    void memvirt_stream(uint8_t *target, const uint8_t *source, size_t n)

cdef enum:
    GROW = 256                  # words of records added at least


@cython.final
cdef class Zspages:
    def __cinit__(self, Frames frames not None, int chain=8, str chain_rule="waste"):
        if chain_rule not in CHAIN_RULES:
            raise ConfigError(f"chain_rule is {chain_rule!r}: must be one of {list(CHAIN_RULES)}")
        if not 1 <= chain <= MAX_CHAIN:
            raise ConfigError(f"chain is {chain} frames: must be from 1 to {MAX_CHAIN}")
        self.frames = frames
        self.nr_classes = build_classes(chain, <ChainRule><int>CHAIN_RULES[chain_rule], self.classes, self.class_of)
        memset(self.head, 0xFF, sizeof(self.head))
        memset(self.free_record, 0xFF, sizeof(self.free_record))

    def __dealloc__(self):
        free(self._word)

    # ---- a zspage and its parts ----

    cdef SizeClass *_shape(self, uint32_t zspage) noexcept nogil:
        return &self.classes[self.at(zspage).size_class]

    cdef uint32_t owner(self, uint32_t zspage, uint32_t slot) noexcept nogil:
        """The handle in a slot; FREE_SLOT is set in it when there is none."""
        return self.at(zspage).cells[self._shape(zspage).frames + slot]

    cdef void write(self, uint32_t zspage, uint32_t slot, const uint8_t *source, uint32_t n) noexcept nogil:
        """Copies an object into its slot; what it leaves of the slot stays poisoned."""
        cdef uint32_t start = slot * self._shape(zspage).size
        cdef uint32_t offset = start % PAGE_SIZE, first = min(n, PAGE_SIZE - offset)
        cdef uint32_t *frame = self.at(zspage).cells + start // PAGE_SIZE
        cdef uint8_t *arena = self.frames.content.arena
        self.expose(zspage, slot, n)
        memvirt_stream(arena + <size_t>frame[0] * PAGE_SIZE + offset, source, first)
        if first < n:
            memvirt_stream(arena + <size_t>frame[1] * PAGE_SIZE, source + first, n - first)

    cdef const uint8_t *view(self, uint32_t zspage, uint32_t slot, uint32_t n, uint8_t *scratch) noexcept nogil:
        cdef uint32_t start = slot * self._shape(zspage).size
        cdef uint32_t offset = start % PAGE_SIZE, first = PAGE_SIZE - offset
        cdef uint32_t *frame = self.at(zspage).cells + start // PAGE_SIZE
        cdef uint8_t *arena = self.frames.content.arena
        if n <= first:
            return arena + <size_t>frame[0] * PAGE_SIZE + offset
        memcpy(scratch, arena + <size_t>frame[0] * PAGE_SIZE + offset, first)
        memcpy(scratch + first, arena + <size_t>frame[1] * PAGE_SIZE, n - first)
        return scratch

    cdef void expect(self, uint32_t zspage, uint32_t slot) noexcept nogil:
        cdef Zspage *record = self.at(zspage)
        __builtin_prefetch(record, 1)
        __builtin_prefetch(&record.cells[slot], 1)      # or the line before the owner's cell: near enough for hardware

    cdef void expect_bytes(self, uint32_t zspage, uint32_t slot, uint32_t n) noexcept nogil:
        cdef Zspage *record = self.at(zspage)
        cdef uint32_t start = slot * self._shape(zspage).size, at
        cdef uint32_t *frame = record.cells + start // PAGE_SIZE
        cdef uint8_t *bytes = self.frames.content.arena + <size_t>frame[0] * PAGE_SIZE + start % PAGE_SIZE
        for at in range(0, min(n, PAGE_SIZE - start % PAGE_SIZE), 64):
            __builtin_prefetch(bytes + at, 0)

    cdef void expose(self, uint32_t zspage, uint32_t slot, uint32_t n) noexcept nogil:
        """Unpoisons the first n bytes of a slot (n = 0: poisons the slot); matters to sanitizer builds only."""
        cdef uint32_t size = self._shape(zspage).size
        cdef uint32_t start = slot * size, offset = start % PAGE_SIZE, first
        cdef uint32_t *frame = self.at(zspage).cells + start // PAGE_SIZE
        cdef uint8_t *arena = self.frames.content.arena
        if arena == NULL:
            return
        first = min(n if n else size, PAGE_SIZE - offset)
        if n:
            memvirt_unpoison(arena + <size_t>frame[0] * PAGE_SIZE + offset, first)
            if first < n:
                memvirt_unpoison(arena + <size_t>frame[1] * PAGE_SIZE, n - first)
            return
        memvirt_poison(arena + <size_t>frame[0] * PAGE_SIZE + offset, first)
        if first < size:
            memvirt_poison(arena + <size_t>frame[1] * PAGE_SIZE, size - first)

    # ---- fullness groups ----

    cdef void _insert(self, uint32_t zspage, int group) noexcept nogil:
        cdef Zspage *record = self.at(zspage)
        cdef uint32_t *head = &self.head[record.size_class][group]
        record.group = group
        record.prev = NONE
        record.next = head[0]
        if head[0] != NONE:
            self.at(head[0]).prev = zspage
        head[0] = zspage

    cdef void _remove(self, uint32_t zspage) noexcept nogil:
        cdef Zspage *record = self.at(zspage)
        if record.prev == NONE:
            self.head[record.size_class][record.group] = record.next
        else:
            self.at(record.prev).next = record.next
        if record.next != NONE:
            self.at(record.next).prev = record.prev

    cdef void _regroup(self, uint32_t zspage) noexcept nogil:
        cdef Zspage *record = self.at(zspage)
        cdef int group = group_of(record.used, self.classes[record.size_class].objects)
        if group != record.group:
            self._remove(zspage)
            self._insert(zspage, group)

    cdef uint32_t roomiest(self, int size_class) noexcept nogil:
        cdef int group
        for group in range(GROUP_FULL - 1, -1, -1):
            if self.head[size_class][group] != NONE:
                return self.head[size_class][group]
        return NONE

    cdef uint32_t sparsest(self, int size_class, uint32_t other) noexcept nogil:
        cdef uint32_t zspage
        cdef int group
        for group in range(1, GROUP_FULL):
            zspage = self.head[size_class][group]
            if zspage == other and zspage != NONE:
                zspage = self.at(zspage).next
            if zspage != NONE:
                return zspage
        return NONE

    # ---- slots ----

    cdef uint32_t take_slot(self, uint32_t zspage, uint32_t owner) noexcept nogil:
        """Gives a free slot, of which there must be one, to `owner`."""
        cdef Zspage *record = self.at(zspage)
        cdef uint32_t slot = record.free_slot
        cdef uint32_t *cell = &record.cells[self.classes[record.size_class].frames + slot]
        assert slot != LAST_SLOT and cell[0] & FREE_SLOT
        record.free_slot = cell[0] & LAST_SLOT
        cell[0] = owner
        record.used += 1
        self.nr_used[record.size_class] += 1
        self._regroup(zspage)
        return slot

    cdef int give_slot(self, uint32_t zspage, uint32_t slot) except -1 nogil:
        """Empties a slot. Gives the frames back with the last object; how many (0 while others live there)."""
        cdef Zspage *record = self.at(zspage)
        cdef uint32_t *cell = &record.cells[self.classes[record.size_class].frames + slot]
        assert not cell[0] & FREE_SLOT
        self.nr_used[record.size_class] -= 1
        record.used -= 1
        if record.used == 0:
            return self._destroy(zspage)
        self.expose(zspage, slot, 0)
        cell[0] = FREE_SLOT | record.free_slot
        record.free_slot = slot
        self._regroup(zspage)
        return 0

    # ---- birth and death ----

    cdef int create(self, int size_class, uint32_t reserve, uint32_t *zspage) except -1 nogil:
        """An empty zspage with all its frames, or nothing at all: OK or NO_FRAME."""
        cdef const SizeClass *shape = &self.classes[size_class]
        cdef uint32_t new, taken = 0, i
        cdef Zspage *record
        if self._take_record(size_class, reserve, &new) != OK:
            return NO_FRAME
        record = self.at(new)
        while taken < shape.frames and self.frames.take(0, FRAME_ZSPAGE, reserve, &record.cells[taken]) == OK:
            taken += 1
        if taken < shape.frames:
            while taken:
                taken -= 1
                self.frames.give(record.cells[taken], 0)
            self._give_record(new)
            return NO_FRAME
        for i in range(shape.frames):
            self.frames.frame[record.cells[i]].where = new
            self._hide(record.cells[i])
        for i in range(shape.objects):
            record.cells[shape.frames + i] = FREE_SLOT | (i + 1 if i + 1 < shape.objects else LAST_SLOT)
        record.used = 0
        record.free_slot = 0
        self.nr_zspages[size_class] += 1
        self.nr_frames += shape.frames
        self._insert(new, 0)
        zspage[0] = new
        return OK

    cdef int _destroy(self, uint32_t zspage) except -1 nogil:
        cdef const SizeClass *shape = self._shape(zspage)
        cdef uint32_t i
        self._remove(zspage)
        for i in range(shape.frames):
            self._reveal(self.at(zspage).cells[i])
            self.frames.give(self.at(zspage).cells[i], 0)
        self.nr_zspages[self.at(zspage).size_class] -= 1
        self.nr_frames -= shape.frames
        self._give_record(zspage)
        return shape.frames

    cdef int _take_record(self, int size_class, uint32_t reserve, uint32_t *zspage) except -1 nogil:
        """A record of the class: one that was given back last, or a new one at the end; NO_FRAME without room for it."""
        cdef uint32_t words = words_of(&self.classes[size_class])
        zspage[0] = self.free_record[size_class]
        if zspage[0] != NONE:
            self.free_record[size_class] = self.at(zspage[0]).next
            return OK
        if self._room - self._end < words and self.frames.grow(
                <void **>&self._word, &self._room, sizeof(uint32_t), max(words, <uint32_t>GROW), NONE, reserve) != OK:
            return NO_FRAME
        zspage[0] = self._end
        self._end += words
        self.at(zspage[0]).size_class = size_class
        return OK

    cdef void _give_record(self, uint32_t zspage) noexcept nogil:
        cdef uint32_t *head = &self.free_record[self.at(zspage).size_class]
        self.at(zspage).group = NO_GROUP
        self.at(zspage).next = head[0]
        head[0] = zspage

    # ---- moving a frame ----

    cdef void _hide(self, hfn_t frame) noexcept nogil:
        if self.frames.content.arena != NULL:
            memvirt_poison(self.frames.content.arena + <size_t>frame * PAGE_SIZE, PAGE_SIZE)

    cdef void _reveal(self, hfn_t frame) noexcept nogil:
        if self.frames.content.arena != NULL:
            memvirt_unpoison(self.frames.content.arena + <size_t>frame * PAGE_SIZE, PAGE_SIZE)

    cdef uint32_t rewire(self, hfn_t source, hfn_t target) except? 0xFFFFFFFF nogil:
        """Moves frame `source` of a zspage to `target`, bytes and all; the caller gives `source` back and exposes the
        objects anew. Which zspage it was."""
        cdef uint32_t zspage = self.frames.frame[source].where, i = 0
        if self.frames.frame[source].state != FRAME_ZSPAGE or zspage >= self._end:
            with gil:
                raise InvariantError(f"frame {source} belongs to no zspage: it cannot be moved to {target}")
        while self.at(zspage).cells[i] != source:
            i += 1
            assert i < self._shape(zspage).frames
        self._reveal(source)
        self.frames.content.copy(target, source)
        self._hide(target)
        self.at(zspage).cells[i] = target
        self.frames.frame[target].where = zspage
        return zspage

    # ---- accounts ----

    cdef uint64_t metadata_bytes(self) noexcept nogil:
        """Of the records; frames are taken for them."""
        return self._room * sizeof(uint32_t)

    def accounts(self):
        """Totals over all classes. Sparse waste: slots without an object; tail waste: ends of zspages too short for a
        slot; freeable: frames that compaction would give back."""
        cdef uint64_t slots = 0, used_bytes = 0, sparse = 0, tail = 0, freeable = 0, zspages, free_slots
        for i in range(self.nr_classes):
            shape = self.classes[i]
            zspages = self.nr_zspages[i]
            free_slots = zspages * shape.objects - self.nr_used[i]
            slots += zspages * shape.objects
            used_bytes += <uint64_t>self.nr_used[i] * shape.size
            sparse += free_slots * shape.size
            tail += zspages * (shape.frames * PAGE_SIZE - shape.objects * shape.size)
            freeable += free_slots // shape.objects * shape.frames
        return {"slots": slots, "used_slot_bytes": used_bytes, "sparse_waste_bytes": sparse, "tail_waste_bytes": tail,
                "freeable_frames": freeable}

    def classes_report(self):
        """A dict per size class, smallest first: its shape, what is in it, and its zspages by fullness group."""
        return [{**self.classes[i], "zspages": self.nr_zspages[i], "used": self.nr_used[i],
                 "groups": [len(self._members(i, group)) for group in range(NR_GROUPS)]}
                for i in range(self.nr_classes)]

    def layout(self):
        """Every zspage, by class, from the fullest group down, as (size, frames, owner or None of each slot)."""
        return [(self.classes[i].size,
                 [self.at(zspage).cells[j] for j in range(self.classes[i].frames)],
                 [None if self.owner(zspage, j) & FREE_SLOT else self.owner(zspage, j)
                  for j in range(self.classes[i].objects)])
                for i in range(self.nr_classes) for group in range(GROUP_FULL, -1, -1)
                for zspage in self._members(i, group)]

    cdef list _members(self, int size_class, int group):
        cdef uint32_t zspage = self.head[size_class][group]
        members = []
        while zspage != NONE:
            members.append(zspage)
            zspage = self.at(zspage).next
        return members

    cpdef object check(self):
        """Recounts everything from the records; O(slots). Raises InvariantError."""
        cdef uint32_t zspage, nr_zspages, nr_used, nr_frames = 0, words = 0
        cdef int size_class, group
        seen = set()
        for size_class in range(self.nr_classes):
            nr_zspages = nr_used = 0
            for group in range(NR_GROUPS):
                zspage = self.head[size_class][group]
                while zspage != NONE:
                    self._check_listed(zspage, size_class, seen)
                    self._check_one(zspage, group)
                    nr_zspages += 1
                    nr_used += self.at(zspage).used
                    zspage = self.at(zspage).next
            if nr_zspages != self.nr_zspages[size_class] or nr_used != self.nr_used[size_class]:
                raise InvariantError(f"class {size_class}: {self.nr_zspages[size_class]} zspages and "
                                     f"{self.nr_used[size_class]} objects, recount {nr_zspages} and {nr_used}")
            nr_frames += nr_zspages * self.classes[size_class].frames
            zspage = self.free_record[size_class]
            while zspage != NONE:
                self._check_listed(zspage, size_class, seen)
                if self.at(zspage).group != NO_GROUP:
                    raise InvariantError(f"the record of zspage {zspage} is free, yet in group {self.at(zspage).group}")
                zspage = self.at(zspage).next
        for zspage in seen:
            words += words_of(self._shape(zspage))
        if nr_frames != self.nr_frames or words != self._end:
            raise InvariantError(f"{self.nr_frames} frames, {self._end} words of records; recount {nr_frames}, {words}")

    cdef object _check_listed(self, uint32_t zspage, int size_class, set seen):
        if zspage in seen or zspage >= self._end or self.at(zspage).size_class != size_class:
            raise InvariantError(f"zspage {zspage} in a list of class {size_class} is of another class, in two lists, "
                                 f"or past the end of the records, {self._end}")
        seen.add(zspage)

    cdef object _check_one(self, uint32_t zspage, int group):
        cdef Zspage *record = self.at(zspage)
        cdef const SizeClass *shape = self._shape(zspage)
        cdef uint32_t i, free_slots = 0, used = 0
        if record.group != group or group == 0 or group != group_of(record.used, shape.objects):
            raise InvariantError(f"zspage {zspage} of group {record.group} with {record.used} of {shape.objects} "
                                 f"objects is in the list of group {group}")
        for i in range(shape.frames):
            frame = self.at(zspage).cells[i]
            if self.frames.frame[frame].state != FRAME_ZSPAGE or self.frames.frame[frame].where != zspage:
                raise InvariantError(f"zspage {zspage} has frame {frame}, which is in state "
                                     f"{self.frames.frame[frame].state} and names {self.frames.frame[frame].where}")
        for i in range(shape.objects):
            used += not self.owner(zspage, i) & FREE_SLOT
        i = record.free_slot
        while i != LAST_SLOT and free_slots <= shape.objects:
            if i >= shape.objects or not self.owner(zspage, i) & FREE_SLOT:
                raise InvariantError(f"zspage {zspage}: slot {i} is in the free chain but not free")
            free_slots += 1
            i = self.owner(zspage, i) & LAST_SLOT
        if used != record.used or free_slots + used != shape.objects:
            raise InvariantError(f"zspage {zspage}: {record.used} objects, recount {used} and {free_slots} free slots "
                                 f"of {shape.objects}")
