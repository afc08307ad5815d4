"""The disks of guests: their own swap, and the blocks of their files that were written. Copies share what they hold.

A disk has slots, and its guest decides what is in which. Where a slot lies in a file is in the table `place`. The disk of
a clone or a snapshot, and that of a VM that goes back to one, is a copy: it has the places of the other, in the same
file, and no byte is moved. Each slot of the file counts its users, as a backing record counts the entries that name it:

    write     where nothing lies yet, or what others use, too: to a free slot of the file; else in place
    forget    one user less; without any the slot is free

So nobody sees what another writes, in whatever order copies are made and end. A write that fails leaves slot and place
as they were, unless the guest was about to replace what was there.

Capacity. Each disk has `capacity` slots, and a slot that is shared counts in full against each disk that has it. The
file has room for all of its disks, as if nothing were shared: it is reserved when a copy is made, which is refused
otherwise. So no write lacks a slot: before it, all the others of this disk and of the others are at most
nr_disks x capacity - 1 in number. When a disk ends, room at the end of the file that nobody uses is given back.

A copy costs no simulated time: on real hosts it is one change of metadata (a backing file of qcow2, a reflink), whatever
the disk holds. A write to what is shared costs as any other write; whole pages are written, so nothing is read before.

Host memory is charged for the checksums of each disk, and the map of its slots, as if it were alone. Places and counts of
users are not: images keep them in themselves (qcow2's L2 and refcount tables).

Invariants: users of a slot = disks with a place there; a slot of the file is in use <=> it has users; a disk has a place
for exactly those slots that its guest names as copies.
"""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from .guest_memory cimport GuestMemory
from ..stores.swap cimport Swap
from ..types cimport IO_FAILED, NONE, OK

from memvirt.errors import ConfigError, InvariantError
from memvirt.engine.stores.swapspace import MAX_SLOTS


cdef class DiskFile:
    """A new swap area for one disk, to begin with."""

    def __cinit__(self, Swap swap not None):
        if swap.nr_used:
            raise InvariantError("a guest disk must be new: the guest itself decides which slots it uses")
        self.swap = swap
        self.capacity = swap.nr_slots
        self.nr_disks = 1
        self.disk_bytes = (self.capacity + <uint64_t>1) * sizeof(uint32_t) + <uint64_t>swap.metadata_bytes()
        self.users = <uint32_t *>calloc(self.capacity, sizeof(uint32_t))
        self.check_sum = <uint32_t *>malloc(self.capacity * sizeof(uint32_t))
        if self.users == NULL or self.check_sum == NULL:
            raise MemoryError("guest disk checksums")

    def __dealloc__(self):
        free(self.users)
        free(self.check_sum)

    cdef int make_room(self) except -1:
        cdef uint64_t wanted = (self.nr_disks + <uint64_t>1) * self.capacity
        cdef uint32_t before = self.swap.nr_slots
        cdef void *users
        cdef void *check_sum
        if wanted > MAX_SLOTS:
            raise ConfigError(f"{self.nr_disks + 1} guest disks that share what they hold, of {self.capacity} pages each: "
                              f"all of them may have {MAX_SLOTS} pages")
        if wanted <= before:
            return 0
        users = realloc(self.users, wanted * sizeof(uint32_t))
        if users != NULL:
            self.users = <uint32_t *>users
        check_sum = realloc(self.check_sum, wanted * sizeof(uint32_t))
        if check_sum != NULL:
            self.check_sum = <uint32_t *>check_sum
        if users == NULL or check_sum == NULL:
            raise MemoryError("guest disk checksums")
        memset(self.users + before, 0, (wanted - before) * sizeof(uint32_t))
        return self.swap.grow(<uint32_t>(wanted - before))

    cdef int drop(self, uint32_t at) except -1 nogil:
        self.users[at] -= 1
        return OK if self.users[at] else self.swap.give(at)

    cdef int leave(self) except -1:
        self.nr_disks -= 1
        if self.nr_disks == 0:
            self.swap.release()
        else:
            self.swap.cut(self.nr_disks * self.capacity)
        return 0

    def check(self, list disks):
        """Recount what `disks`, all that have this file, use of it, O(disks x capacity + slots)."""
        cdef uint32_t *users = <uint32_t *>calloc(self.swap.nr_slots, sizeof(uint32_t))
        cdef uint32_t at, slot
        cdef GuestDisk disk
        if users == NULL:
            raise MemoryError("check")
        try:
            for disk in disks:
                for slot in range(disk.nr_slots):
                    if disk.place[slot] == NONE:
                        continue
                    if disk.place[slot] >= self.swap.nr_slots:
                        raise InvariantError(f"guest disk: slot {slot} lies at {disk.place[slot]}, beyond its file")
                    users[disk.place[slot]] += 1
            for at in range(self.swap.nr_slots):
                if users[at] != self.users[at] or self.swap.in_use(at) != (users[at] > 0):
                    raise InvariantError(f"guest disk: {users[at]} disks have a slot at {at} of their file, "
                                         f"{self.users[at]} counted, in use is {bool(self.swap.in_use(at))}")
        finally:
            free(users)
        if len(disks) != self.nr_disks or self.swap.nr_slots < <uint64_t>self.nr_disks * self.capacity:
            raise InvariantError(f"guest disk: {self.nr_disks} disks counted, {len(disks)} have the file of "
                                 f"{self.swap.nr_slots} slots")
        self.swap.check()


