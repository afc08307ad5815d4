"""Zspages: chains of host frames cut into slots for compressed objects, as in Linux's zsmalloc.

A compressed page fits no frame well, and a frame can be had anywhere while four in a row cannot. So a zspage strings up
to 16 single frames together and cuts them, as if they lay side by side, into equal slots; a slot may span two frames.

    frames      |        f0       |        f1       |        f2       |
    slots       |   0   |   1   |   2   |   3   |   4   |   5   | tail |

All zspages of a size class lie in lists by fullness (deciles, and full). New objects go to the *fullest* zspage that
has a free slot, so that the others may run empty; in a group, to the one that entered it last. The last object to go
takes the frames with it at once. Both rules are deterministic, and independent of what the frames hold.

A slot has no header in the pool: who lives there is a cell beside the zspage, 4 bytes a slot. (zsmalloc puts 8 bytes in
front of each object. The cell also serves content without bytes, spares free() a visit to cold payload, and chains the
free slots.) In sanitizer builds everything but the bytes of live objects is poisoned.

Kept, and recounted by check():
- a zspage is in the list of its class and group; `used` counts its owners, the free slots form one chain;
- Frame.where of each of its frames (FRAME_ZSPAGE) is its id;
- nr_zspages, nr_used, nr_frames and _cell_bytes are the sums over all zspages.
"""

cimport cython
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from .frames cimport FRAME_ZSPAGE
from .sizeclass cimport MAX_CHAIN, ChainRule, build_classes
from .types cimport NONE, OK, PAGE_SIZE

from memvirt.engine.sizeclass import CHAIN_RULES
from memvirt.errors import ConfigError, InvariantError

cdef extern from "poison.h" nogil:
    void memvirt_poison(const void *region, size_t n)
    void memvirt_unpoison(const void *region, size_t n)

