from ..simtime cimport Actor, Clock
from .batch cimport Batch
from .stream cimport Stream
from .clone cimport Cloner
from ..upkeep.collapse cimport Collapser
from ..upkeep.compact cimport Compactor
from ..content.content cimport Content
from ..counters cimport Histogram, Meter
from ..device cimport Device
from ..reclaim.fault cimport Faults
from ..memory.frames cimport Frames
from ..guests.balloon cimport Balloon
from ..guests.guest cimport Guest
from ..guests.hardware cimport VirtualMachine
from ..mapping.mapping cimport Mapping
from ..reclaim.reclaim cimport Reclaim
from ..replacement.order cimport Order
from ..sharing.scanner cimport Scanner, Scanning
from ..sharing.shareindex cimport ShareIndex
from ..stall cimport Stalls
from ..types cimport MAX_VMS, gfn_t, hfn_t, int64_t, uint8_t, uint32_t, uint64_t, vmid_t, vpn_t
from ..stores.zpool cimport Zpool

cdef extern from "mapping/access.h" nogil:
    struct memvirt_hits:
        const uint32_t *entry
        const uint8_t *writes
        uint8_t *arena
        uint64_t *ids
        uint32_t tag_base
        uint64_t sequence
        uint64_t loaded
    uint32_t memvirt_word(uint32_t vpn)
    uint32_t memvirt_tag(uint32_t base, uint64_t sequence)
    uint32_t memvirt_serve_hits(memvirt_hits *hits, const uint32_t *pages, const uint8_t *ops, uint32_t first,
                                uint32_t last, uint32_t end)


cdef class VmState:
    # One VM: an actor with a clock.
    cdef readonly Core engine
    cdef readonly vmid_t id
    cdef readonly str name
    cdef readonly uint32_t nr_pages             # guest-physical pages configured
    cdef readonly uint32_t nr_vpns              # pages its accesses may name
    cdef readonly bint alive
    cdef public bint frozen                     # a template or snapshot: it is cloned, but does not run
    cdef readonly Guest guest                   # or None
    cdef readonly VirtualMachine machine
    cdef public int64_t now_ns                  # its clock
    cdef Balloon worker                         # of its guest's balloon
    cdef Stream stream                          # what it has left to do; None: it was never in a run
    cdef Histogram *latency                     # of its requests, from when they were due until done; NULL: there were none
    cdef bint runs                              # it has work in the run that goes on
    cdef bint waits                             # its last access found no memory, and it tries again
    cdef uint64_t changes                       # Core.changes() then
    cdef dict last_stall                        # once it is destroyed: what stall() said
    cdef int64_t last_busy_ns                   # and busy_ns
    cdef readonly int outcome                   # why the last access stopped (Outcome)
    cdef memvirt_hits hits
    cdef list fixed                             # [(frame, order)] metadata taken at creation


cdef class Core:
    cdef readonly Content content
    cdef readonly Meter meter
    cdef readonly Clock clock
    cdef readonly Frames frames
    cdef readonly Order order
    cdef readonly Mapping mapping
    cdef readonly Reclaim reclaim
    cdef readonly Stalls stalls
    cdef readonly Faults faults
    cdef readonly Cloner cloner
    cdef readonly Compactor compactor
    cdef readonly Collapser collapser
    cdef readonly Device device
    cdef readonly ShareIndex index              # None without page sharing
    cdef readonly Scanner scanner               # None without page sharing
    cdef Scanning scanning                      # its actor
    cdef list actors                            # what works beside the VMs; of two at the same time the first goes first
    cdef Actor deciding                         # what asks the decider; None before the first run with one
    cdef void **who                             # [NUMBERS]: those who are in the agenda, by number; borrowed
    cdef int64_t reached_ns                     # simulated time: what every VM had to do before is done
    cdef int64_t quantum_ns                     # VMs take turns at multiples of this
    cdef uint32_t nr_running                    # VMs with work in the run that goes on
    cdef Histogram requests                     # latencies of the requests of all VMs that there have been
    cdef uint32_t nr_waits                      # sleeps of VMs without memory since anything moved
    cdef int rule                               # what becomes of them
    cdef readonly dict vms                      # {name: Vm}
    cdef readonly dict options
    cdef uint64_t seed
    cdef uint64_t nr_created                    # VMs there have ever been
    cdef Batch batch                            # what a VM's access has taken over
    cdef unsigned long thread
    cdef int process                            # that made it: a forked child has its memory, and shares its files
    cdef readonly bint closed
    cdef bint entered
    cdef uint64_t entries                       # calls there have been: each may have changed anything
    cdef readonly uint32_t nr_fixed             # metadata frames of the host itself

    cdef int touch(self, VmState vm, vpn_t vpn, bint write, hfn_t *frame) except -1 nogil
    cdef uint32_t serve(self, VmState vm, Batch batch, uint32_t first, uint32_t end,
                        int64_t until) except? 0xFFFFFFFF nogil
    cdef int _slow(self, VmState vm, vpn_t vpn, uint8_t op, const uint32_t *source) except -1 nogil
    cpdef int look(self) except -1
    cdef int _enter(self) except -1
    cdef int _own(self, VmState vm) except -1
    cdef int _begin(self, VmState vm) except -1
    cdef int _end(self, VmState vm) except -1
    cdef uint32_t run_as(self, Actor actor, int64_t now, uint32_t want) except? 0xFFFFFFFF
    cdef void _leave(self) noexcept
    cdef int _reach(self, VmState vm) except -1
    cdef int _leave_agenda(self, VmState vm) except -1
    cdef int hire(self, Actor actor, int64_t first_ns) except -1
    cdef list _take_fixed(self, uint64_t bytes, object what)
    cdef uint64_t changes(self) noexcept nogil
    cpdef int64_t sim_ns(self)
    cdef readonly list snapshots                # frozen Vms that are in nobody's list of VMs
