"""Cold ages: for how many harvests of accessed marks a page has not been accessed (as Google's far memory keeps them:
kstaled's age byte per page; ASPLOS 2019).

A frame's age grows by one with each harvest that finds no mark on it, and ends with one that does: the page is
*promoted* at the age it had. A page that goes out takes along, in its backing record, the harvest after which it was
last accessed, so that its promotion, a fault, is counted at its true age. Histograms per VM count pages by age at the
last harvest, and promotions by age since the VM began. A frame counts for the VM that pays for it.

    access ──► touched ──harvest──► age 0 ──harvest──► 1 ──► … ──► 127 (127 or more)
                  ▲                   │                │
                  └────── access: promoted at age 0, 1, … ┘

Ages are in harvests; the interval between them is the host's harvest_interval_ns. A page that is out longer than 65535
harvests is taken for younger.
"""

import cython

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from ..types cimport MAX_VMS, hfn_t, int64_t, uint16_t, uint32_t, uint64_t, vmid_t


@cython.final
cdef class Ages:
    """Ages of nr_frames frames."""

    def __cinit__(self, uint32_t nr_frames):
        self.nr_frames = nr_frames
        self._age = <uint8_t *>calloc(nr_frames, 1)
        self._cold = <uint32_t *>calloc(<size_t>MAX_VMS * AGES, sizeof(uint32_t))
        self._promoted = <uint64_t *>calloc(<size_t>MAX_VMS * AGES, sizeof(uint64_t))
        self._marked = <uint64_t *>calloc(<size_t>MAX_VMS * AGES, sizeof(uint64_t))
        if self._age == NULL or self._cold == NULL or self._promoted == NULL or self._marked == NULL:
            raise MemoryError("ages of frames")

    def __dealloc__(self):
        free(self._age)
        free(self._cold)
        free(self._promoted)
        free(self._marked)

    cdef uint16_t leave(self, hfn_t frame) noexcept nogil:
        return <uint16_t>(self.harvests - self.idle(frame))

    cdef void come_back(self, uint16_t seen, vmid_t vm) noexcept nogil:
        cdef uint32_t idle = <uint16_t>(self.harvests - seen)
        self._promoted[<size_t>vm * AGES + min(idle, <uint32_t>AGE_MASK)] += 1

    cdef void clear(self) noexcept nogil:
        self.harvests += 1
        memset(self._cold, 0, <size_t>self._end * AGES * sizeof(uint32_t))

    cdef void count(self, hfn_t frame, vmid_t vm) noexcept nogil:
        cdef uint32_t age = self._age[frame] & AGE_MASK
        if self._age[frame] & AGE_TOUCHED:
            self._promoted[<size_t>vm * AGES + age] += 1
            age = 0
        elif age < AGE_MASK:
            age += 1
        self._age[frame] = age
        self._cold[<size_t>vm * AGES + age] += 1

    cdef void open(self, vmid_t vm) noexcept nogil:
        self._end = max(self._end, <uint32_t>vm + 1)
        memset(&self._cold[<size_t>vm * AGES], 0, AGES * sizeof(uint32_t))
        memset(&self._promoted[<size_t>vm * AGES], 0, AGES * sizeof(uint64_t))
        memset(&self._marked[<size_t>vm * AGES], 0, AGES * sizeof(uint64_t))

    cdef uint32_t age_for(self, vmid_t vm, uint32_t pages) noexcept nogil:
        cdef uint32_t age = AGE_MASK, found = self._cold[<size_t>vm * AGES + AGE_MASK]
        while age > 0 and found < pages:
            age -= 1
            found += self._cold[<size_t>vm * AGES + age]
        return age

    def of_vm(self, uint32_t vm):
        """[(age, pages at least that old, promotions at least that old since the VM began)], age 1 .. 127 harvests, as
        far as there are any."""
        if vm >= MAX_VMS:
            raise ValueError(f"VM {vm}: ids are below {MAX_VMS}")
        cdef uint64_t cold = 0, promoted = 0
        cdef uint32_t age
        rows = []
        for age in range(AGE_MASK, 0, -1):
            cold += self._cold[vm * AGES + age]
            promoted += self._promoted[vm * AGES + age]
            if cold or promoted:
                rows.append((age, cold, promoted))
        return rows[::-1]

    cdef uint32_t oldest(self, vmid_t vm) noexcept nogil:
        cdef uint32_t age = AGE_MASK
        while age > 0 and self._cold[<size_t>vm * AGES + age] == 0 and self._promoted[<size_t>vm * AGES + age] == 0:
            age -= 1
        return age

    cdef void see(self, vmid_t vm, uint32_t oldest, int64_t *cold, int64_t *promoted) noexcept nogil:
        cdef uint32_t age
        cdef size_t row = <size_t>vm * AGES
        cdef int64_t pages = 0, since = 0
        for age in range(oldest, 0, -1):
            pages += self._cold[row + age]
            since += self._promoted[row + age] - self._marked[row + age]
            cold[age - 1] = pages
            promoted[age - 1] = since

    cdef void mark(self, vmid_t vm) noexcept nogil:
        memcpy(&self._marked[<size_t>vm * AGES], &self._promoted[<size_t>vm * AGES], AGES * sizeof(uint64_t))
