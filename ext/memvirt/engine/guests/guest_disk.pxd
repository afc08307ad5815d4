from ..stores.swap cimport Swap
from .guest_memory cimport GuestMemory
from ..types cimport uint8_t, uint32_t, uint64_t


cdef class DiskFile:
    # The file of one guest's disk and of all that were copied of it, and of their copies.
    cdef readonly Swap swap                     # the file; its slots in use are those with users
    cdef readonly uint32_t capacity             # slots of each disk
    cdef readonly uint32_t nr_disks             # disks that have it
    cdef readonly uint64_t disk_bytes           # what the tables of one disk, alone, take in the host's memory
    cdef uint32_t *users                        # [swap.nr_slots] disks of which a slot lies there
    cdef uint32_t *check_sum                    # [swap.nr_slots] of what lies there; valid where there are users

    cdef int make_room(self) except -1          # for one disk more; raises, and nothing has changed
    cdef int drop(self, uint32_t at) except -1 nogil        # one user less
    cdef int leave(self) except -1              # one disk less, of which no slot is left


cdef class GuestDisk:
    # The disk of one guest.
    cdef readonly DiskFile file                 # None once it has ended
    cdef readonly uint32_t nr_slots
    cdef uint32_t *place                        # [nr_slots] where in the file; NONE: nothing is written there

    # A disk that holds the same, for another guest. `instead`: the disk that ends when the copy is in its place, or None.
    # Raises ConfigError where the file cannot have the room, or MemoryError: then there is no copy.
    cdef GuestDisk copied(self, GuestDisk instead)
    cdef int write(self, uint32_t slot, const uint8_t *page, uint32_t check_sum) except -1 nogil     # OK or IO_FAILED
    cdef int read(self, uint32_t slot, uint8_t *page) except -1 nogil                               # OK or IO_FAILED
    cdef uint32_t check_sum(self, uint32_t slot) noexcept nogil             # of what was written
    cdef int forget(self, uint32_t slot) except -1 nogil                    # what it holds is needed no more
    cdef int end(self) except -1
    cdef int _make_places(self, uint32_t nr_slots) except -1
    # InvariantError unless it holds exactly the slots that the guest's tables name.
    cdef int check_named(self, GuestMemory memory) except -1
