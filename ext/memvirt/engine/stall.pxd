from libc.stdint cimport int32_t

from .types cimport int64_t, uint8_t, uint32_t, uint64_t, vmid_t

cdef enum:
    STALL_WINDOWS = 3           # averages over 10, 60 and 300 s

# What one VM, or one state of the host, has stalled.
cdef struct Pressure:
    int64_t total_ns
    int64_t period_end_ns       # end of the averaging period that runs
    int64_t in_period_ns        # stalled within it so far
    int64_t known_ns            # nothing before this time can still be added
    uint32_t average[STALL_WINDOWS]     # per cent, times 2048

# The changes at `at_ns` of the number of VMs that stall, and of those with work: -1, 0 or 1 each.
cdef struct Edge:
    int64_t at_ns
    int32_t stalled
    int32_t working


cdef class Stalls:
    # Time in which VMs wait for memory, per VM and for the host, as Linux's pressure stall information has it.
    cdef Pressure *vm                       # [MAX_VMS]
    cdef uint8_t *works                     # [MAX_VMS]: between start and stop
    cdef int64_t *_waited_ns                # [MAX_VMS]: for memory, whether that counts as pressure or not
    cdef int64_t *_began_ns                 # [MAX_VMS]: since when it has work
    cdef int64_t *_busy_ns                  # [MAX_VMS]: how long it had, until it last stopped
    cdef Pressure some, full                # the host's
    cdef Edge *_heap                        # [_room], [0, _nr_edges) used: a binary heap, earliest first
    cdef uint32_t _nr_edges, _room
    cdef readonly int64_t settled_ns        # the host's account is complete up to here
    cdef int32_t _nr_stalled, _nr_working   # VMs, at settled_ns
    cdef readonly vmid_t running            # the VM whose clock runs; NONE16: an actor that is no VM
    cdef bint alone                         # no other VM has work: nothing can still happen before its clock
    cdef readonly bint as_linux             # which waits count as pressure: those that do in the kernel

    # The VM has work from now on, and its faults count; until `stop`.
    cpdef int start(self, vmid_t vm, int64_t now) except -1 nogil
    cpdef int stop(self, vmid_t vm, int64_t now) except -1 nogil
    # How long the VM, whose clock is at `now`, has had work in all: it worked or stalled.
    cpdef int64_t busy(self, vmid_t vm, int64_t now) noexcept
    # How long it has waited for memory in all.
    cpdef int64_t waited(self, vmid_t vm) noexcept
    # What a VM whose clock is at `now` has stalled, its averages up to date.
    cdef Pressure *look(self, vmid_t vm, int64_t now) noexcept nogil
    cpdef int open(self, vmid_t vm, int64_t now) except -1
    # Room for what one fault can note; False without memory for it. Comes before `note`, which cannot fail.
    cdef bint make_room(self) noexcept nogil
    # The running VM waited for memory from `began` to `ended`; `counts`: as pressure. Nothing if no VM runs.
    cdef void note(self, int64_t began, int64_t ended, bint counts) noexcept nogil
    # The same of a VM that sleeps until there is memory, with room for it made first.
    cdef int wait(self, vmid_t vm, int64_t began, int64_t ended) except -1 nogil
    # No VM with work is behind `now`: complete the host's account up to there.
    cpdef int book_until(self, int64_t now) except -1 nogil
    # No VM has work: complete it up to the last that is known.
    cpdef int drain(self) except -1
    cdef void _book(self, int64_t now) noexcept nogil
    cdef void _push(self, int64_t at_ns, int32_t stalled, int32_t working) noexcept nogil
    cdef void _pop(self) noexcept nogil
    cdef void _spend(self, int64_t until) noexcept nogil
    cpdef object check(self)


# The average over one of the windows, in hundredths of a per cent.
cdef uint32_t hundredths(const Pressure *pressure, int window) noexcept nogil
