"""The compressed cache: objects behind handles, as zswap keeps them on zsmalloc.

Zspages (zspage.pyx) know slots; this module knows who lives in them. A handle stays valid while its object moves:

    handle -> entry: zspage, slot, length (8 bytes)      slot -> owner cell: handle (4 bytes)
           -> age: older, younger         (8 bytes)
           -> owner: the caller's number  (4 bytes)

so an object costs 24 bytes beside its slot, plus its part of a zspage record and of the free slots' cells. These tables
grow on the heap and take frames of the host for it (Frames.grow): without one the store is declined. The age list
is zswap's LRU, in store order. Writeback asks for the oldest; one that was loaded since may be rotated to the young end
instead, the second chance of zswap's shrinker.

The limit is Linux's, with its hysteresis (zswap_check_limits): a pool that has reached limit_frames declines every
store until it is down to accept_percent of that, so that it does not flip at each eviction. As there, the test comes
before the store, and the chain of the last zspage may pass the limit by up to 15 frames. Every declined store is
counted by reason.

Content without bytes keeps its 8-byte payloads in an array by handle; the accounted length alone decides the placement,
so all counters are those of real bytes.

Kept, and recounted by check():
- every live handle owns exactly the slot its entry names, and is in the age list once; the other handles that were
  ever given out are in the free list;
- lengths fit their class; stored_bytes and nr_objects are the sums over the live handles;
- frames * 4096 = stored + rounding waste + sparse waste + tail waste.
"""

cimport cython
from libc.stdlib cimport free as release, realloc
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from .frames cimport FRAME_ZSPAGE
from .sizeclass cimport MAX_CHAIN, MIN_OBJECT, size_index
from .types cimport NO_FRAME, NONE, OK, PAGE_SIZE, POOL_FULL, REJECTED
from .zspage cimport FREE_SLOT, NO_GROUP

from memvirt.errors import ConfigError, InvariantError

cdef extern from *:
    void __builtin_prefetch(const void *at, int for_write) nogil

cdef enum:
    GROW = 64                       # handles added at least
    MAX_HANDLES = 0x7FFFFFFF        # FREE_SLOT is the top bit of an owner cell

COUNT_NAMES = ("pool_limit_hits", "reject_pool_limit", "reject_hysteresis", "reject_no_frame", "reject_no_handle",
               "reject_too_big", "rotations", "compact_moved_objects", "compact_moved_bytes", "compact_freed_frames")


