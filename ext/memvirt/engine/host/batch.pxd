from ..types cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum Op:
    OP_READ = 0
    OP_WRITE = 1
    OP_FILL = 2                 # the whole page becomes a corpus page
    OP_DISCARD = 3              # the owner needs the page no more
    OP_LAZY = 4                 # the same; without a guest the host may take the page, until it is written again

cdef enum:
    PIECE = 1 << 16             # accesses that Vm.access takes over at a time: they stay in this machine's cache


cdef class Batch:
    # Accesses that are the engine's own: nobody else can change them between the check and the use.
    cdef uint32_t *pages        # [n]
    cdef uint8_t *ops           # [n]
    cdef uint32_t *sources      # [n] of fills; nothing without one
    cdef uint32_t n
    cdef uint32_t room          # of pages and ops
    cdef uint32_t source_room   # of sources
    cdef int64_t work_ns        # after each access the VM computes so long
    cdef int64_t *due_ns        # [nr_parts] when each of so many parts of equal length begins, not before
    cdef uint32_t nr_parts      # 0: the batch begins when what was before it is done
    cdef uint32_t due_room

    # Of accesses first .. end - 1, how far they get that begin within `left_ns`, each served in `hit_ns`; at least one.
    cdef inline uint32_t end_within(self, uint32_t first, uint32_t end, int64_t left_ns, int64_t hit_ns) noexcept nogil:
        cdef int64_t each = hit_ns + self.work_ns
        if each and (left_ns - 1) / each < end - first:
            return min(first + 1 + <uint32_t>((left_ns - 1) / each), end)
        return end

    # Raises unless every access of the whole batch can be one of this VM: for a batch that is then taken in pieces.
    cdef int judge(self, str vm, uint32_t nr_vpns, uint32_t nr_sources, const uint32_t[::1] pages,
                   const uint8_t[::1] ops, const uint32_t[::1] sources) except -1
    # Take over accesses first .. first + n - 1.
    cdef int own(self, str vm, uint32_t nr_vpns, uint32_t nr_sources, const uint32_t[::1] pages,
                 const uint8_t[::1] ops, const uint32_t[::1] sources, uint64_t first, uint64_t n) except -1
    # The same of accesses that are all reads.
    cdef int own_reads(self, str vm, uint32_t nr_vpns, const uint32_t[::1] pages) except -1
    # After `own`: ns that the VM works after each access, and when parts begin (None, or one time for each of them).
    cdef int time(self, str vm, int64_t work_ns, const int64_t[::1] due_ns) except -1
    cdef int _make_room(self, uint64_t n, bint with_sources) except -1
    cdef int _own_pages(self, str vm, uint32_t nr_vpns, const uint32_t[::1] pages, uint64_t first, uint64_t n) except -1
    cdef int _own_due(self, str vm, uint32_t n, uint32_t parts, const int64_t[::1] due_ns) except -1


cdef int check_lengths(str vm, const uint32_t[::1] pages, const uint8_t[::1] ops, const uint32_t[::1] sources) except -1
