"""What ksm keeps of each guest page: items, by VM and page.

Items lie in chunks of 128 neighbours, a frame each, that are charged to the host as they are taken. A VM has a table of
its chunks, made when the scanner first comes by.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from ..memory.frames cimport FRAME_FIXED, Slab
from ..types cimport NONE, OK, PAGE_SIZE


cdef class Items:
    """The items of one host."""

    def __cinit__(self, Mapping mapping not None):
        self.mapping = mapping
        self.chunks = Slab(mapping.frames, PAGE_SIZE, FRAME_FIXED)

    def __dealloc__(self):
        for vm in range(MAX_VMS):
            free(self.root[vm])

    cdef uint32_t of_page(self, vmid_t vm, gfn_t gfn) except? 0xFFFFFFFE nogil:
        cdef uint32_t chunk, id
        cdef Item *item
        if self.root[vm] == NULL:
            with gil:
                self._grow_root(vm)
        chunk = self.root[vm][gfn >> CHUNK_SHIFT]
        if chunk == NONE:
            if self.chunks.reserve(1, self.mapping.frames.min_pages) != OK:
                return NONE
            chunk = self.chunks.claim()
            self.root[vm][gfn >> CHUNK_SHIFT] = chunk
        id = chunk * ITEMS_PER_CHUNK + gfn % ITEMS_PER_CHUNK
        item = self.at(id)
        if item.state == ITEM_ABSENT:
            item.state = ITEM_NEITHER
            item.vm = vm
            item.gfn = gfn
            self.nr += 1
        return id

    cdef int _grow_root(self, vmid_t vm) except -1:
        cdef uint32_t n = (self.mapping.leaves.directory[vm].nr_pages + ITEMS_PER_CHUNK - 1) >> CHUNK_SHIFT
        self.root[vm] = <uint32_t *>realloc(NULL, n * sizeof(uint32_t))
        if self.root[vm] == NULL:
            raise MemoryError("the items of a VM")
        memset(self.root[vm], 0xFF, n * sizeof(uint32_t))
        self.nr_root[vm] = n
        return 0

    cdef uint32_t next(self, vmid_t vm, gfn_t *gfn, gfn_t end) noexcept nogil:
        cdef uint32_t chunk, id
        while gfn[0] < end and gfn[0] >> CHUNK_SHIFT < self.nr_root[vm]:
            chunk = self.root[vm][gfn[0] >> CHUNK_SHIFT]
            if chunk == NONE:
                gfn[0] = ((gfn[0] >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT
                continue
            id = chunk * ITEMS_PER_CHUNK + gfn[0] % ITEMS_PER_CHUNK
            gfn[0] += 1
            if self.at(id).state != ITEM_ABSENT:
                return id
        return NONE

    cdef void drop(self, uint32_t id) noexcept nogil:
        memset(self.at(id), 0, sizeof(Item))
        self.nr -= 1

    cdef void close(self, vmid_t vm) noexcept nogil:
        cdef uint32_t i
        for i in range(self.nr_root[vm]):
            if self.root[vm][i] != NONE:
                self.chunks.give(self.root[vm][i])
        free(self.root[vm])
        self.root[vm] = NULL
        self.nr_root[vm] = 0