@cython.final
cdef class Zpool:
    """limit_frames: where the pool is full. accept_percent: where it accepts again, of limit_frames.
    chain: longest zspage in frames, 1 .. 16. chain_rule: "waste" (current kernels) or "used" (older; sizeclass.pyx).
    reject_above: longest object in bytes. max_objects: by default what limit_frames of the smallest slots would hold.
    """

    def __cinit__(self, Frames frames not None, limit_frames, accept_percent=90, chain_rule="waste", chain=8,
                  reject_above=PAGE_SIZE, max_objects=None):
        if not 0 <= limit_frames <= frames.nr_frames:
            raise ConfigError(f"limit_frames is {limit_frames}: must be from 0 to the host's {frames.nr_frames}")
        if not 0 <= accept_percent <= 100:
            raise ConfigError(f"accept_percent is {accept_percent}: must be from 0 to 100")
        if not 1 <= reject_above <= PAGE_SIZE:
            raise ConfigError(f"reject_above is {reject_above} bytes: must be from 1 to {PAGE_SIZE}")
        if max_objects is None:
            max_objects = min((limit_frames + MAX_CHAIN) * (PAGE_SIZE // MIN_OBJECT), MAX_HANDLES)
        if not 1 <= max_objects <= MAX_HANDLES:
            raise ConfigError(f"max_objects is {max_objects}: must be from 1 to {MAX_HANDLES}")
        self.frames = frames
        self.zspages = Zspages(frames, chain, chain_rule)
        self.limit_frames = limit_frames
        self.accept_frames = limit_frames * accept_percent // 100
        self.reject_above = reject_above
        self.max_objects = max_objects
        self._in_frames = frames.content.arena != NULL
        self._free_handle = self._oldest = self._youngest = NONE

    def __dealloc__(self):
        release(self._handle)
        release(self.owner)
        release(self._word)

    # ---- store ----

    cdef int store(self, const uint8_t *payload, uint32_t payload_bytes, uint32_t length, uint32_t reserve,
                   uint32_t *handle) except -1 nogil:
        cdef int outcome = OK, size_class
        cdef uint32_t zspage, slot, new
        if not 1 <= length <= PAGE_SIZE or payload_bytes != (length if self._in_frames else 8):
            with gil:
                raise InvariantError(f"a store of {payload_bytes} bytes accounted as {length}")
        if self._declines(length, &outcome):
            return outcome
        if self._free_handle == NONE and self._secure_handle(reserve) != OK:
            self.count[REJECT_NO_FRAME] += 1
            return NO_FRAME
        size_class = self.zspages.class_of[size_index(length)]
        zspage = self.zspages.roomiest(size_class)
        if zspage == NONE:
            if self.zspages.create(size_class, reserve, &zspage) != OK:
                self.count[REJECT_NO_FRAME] += 1
                return NO_FRAME
            self.nr_pool_frames = self.zspages.nr_frames
        new = self._free_handle                 # from here on nothing can fail
        if new == NONE:
            new = self._high
            self._high += 1
        else:
            self._free_handle = <uint32_t>self._handle[new].entry
        slot = self.zspages.take_slot(zspage, new)
        self._handle[new].entry = entry_for(zspage, slot, length)
        if self._in_frames:
            self.zspages.write(zspage, slot, payload, length)
        else:
            memcpy(&self._word[new], payload, 8)
        self._append(new)
        self.nr_objects += 1
        self.stored_bytes += length
        handle[0] = new
        return OK

    cdef bint _declines(self, uint32_t length, int *outcome) noexcept nogil:
        """Whether the pool's rules decline an object before any frame is asked for; counts the reason."""
        if self.nr_pool_frames >= self.limit_frames:
            self.count[POOL_LIMIT_HITS] += not self.full
            self.full = True
            self.count[REJECT_POOL_LIMIT] += 1
            outcome[0] = POOL_FULL
            return True
        if self.full and self.nr_pool_frames > self.accept_frames:
            self.count[REJECT_HYSTERESIS] += 1
            outcome[0] = POOL_FULL
            return True
        self.full = False
        if length > self.reject_above:
            self.count[REJECT_TOO_BIG] += 1
            outcome[0] = REJECTED
            return True
        if self.nr_objects == self.max_objects:
            self.count[REJECT_NO_HANDLE] += 1
            outcome[0] = POOL_FULL
            return True
        return False

    cdef int _secure_handle(self, uint32_t reserve) except -1 nogil:
        """Room for one more handle: OK, or NO_FRAME without frames or memory for it."""
        cdef uint64_t *word
        if self._high == self._capacity and self.frames.grow(
                <void **>&self._handle, &self._capacity, sizeof(Handle), GROW, self.max_objects, reserve) != OK:
            return NO_FRAME
        if self._high == self._owners and self.frames.grow(
                <void **>&self.owner, &self._owners, sizeof(uint32_t), GROW, self.max_objects, reserve) != OK:
            return NO_FRAME
        if not self._in_frames and self._high == self._words:
            word = <uint64_t *>realloc(self._word, (<size_t>self._words + self._words // 8 + GROW) * sizeof(uint64_t))
            if word == NULL:
                return NO_FRAME
            self._word = word
            self._words += self._words // 8 + GROW
        return OK

    # ---- load and free ----

    cdef bint _is_live(self, uint32_t handle) noexcept nogil:
        return handle < self._high and self._handle[handle].entry >> LIVE_SHIFT

    cdef int _require_live(self, uint32_t handle) except -1 nogil:
        if not self._is_live(handle):
            with gil:
                raise InvariantError(f"handle {handle} holds no object; {self.nr_objects} are stored")
        return 0

    cdef const uint8_t *view(self, uint32_t handle, uint32_t *payload_bytes) except NULL nogil:
        cdef uint64_t entry
        self._require_live(handle)
        entry = self._handle[handle].entry
        self._handle[handle].entry = entry | <uint64_t>1 << LOADED_SHIFT
        if not self._in_frames:
            payload_bytes[0] = 8
            return <const uint8_t *>&self._word[handle]
        payload_bytes[0] = length_of(entry)
        return self.zspages.view(zspage_of(entry), slot_of(entry), payload_bytes[0], self._scratch)

    cdef void expect(self, uint32_t handle, int step) noexcept nogil:
        cdef uint64_t entry
        if step == 0:
            __builtin_prefetch(&self._handle[handle], 1)
            return
        entry = self._handle[handle].entry
        if step == 1:
            self.zspages.expect(zspage_of(entry), slot_of(entry))
            if self._handle[handle].older != NONE:
                __builtin_prefetch(&self._handle[self._handle[handle].older], 1)
            if self._handle[handle].younger != NONE:
                __builtin_prefetch(&self._handle[self._handle[handle].younger], 1)
        elif self._in_frames:
            self.zspages.expect_bytes(zspage_of(entry), slot_of(entry), length_of(entry))

    cpdef int free(self, uint32_t handle) except -1 nogil:
        cdef uint64_t entry
        self._require_live(handle)
        entry = self._handle[handle].entry
        self.nr_pool_frames -= self.zspages.give_slot(zspage_of(entry), slot_of(entry))
        self._unlink(handle)
        self._handle[handle].entry = self._free_handle
        self._free_handle = handle
        self.nr_objects -= 1
        self.stored_bytes -= length_of(entry)
        return 0

    cdef bint loaded(self, uint32_t handle) noexcept nogil:
        return self._handle[handle].entry >> LOADED_SHIFT & 1

    cdef uint32_t length(self, uint32_t handle) noexcept nogil:
        return length_of(self._handle[handle].entry)

    # ---- age ----

    cpdef uint32_t oldest(self) noexcept nogil:
        return self._oldest

    cpdef int rotate(self, uint32_t handle) except -1 nogil:
        self._require_live(handle)
        self._unlink(handle)
        self._append(handle)
        self._handle[handle].entry &= ~(<uint64_t>1 << LOADED_SHIFT)
        self.count[ROTATIONS] += 1
        return 0

    cdef void _append(self, uint32_t handle) noexcept nogil:
        self._handle[handle].older = self._youngest
        self._handle[handle].younger = NONE
        if self._youngest == NONE:
            self._oldest = handle
        else:
            self._handle[self._youngest].younger = handle
        self._youngest = handle

    cdef void _unlink(self, uint32_t handle) noexcept nogil:
        cdef Handle age = self._handle[handle]
        if age.older == NONE:
            self._oldest = age.younger
        else:
            self._handle[age.older].younger = age.younger
        if age.younger == NONE:
            self._youngest = age.older
        else:
            self._handle[age.younger].older = age.older

    # ---- compaction ----

    cpdef uint32_t compact(self) except? 0xFFFFFFFF nogil:
        """Compacts every class, largest first; frames gained."""
        cdef uint32_t gained = 0
        cdef int size_class
        for size_class in range(self.zspages.nr_classes - 1, -1, -1):
            gained += self._compact_class(size_class)
        self.count[COMPACT_FREED_FRAMES] += gained
        self.nr_pool_frames = self.zspages.nr_frames
        return gained

    cdef uint32_t _compact_class(self, int size_class) except? 0xFFFFFFFF nogil:
        """Empties the sparsest zspage into the fullest one until either is done, again and again as long as the free
        slots of the class add up to a zspage. (What was the fullest stays it until it is full.)"""
        cdef uint32_t objects = self.zspages.classes[size_class].objects
        cdef uint32_t source, target, slot, gained = 0, freed
        while <uint64_t>self.zspages.nr_zspages[size_class] * objects - self.zspages.nr_used[size_class] >= objects:
            target = self.zspages.roomiest(size_class)
            source = self.zspages.sparsest(size_class, target)
            slot = 0
            freed = 0
            while freed == 0 and self.zspages.at(target).used < objects:
                if not self.zspages.owner(source, slot) & FREE_SLOT:
                    freed = self._move_object(source, slot, target)
                slot += 1
            gained += freed
        return gained

    cdef int _move_object(self, uint32_t zspage, uint32_t slot, uint32_t target) except -1 nogil:
        """Moves one object to a free slot of `target`; the frames that this freed."""
        cdef uint32_t handle = self.zspages.owner(zspage, slot)
        cdef uint32_t length = length_of(self._handle[handle].entry)
        cdef uint32_t new_slot = self.zspages.take_slot(target, handle)
        cdef uint64_t loaded = self._handle[handle].entry & <uint64_t>1 << LOADED_SHIFT
        if self._in_frames:
            self.zspages.write(target, new_slot, self.zspages.view(zspage, slot, length, self._scratch), length)
        self._handle[handle].entry = entry_for(target, new_slot, length) | loaded
        self.count[COMPACT_MOVED_OBJECTS] += 1
        self.count[COMPACT_MOVED_BYTES] += length
        return self.zspages.give_slot(zspage, slot)

    cpdef int move_frame(self, hfn_t source, hfn_t target) except -1 nogil:
        cdef uint32_t zspage = self.zspages.rewire(source, target)
        cdef uint32_t slot, handle
        if self._in_frames:
            for slot in range(self.zspages.classes[self.zspages.at(zspage).size_class].objects):
                handle = self.zspages.owner(zspage, slot)
                if not handle & FREE_SLOT:
                    self.zspages.expose(zspage, slot, length_of(self._handle[handle].entry))
        return OK

    # ---- accounts ----

    cpdef uint64_t metadata_bytes(self) noexcept nogil:
        """Of handles, their owners, zspage records and cells, grown parts included; frames are taken for them. The payloads
        of content without bytes are not metadata: they stand for what would lie in the frames."""
        return (<uint64_t>self._capacity * sizeof(Handle) + <uint64_t>self._owners * sizeof(uint32_t)
                + self.zspages.metadata_bytes())

    def stats(self):
        """Where the pool's bytes are, how much compact() would free, and what was declined and moved, by count.

        frames * 4096 = stored + rounding waste (slot minus object, of slots in use) + sparse waste + tail waste.
        """
        accounts = self.zspages.accounts()
        return {
            "objects": self.nr_objects,
            "frames": self.nr_pool_frames,
            "stored_bytes": self.stored_bytes,
            "rounding_waste_bytes": accounts.pop("used_slot_bytes") - self.stored_bytes,
            **accounts,
            "metadata_bytes": self.metadata_bytes(),
            "full": bool(self.full),
            **{name: self.count[i] for i, name in enumerate(COUNT_NAMES)},
        }

    cpdef object check(self):
        """Recounts everything from entries and cells; O(handles + slots). Raises InvariantError."""
        cdef uint32_t handle, older = NONE, nr_live = 0, nr_aged = 0, nr_free = 0
        cdef uint64_t entry, stored = 0
        self.zspages.check()
        for handle in range(self._high):
            entry = self._handle[handle].entry
            if self._is_live(handle):
                self._check_entry(handle, entry)
                nr_live += 1
                stored += length_of(entry)
        if nr_live != self.nr_objects or stored != self.stored_bytes:
            raise InvariantError(f"{self.nr_objects} objects of {self.stored_bytes} bytes; recount {nr_live}, {stored}")
        handle = self._oldest
        while handle != NONE and nr_aged <= nr_live:
            if not self._is_live(handle) or self._handle[handle].older != older:
                raise InvariantError(f"age list: {handle} after {older} is free or names {self._handle[handle].older}")
            older, handle = handle, self._handle[handle].younger
            nr_aged += 1
        handle = self._free_handle
        while handle != NONE and nr_free <= self._high:
            if handle >= self._high or self._is_live(handle):
                raise InvariantError(f"handle {handle} is in the free list, but live or never given out")
            handle = <uint32_t>self._handle[handle].entry
            nr_free += 1
        if nr_aged != nr_live or older != self._youngest or nr_free + nr_live != self._high:
            raise InvariantError(f"{nr_live} live handles, {nr_aged} by age up to {older} (youngest {self._youngest}), "
                                 f"{nr_free} free of {self._high}")
        self._check_totals()

    cdef object _check_entry(self, uint32_t handle, uint64_t entry):
        cdef uint32_t zspage = zspage_of(entry), size_class, length = length_of(entry)
        size_class = self.zspages.class_of[size_index(length)]
        if (zspage >= self.zspages._end or self.zspages.at(zspage).group == NO_GROUP
                or self.zspages.at(zspage).size_class != size_class
                or slot_of(entry) >= self.zspages.classes[size_class].objects):
            raise InvariantError(f"handle {handle} names zspage {zspage} slot {slot_of(entry)}, which does not exist "
                                 f"or is not for objects of {length} bytes")
        if self.zspages.owner(zspage, slot_of(entry)) != handle:
            raise InvariantError(f"handle {handle} names zspage {zspage} slot {slot_of(entry)}, which belongs to "
                                 f"{self.zspages.owner(zspage, slot_of(entry))}")

    cdef object _check_totals(self):
        cdef dict totals = self.stats()
        used = sum(self.zspages.nr_used[i] for i in range(self.zspages.nr_classes))
        parts = sum(totals[part] for part in totals if part == "stored_bytes" or part.endswith("_waste_bytes"))
        if used != self.nr_objects or self.nr_pool_frames != self.zspages.nr_frames:
            raise InvariantError(f"{self.nr_objects} objects in {self.nr_pool_frames} frames; the zspages have {used} "
                                 f"in {self.zspages.nr_frames}")
        if parts != self.nr_pool_frames * PAGE_SIZE:
            raise InvariantError(f"{self.nr_pool_frames} frames, but the parts add up to {parts} bytes")

    # ---- faces for Python ----

    def relocate(self, hfn_t source):
        """Moves one frame of a zspage to the next free one: the new frame, or None when none is free."""
        cdef hfn_t target
        if self.frames.take(0, FRAME_ZSPAGE, 0, &target) != OK:
            return None
        self.move_frame(source, target)
        self.frames.give(source, 0)
        return target

    def put(self, bytes payload not None, length=None, uint32_t reserve=0):
        """Stores a payload accounted as `length` bytes (by default its own); (outcome, handle or None)."""
        cdef uint32_t handle = NONE
        cdef const uint8_t *source = <const uint8_t *>PyBytes_AS_STRING(payload)
        cdef uint32_t accounted = len(payload) if length is None else length
        cdef int outcome = self.store(source, len(payload), accounted, reserve, &handle)
        return outcome, handle if outcome == OK else None

    def was_loaded(self, uint32_t handle):
        """Whether the object was viewed since it was stored or rotated."""
        self._require_live(handle)
        return bool(self.loaded(handle))

    def get(self, uint32_t handle):
        """The payload behind a handle; marks it loaded."""
        cdef uint32_t n = 0
        cdef const uint8_t *payload = self.view(handle, &n)
        return PyBytes_FromStringAndSize(<const char *>payload, n)

    def spoil(self, uint32_t handle, uint32_t bit):
        """For tests of damage only: flip one bit of an object where it lies."""
        cdef uint32_t n = 0
        cdef const uint8_t *payload = self.view(handle, &n)
        cdef uint64_t entry = self._handle[handle].entry
        spoilt = bytearray(payload[:n])
        spoilt[bit // 8 % n] ^= 1 << bit % 8
        cdef bytes changed = bytes(spoilt)
        if self._in_frames:
            self.zspages.write(zspage_of(entry), slot_of(entry), <const uint8_t *>PyBytes_AS_STRING(changed), n)
        else:
            memcpy(&self._word[handle], PyBytes_AS_STRING(changed), 8)
