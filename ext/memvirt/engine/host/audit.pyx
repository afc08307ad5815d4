"""The recount of a whole host: everything derived is computed again from the entries and compared.

Each part checks itself (frames, leaves, records, stores, orders); here are the invariants that hold between them:

  entries -> frames     refs = entries that name the frame; the reverse map holds exactly those sites, each once
  write permission      a writable entry names a frame with one reference, not merged; what is cached as writable is dirty
  entries -> backings   refs of a record = entries that name it; cached <=> its frame names it back
  stores                swap slots in use and zpool objects = records of that kind; an object's owner is the record that
                        names it; users of a slot on guests' disks = disks with a place there
  translations          cached only what entry, leaf and frame allow; valid implies the accessed mark
  recency               ordered <=> a guest frame that is neither pinned, nor given up lazily, nor the zero frame
  lazily freed          one VM's own, not merged, without a record, and in that VM's list
  charge                per VM: charged = frames charged to it; who pays maps the frame; what reservations lack
  pins                  a pinned frame has one entry, which nobody shares; its VM counts it
  clean frames          hold what their record stands for: a page of one word, or bytes of its checksum
  memory                frames by state sum to the host; tables that grow have frames for their bytes; those of zspages
                        are the zpool's

A recount changes nothing, so it may stop anywhere: its loops look for signals every LOOK steps, and between its parts.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport calloc, free

from memvirt.errors import InvariantError

from ..mapping.backing cimport BACKING_CACHED, BACKING_SAME, BACKING_SWAP, BACKING_ZPOOL, Backing
from ..memory.frames cimport (FRAME_CACHE, FRAME_FIXED, FRAME_GUEST, FRAME_INDEXED, FRAME_ISOLATED, FRAME_LAZY,
                              FRAME_ORDERED, FRAME_PINNED, FRAME_STABLE, FRAME_ZERO, FRAME_ZSPAGE, Frame)
from .engine cimport Engine
from .vm cimport Vm
from ..mapping.leaf cimport PTE_ACCESSED, PTE_BACKED, PTE_PRESENT, PTE_WHERE, PTE_WRITABLE, Leaf, Look
from ..mapping.mapping cimport Mapping
from ..mapping.tcache cimport TC_FRAME, TC_VALID, TC_WRITABLE, View
from ..types cimport LEAF_ENTRIES, LEAF_SHIFT, MAX_VMS, NONE, NONE16, hfn_t, int64_t, leaf_t, site_t, uint32_t, uint64_t
from ..stores.zspage cimport NO_ZSPAGE

cdef enum:
    LOOK = 1 << 12              # steps of a recount between two looks for signals: a millisecond or so


def check(Engine engine not None):
    """Raise InvariantError on the first difference."""
    engine.look()
    cdef Mapping mapping = engine.mapping
    parts = [engine.frames, mapping.leaves, mapping.backings, mapping.recency, engine.stalls, engine.device,
             engine.reclaim.readahead, mapping.zpool, mapping.swap, engine.index, engine.scanner]
    for part in parts:
        if part is not None:
            part.check()
            PyErr_CheckSignals()
    fixed = engine.nr_fixed + sum(1 << order for vm in [*engine.vms.values(), *engine.snapshots]
                                  for _, order in (<Vm>vm).fixed)
    fixed += 0 if engine.scanner is None else engine.scanner.metadata_frames()
    if engine.frames.nr_state[<int>FRAME_FIXED] != fixed:
        raise InvariantError(f"{engine.frames.nr_state[<int>FRAME_FIXED]} frames of fixed metadata; host and VMs have "
                             f"{fixed}")
    if engine.frames.nr_state[<int>FRAME_ZSPAGE] != (mapping.zpool.nr_pool_frames if mapping.zpool is not None else 0):
        raise InvariantError(f"{engine.frames.nr_state[<int>FRAME_ZSPAGE]} frames of zspages, the zpool has "
                             f"{mapping.zpool.nr_pool_frames if mapping.zpool is not None else 0}")
    if engine.frames.heap_bytes != (mapping.zpool.metadata_bytes() if mapping.zpool is not None else 0):
        raise InvariantError(f"frames taken for {engine.frames.heap_bytes} bytes of tables on the heap, the zpool's take "
                             f"{mapping.zpool.metadata_bytes() if mapping.zpool is not None else 0}")
    _check_disks(engine)
    cdef uint32_t *frame_refs = <uint32_t *>calloc(engine.frames.nr_frames, sizeof(uint32_t))
    cdef uint32_t *backing_refs = <uint32_t *>calloc(mapping.backings.records.end() + 1, sizeof(uint32_t))
    if frame_refs == NULL or backing_refs == NULL:
        free(frame_refs)
        free(backing_refs)
        raise MemoryError("check")
    try:
        _count_entries(engine, frame_refs, backing_refs)
        _check_frames(engine, frame_refs)
        _check_backings(engine, backing_refs)
    finally:
        free(frame_refs)
        free(backing_refs)
    for vm in engine.vms.values():
        _check_translations(engine, vm)
    for vm in [*engine.vms.values(), *engine.snapshots]:
        if (<Vm>vm).guest is not None:
            (<Vm>vm).guest.check()
            PyErr_CheckSignals()
            if mapping.tcache.view[(<Vm>vm).id].vpn_of != (<Vm>vm).guest.memory.vpn:
                raise InvariantError(f"VM '{vm.name}': its translations are looked up in another guest's reverse map")


cdef int _check_disks(Engine engine) except -1:
    cdef Vm vm
    disks_of = {}
    for vm in [*engine.vms.values(), *engine.snapshots]:
        if vm.hardware is not None and vm.hardware.disk is not None:
            vm.hardware.check_disk(vm.guest)
            disks_of.setdefault(vm.hardware.disk.file, []).append(vm.hardware.disk)
    for file, disks in disks_of.items():
        file.check(disks)
    return 0


cdef int _count_entries(Engine engine, uint32_t *frame_refs, uint32_t *backing_refs) except -1:
    """Count what entries name, and check each present entry against its frame."""
    cdef Mapping mapping = engine.mapping
    cdef Leaf *leaf
    cdef uint32_t id, i, entry, where
    cdef Frame *record
    for id in range(mapping.leaves.records.end()):
        leaf = mapping.leaves.at(id)
        if not leaf.used:
            continue
        PyErr_CheckSignals()
        for i in range(LEAF_ENTRIES):
            entry = mapping.leaves.entry(leaf, i)
            where = entry & PTE_WHERE
            if entry & PTE_PRESENT:
                if where >= engine.frames.nr_frames:
                    raise InvariantError(f"leaf {id} entry {i}: frame {where} does not exist")
                frame_refs[where] += 1
                record = &engine.frames.frame[where]
                if record.state != FRAME_GUEST and not record.flags & FRAME_ZERO:
                    raise InvariantError(f"leaf {id} entry {i}: frame {where} is in state {record.state}, not a guest's")
                if entry & PTE_WRITABLE and (record.refs != 1 or record.flags & (FRAME_STABLE | FRAME_ZERO)):
                    raise InvariantError(f"leaf {id} entry {i}: writable, yet frame {where} has refs {record.refs} "
                                         f"flags {record.flags}")
            elif entry & PTE_BACKED:
                if where >= mapping.backings.records.end():
                    raise InvariantError(f"leaf {id} entry {i}: backing {where} does not exist")
                backing_refs[where] += 1
            elif entry:
                raise InvariantError(f"leaf {id} entry {i}: {entry:#x} is neither present nor backed nor nothing")
    return 0


cdef int _check_frames(Engine engine, uint32_t *frame_refs) except -1:
    cdef Mapping mapping = engine.mapping
    cdef hfn_t frame
    cdef Frame *record
    cdef uint32_t charged[MAX_VMS]
    cdef uint32_t pinned[MAX_VMS]
    cdef uint32_t lazy[MAX_VMS]
    cdef uint64_t ahead = 0, tables = 0, loose = 0
    cdef uint32_t vm, kept, ahead_vms = 0
    for vm in range(MAX_VMS):
        charged[vm] = pinned[vm] = lazy[vm] = 0
    for frame in range(engine.frames.nr_frames):
        record = &engine.frames.frame[frame]
        if not frame % LOOK:
            PyErr_CheckSignals()
        if record.flags & FRAME_ZERO:
            if record.refs != frame_refs[frame]:
                raise InvariantError(f"zero frame {frame}: refs {record.refs}, entries {frame_refs[frame]}")
            continue
        if record.state == FRAME_CACHE:
            if (record.refs or record.backing == NONE or record.charge != NONE16 or record.flags != FRAME_ORDERED
                    or not engine.order.holds(frame)):
                raise InvariantError(f"frame {frame}: read ahead, yet refs {record.refs} backing {record.backing} "
                                     f"charge {record.charge} flags {record.flags}, in the order "
                                     f"{engine.order.holds(frame)}")
        if record.state != FRAME_GUEST:
            if frame_refs[frame]:
                raise InvariantError(f"frame {frame}: {frame_refs[frame]} entries name it, its state is {record.state}")
            continue
        if record.refs != frame_refs[frame] or record.refs == 0:
            raise InvariantError(f"frame {frame}: refs {record.refs}, entries {frame_refs[frame]}")
        _check_sites(mapping, frame)
        _check_place(engine, frame)
        if record.charge == NONE16 or not mapping.charges.of[record.charge].open:
            raise InvariantError(f"frame {frame}: charged to VM {record.charge}, which does not exist")
        if not mapping.rmap.maps(frame, record.charge):
            raise InvariantError(f"frame {frame}: charged to VM {record.charge}, which does not map it")
        charged[record.charge] += 1
        pinned[record.charge] += record.flags & FRAME_PINNED != 0
        lazy[record.charge] += record.flags & FRAME_LAZY != 0
    for vm in range(MAX_VMS):
        _check_account(mapping, vm, charged[vm], pinned[vm], lazy[vm])
        kept = max(mapping.charges.of[vm].reservation, pinned[vm])
        loose += max(0, <int64_t>charged[vm] - <int64_t>kept)
        if mapping.charges.of[vm].reservation > charged[vm]:
            ahead += mapping.charges.of[vm].reservation - charged[vm]
            tables += mapping.charges._tables(vm, mapping.charges.of[vm].reservation - charged[vm])
            ahead_vms += 1
    if (ahead, tables, ahead_vms) != (mapping.charges.ahead, mapping.charges.ahead_tables, mapping.charges.ahead_vms):
        raise InvariantError(f"reservations: {mapping.charges.ahead} pages of {mapping.charges.ahead_vms} VMs are not held "
                             f"yet, with {mapping.charges.ahead_tables} tables; recount {ahead} of {ahead_vms}, {tables}")
    if loose != mapping.charges.loose:
        raise InvariantError(f"reservations: VMs may lose {mapping.charges.loose} frames, recount {loose}")
    return 0


cdef int _check_place(Engine engine, hfn_t frame) except -1:
    """A guest frame is in the order, or in a list of lazily freed pages, or pinned."""
    cdef Frame *record = &engine.frames.frame[frame]
    cdef bint wanted
    wanted = not record.flags & (FRAME_PINNED | FRAME_LAZY)
    if bool(record.flags & FRAME_ORDERED) != wanted or engine.order.holds(frame) != wanted:
        raise InvariantError(f"frame {frame}: flags {record.flags}, in the order {engine.order.holds(frame)}, "
                             f"should be {wanted}")
    if record.flags & (FRAME_PINNED | FRAME_LAZY):
        _check_own(engine.mapping, frame)
    if engine.mapping.recency.lazies.holds(frame) != (record.flags & FRAME_LAZY != 0):
        raise InvariantError(f"frame {frame}: flags {record.flags}, in a list of lazily freed pages "
                             f"{engine.mapping.recency.lazies.holds(frame)}")
    if record.flags & FRAME_ISOLATED:
        raise InvariantError(f"frame {frame}: isolated outside reclaim")
    return 0


cdef int _check_account(Mapping mapping, uint32_t vm, uint32_t charged, uint32_t pinned, uint32_t lazy) except -1:
    if mapping.charges.of[vm].charged != charged or mapping.charges.of[vm].pinned != pinned:
        raise InvariantError(f"VM {vm}: charged {mapping.charges.of[vm].charged}, {mapping.charges.of[vm].pinned} of them "
                             f"pinned; recount {charged} and {pinned}")
    if mapping.recency.lazies.of[vm] != lazy:
        raise InvariantError(f"VM {vm}: {mapping.recency.lazies.of[vm]} lazily freed pages in its list, recount "
                             f"{lazy}")
    if mapping.charges.of[vm].leaving:
        raise InvariantError(f"VM {vm}: {mapping.charges.of[vm].leaving} pages on their way out, outside reclaim")
    return 0


cdef int _check_own(Mapping mapping, hfn_t frame) except -1:
    """A pinned frame is one VM's own: named by one entry, which nobody shares, and not merged. So is a lazily freed one."""
    cdef Frame *record = &mapping.frames.frame[frame]
    cdef Leaf *leaf = mapping.leaves.at(record.where / LEAF_ENTRIES)
    if record.refs != 1 or leaf.nr_holders != 1 or record.flags & FRAME_STABLE or record.backing != NONE:
        raise InvariantError(f"frame {frame}: pinned or lazily freed, yet refs {record.refs}, {leaf.nr_holders} holders, "
                             f"flags {record.flags}, backing {record.backing}")
    if record.flags & FRAME_LAZY and (record.flags & FRAME_PINNED or leaf.entries == NULL):
        raise InvariantError(f"frame {frame}: lazily freed, yet flags {record.flags}, or under a huge leaf")
    return 0