cdef enum:
    GROW_MIN = 256              # zspage records added at least, and at least an eighth of those there are


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
        self._free_id = NONE

    def __dealloc__(self):
        cdef uint32_t zspage
        for zspage in range(self._high):
            if self.zspage[zspage].size_class != NO_CLASS and not self._inline(zspage):
                free(self.zspage[zspage].cells)
        free(self.zspage)

    # ---- a zspage and its parts ----

    cdef bint _inline(self, uint32_t zspage) noexcept nogil:
        cdef SizeClass *size_class = &self.classes[self.zspage[zspage].size_class]
        return size_class.frames + size_class.objects <= 2

    cdef uint32_t *cells(self, uint32_t zspage) noexcept nogil:
        return <uint32_t *>&self.zspage[zspage].cells if self._inline(zspage) else self.zspage[zspage].cells

    cdef uint32_t owner(self, uint32_t zspage, uint32_t slot) noexcept nogil:
        """The handle in a slot; FREE_SLOT is set in it when there is none."""
        return self.cells(zspage)[self.classes[self.zspage[zspage].size_class].frames + slot]

    cdef void write(self, uint32_t zspage, uint32_t slot, const uint8_t *source, uint32_t n) noexcept nogil:
        """Copies an object into its slot; what it leaves of the slot stays poisoned."""
        cdef uint32_t start = slot * self.classes[self.zspage[zspage].size_class].size
        cdef uint32_t offset = start % PAGE_SIZE, first = min(n, PAGE_SIZE - offset)
        cdef uint32_t *frame = self.cells(zspage) + start // PAGE_SIZE
        cdef uint8_t *arena = self.frames.content.arena
        self.expose(zspage, slot, n)
        memcpy(arena + <size_t>frame[0] * PAGE_SIZE + offset, source, first)
        if first < n:
            memcpy(arena + <size_t>frame[1] * PAGE_SIZE, source + first, n - first)

    cdef const uint8_t *view(self, uint32_t zspage, uint32_t slot, uint32_t n, uint8_t *scratch) noexcept nogil:
        cdef uint32_t start = slot * self.classes[self.zspage[zspage].size_class].size
        cdef uint32_t offset = start % PAGE_SIZE, first = PAGE_SIZE - offset
        cdef uint32_t *frame = self.cells(zspage) + start // PAGE_SIZE
        cdef uint8_t *arena = self.frames.content.arena
        if n <= first:
            return arena + <size_t>frame[0] * PAGE_SIZE + offset
        memcpy(scratch, arena + <size_t>frame[0] * PAGE_SIZE + offset, first)
        memcpy(scratch + first, arena + <size_t>frame[1] * PAGE_SIZE, n - first)
        return scratch

    cdef void expose(self, uint32_t zspage, uint32_t slot, uint32_t n) noexcept nogil:
        """Unpoisons the first n bytes of a slot (n = 0: poisons the slot); matters to sanitizer builds only."""
        cdef uint32_t size = self.classes[self.zspage[zspage].size_class].size
        cdef uint32_t start = slot * size, offset = start % PAGE_SIZE, first
        cdef uint32_t *frame = self.cells(zspage) + start // PAGE_SIZE
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
        cdef Zspage *record = &self.zspage[zspage]
        cdef uint32_t *head = &self.head[record.size_class][group]
        record.group = group
        record.prev = NONE
        record.next = head[0]
        if head[0] != NONE:
            self.zspage[head[0]].prev = zspage
        head[0] = zspage

    cdef void _remove(self, uint32_t zspage) noexcept nogil:
        cdef Zspage *record = &self.zspage[zspage]
        if record.prev == NONE:
            self.head[record.size_class][record.group] = record.next
        else:
            self.zspage[record.prev].next = record.next
        if record.next != NONE:
            self.zspage[record.next].prev = record.prev

    cdef void _regroup(self, uint32_t zspage) noexcept nogil:
        cdef Zspage *record = &self.zspage[zspage]
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
                zspage = self.zspage[zspage].next
            if zspage != NONE:
                return zspage
        return NONE

    # ---- slots ----

    cdef uint32_t take_slot(self, uint32_t zspage, uint32_t owner) noexcept nogil:
        """Gives a free slot, of which there must be one, to `owner`."""
        cdef Zspage *record = &self.zspage[zspage]
        cdef uint32_t slot = record.free_slot
        cdef uint32_t *cell = self.cells(zspage) + self.classes[record.size_class].frames + slot
        assert slot != LAST_SLOT and cell[0] & FREE_SLOT
        record.free_slot = cell[0] & LAST_SLOT
        cell[0] = owner
        record.used += 1
        self.nr_used[record.size_class] += 1
        self._regroup(zspage)
        return slot

    cdef int give_slot(self, uint32_t zspage, uint32_t slot) except -1 nogil:
        """Empties a slot. Gives the frames back with the last object; how many (0 while others live there)."""
        cdef Zspage *record = &self.zspage[zspage]
        cdef uint32_t *cell = self.cells(zspage) + self.classes[record.size_class].frames + slot
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
        cdef uint32_t inline_cells[2]
        cdef uint32_t *cells = inline_cells
        cdef uint32_t taken = 0, slot
        cdef int outcome = OK
        if self._free_id == NONE and self._high == self._capacity:
            self._grow()
        if cell_bytes(shape):
            cells = <uint32_t *>malloc((shape.frames + shape.objects) * sizeof(uint32_t))
            if cells == NULL:
                with gil:
                    raise MemoryError(f"the cells of a zspage of {shape.objects} objects")
        while taken < shape.frames and outcome == OK:
            outcome = self.frames.take(0, FRAME_ZSPAGE, reserve, &cells[taken])
            taken += outcome == OK
        if outcome != OK:
            while taken:
                taken -= 1
                self.frames.give(cells[taken], 0)
            if cells != inline_cells:
                free(cells)
            return outcome
        for slot in range(shape.objects):
            cells[shape.frames + slot] = FREE_SLOT | (slot + 1 if slot + 1 < shape.objects else LAST_SLOT)
        zspage[0] = self._adopt(size_class, cells)
        return OK

    cdef uint32_t _adopt(self, int size_class, const uint32_t *cells) noexcept nogil:
        """Makes cells that are complete a zspage with an id, in the group of empty ones."""
        cdef const SizeClass *shape = &self.classes[size_class]
        cdef uint32_t zspage = self._free_id, i
        cdef Zspage *record
        if zspage == NONE:
            zspage = self._high
            self._high += 1
        else:
            self._free_id = self.zspage[zspage].next
        record = &self.zspage[zspage]
        if cell_bytes(shape):
            record.cells = <uint32_t *>cells
        else:
            memcpy(&record.cells, cells, 2 * sizeof(uint32_t))
        record.used = 0
        record.free_slot = 0
        record.size_class = size_class
        for i in range(shape.frames):
            self.frames.frame[cells[i]].where = zspage
            self._hide(cells[i])
        self.nr_zspages[size_class] += 1
        self.nr_frames += shape.frames
        self._cell_bytes += cell_bytes(shape)
        self._insert(zspage, 0)
        return zspage

    cdef int _destroy(self, uint32_t zspage) except -1 nogil:
        cdef Zspage *record = &self.zspage[zspage]
        cdef const SizeClass *shape = &self.classes[record.size_class]
        cdef uint32_t *cells = self.cells(zspage)
        cdef uint32_t i
        self._remove(zspage)
        for i in range(shape.frames):
            self._reveal(cells[i])
            self.frames.give(cells[i], 0)
        self.nr_zspages[record.size_class] -= 1
        self.nr_frames -= shape.frames
        self._cell_bytes -= cell_bytes(shape)
        if cell_bytes(shape):
            free(cells)
        record.size_class = NO_CLASS
        record.next = self._free_id
        self._free_id = zspage
        return shape.frames

    cdef int _grow(self) except -1 nogil:
        cdef uint32_t capacity = self._capacity + max(<uint32_t>GROW_MIN, self._capacity // 8)
        cdef Zspage *zspage = <Zspage *>realloc(self.zspage, capacity * sizeof(Zspage))
        if zspage == NULL:
            with gil:
                raise MemoryError(f"{capacity} zspage records")
        self.zspage = zspage
        self._capacity = capacity
        return 0

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
        cdef uint32_t *cells
        if (self.frames.frame[source].state != FRAME_ZSPAGE or zspage >= self._high
                or self.zspage[zspage].size_class == NO_CLASS):
            with gil:
                raise InvariantError(f"frame {source} belongs to no zspage: it cannot be moved to {target}")
        cells = self.cells(zspage)
        while cells[i] != source:
            i += 1
            assert i < self.classes[self.zspage[zspage].size_class].frames
        self._reveal(source)
        self.frames.content.copy(target, source)
        self._hide(target)
        cells[i] = target
        self.frames.frame[target].where = zspage
        return zspage

    # ---- accounts ----

    cdef uint64_t metadata_bytes(self) noexcept nogil:
        """Heap bytes of the zspage records and cells."""
        return self._capacity * sizeof(Zspage) + self._cell_bytes

    def classes_report(self):
        """A dict per size class, smallest first: its shape, what is in it, and its zspages by fullness group."""
        return [{
            "size": self.classes[i].size,
            "frames": self.classes[i].frames,
            "objects": self.classes[i].objects,
            "zspages": self.nr_zspages[i],
            "used": self.nr_used[i],
            "groups": [len(self._members(i, group)) for group in range(NR_GROUPS)],
        } for i in range(self.nr_classes)]

    def layout(self):
        """Every zspage, by class, from the fullest group down, as (size, frames, owner or None of each slot)."""
        return [(self.classes[i].size,
                 [self.cells(zspage)[j] for j in range(self.classes[i].frames)],
                 [None if self.owner(zspage, j) & FREE_SLOT else self.owner(zspage, j)
                  for j in range(self.classes[i].objects)])
                for i in range(self.nr_classes) for group in range(GROUP_FULL, -1, -1)
                for zspage in self._members(i, group)]

    cdef list _members(self, int size_class, int group):
        cdef uint32_t zspage = self.head[size_class][group]
        members = []
        while zspage != NONE:
            members.append(zspage)
            zspage = self.zspage[zspage].next
        return members

    cpdef object check(self):
        """Recounts everything from the cells; O(slots). Raises InvariantError."""
        cdef uint32_t zspage, nr_zspages, nr_used, nr_frames = 0
        cdef uint64_t cells = 0
        cdef int size_class, group
        live = set()
        for size_class in range(self.nr_classes):
            nr_zspages = nr_used = 0
            for group in range(NR_GROUPS):
                zspage = self.head[size_class][group]
                while zspage != NONE:
                    if zspage in live or zspage >= self._high:
                        raise InvariantError(f"zspage {zspage} is in two lists, or past the last, {self._high}")
                    live.add(zspage)
                    self._check_one(zspage, size_class, group)
                    nr_zspages += 1
                    nr_used += self.zspage[zspage].used
                    zspage = self.zspage[zspage].next
            if nr_zspages != self.nr_zspages[size_class] or nr_used != self.nr_used[size_class]:
                raise InvariantError(f"class {size_class}: {self.nr_zspages[size_class]} zspages and "
                                     f"{self.nr_used[size_class]} objects, recount {nr_zspages} and {nr_used}")
            nr_frames += nr_zspages * self.classes[size_class].frames
            cells += nr_zspages * cell_bytes(&self.classes[size_class])
        if nr_frames != self.nr_frames or cells != self._cell_bytes:
            raise InvariantError(f"{self.nr_frames} frames, {self._cell_bytes} cell bytes; "
                                 f"recount {nr_frames}, {cells}")
        zspage = self._free_id
        while zspage != NONE:
            if zspage in live or self.zspage[zspage].size_class != NO_CLASS:
                raise InvariantError(f"zspage {zspage} is free and live, or free twice")
            live.add(zspage)
            zspage = self.zspage[zspage].next
        if len(live) != self._high:
            raise InvariantError(f"{self._high} zspage ids were given out, {len(live)} are in lists")

    cdef object _check_one(self, uint32_t zspage, int size_class, int group):
        cdef Zspage *record = &self.zspage[zspage]
        cdef const SizeClass *shape = &self.classes[size_class]
        cdef uint32_t i, free_slots = 0, used = 0
        if (record.size_class != size_class or record.group != group or group == 0
                or group != group_of(record.used, shape.objects)):
            raise InvariantError(f"zspage {zspage} of class {record.size_class}, group {record.group}, with "
                                 f"{record.used} objects, is in the list of class {size_class}, group {group}")
        for i in range(shape.frames):
            frame = self.cells(zspage)[i]
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
