from .agenda cimport Agenda
from .counters cimport Meter
from .interrupt cimport Interrupt
from .types cimport int64_t, uint32_t, uint64_t

# The cost model: simulated nanoseconds per operation, integers, named in presets/costs/*.toml.
cdef struct Costs:
    int64_t hit                 # an access that the translation cache serves
    int64_t refill              # a walk of the tables that finds a present entry
    int64_t fault               # entering and leaving the hypervisor for a fault
    int64_t zero_page           # clear 4 KiB
    int64_t zero_huge           # clear 2 MiB
    int64_t copy_page
    int64_t leaf_copy           # copy the 512 entries of a shared leaf table
    int64_t same_filled         # test a page for equal words
    int64_t compress
    int64_t decompress
    int64_t zpool_store         # place and copy a compressed object
    int64_t swap_submit         # processor time to submit one swap request
    int64_t evict               # unmap one page and give its frame back
    int64_t reclaim_visit       # look at one candidate
    int64_t scan_visit          # page-sharing scanner: look at one page
    int64_t hash_page
    int64_t compare_page        # compare two equal pages to the last byte
    int64_t merge
    int64_t clone_fixed         # create a clone's fixed parts
    int64_t clone_leaf          # share one leaf table
    int64_t balloon_page        # give up or take back one page through the balloon
    int64_t guest_fault         # the guest kernel's own fault handling
    int64_t move_page           # compaction: copy a page and rewrite what names it
    int64_t wait_quantum        # how long a VM that found no memory sleeps before it tries again


cdef class Clock:
    # Simulated time. Exactly one actor runs; `now` is its clock. Whoever switches actors saves and restores it.
    cdef int64_t now
    cdef Costs costs
    cdef Meter meter
    cdef int64_t *cpu_ns            # the meter's
    cdef Interrupt interrupt        # the host's: whether to stop
    cdef readonly Agenda agenda     # the host's: who works next
    cdef uint64_t progress          # what actors have done so far, in whatever each of them counts

    cdef inline void spend(self, int mechanism, int64_t ns) noexcept nogil:
        """Processor time of the running actor, booked to a mechanism."""
        self.now += ns
        self.cpu_ns[mechanism] += ns

    cdef inline void wait_until(self, int64_t ns) noexcept nogil:
        """The running actor sleeps (I/O): time passes, no processor time is spent."""
        if ns > self.now:
            self.now = ns


cdef class Actor:
    # What works beside the VMs, on a clock of its own. A new one is one file: what it does, and when it does it again.
    cdef Clock clock                # the host's
    cdef uint32_t number            # in the host's agenda
    cdef public int64_t now_ns      # its clock: what it did so far took until then
    cdef bint awake                 # has begun what takes several pieces of work
    cdef uint32_t share             # how much it does at a time
    cdef int64_t pause_ns           # how long it sleeps after each piece

    # Does `want` of what it does, on the running clock. Returns how many were done.
    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil
    # After a piece of work: when it begins the next; FOREVER: when it is woken.
    cdef int64_t rest(self) noexcept nogil
    # It has work from `now` on. Nothing if it is awake.
    cdef void wake(self, int64_t now) noexcept nogil
    # Its turn: one share of its work, at its time in the agenda. The caller sets the running clock again.
    cdef int step(self) except -1 nogil
    # Its turns up to `now`; the running clock is as it was.
    cdef int catch_up(self, int64_t now) except -1 nogil
