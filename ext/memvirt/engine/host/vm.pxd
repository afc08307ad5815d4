from ..counters cimport Histogram
from ..guests.balloon cimport Balloon
from ..guests.guest cimport Guest
from ..guests.host_hardware cimport HostHardware
from ..mapping.mapping cimport Mapping
from ..stall cimport Stalls
from ..types cimport int64_t, uint8_t, uint32_t, uint64_t, vmid_t
from .gate cimport Gate
from .stream cimport Stream

cdef extern from "mapping/access.h" nogil:
    struct mv_hits:
        const uint32_t *entry
        const uint8_t *writes
        uint8_t *arena
        uint64_t *ids
        uint32_t tag_base
        uint64_t sequence
        uint64_t loaded


cdef class Vm:
    # One VM: an actor with a clock.
    cdef readonly vmid_t id
    cdef readonly str name
    cdef readonly uint32_t nr_pages             # guest-physical pages configured
    cdef readonly uint32_t nr_vpns              # pages its accesses may name
    cdef readonly bint alive
    cdef public bint frozen                     # a template or snapshot: it is cloned, but does not run
    cdef public int64_t now_ns                  # its clock
    cdef public uint32_t block_above            # it has no turns while it pays for more frames; NONE: it always has
    cdef readonly int64_t driver_ns             # that it went on later, for the driver in its guest had the processor
    cdef readonly Guest guest                   # or None
    cdef readonly HostHardware hardware         # that its guest runs on
    cdef Balloon worker                         # of its guest's balloon
    cdef list fixed                             # [(frame, order)] metadata taken for it
    cdef readonly int outcome                   # why the last access stopped (Outcome)
    cdef mv_hits hits                           # what an access needs to be a hit
    # Of its host; None once the VM has ended:
    cdef Gate gate
    cdef Mapping mapping
    cdef Stalls stalls
    # While it runs:
    cdef Stream stream                          # what it has left to do; None: it was never in a run
    cdef Histogram *latency                     # of its requests, from when they were due until done; NULL: there were none
    cdef bint runs                              # it has work in the run that goes on
    cdef bint waits                             # its last access found no memory, and it tries again
    cdef uint64_t changes                       # Engine.changes() then
    cdef int64_t marked_ns                      # what it had stalled when the last decision was made
    # Once it has ended:
    cdef dict last_stall                        # what stall() said
    cdef int64_t last_busy_ns, last_waited_ns   # and busy_ns, waited_ns

    # Raises ConfigError if the VM has ended: it has no host any more. Whoever asks something of it asks this first.
    cpdef int require(self) except -1
    # ... and if it is frozen.
    cdef int require_running(self) except -1
    # A histogram of its requests, if the batch it is in has due times.
    cdef int count_requests(self) except -1
    # Keep what is asked of VMs that have ended, and nothing of the host.
    cdef int end(self) except -1
