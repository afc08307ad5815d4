from .types cimport int64_t, uint32_t, uint64_t

# What a fault was, named from the entry alone. The order is that of FAULTS in memvirt.names.
cdef enum Fault:
    FAULT_NONE = 0              # the entry serves the access: only the translation cache had to be filled
    FAULT_ZERO = 1              # nothing there yet: a frame of zeros
    FAULT_HUGE = 2              # the same, served with a whole 2 MiB block
    FAULT_COW = 3               # write to a frame that others map too: copy
    FAULT_REUSE = 4             # write to a frame protected for others that are gone: just make it writable
    FAULT_CACHED = 5            # the content is out, but a frame still caches it
    FAULT_SAME = 6              # same-filled: recreated from its value
    FAULT_ZPOOL = 7             # decompressed
    FAULT_SWAP = 8              # read from swap
    NR_FAULTS = 9

# Where simulated processor time goes. The order is that of MECHANISMS in memvirt.names.
cdef enum Mechanism:
    CPU_ACCESS = 0
    CPU_FAULT = 1
    CPU_ZERO = 2
    CPU_COPY = 3
    CPU_COMPRESS = 4
    CPU_DECOMPRESS = 5
    CPU_SWAP = 6
    CPU_RECLAIM = 7
    CPU_SCAN = 8
    CPU_CLONE = 9
    CPU_BALLOON = 10
    CPU_COMPACT = 11
    CPU_GUEST = 12
    NR_MECHANISMS = 13

# Exact event counts of a host. Every field is in metrics.py with its unit and meaning.
cdef struct Events:
    uint64_t reads
    uint64_t writes
    uint64_t fills
    uint64_t discards
    uint64_t tcache_refills
    uint64_t fault_zero
    uint64_t fault_huge
    uint64_t fault_cow
    uint64_t fault_reuse
    uint64_t fault_cached
    uint64_t fault_same
    uint64_t fault_zpool
    uint64_t fault_swap
    uint64_t leaf_copies
    uint64_t leaf_splits
    uint64_t leaf_collapses
    uint64_t huge_missed
    uint64_t evicted
    uint64_t evicted_clean
    uint64_t evicted_same
    uint64_t evicted_zpool
    uint64_t evicted_swap
    uint64_t evict_failed
    uint64_t reclaim_background
    uint64_t reclaim_direct
    uint64_t reclaim_limit
    uint64_t reclaim_proactive
    uint64_t reclaim_scanned
    uint64_t reclaim_spared_accessed
    uint64_t reclaim_spared_reserved
    uint64_t harvests
    uint64_t harvested
    uint64_t reject_incompressible
    uint64_t reject_pool_full
    uint64_t reject_pool_frame
    uint64_t reject_swap_full
    uint64_t reject_backing_frame
    uint64_t zpool_written_back
    uint64_t zpool_writeback_failed
    uint64_t swap_pages_out
    uint64_t swap_pages_in
    uint64_t swap_write_failed
    uint64_t swap_read_failed
    uint64_t readahead_pages
    uint64_t readahead_hits
    uint64_t readahead_dropped
    uint64_t exhausted_no_frame
    uint64_t exhausted_limit
    uint64_t charged_over_limit
    uint64_t limit_unmet
    uint64_t reservation_unmet
    uint64_t stops
    uint64_t waits
    uint64_t kills
    uint64_t clones
    uint64_t clone_leaves
    uint64_t clone_pinned_copied
    uint64_t merges
    uint64_t merges_zero
    uint64_t cow_breaks_shared
    uint64_t balloon_pages_released
    uint64_t compact_moved
    uint64_t compact_blocks
    uint64_t compact_failed_unmovable
    uint64_t compact_failed_room
    uint64_t compact_failed_frame
    uint64_t collapse_copied
    uint64_t collapse_missed

cdef enum:
    HIST_SUB_BITS = 6           # 64 sub-buckets per power of two: values kept to within 1.6 %
    HIST_BUCKETS = 64 + 40 * 64     # up to 2^46 ns, some 19 hours; above that the last bucket

cdef struct Histogram:
    uint64_t total
    int64_t sum
    int64_t max
    uint64_t bucket[HIST_BUCKETS]

cdef enum:
    WALL_EVERY = 64             # one fault in this many, per kind, is timed with the machine's own clock


cdef inline uint32_t hist_bucket(int64_t value) noexcept nogil:
    """Index of the bucket that holds `value`: exact below 64, then 64 buckets per power of two."""
    if value < 64:
        return <uint32_t>value if value > 0 else 0
    cdef int top = 63 - __builtin_clzll(<uint64_t>value)
    cdef uint32_t index = <uint32_t>((top - HIST_SUB_BITS + 1) * 64 + ((value >> (top - HIST_SUB_BITS)) & 63))
    return index if index < HIST_BUCKETS else HIST_BUCKETS - 1


cdef inline void hist_add(Histogram *histogram, int64_t value) noexcept nogil:
    histogram.total += 1
    histogram.sum += value
    if value > histogram.max:
        histogram.max = value
    histogram.bucket[hist_bucket(value)] += 1


cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil


# {"count", "sum_ns", "max_ns", "buckets": [[lower bound in ns, count], ...]}
cdef dict histogram_dict(Histogram *histogram)


cdef class Meter:
    # Everything a host counts. One per host; modules write the fields directly.
    cdef Events ev
    cdef int64_t cpu_ns[NR_MECHANISMS]          # simulated, by mechanism
    cdef Histogram *sim                         # [NR_FAULTS] complete, simulated ns per fault
    cdef Histogram *wall                        # [NR_FAULTS] sampled: one fault in WALL_EVERY, this machine's ns
    cdef uint64_t wall_tick[NR_FAULTS]
