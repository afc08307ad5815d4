"""The compressed cache: objects behind handles, as zswap keeps them on zsmalloc.

Zspages (zspage.pyx) know slots, owners and lengths; this module knows what may come in, and the order of those that
are in. A handle *is* the place of its object: there is no table between, and the owner of a handle is given a new one
when compaction moves the object. The owner stands in the cell for that (zsmalloc's zspage has its handles).

The order is zswap's LRU, in store order: a ring of handles. Writeback asks for the oldest; one that was loaded since
may be rotated to the young end instead, the second chance of zswap's shrinker. It costs 8 bytes a slot, so it is kept
only where there is a swap to write back to (`aged`). The records grow on the heap and take frames of the host for it
(Frames.grow): without one the store is declined.

The limit is Linux's, with its hysteresis (zswap_check_limits): a pool that has reached limit_frames declines every
store until it is down to accept_percent of that, so that it does not flip at each eviction. As there, the test comes
before the store, and the chain of the last zspage may pass the limit by up to 15 frames. Every declined store is
counted by reason.

The accounted length alone decides the placement, so all counters of content without bytes are those of real bytes.

Kept, and recounted by check():
- lengths fit their class; stored_bytes and nr_objects are the sums over the slots in use;
- an aged pool has each object in its ring once;
- frames * 4096 = stored + rounding waste + sparse waste + tail waste.
"""

from cpython.exc cimport PyErr_CheckSignals

cimport cython

from ..memory.frames cimport pages_of
from .sizeclass cimport MAX_CHAIN, SizeClass, size_index
from ..types cimport NONE, OK, PAGE_SHIFT, PAGE_SIZE, POOL_FULL, REJECTED
from .zspage cimport (LOADED, MAX_WORDS, NO_ZSPAGE, NR_GROUPS, SPARE_FREE, Age, Zspages, handle_of, slot_of,
                      spare_of)

from memvirt.engine.stores.zspage_report import accounts as accounts_of
from memvirt.engine.stores.zspage_report import check as check_zspages
from memvirt.engine.stores.zspage_report import members as members_of
from memvirt.errors import ConfigError, InvariantError

COUNT_NAMES = ("pool_limit_hits", "reject_pool_limit", "reject_hysteresis", "reject_no_frame", "reject_no_handle",
               "reject_too_big", "stored_raw", "rotations", "compact_moved_objects", "compact_moved_bytes",
               "compact_freed_frames")


