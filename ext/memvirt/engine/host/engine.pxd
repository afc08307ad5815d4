from ..content.content cimport Content
from ..counters cimport Histogram, Meter
from ..device cimport Device
from ..guests.reporting cimport Reporting
from ..mapping.mapping cimport Mapping
from ..memory.frames cimport Frames
from ..reclaim.fault cimport Faults
from ..reclaim.reclaim cimport Reclaim
from ..replacement.order cimport Order
from ..sharing.scanner cimport Scanner, Scanning
from ..sharing.shareindex cimport ShareIndex
from ..simtime cimport Actor, Clock
from ..stall cimport Stalls
from ..types cimport int64_t, uint32_t, uint64_t
from ..upkeep.collapse cimport Collapser
from ..upkeep.compact cimport Compactor
from .batch cimport Batch
from .gate cimport Gate
from .vm cimport Vm

cdef extern from *:
    """
    #include <stdint.h>
    #define MEMVIRT_END (INT64_C(1) << 62)
    """
    # Simulated time ends here, after 146 years: nothing begins later, and sums of two times stay within 64 bits.
    const int64_t END_NS "MEMVIRT_END"


cdef class Engine:
    # One host.
    cdef readonly Content content
    cdef readonly Meter meter
    cdef readonly Clock clock
    cdef readonly Frames frames
    cdef readonly Order order
    cdef readonly Mapping mapping
    cdef readonly Reclaim reclaim
    cdef readonly Stalls stalls
    cdef public int64_t decider_state       # as its decider calls it, in names.HOST_STATES from 1; 0: it has not
    cdef public uint32_t wake_below         # free frames below which its decider is asked at once; 0: at its interval alone
    cdef public int64_t blocked_ns          # time in which its decider has kept VMs from running, of all VMs together
    cdef readonly Faults faults
    cdef readonly Compactor compactor
    cdef readonly Collapser collapser
    cdef readonly Device device
    cdef readonly ShareIndex index              # None without page sharing
    cdef readonly Scanner scanner               # None without page sharing
    cdef Scanning scanning                      # its actor
    cdef readonly Reporting reporting           # of free pages of guests
    cdef readonly Gate gate
    cdef readonly dict vms                      # {name: Vm}
    cdef readonly list snapshots                # frozen Vms that are in nobody's list of VMs
    cdef uint64_t seed
    cdef uint64_t nr_created                    # VMs there have ever been
    cdef dict ended                             # {event: count} of guests that are no more; None: there are none
    cdef readonly uint32_t nr_fixed             # metadata frames of the host itself
    cdef Batch batch                            # what a VM's access has taken over
    cdef Histogram requests                     # latencies of the requests of all VMs that there have been
    # Turns:
    cdef dict giving                            # what it costs guests to give memory, {operation: ns}
    cdef list actors                            # what works beside the VMs; of two at the same time the first goes first
    cdef Actor deciding                         # what asks the decider; None before the first run with one
    cdef void **who                             # [NUMBERS]: those who are in the agenda, by number; borrowed
    cdef int64_t reached_ns                     # simulated time: what every VM had to do before is done
    cdef int64_t quantum_ns                     # VMs take turns at multiples of this
    cdef uint32_t nr_running                    # VMs with work in the run that goes on
    cdef uint32_t nr_waits                      # sleeps of VMs without memory since anything moved
    cdef uint32_t nr_blocks                     # turns that VMs were not let have, since one had an access served
    cdef int rule                               # what becomes of them

    cdef int _share(self, Scanner scanner) except -1
    cdef int _hire_all(self, int64_t harvest_interval_ns, int64_t collapse_interval_ns) except -1
    cpdef int look(self) except -1
    cpdef int64_t sim_ns(self)
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    # Enter for this VM alone: its clock runs, what it waits for is its stall, and nobody else has work.
    cdef int begin(self, Vm vm) except -1
    cdef int end(self, Vm vm) except -1
    cdef int keep_limits(self) except -1
    # Raises unless the VM lives, and on this host: its number means another VM elsewhere.
    cdef int own(self, Vm vm) except -1
    # The VM has done something of its own: simulated time has come that far, and it may have woken someone.
    cdef int reach(self, Vm vm) except -1
    # From now on this actor has turns, the first at that time; FOREVER: when it is woken.
    cdef int hire(self, Actor actor, int64_t first_ns) except -1
    # The VM ends: it has no more turns.
    cdef int dismiss(self, Vm vm) except -1
    # Enter and let an actor work now, on its own clock, not before `now`. Returns how much was done.
    cdef uint32_t run_as(self, Actor actor, int64_t now, uint32_t want) except? 0xFFFFFFFF
    # A number that grows with whatever may let an access succeed that found no memory.
    cdef uint64_t changes(self) noexcept nogil
