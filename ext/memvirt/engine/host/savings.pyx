"""What page sharing saves, what that costs, and what it risks.

*Saved* is the number of frames there would be more if every page had its own: for a merged frame the entries that name
it but one, for the zero frame all of them. Each saved page is of one kind:

    zero     its content is zeros, whatever mechanism shares it (the cheapest kind, and the first to break)
    intra    its VM maps the same frame elsewhere, too
    inter    only other VMs do: what isolation between VMs would give up

(An entry in a leaf that clones share counts once, for the lowest-numbered holder; what cloning saves is told apart.)
Gross savings less what sharing itself keeps in memory, its tables and trees, are the *net* savings.

The *debt* is what would be needed if everything shared were written to at once, whatever shares it: a frame for every
page saved, for every page that clones share, and for the leaf tables that those writes would copy.
"""

from libc.string cimport memset

from ..counters cimport CPU_SCAN
from ..memory.frames cimport FRAME_GUEST, FRAME_STABLE, Frame
from .engine cimport Engine
from ..mapping.leaf cimport PTE_PRESENT, Leaf
from ..mapping.rmap cimport Walk
from ..types cimport LEAF_ENTRIES, MAX_VMS, NONE, PAGE_SIZE, hfn_t, uint32_t, uint64_t

PAGES_PER_GIB = 1 << 18

cdef struct Totals:
    uint64_t shared             # merged frames
    uint64_t sharing            # further entries that name them
    uint64_t zero, intra, inter
    uint64_t cow                # further entries that name frames which are not merged (COW)
    uint64_t clone_debt         # frames needed if VMs wrote to all pages under leaves they share


def sharing_state(Engine engine not None):
    """{name: integer}; memvirt.metrics explains each name."""
    cdef Totals totals
    engine.look()
    memset(&totals, 0, sizeof(totals))
    _count(engine, &totals)
    totals.clone_debt = _clone_debt(engine)
    zero = 0
    if engine.index is not None and engine.index.zero_frame != NONE:
        zero = engine.frames.frame[engine.index.zero_frame].refs
    state = {"pages_shared": totals.shared, "pages_sharing": totals.sharing, "zero_pages": zero,
             "cow_sharing": totals.cow, "leaves_shared": _shared_leaf_pages(engine),
             "sharing_debt_frames": totals.zero + totals.intra + totals.inter + zero + totals.cow + totals.clone_debt}
    if engine.index is None:
        return state
    gross = totals.zero + totals.intra + totals.inter + zero
    metadata = {
        "metadata_index_frames": _frames(engine.index.metadata_bytes()) + (engine.index.zero_frame != NONE),
        "metadata_scanner_frames": _frames(engine.scanner.metadata_bytes()) + engine.scanner.metadata_frames(),
    }
    cpu = engine.meter.cpu_ns[<int>CPU_SCAN]
    scanned = engine.scanner.pages_scanned
    state |= {
        "saved_zero_pages": totals.zero + zero,
        "saved_intra_pages": totals.intra,
        "saved_inter_pages": totals.inter,
        "saved_gross_frames": gross,
        **metadata,
        "saved_net_frames": gross - sum(metadata.values()),
        "merges": engine.meter.ev.merges,
        "breaks": engine.index.breaks,
        "last_chance_merges": engine.index.last_chance_merges,
        "arrival_merges": engine.index.arrival_merges,
        "false_matches": engine.index.false_matches,
        "stale_hints": engine.index.stale_hints,
        "merges_put_off": engine.index.no_frame,
        "scan_ns_per_page": cpu // scanned if scanned else 0,
        "scan_ns_per_gib_saved": cpu * PAGES_PER_GIB // gross if gross else 0,
    }
    for name, histogram in engine.index.histograms().items():
        state |= _summary(name, histogram)
    return state | engine.scanner.counters()


def _summary(str name not None, dict histogram not None):
    """Count, sum, largest value and quantiles (lower bounds of their buckets; 0 when there are no values)."""
    parts = {"count": histogram["count"], "sum": histogram["sum_ns"], "max": histogram["max_ns"]}
    for quantile, per_mille in (("p50", 500), ("p90", 900), ("p99", 990)):
        left = (histogram["count"] * per_mille + 999) // 1000
        parts[quantile] = 0
        for value, count in histogram["buckets"]:
            if left <= 0:
                break
            parts[quantile] = value
            left -= count
    return {f"{name}.{part}": value for part, value in parts.items()}


cdef uint64_t _frames(uint64_t bytes) noexcept:
    return (bytes + PAGE_SIZE - 1) / PAGE_SIZE


cdef int _count(Engine engine, Totals *totals) except -1:
    cdef uint32_t seen[MAX_VMS]         # last frame (+ 1) that this VM was found to map
    cdef hfn_t frame
    cdef Frame *record
    cdef uint32_t vms
    cdef uint64_t value
    memset(seen, 0, sizeof(seen))
    for frame in range(engine.frames.nr_frames):
        record = &engine.frames.frame[frame]
        if record.state != FRAME_GUEST:
            continue
        if not record.flags & FRAME_STABLE:
            totals.cow += record.refs - 1
            continue
        totals.shared += 1
        totals.sharing += record.refs - 1
        if engine.content.same_filled(frame, &value) and value == 0:
            totals.zero += record.refs - 1
            continue
        vms = _vms_of(engine, frame, seen)
        totals.intra += record.refs - vms
        totals.inter += vms - 1
    return 0


cdef uint64_t _shared_leaf_pages(Engine engine) noexcept:
    """Pages that VMs have through leaves they share with others: sum over leaves of live entries x (holders - 1)."""
    cdef Leaf *leaf
    cdef uint32_t id
    cdef uint64_t pages = 0
    for id in range(engine.mapping.leaves.records.end()):
        leaf = engine.mapping.leaves.at(id)
        if leaf.used and leaf.nr_holders > 1:
            pages += <uint64_t>leaf.live * (leaf.nr_holders - 1)
    return pages


cdef uint64_t _clone_debt(Engine engine) noexcept:
    """Every holder of a shared leaf but one needs a table, and a frame for each page there is; a huge leaf is split."""
    cdef Leaf *leaf
    cdef uint32_t id, i
    cdef uint64_t pages, debt = 0
    for id in range(engine.mapping.leaves.records.end()):
        leaf = engine.mapping.leaves.at(id)
        if not leaf.used or leaf.nr_holders < 2:
            continue
        pages = 0
        for i in range(LEAF_ENTRIES):
            pages += (engine.mapping.leaves.entry(leaf, i) & PTE_PRESENT) != 0
        debt += <uint64_t>(leaf.nr_holders - 1) * (pages + 1) + (leaf.entries == NULL)
    return debt


cdef uint32_t _vms_of(Engine engine, hfn_t frame, uint32_t *seen) noexcept:
    """Number of VMs that map the frame, each entry counted for the lowest-numbered holder of its leaf."""
    cdef Walk walk
    cdef uint32_t lowest, vms = 0
    engine.mapping.rmap.walk(frame, &walk)
    while True:
        lowest = engine.mapping.leaves.lowest_holder(walk.leaf)
        if seen[lowest] != frame + 1:
            seen[lowest] = frame + 1
            vms += 1
        if not engine.mapping.rmap.next(&walk):
            return vms