@cython.final
cdef class Zpool:
    """limit_frames: where the pool is full. accept_percent: where it accepts again, of limit_frames.
    chain: longest zspage in frames, 1 .. 16. chain_rule: "waste" (current kernels) or "used" (older; sizeclass.pyx).
    reject_above: longest object in bytes. keep_raw: pages that do not compress to it come in as they are. aged: whether
    store order is kept. max_words: of zspages' records.
    """

    def __cinit__(self, Frames frames not None, limit_frames, accept_percent=90, chain_rule="waste", chain=8,
                  reject_above=PAGE_SIZE, keep_raw=False, aged=True, max_words=MAX_WORDS):
        if not 0 <= limit_frames <= frames.nr_frames:
            raise ConfigError(f"limit_frames is {limit_frames}: must be from 0 to the host's {frames.nr_frames}")
        if not 0 <= accept_percent <= 100:
            raise ConfigError(f"accept_percent is {accept_percent}: must be from 0 to 100")
        if not 1 <= reject_above <= PAGE_SIZE:
            raise ConfigError(f"reject_above is {reject_above} bytes: must be from 1 to {PAGE_SIZE}")
        if not 0 <= max_words <= MAX_WORDS:
            raise ConfigError(f"max_words is {max_words}: must be from 0 to {MAX_WORDS}")
        self.frames = frames
        self.zspages = Zspages(frames, chain, chain_rule, aged, max_words)
        self.limit_frames = limit_frames
        self.accept_frames = limit_frames * accept_percent // 100
        self.reject_above = reject_above
        self.keep_raw = keep_raw
        self._oldest = NONE

    # ---- store ----

    cdef int store(self, const uint8_t *payload, uint32_t payload_bytes, uint32_t length, uint32_t reserve,
                   uint32_t *handle) except -1 nogil:
        cdef int outcome = OK, size_class
        cdef uint32_t zspage, slot
        if not 1 <= length <= PAGE_SIZE or payload_bytes != self.frames.content.payload_bytes(length):
            with gil:
                raise InvariantError(f"a store of {payload_bytes} bytes accounted as {length}")
        if self._declines(length, &outcome):
            return outcome
        size_class = self.zspages.class_of[size_index(length)]
        zspage = self.zspages.roomiest(size_class)
        if zspage == NO_ZSPAGE:
            outcome = self.zspages.create(size_class, reserve, &zspage)
            if outcome != OK:
                self.count[<int>REJECT_NO_HANDLE if outcome == POOL_FULL else <int>REJECT_NO_FRAME] += 1
                return outcome
            self.nr_pool_frames = self.zspages.nr_frames
        slot = self.zspages.take_slot(zspage)               # from here on nothing can fail
        self.zspages.write(zspage, slot, payload, length)
        handle[0] = handle_of(zspage, slot)
        if self.zspages.aged:
            self._append(handle[0])
        self.nr_objects += 1
        self.nr_raw += length == PAGE_SIZE
        self.count[STORED_RAW] += length == PAGE_SIZE
        self.stored_bytes += length
        return OK

    cdef bint _declines(self, uint32_t length, int *outcome) noexcept nogil:
        """True if the pool's rules decline an object before any frame is asked for; counts the reason."""
        if length > self.reject_above and not (self.keep_raw and length == PAGE_SIZE):      # whatever room there is
            self.count[REJECT_TOO_BIG] += 1
            outcome[0] = REJECTED
            return True
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
        return False

    # ---- load and free ----

    cdef uint32_t _require(self, uint32_t handle) except? 0xFFFFFFFF nogil:
        """The zspage of an object."""
        cdef uint32_t zspage = self.zspages.find(handle)
        if zspage == NO_ZSPAGE:
            with gil:
                raise InvariantError(f"handle {handle} holds no object; {self.nr_objects} are stored")
        return zspage

    cdef const uint8_t *view(self, uint32_t handle, uint32_t *payload_bytes) except NULL nogil:
        cdef uint32_t zspage = self._require(handle), slot = slot_of(zspage, handle)
        cdef uint32_t length = self.zspages.length(zspage, slot)
        self.zspages.word[handle] = self.zspages.word[handle] | LOADED
        payload_bytes[0] = self.frames.content.payload_bytes(length)
        return self.zspages.view(zspage, slot, length, self._scratch)

    cdef void expect(self, uint32_t handle) noexcept nogil:
        self.zspages.expect(handle)

    cdef void expect_bytes(self, uint32_t handle) noexcept nogil:
        cdef Age *age
        if self.frames.content.has_bytes:
            self.zspages.expect_bytes(handle)
        if self.zspages.aged:
            age = self.zspages.age(handle)
            self.zspages.expect(age.next)
            self.zspages.expect(age.prev)

    cdef int free(self, uint32_t handle) except -1 nogil:
        cdef uint32_t zspage = self._require(handle), slot = slot_of(zspage, handle)
        cdef uint32_t length = self.zspages.length(zspage, slot)
        self.stored_bytes -= length
        self.nr_raw -= length == PAGE_SIZE
        self.nr_objects -= 1
        if self.zspages.aged:
            self._unlink(handle)
        if self.zspages.give_slot(zspage, slot):
            self.nr_pool_frames = self.zspages.nr_frames
        return 0

    # ---- order ----

    cdef uint32_t oldest(self) noexcept nogil:
        return self._oldest

    cdef int rotate(self, uint32_t handle) except -1 nogil:
        self._require(handle)
        if not self.zspages.aged:
            with gil:
                raise InvariantError("this pool keeps no order")
        self._unlink(handle)
        self._append(handle)
        self.zspages.word[handle] = self.zspages.word[handle] & ~<uint32_t>LOADED
        self.count[ROTATIONS] += 1
        return 0

    cdef void _append(self, uint32_t handle) noexcept nogil:
        """Between the youngest and the oldest."""
        cdef Age *age = self.zspages.age(handle)
        cdef Age *oldest
        if self._oldest == NONE:
            self._oldest = age.next = age.prev = handle
            return
        oldest = self.zspages.age(self._oldest)
        age.next = oldest.next
        age.prev = self._oldest
        self.zspages.age(age.next).prev = handle
        oldest.next = handle

    cdef void _unlink(self, uint32_t handle) noexcept nogil:
        cdef Age *age = self.zspages.age(handle)
        if age.prev == handle:
            self._oldest = NONE
            return
        self.zspages.age(age.next).prev = age.prev
        self.zspages.age(age.prev).next = age.next
        if self._oldest == handle:
            self._oldest = age.prev

    cdef void _replace(self, uint32_t old, uint32_t new) noexcept nogil:
        """`new` where `old` was."""
        cdef Age *age = self.zspages.age(new)
        age[0] = self.zspages.age(old)[0]
        self.zspages.age(age.next).prev = new           # for the only one: its own, which then goes with it
        self.zspages.age(age.prev).next = new
        if age.prev == old:
            age.next = age.prev = new
        if self._oldest == old:
            self._oldest = new

    # ---- compaction ----

    cdef bint compact_one(self, int *size_class, uint32_t *owner, uint32_t *handle) except -1 nogil:
        """Out of the sparsest zspage of a class into its fullest, as long as the free slots of the class add up to a
        zspage. Both stay what they are until one is empty or the other full."""
        cdef const SizeClass *shape
        cdef uint32_t target
        while size_class[0] >= 0:
            shape = &self.zspages.classes[size_class[0]]
            if (<uint64_t>self.zspages.nr_zspages[size_class[0]] * shape.objects - self.zspages.nr_used[size_class[0]]
                    >= shape.objects):
                target = self.zspages.roomiest(size_class[0])
                self._move_object(self.zspages.sparsest(size_class[0], target), target, owner, handle)
                return True
            size_class[0] -= 1
        return False

    cdef int _move_object(self, uint32_t source, uint32_t target, uint32_t *owner, uint32_t *handle) except -1 nogil:
        """Moves the first object of a zspage to a free slot of another."""
        cdef uint32_t slot = 0, new_slot, length, old, freed
        while spare_of(self.zspages.at(source).cells[slot]) == SPARE_FREE:
            slot += 1
        length = self.zspages.length(source, slot)
        new_slot = self.zspages.take_slot(target)
        self.zspages.write(target, new_slot, self.zspages.view(source, slot, length, self._scratch), length)
        old = handle_of(source, slot)
        handle[0] = handle_of(target, new_slot)
        owner[0] = self.owner(old)
        self.set_owner(handle[0], owner[0])
        if self.loaded(old):
            self.zspages.word[handle[0]] = self.zspages.word[handle[0]] | LOADED
        if self.zspages.aged:
            self._replace(old, handle[0])
        self.count[COMPACT_MOVED_OBJECTS] += 1
        self.count[COMPACT_MOVED_BYTES] += length
        freed = self.zspages.give_slot(source, slot)
        self.count[COMPACT_FREED_FRAMES] += freed
        self.nr_pool_frames -= freed
        return 0

    cdef int move_frame(self, hfn_t source, hfn_t target) except -1 nogil:
        return self.zspages.rewire(source, target)

    # ---- accounts ----

    cpdef uint64_t metadata_bytes(self) noexcept nogil:
        """Of the records, grown parts included; frames are taken for them. What lies in the slots is not metadata, nor
        what stands for it: the payloads and lengths of content without bytes."""
        return self.zspages.metadata_bytes()

    cdef uint64_t most_frames(self, uint64_t objects) noexcept nogil:
        """Each object may be the last one of a zspage, so a full pool may hold next to nothing. The limit is tested before
        a store. Records: an eighth of the pool (slots of 96 bytes and more), a cell and an age for each object, and as
        much ahead as a table grows by."""
        cdef uint64_t frames = self.limit_frames + <uint64_t>MAX_CHAIN
        cdef uint64_t records = frames / 8 + (objects * (sizeof(uint32_t) + sizeof(Age)) >> PAGE_SHIFT) + 1
        return frames + max(records + records / 32 + 1, <uint64_t>pages_of(self.metadata_bytes()))

    def stats(self):
        """Where the pool's bytes are, how much compact() would free, and what was declined and moved, by count.

        frames * 4096 = stored + rounding waste (slot minus object, of slots in use) + sparse waste + tail waste.
        """
        accounts = accounts_of(self.zspages)
        return {
            "objects": self.nr_objects,
            "raw_objects": self.nr_raw,
            "frames": self.nr_pool_frames,
            "stored_bytes": self.stored_bytes,
            "rounding_waste_bytes": accounts.pop("used_slot_bytes") - self.stored_bytes,
            **accounts,
            "metadata_bytes": self.metadata_bytes(),
            "full": bool(self.full),
            **{name: self.count[i] for i, name in enumerate(COUNT_NAMES)},
        }

    cpdef object check(self):
        """Recounts everything from the cells; O(slots). Raises InvariantError."""
        live = set()
        check_zspages(self.zspages)
        self._check_objects(live)
        self._check_order(live)
        self._check_totals()

    cdef object _check_objects(self, set live):
        """Collects the handles."""
        cdef uint32_t zspage, slot, length
        cdef uint64_t stored = 0, raw = 0
        cdef int size_class
        for size_class in range(self.zspages.nr_classes):
            for group in range(NR_GROUPS):
                for zspage in members_of(self.zspages, size_class, group):
                    PyErr_CheckSignals()            # a recount may stop anywhere
                    for slot in range(self.zspages.classes[size_class].objects):
                        if spare_of(self.zspages.at(zspage).cells[slot]) == SPARE_FREE:
                            continue
                        length = self.zspages.length(zspage, slot)
                        if not 1 <= length <= PAGE_SIZE or self.zspages.class_of[size_index(length)] != size_class:
                            raise InvariantError(f"handle {handle_of(zspage, slot)}: an object of {length} bytes is "
                                                 f"not for zspage {zspage} of class {size_class}")
                        stored += length
                        raw += length == PAGE_SIZE
                        live.add(handle_of(zspage, slot))
        if (len(live), stored, raw) != (self.nr_objects, self.stored_bytes, self.nr_raw):
            raise InvariantError(f"{self.nr_objects} objects of {self.stored_bytes} bytes, {self.nr_raw} of them pages as "
                                 f"they are; recount {len(live)}, {stored}, {raw}")

    cdef object _check_order(self, set live):
        cdef uint32_t handle = self._oldest, older, nr_aged = 0
        if (handle in live) != (self.zspages.aged and self.nr_objects > 0):
            raise InvariantError(f"the oldest of {self.nr_objects} objects is {handle}; order kept: {self.zspages.aged}")
        while handle in live and (nr_aged == 0 or handle != self._oldest):
            older, handle = handle, self.zspages.age(handle).prev
            nr_aged += 1
            if not nr_aged & 0xFFF:
                PyErr_CheckSignals()
            if handle not in live or self.zspages.age(handle).next != older or nr_aged > self.nr_objects:
                raise InvariantError(f"order: {handle} after {older} holds no object, names another, or comes twice")
        if self.zspages.aged and nr_aged != self.nr_objects:
            raise InvariantError(f"{self.nr_objects} objects, {nr_aged} in the order")

    cdef object _check_totals(self):
        cdef dict totals = self.stats()
        used = sum(self.zspages.nr_used[i] for i in range(self.zspages.nr_classes))
        parts = sum(totals[part] for part in totals if part == "stored_bytes" or part.endswith("_waste_bytes"))
        if used != self.nr_objects or self.nr_pool_frames != self.zspages.nr_frames:
            raise InvariantError(f"{self.nr_objects} objects in {self.nr_pool_frames} frames; the zspages have {used} "
                                 f"in {self.zspages.nr_frames}")
        if parts != self.nr_pool_frames * PAGE_SIZE:
            raise InvariantError(f"{self.nr_pool_frames} frames, but the parts add up to {parts} bytes")
