"""Pages that were given up lazily, as by madvise(MADV_FREE): each VM's own, in the order in which they were given up.

    an ordinary page ──── given up ────▶ lazy ──── reclaim wants a frame ────▶ gone: no I/O, nothing kept, zeros at a touch
                     ◀──── written ─────      ──── given up for good, VM ends ────▶ gone

Until one of these happens the page is mapped, and a read finds its old bytes. Reclaim takes lazy pages before it asks an
order for a page that it would have to keep, as Linux does, which moves them to the inactive list of files. One that was
accessed since it is looked at last gets another round, and stays lazy: only a write says that its bytes are wanted.

A lazy page is in this list and in no replacement order; each VM's list is a cgroup's in Linux, and where anybody's page may
go VMs take turns. The host is charged nothing for the lists: a page leaves the links of an order for links of these.

Invariant: marked = kept + freed + released + nr (check).
"""

from libc.stdlib cimport free

from ..replacement.lists cimport links_check, links_make, links_oldest, links_push, links_remove, links_rename, links_renew
from ..types cimport MAX_VMS, NONE, hfn_t, uint32_t, vmid_t

from memvirt.errors import InvariantError


cdef class LazyList:
    """Of a host of so many frames."""

    def __cinit__(self, uint32_t nr_frames):
        self._nr_frames = nr_frames

    def __dealloc__(self):
        free(self._links)

    cdef int _begin(self) except -1:
        self._links = links_make(self._nr_frames, MAX_VMS)
        if self._links == NULL:
            raise MemoryError("lists of lazily freed pages")
        return 0

    cdef int add(self, hfn_t frame, vmid_t vm) except -1 nogil:
        if self._links == NULL:
            with gil:
                self._begin()
        links_push(self._links, self._nr_frames + vm, frame)
        self.end = max(self.end, <uint32_t>vm + 1)
        self.of[vm] += 1
        self.nr += 1
        return 0

    cdef void remove(self, hfn_t frame, vmid_t vm) noexcept nogil:
        links_remove(self._links, frame)
        self.of[vm] -= 1
        self.nr -= 1

    cdef void renew(self, hfn_t frame, vmid_t vm) noexcept nogil:
        links_renew(self._links, self._nr_frames + vm, frame)

    cdef void rename(self, hfn_t frame, hfn_t new) noexcept nogil:
        links_rename(self._links, frame, new)

    cdef hfn_t oldest(self, vmid_t vm) noexcept nogil:
        return links_oldest(self._links, self._nr_frames + vm) if self.of[vm] else NONE

    cdef vmid_t next_turn(self) noexcept nogil:
        """The VM whose turn it is; the next call names the one after it."""
        cdef vmid_t vm = self.turn
        self.turn = <vmid_t>(vm + 1) if vm + 1 < self.end else 0
        return vm

    cdef bint holds(self, hfn_t frame) noexcept nogil:
        return self._links != NULL and self._links[frame].prev != NONE

    def events(self):
        """{name: pages so far}; nothing where no page was ever given up lazily."""
        if not self.marked + self.skipped:
            return {}
        return {"lazy_marked": self.marked, "lazy_kept": self.kept, "lazy_freed": self.freed,
                "lazy_released": self.released, "lazy_skipped": self.skipped}

    cpdef object check(self):
        """Recount the lists. Raises InvariantError."""
        cdef uint32_t vm, length, total = 0
        for vm in range(MAX_VMS if self._links != NULL else 0):
            length = links_check("lazily freed pages", self._links, self._nr_frames, self._nr_frames + vm)
            if length != self.of[vm]:
                raise InvariantError(f"VM {vm}: {self.of[vm]} lazily freed pages, {length} in its list")
            total += length
        if total != self.nr:
            raise InvariantError(f"{self.nr} lazily freed pages, {total} in lists")
        if self.marked != self.kept + self.freed + self.released + self.nr:
            raise InvariantError(f"lazily freed: {self.marked} pages, of which {self.kept} kept, {self.freed} freed, "
                                 f"{self.released} released, {self.nr} still there")