cdef int _check_sites(Mapping mapping, hfn_t frame) except -1:
    """The reverse map names refs different sites, and each of them names the frame. Nothing is followed unexamined."""
    cdef uint32_t *link = &mapping.frames.frame[frame].where
    cdef uint32_t refs = mapping.frames.frame[frame].refs, id, index
    cdef site_t before = NONE
    cdef Leaf *leaf
    seen = set()
    while len(seen) < refs:
        id, index = link[0] / LEAF_ENTRIES, link[0] % LEAF_ENTRIES
        leaf = mapping.leaves.at(id) if id < mapping.leaves.records.end() else NULL
        if leaf == NULL or not leaf.used or (mapping.leaves.entry(leaf, index)
                                             & (PTE_PRESENT | PTE_WHERE)) != (PTE_PRESENT | frame):
            raise InvariantError(f"frame {frame}: its reverse map names leaf {id} entry {index}, which does not name it")
        if link[0] in seen:
            raise InvariantError(f"frame {frame}: its reverse map comes back to leaf {id} entry {index} after "
                                 f"{len(seen)} of {refs}")
        if leaf.entries == NULL and refs > 1:
            raise InvariantError(f"frame {frame}: refs {refs}, yet leaf {id} is huge and has no link for another site")
        seen.add(link[0])
        _check_before(mapping, frame, link[0], before)
        before = link[0]
        if leaf.entries != NULL:
            link = mapping.leaves.link(link[0])
    if mapping.frames.frame[frame].flags & FRAME_INDEXED and (refs < 2 or link[0] != NONE):
        raise InvariantError(f"frame {frame}: indexed, yet it has {refs} sites, and the last names site {link[0]}")
    return 0