cdef class GuestDisk:
    """An empty disk in a file of its own. `swap`: a new area; None: an object that `copied` fills in."""

    def __cinit__(self, Swap swap=None):
        if swap is not None:
            self.file = DiskFile(swap)
            self._make_places(self.file.capacity)
            memset(self.place, 0xFF, self.nr_slots * sizeof(uint32_t))

    cdef int _make_places(self, uint32_t nr_slots) except -1:
        self.place = <uint32_t *>malloc(nr_slots * sizeof(uint32_t))
        if self.place == NULL:
            raise MemoryError("places of a guest disk's slots")
        self.nr_slots = nr_slots
        return 0

    def __dealloc__(self):
        free(self.place)

    cdef GuestDisk copied(self, GuestDisk instead):
        cdef GuestDisk twin = GuestDisk()
        cdef uint32_t slot
        twin._make_places(self.nr_slots)
        if instead is None or instead.file is not self.file:
            self.file.make_room()
        memcpy(twin.place, self.place, self.nr_slots * sizeof(uint32_t))
        for slot in range(self.nr_slots):
            if self.place[slot] != NONE:
                self.file.users[self.place[slot]] += 1
        twin.file = self.file
        self.file.nr_disks += 1
        return twin

    cdef int write(self, uint32_t slot, const uint8_t *page, uint32_t check_sum) except -1 nogil:
        cdef uint32_t before = self.place[slot], at = before
        cdef uint8_t done = 0
        if before == NONE or self.file.users[before] > 1:
            if self.file.swap.take(1, &at) != 1:
                with gil:
                    raise InvariantError("guest disk: a file without room for what its disks may hold")
        self.file.swap.write(1, &at, &page, &done)
        if not done:
            if at != before:
                self.file.swap.give(at)
            return IO_FAILED
        self.file.check_sum[at] = check_sum
        if at != before:
            self.file.users[at] = 1
            self.place[slot] = at
            if before != NONE:
                self.file.drop(before)
        return OK

    cdef int read(self, uint32_t slot, uint8_t *page) except -1 nogil:
        return self.file.swap.read(self.place[slot], page)

    cdef uint32_t check_sum(self, uint32_t slot) noexcept nogil:
        return self.file.check_sum[self.place[slot]]

    cdef int forget(self, uint32_t slot) except -1 nogil:
        cdef uint32_t at = self.place[slot]
        if at == NONE:
            with gil:
                raise InvariantError(f"guest disk: slot {slot} is forgotten and holds nothing")
        self.place[slot] = NONE
        return self.file.drop(at)

    cdef int end(self) except -1:
        cdef DiskFile file = self.file
        cdef uint32_t slot
        if file is None:
            return 0
        for slot in range(self.nr_slots):
            if self.place[slot] != NONE:
                self.forget(slot)
        self.file = None
        return file.leave()

    cdef int check_named(self, GuestMemory memory) except -1:
        cdef uint32_t vpn, slot, named = 0, held = 0
        for vpn in range(memory.nr_vpns):
            slot = memory.copy[vpn]
            if slot < self.nr_slots:
                named += 1
                if self.place[slot] == NONE:
                    raise InvariantError(f"guest disk: vpn {vpn} has its copy in slot {slot}, which holds nothing")
        for slot in range(self.nr_slots):
            held += self.place[slot] != NONE
        if held != named:
            raise InvariantError(f"guest disk: {held} slots hold something, its guest names {named}")
        return 0
