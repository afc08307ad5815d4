from ..simtime cimport Actor, Clock
from ..mapping.listener cimport Listener
from .shareindex cimport ShareIndex
from ..types cimport gfn_t, hfn_t, int64_t, uint32_t, uint64_t, vmid_t


cdef class Scanner(Listener):
    # A page-sharing scanner: looks at pages, a slice at a time, and merges through the share index.
    cdef readonly ShareIndex index
    cdef Clock clock
    cdef readonly uint64_t pages_scanned
    cdef readonly uint64_t full_scans
    cdef public uint32_t pages_to_scan          # a slice, when it runs as an actor
    cdef public int64_t sleep_ns                # pause between slices, simulated
    cdef bint hints                             # look first at frames whose content has just arrived
    cdef readonly uint64_t hints_followed       # frames looked at for that

    # Look at up to `pages` pages, at most to the end of the pass; NONE: a full pass from its start, and what was begun
    # of another is given up. Returns pages merged.
    cdef uint32_t scan(self, uint32_t pages) except? 0xFFFFFFFF nogil
    # Look at a frame whose content has just arrived; looked[0] grows by 1 if that was worth while. Returns whether a
    # page was merged.
    cdef bint visit(self, hfn_t frame, uint32_t *looked) except? True nogil
    # What comes first in a slice of `pages`: such frames, at most half of it. Returns pages merged.
    cdef uint32_t follow_hints(self, uint32_t pages, uint32_t *looked) except? 0xFFFFFFFF nogil
    # The VM is about to end: drop what is kept of its pages.
    cdef void forget_vm(self, vmid_t vm) noexcept nogil
    # The guest frame that the VM maps at gfn, or NONE; *next is where to look after it (past a hole in one step).
    cdef hfn_t frame_at(self, vmid_t vm, gfn_t gfn, gfn_t *next) noexcept nogil


cdef class Scanning(Actor):
    # The scanner's work beside the VMs: a slice, then a pause, as the scanner's pace is then.
    cdef readonly Scanner scanner

    cdef void set_pace(self, uint32_t pages, int64_t sleep_ns, int64_t now) noexcept nogil