cdef int _check_before(Mapping mapping, hfn_t frame, site_t site, site_t before) except -1:
    """In an indexed chain each site but the first knows the one before it."""
    cdef leaf_t leaf = site / LEAF_ENTRIES
    if not mapping.frames.frame[frame].flags & FRAME_INDEXED or before == NONE:
        return 0
    if (leaf >= mapping.rmap.nr_before or mapping.rmap.before[leaf] == NULL
            or mapping.rmap.before[leaf][site % LEAF_ENTRIES] != before):
        raise InvariantError(f"frame {frame}: site {site} does not know that site {before} is before it")
    return 0


cdef int _check_backings(Engine engine, uint32_t *backing_refs) except -1:
    cdef Mapping mapping = engine.mapping
    cdef uint32_t id, slots = 0, objects = 0
    cdef Backing *record
    cdef hfn_t frame
    free_ids = mapping.backings.records.check()
    for id in range(mapping.backings.records.end()):
        if not id % LOOK:
            PyErr_CheckSignals()
        if id in free_ids:
            if backing_refs[id]:
                raise InvariantError(f"backing {id}: free, yet {backing_refs[id]} entries name it")
            continue
        record = mapping.backings.at(id)
        if record.refs != backing_refs[id]:
            raise InvariantError(f"backing {id}: refs {record.refs}, entries {backing_refs[id]}")
        slots += mapping.backings.kind(record) == BACKING_SWAP
        objects += mapping.backings.kind(record) == BACKING_ZPOOL
        if mapping.backings.kind(record) == BACKING_SWAP and not mapping.swap.in_use(mapping.backings.where(record)):
            raise InvariantError(f"backing {id}: swap slot {mapping.backings.where(record)} is free")
        if mapping.backings.kind(record) == BACKING_ZPOOL and (
                mapping.zpool.zspages.find(mapping.backings.where(record)) == NO_ZSPAGE
                or mapping.zpool.owner(mapping.backings.where(record)) != id):
            raise InvariantError(f"backing {id}: zpool object {mapping.backings.where(record)} does not exist or is "
                                 f"another's")
        if record.place & BACKING_CACHED and engine.frames.frame[record.link].backing != id:
            raise InvariantError(f"backing {id}: cached in frame {record.link}, which names "
                                 f"backing {engine.frames.frame[record.link].backing}")
        if record.place & BACKING_CACHED:
            _check_clean(engine, id)
    for frame in range(engine.frames.nr_frames):
        if not frame % LOOK:
            PyErr_CheckSignals()
        id = engine.frames.frame[frame].backing
        if id != NONE and (id in free_ids or not mapping.backings.at(id).place & BACKING_CACHED
                           or mapping.backings.at(id).link != frame):
            raise InvariantError(f"frame {frame}: names backing {id}, which is not cached in it")
    if mapping.swap is not None and mapping.swap.nr_used != slots:
        raise InvariantError(f"swap: {mapping.swap.nr_used} slots in use, {slots} records name one")
    if mapping.zpool is not None and mapping.zpool.nr_objects != objects:
        raise InvariantError(f"zpool: {mapping.zpool.nr_objects} objects, {objects} records name one")
    return 0


