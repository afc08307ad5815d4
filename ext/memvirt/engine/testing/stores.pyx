"""The compressed cache, swap and its readahead with faces for tests. Every argument is examined here."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign

from ..memory.frames cimport FRAME_ZSPAGE
from ..reclaim.readahead cimport Window
from ..stores.sizeclass cimport MAX_CHAIN, NR_SIZES, SizeClass, build_classes
from ..stores.swap cimport Swap
from ..stores.swapspace cimport SwapSpace
from ..stores.zpool cimport Zpool
from ..stores.zspage cimport OWNER, slot_of
from ..types cimport NONE, OK, PAGE_SIZE, hfn_t, uint8_t, uint32_t

from memvirt.engine.stores.sizeclass import CHAIN_RULES
from memvirt.errors import ConfigError, InvariantError


def size_classes(int chain=8, str rule="waste"):
    """The classes of a pool, smallest first, as (size in bytes, frames per zspage, objects per zspage)."""
    cdef SizeClass classes[NR_SIZES]
    cdef uint8_t class_of[NR_SIZES]
    if rule not in CHAIN_RULES or not 1 <= chain <= MAX_CHAIN:
        raise ValueError(f"no size classes for rule {rule!r} and chain {chain}: rules {list(CHAIN_RULES)}, chain 1..16")
    cdef int nr_classes = build_classes(chain, CHAIN_RULES[rule], classes, class_of)
    return [(classes[i].size, classes[i].frames, classes[i].objects) for i in range(nr_classes)]


@cython.final
cdef class ZpoolProbe:
    """A compressed cache. What it offers by itself is offered here, too."""

    cdef readonly Zpool zpool

    def __init__(self, Zpool zpool not None):
        self.zpool = zpool

    def __getattr__(self, name):
        return getattr(self.zpool, name)

    def free(self, uint32_t handle):
        self.zpool.free(handle)

    def oldest(self):
        """The handle of the object that was stored longest ago; NONE in an empty pool, and in one that keeps no order."""
        return self.zpool.oldest()

    def rotate(self, uint32_t handle):
        """The object becomes the youngest."""
        self.zpool.rotate(handle)

    def move_frame(self, hfn_t source, hfn_t target):
        self.zpool.move_frame(source, target)

    def relocate(self, hfn_t source):
        """Moves one frame of a zspage to the next free one: the new frame, or None when none is free."""
        cdef hfn_t target
        if self.zpool.frames.take(0, FRAME_ZSPAGE, 0, &target) != OK:
            return None
        self.zpool.move_frame(source, target)
        self.zpool.frames.give(source, 0)
        return target

    def put(self, bytes payload not None, length=None, uint32_t reserve=0, uint32_t owner=0):
        """Stores a payload accounted as `length` bytes (by default its own); (outcome, handle or None)."""
        cdef uint32_t handle = NONE
        cdef const uint8_t *source = <const uint8_t *>PyBytes_AS_STRING(payload)
        cdef uint32_t accounted = len(payload) if length is None else length
        if owner > OWNER:
            raise InvariantError(f"owner {owner} does not fit into a cell")
        cdef int outcome = self.zpool.store(source, len(payload), accounted, reserve, &handle)
        if outcome != OK:
            return outcome, None
        self.zpool.set_owner(handle, owner)
        return outcome, handle

    def compact(self):
        """Moves all that compaction would: [(owner, new handle)], one after the other."""
        cdef int size_class = self.zpool.zspages.nr_classes - 1
        cdef uint32_t owner, handle
        moves = []
        while self.zpool.compact_one(&size_class, &owner, &handle):
            moves.append((owner, handle))
        return moves

    def was_loaded(self, uint32_t handle):
        """True if the object was viewed since it was stored or rotated."""
        self.zpool._require(handle)
        return bool(self.zpool.loaded(handle))

    def get(self, uint32_t handle):
        """The payload behind a handle; marks it loaded."""
        cdef uint32_t n = 0
        cdef const uint8_t *payload = self.zpool.view(handle, &n)
        return PyBytes_FromStringAndSize(<const char *>payload, n)

    def spoil(self, uint32_t handle, uint32_t bit):
        """True if the object has such a bit, which is then flipped where it lies; for tests of damage only. The sixteen
        bits past the object are those of its length, in the last two bytes of its slot."""
        cdef uint32_t zspage = self.zpool._require(handle), slot = slot_of(zspage, handle), at = bit // 8
        cdef uint32_t length = self.zpool.zspages.length(zspage, slot), size = self.zpool.zspages.shape(zspage).size
        if not self.zpool.frames.content.has_bytes or at >= length + 2 or at >= length and size < length + 2:
            return False
        at = at if at < length else size - 2 + at - length
        # A wrong length may lead to any of it.
        self.zpool.zspages._cover(zspage, slot * size, (slot + 1) * size, False)
        self.zpool.zspages._byte(zspage, slot * size + at)[0] ^= <uint8_t>(1 << bit % 8)
        return True


@cython.final
cdef class SwapProbe:
    """A swap area, or several. What it offers by itself is offered here, too."""

    cdef readonly SwapSpace space

    def __init__(self, SwapSpace space not None):
        self.space = space

    def __getattr__(self, name):
        return getattr(self.space, name)

    def window_of(self, uint32_t slot, uint32_t pages):
        """First and last slot of the window."""
        cdef uint32_t first = 0, last = 0
        self.space.window(slot, pages, &first, &last)
        return first, last

    def begins_writes(self):
        """True if the kernel takes writes of this one area that go on by themselves. Known once one was begun."""
        cdef Swap area = self.space
        return area._area.flight.ring != 0 and area._area.flight.refused == 0

    def take_slots(self, uint32_t n):
        """Up to n free slots, as a list."""
        cdef Batch batch = Batch(n, self.space.slot_bytes)
        return [batch.slots[i] for i in range(self.space.take(n, batch.slots))]

    def give_slot(self, uint32_t slot):
        """Give a slot back; InvariantError if it is not in use."""
        self.space.give(slot)

    def slot_in_use(self, uint32_t slot):
        """True if the slot is taken; False beyond the last."""
        return self.space.in_use(slot)

    def write_slots(self, slots, payloads, bint begun=False):
        """Write payloads (slot_bytes each) to taken slots; a list of bools, True where it worked. begun: as the engine
        does, beginning the write before it is waited for."""
        cdef Batch batch = Batch(len(slots), self.space.slot_bytes, begun)
        if len(payloads) != len(slots):
            raise ConfigError(f"{len(payloads)} payloads for {len(slots)} slots")
        for i, (slot, payload) in enumerate(zip(slots, payloads)):
            batch.put(i, slot, payload)
        if begun:
            self.space.begin_write(batch.n, batch.slots, <const uint8_t **>batch.pages)
        self.space.write(batch.n, batch.slots, <const uint8_t **>batch.pages, batch.done)
        return [bool(batch.done[i]) for i in range(batch.n)]

    def read_slots(self, slots):
        """The payloads of taken slots; None for each that could not be read."""
        cdef Batch batch = Batch(len(slots), self.space.slot_bytes)
        for i, slot in enumerate(slots):
            batch.slots[i] = slot
        self.space.read_batch(batch.n, batch.slots, batch.pages, batch.done)
        return [batch.get(i) if batch.done[i] else None for i in range(batch.n)]


@cython.final
cdef class Batch:
    """Arrays for one call from Python. Its pages are deliberately not aligned, as a caller's may be; or they are, and lie
    in pieces of 1, 2 and 3, as frames do."""

    cdef uint32_t n, unit
    cdef uint32_t *slots
    cdef uint8_t **pages
    cdef uint8_t *done
    cdef uint8_t *memory

    def __cinit__(self, uint32_t n, uint32_t unit, bint aligned=False):
        cdef uint32_t i, at = 0
        cdef size_t room = (<size_t>n * 2 + 1) * unit
        self.n, self.unit = n, unit
        self.slots = <uint32_t *>calloc(n + 1, sizeof(uint32_t))
        self.pages = <uint8_t **>calloc(n + 1, sizeof(uint8_t *))
        self.done = <uint8_t *>calloc(n + 1, 1)
        if (self.slots == NULL or self.pages == NULL or self.done == NULL
                or posix_memalign(<void **>&self.memory, PAGE_SIZE, room)):
            raise MemoryError(f"a batch of {n} slots")
        memset(self.memory, 0, room)
        for i in range(n):
            at += 1 + (aligned and i % 6 in (0, 1, 3))
            self.pages[i] = self.memory + (<size_t>at - 1) * unit + (not aligned)

    def __dealloc__(self):
        free(self.slots)
        free(self.pages)
        free(self.done)
        free(self.memory)

    cdef put(self, uint32_t i, slot, payload):
        cdef bytes source = bytes(payload)
        if len(source) != self.unit:
            raise ConfigError(f"a payload of {len(source)} bytes: a slot holds {self.unit}")
        self.slots[i] = slot
        memcpy(self.pages[i], <const char *>source, self.unit)

    cdef get(self, uint32_t i):
        return self.pages[i][:self.unit]


@cython.final
cdef class WindowProbe:
    """A readahead window. What it offers by itself is offered here, too."""

    cdef readonly Window window

    def __init__(self, Window window not None):
        self.window = window

    def __getattr__(self, name):
        return getattr(self.window, name)

    def fault(self, uint32_t slot):
        """First and last slot to read for a fault on this one."""
        cdef uint32_t mask = self.window.next_pages(slot) - 1
        return slot & ~mask, slot | mask

    def hit(self, uint32_t pages=1):
        """So many pages read ahead were accessed."""
        self.window.hits += pages
