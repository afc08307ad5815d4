"""Limit loops over pages and leaf tables, and the engine's own steps beside them where Python has no way to a step.

Times are nanoseconds per page or per leaf.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from memvirt.engine.content.content cimport Bytes, Content
from memvirt.engine.mapping.leaf cimport Look
from memvirt.engine.memory.frames cimport FRAME_GUEST, Frames
from memvirt.engine.host.cloning cimport share
from memvirt.engine.host.engine cimport Engine
from memvirt.engine.host.vm cimport Vm
from memvirt.engine.types cimport LEAF_ENTRIES, NO_FRAME, OK

import ctypes

cdef extern from "buddy.h" nogil:
    int64_t limits_now_ns()
    void limits_shuffle(uint32_t *items, uint32_t n)

cdef extern from "page.h" nogil:
    ctypedef struct LimitCell:
        uint32_t page
    ctypedef struct LimitFrame:
        uint32_t refs
    ctypedef uint64_t (*LimitHash)(const void *data, size_t bytes)
    void limit_copy(uint8_t *target, const uint8_t *source, uint32_t n)
    uint64_t limit_hash(const uint8_t *arena, uint32_t n)
    uint64_t limit_hash_with(LimitHash hash, const uint8_t *arena, uint32_t n)
    uint32_t limit_scan(const uint8_t *arena, const uint32_t *frames, uint32_t n, LimitCell *cell, uint32_t mask)
    void limit_leaf_copy(uint32_t *target, uint32_t *source, uint32_t site, LimitFrame *frame)


cdef class Copy:
    """Two halves of memory of its own, on huge pages where the kernel gives them, as a host's arena is."""
    cdef Content content

    def __cinit__(self, uint32_t pages):
        self.content = Bytes(2 * pages)

    def run(self):
        """Copy the first half over the second; nanoseconds per page."""
        cdef uint32_t pages = self.content.nr_frames // 2
        cdef int64_t start = limits_now_ns()
        limit_copy(self.content.arena + <size_t>pages * 4096, self.content.arena, pages)
        return <double>(limits_now_ns() - start) / pages


def hash_ns(Content content not None):
    """The engine's hash over the whole arena, in order."""
    cdef int64_t start = limits_now_ns()
    cdef uint64_t total = limit_hash(content.arena, content.nr_frames)
    return <double>(limits_now_ns() - start) / content.nr_frames + (total == 0)


def foreign_hash_ns(Content content not None, function):
    """The same with a C function of XXH3_64bits's signature, given as a ctypes function."""
    cdef LimitHash hash = <LimitHash><uintptr_t>ctypes.cast(function, ctypes.c_void_p).value
    cdef int64_t start = limits_now_ns()
    cdef uint64_t total = limit_hash_with(hash, content.arena, content.nr_frames)
    return <double>(limits_now_ns() - start) / content.nr_frames + (total == 0)


def scan_ns(Engine engine not None, bint shuffled=False):
    """Hash and look up every guest frame once, in frame order or shuffled."""
    cdef Frames frames = engine.frames
    cdef uint32_t n = 0, frame, mask = 1
    cdef uint32_t *order = <uint32_t *>calloc(frames.nr_frames, sizeof(uint32_t))
    cdef LimitCell *cell
    cdef int64_t start
    for frame in range(frames.nr_frames):
        if frames.frame[frame].state == FRAME_GUEST:
            order[n] = frame
            n += 1
    while mask < 2 * n:
        mask = 2 * mask + 1
    cell = <LimitCell *>calloc(<size_t>mask + 1, sizeof(LimitCell))
    if shuffled:
        limits_shuffle(order, n)
    with nogil:
        limit_scan(engine.content.arena, order, n, cell, mask)      # the table's own first touch
        start = limits_now_ns()
        limit_scan(engine.content.arena, order, n, cell, mask)
        start = limits_now_ns() - start
    free(order)
    free(cell)
    return <double>start / n


def leaf_copy_ns(Engine engine not None, Vm vm not None):
    """Give the VM leaves of its own below every 2 MiB that it shares: the engine's own copy, without the fault."""
    cdef uint32_t region, copied = 0
    cdef int64_t start, spent = 0
    cdef Look at
    engine.enter()
    try:
        for region in range(vm.nr_pages // LEAF_ENTRIES):
            if not engine.mapping.leaves.look(vm.id, region * LEAF_ENTRIES, &at):
                raise ValueError(f"there is no leaf below page {region * LEAF_ENTRIES}")
            start = limits_now_ns()
            if engine.reclaim.secure(vm.id, 0, engine.mapping.tables.frames_to_copy_leaf(at.id)) == NO_FRAME:
                raise MemoryError("no frame for a leaf")
            engine.mapping.tables.copy_leaf(at.slot)
            spent += limits_now_ns() - start
            copied += 1
    finally:
        engine.leave()
    return <double>spent / copied


def leaf_copy_limit_ns(uint32_t leaves, bint ordered=True):
    """Copy `leaves` leaves whose entries name frames in order (or shuffled); memory touched before."""
    cdef size_t n = <size_t>leaves * LEAF_ENTRIES, i
    cdef uint32_t *number = <uint32_t *>malloc(n * sizeof(uint32_t))
    cdef uint32_t *source = <uint32_t *>malloc(4 * n * sizeof(uint32_t))        # tables of a page each, old and new
    cdef uint32_t *target = source + 2 * n
    cdef LimitFrame *frame = <LimitFrame *>malloc(n * sizeof(LimitFrame))
    cdef int64_t start
    if number == NULL or source == NULL or frame == NULL:
        raise MemoryError(f"{leaves} leaves")
    memset(source, 1, 4 * n * sizeof(uint32_t))
    memset(frame, 1, n * sizeof(LimitFrame))
    for i in range(n):
        number[i] = <uint32_t>i
    if not ordered:
        limits_shuffle(number, n)
    for i in range(n):
        source[i // LEAF_ENTRIES * 2 * LEAF_ENTRIES + i % LEAF_ENTRIES] = number[i] | 0xC0000000
    start = limits_now_ns()
    for i in range(leaves):
        limit_leaf_copy(target + i * 2 * LEAF_ENTRIES, source + i * 2 * LEAF_ENTRIES, i * LEAF_ENTRIES, frame)
    start = limits_now_ns() - start
    free(number)
    free(source)
    free(frame)
    return <double>start / leaves


def clone_share_ns(Engine engine not None, Vm parent not None, Vm child not None):
    """The sharing of leaves alone: `share`, without the child's fixed parts. The child must be empty."""
    cdef int64_t start
    cdef int outcome
    engine.enter()
    start = limits_now_ns()
    outcome = share(engine, parent.id, child.id)
    start = limits_now_ns() - start
    engine.leave()
    if outcome != OK:
        raise MemoryError("no frames for directory pages")
    return <double>start