cdef int _check_clean(Engine engine, uint32_t id) except -1:
    """A frame that caches a record still holds what the record stands for."""
    cdef Mapping mapping = engine.mapping
    cdef Backing *record = mapping.backings.at(id)
    cdef uint64_t value
    if mapping.backings.kind(record) == BACKING_SAME:
        if not engine.content.same_filled(record.link, &value):
            raise InvariantError(f"backing {id}: a page of one word, cached in frame {record.link}, which holds another")
    elif engine.content.checksum(record.link) != record.check:
        raise InvariantError(f"backing {id}: cached in frame {record.link}, whose bytes have another checksum")
    return 0


cdef int _check_translations(Engine engine, Vm vm) except -1:
    """What is cached is allowed by all levels below."""
    cdef Mapping mapping = engine.mapping
    cdef View *view = &mapping.tcache.view[vm.id]
    cdef uint32_t vpn, gfn, cached
    cdef Look at
    for vpn in range(view.nr_vpns):
        cached = view.entry[vpn]
        if not vpn % LOOK:
            PyErr_CheckSignals()
        if not cached & TC_VALID:
            if cached:
                raise InvariantError(f"VM '{vm.name}' vpn {vpn}: cached {cached:#x} without being valid")
            continue
        gfn = vm.guest.lookup(vpn) if vm.guest is not None else vpn
        if gfn == NONE:
            raise InvariantError(f"VM '{vm.name}' vpn {vpn}: cached, but its guest does not map it")
        if not mapping.leaves.look(vm.id, gfn, &at):
            raise InvariantError(f"VM '{vm.name}' vpn {vpn}: cached, but gfn {gfn} has no leaf")
        if not at.entry & PTE_PRESENT or (at.entry & PTE_WHERE) != (cached & TC_FRAME):
            raise InvariantError(f"VM '{vm.name}' vpn {vpn}: cached frame {cached & TC_FRAME}, entry {at.entry:#x}")
        if not at.entry & PTE_ACCESSED:
            raise InvariantError(f"VM '{vm.name}' vpn {vpn}: cached, but the entry has no accessed mark")
        if cached & TC_WRITABLE and view.writes[vpn >> LEAF_SHIFT]:
            if not at.entry & PTE_WRITABLE or at.leaf.nr_holders > 1 or mapping.is_clean(at.entry & PTE_WHERE):
                raise InvariantError(f"VM '{vm.name}' vpn {vpn}: cached as writable; entry {at.entry:#x}, "
                                     f"{at.leaf.nr_holders} holders, "
                                     f"backing {mapping.frames.frame[at.entry & PTE_WHERE].backing}, "
                                     f"flags {mapping.frames.frame[at.entry & PTE_WHERE].flags}")
            if vm.guest is not None and not vm.guest.may_write(gfn):
                raise InvariantError(f"VM '{vm.name}' vpn {vpn}: cached as writable, but the guest wants to see writes")
    return 0
