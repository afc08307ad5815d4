"""What tests look at inside a host, and falsify there."""

from memvirt.errors import ConfigError

from ..host.engine cimport Engine
from ..host.fixed cimport bytes_of_host
from ..host.vm cimport Vm
from ..mapping.backing cimport BACKING_CACHED, BACKING_SAME, BACKING_ZPOOL, Backing
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Look
from ..mapping.mapping cimport Mapping
from ..memory.frames cimport FRAME_LAZY
from ..sharing.shareindex cimport ShareIndex
from ..types cimport LEAF_ENTRIES, gfn_t, hfn_t, site_t, uint32_t, uint64_t


def locate(Engine engine not None, Vm vm not None, gfn_t gfn):
    """Where a guest-physical page lies, without touching it: None (nowhere yet), ("frame", number), ("same", word),
    ("zpool", handle) or ("swap", slot)."""
    cdef Mapping mapping = engine.mapping
    cdef Backing *record
    cdef Look at
    engine.own(vm)
    if gfn >= vm.nr_pages:
        raise ConfigError(f"VM '{vm.name}': page {gfn} is beyond its {vm.nr_pages} pages")
    mapping.leaves.look(vm.id, gfn, &at)
    if at.entry == 0:
        return None
    if at.entry & PTE_PRESENT:
        return "frame", at.entry & PTE_WHERE
    record = mapping.backings.at(at.entry & PTE_WHERE)
    if record.place & BACKING_CACHED:
        return "frame", record.link
    if mapping.backings.kind(record) == BACKING_SAME:
        return "same", mapping.backings.value(record)
    return "zpool" if mapping.backings.kind(record) == BACKING_ZPOOL else "swap", mapping.backings.where(record)


def is_pinned(Engine engine not None, Vm vm not None, gfn_t gfn):
    """True if the guest-physical page is pinned."""
    engine.own(vm)
    return engine.faults.pinned(vm.id, gfn)


def is_lazy(Engine engine not None, Vm vm not None, gfn_t gfn):
    """True if the guest-physical page was given up lazily and is still there."""
    cdef Look at
    engine.own(vm)
    engine.mapping.leaves.look(vm.id, gfn, &at)
    return bool(at.entry & PTE_PRESENT and engine.frames.frame[at.entry & PTE_WHERE].flags & FRAME_LAZY)


def fixed_bytes(Engine engine not None):
    """Bytes of the host's tables of fixed size, without page sharing's."""
    return bytes_of_host(engine.frames, engine.order, engine.mapping.swap, engine.reclaim.readahead.nr_slots != 0)


def spoil(Engine engine not None, str part not None, hfn_t frame, uint32_t value):
    """Falsify what the reverse map keeps of a mapped frame: "where" it begins, the "link" of its first site, its "refs",
    or, of an indexed one, the site "before" its second."""
    cdef Mapping mapping = engine.mapping
    cdef site_t second
    if part == "where":
        mapping.frames.frame[frame].where = value
    elif part == "link":
        mapping.leaves.link(mapping.frames.frame[frame].where)[0] = value
    elif part == "before":
        second = mapping.leaves.link(mapping.frames.frame[frame].where)[0]
        mapping.rmap.before[second / LEAF_ENTRIES][second % LEAF_ENTRIES] = value
    elif part == "refs":
        mapping.frames.frame[frame].refs = value
    else:
        raise ValueError(f"part {part!r} is not known")


def narrow_hash(ShareIndex index not None, bits):
    """Keep only the lowest `bits` of every hash, so that different pages collide."""
    if not 0 <= bits <= 64:
        raise ValueError(f"{bits} bits of hash; 0 to 64 are possible")
    index.hash_mask = (<uint64_t>1 << <int>bits) - 1 if bits < 64 else <uint64_t>-1
    if index.cell != NULL:
        index.rebuild()
