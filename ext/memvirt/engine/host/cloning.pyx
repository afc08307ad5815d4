"""COW clones, snapshots, and going back to one: the child becomes a holder of every leaf of the parent, and no entry is
touched. Its guest's disk is the parent's in the same way: slots are counted, none is read (guest_disk.pyx).

So a clone costs what the number of leaf tables costs (512 of them per GiB), whatever they hold: pages in memory,
merged, compressed, or on swap. Pages that the parent has given up lazily are like any other from then on (a fork of
Linux leaves them to be taken from both). Only pinned pages are copied at once, and their leaves with them: they stay the
parent's, where they are. Write permission disappears for both sides because the leaf has two holders; what the parent has
cached of it is revoked wholesale, one byte per 2 MiB, and settled region by region as it writes.

In simulated time a clone, a snapshot and a revert cost clone_fixed, clone_leaf for each leaf table, and what copies of
pinned pages cost. A guest's own tables and its disk cost nothing, however much is out on the disk.

A snapshot is a clone that never runs: it has no translations and stands in a list of its own. A revert gives a VM the
leaves of a snapshot instead of its own, and what its reservation covers of them is charged to it again. Once the VM is
empty there is no way back, so what may fail comes before.
"""

from memvirt.errors import AdmissionError, ConfigError, InvariantError

from ..counters cimport CPU_CLONE, CPU_COPY
from ..guests.guest cimport Guest
from ..guests.host_hardware cimport HostHardware
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Look
from ..mapping.mapping cimport Mapping
from ..mapping.spaces cimport clear_space, set_limit
from ..memory.frames cimport FRAME_GUEST, FRAME_PINNED
from ..types cimport AGAIN, LEAF_ENTRIES, NONE, OK, gfn_t, hfn_t, uint32_t, uint64_t
from .admission cimport admit, draws_of, give_guest, new_vm, set_aside, undo_vm
from .fixed cimport frames_of
from .vm cimport Vm


# ---- clones and snapshots

def clone_vm(Engine engine not None, Vm parent not None, str name not None, bint runs=True):
    """A COW clone (runs=False: a snapshot); AdmissionError when there is no memory for its fixed parts or tables."""
    cdef Mapping mapping = engine.mapping
    cdef uint32_t pages
    cdef Vm vm
    engine.own(parent)
    pages = _nr_directory_pages(engine, parent)
    vm = new_vm(engine, name, parent.nr_pages, parent.nr_vpns, runs)
    admit(engine, vm, _frames_at_once(engine, parent, pages), mapping.charges.of[parent.id].reservation if runs else 0,
          _frames_of_pinned(engine, parent), pages > 0)
    mapping.charges.of[vm.id].shares = mapping.charges.of[parent.id].shares
    mapping.charges.of[vm.id].domain = mapping.charges.of[parent.id].domain
    if runs:                                # a snapshot is promised nothing
        mapping.charges.reserve(vm.id, mapping.charges.of[parent.id].reservation)
    engine.enter()
    engine.clock.now = parent.now_ns
    try:
        if runs:
            set_limit(mapping, vm.id, mapping.charges.of[parent.id].limit)
        set_aside(engine, vm)
        if parent.guest is not None:
            vm.hardware = HostHardware(engine.faults, vm.id, engine.giving, None, parent.hardware.hints)
            vm.hardware.share_disk(parent.hardware, None)
            give_guest(engine, vm, parent.guest.copy_for(vm.hardware, draws_of(vm)))
        if (pages and not _may_take(engine, vm.id, mapping.leaves.pages.frames_needed(pages))
                or share(engine, parent.id, vm.id) != OK):
            engine.clock.interrupt.deliver()
            raise AdmissionError(f"no memory for the tables of clone '{name}'")
    except BaseException:
        engine.leave()
        undo_vm(engine, vm)
        raise
    vm.hits.sequence = parent.hits.sequence
    parent.now_ns = engine.clock.now
    vm.now_ns = max(vm.now_ns, engine.clock.now)    # it comes into being now, even if its parent lags behind
    engine.stalls.open(vm.id, vm.now_ns)
    engine.reach(parent)
    if runs:
        engine.reach(vm)
    engine.leave()
    engine.clock.interrupt.deliver()
    return vm


cdef uint32_t _nr_directory_pages(Engine engine, Vm parent) noexcept:
    cdef uint32_t i, pages = 0
    for i in range(engine.mapping.leaves.directory[parent.id].nr_roots):
        pages += engine.mapping.leaves.directory[parent.id].root[i] != NONE
    return pages


cdef uint64_t _frames_at_once(Engine engine, Vm parent, uint32_t pages) except? 0:
    """Frames that a clone needs at once, beside its tables of fixed size: its guest's, pages of its directory."""
    cdef uint64_t frames = 0
    if parent.guest is not None:
        frames = frames_of(parent.guest.metadata_bytes() + parent.hardware.metadata_bytes())
    return frames + engine.mapping.leaves.pages.frames_needed(pages)


cdef uint64_t _frames_of_pinned(Engine engine, Vm parent) except? 0:
    """And for copies of its parent's pinned pages and of the leaves that have some."""
    cdef uint64_t frames = engine.mapping.charges.of[parent.id].pinned, pinned = frames
    cdef uint32_t gfn = 0, index, leaves = 0
    cdef Look at
    while gfn < engine.mapping.leaves.directory[parent.id].nr_pages and pinned:
        for index in range(LEAF_ENTRIES if engine.mapping.leaves.look(parent.id, gfn, &at) else 0):
            if engine.faults.is_pinned(engine.mapping.leaves.entry(at.leaf, index)):
                frames += 1 + (at.leaf.entries == NULL)
                leaves += 1
                break
        gfn += LEAF_ENTRIES
    return frames + engine.mapping.leaves.records.frames_needed(leaves)


# ---- going back to a snapshot

def revert_vm(Engine engine not None, Vm vm not None, Vm snapshot not None):
    """The VM's memory becomes the snapshot's again; clocks and counters go on."""
    cdef Mapping mapping = engine.mapping
    cdef uint32_t pages, need
    engine.own(vm)
    engine.own(snapshot)
    _check_same_kind(engine, vm, snapshot)
    engine.enter()
    engine.clock.now = vm.now_ns
    try:
        # What may fail comes first: once the VM is empty there is no way back.
        pages = _directory_pages(engine, snapshot.id, vm.id)
        need = mapping.leaves.pages.frames_needed(pages)
        if need and not _may_take(engine, vm.id, need):
            engine.clock.interrupt.deliver()
            raise AdmissionError(f"VM '{vm.name}': no memory for the tables of a revert; the VM is as it was")
        mapping.leaves.pages.make_room(pages)
        if vm.guest is not None:
            _revert_guest(engine, vm, snapshot)
        clear_space(mapping, vm.id)
        if share(engine, snapshot.id, vm.id) != OK:
            raise InvariantError(f"VM '{vm.name}': it has pinned pages after all")
        mapping.charges.regain(vm.id)
        vm.hits.sequence = snapshot.hits.sequence
        engine.keep_limits()
    finally:
        vm.now_ns = engine.clock.now
        engine.reach(vm)
        engine.leave()
    engine.clock.interrupt.deliver()


cdef int _check_same_kind(Engine engine, Vm vm, Vm snapshot) except -1:
    """ConfigError unless the snapshot is of a VM like this one: as many pages, and a guest of the same make or none."""
    problem = None
    if snapshot.nr_pages != vm.nr_pages or snapshot.nr_vpns != vm.nr_vpns:
        problem = f"it is of a VM of {snapshot.nr_pages} pages, this one has {vm.nr_pages}"
    elif (snapshot.guest is None) != (vm.guest is None):
        problem = f"it is of a VM {'without' if snapshot.guest is None else 'with'} a guest, and this one has " + (
            "none" if vm.guest is None else "one")
    elif vm.guest is not None:
        differs = _difference(vm, snapshot)
        problem = None if differs is None else f"their guests differ in {differs}"
    if problem is None and engine.mapping.charges.of[vm.id].pinned:
        problem = f"{engine.mapping.charges.of[vm.id].pinned} of its pages are pinned; unpin them first"
    if problem is not None:
        raise ConfigError(f"VM '{vm.name}' cannot be reverted to the snapshot of '{snapshot.name}': {problem}")
    return 0


cdef _difference(Vm mine, Vm its):
    """What sets two guests apart that were made with other arguments: "name: this, that"; None if nothing does."""
    for name in ("elastic", "partition", "partitions", "nr_vpns", "nr_pages", "cache_border", "swap_slots", "kernel_pages",
                 "low_pages", "high_pages", "balloon_floor", "oom_deflate_pages", "report_order", "replacement",
                 "replacement_options", "report_delay_ns", "swappiness", "reports", "driver", "hints"):
        here, there = (next(getattr(part, name) for part in (vm.guest, vm.guest.memory, vm.hardware) if hasattr(part, name))
                       for vm in (mine, its))
        if here != there:
            return f"{name}: {here}, {there}"
    return None


cdef int _revert_guest(Engine engine, Vm vm, Vm snapshot) except -1:
    """Guest and hardware of the snapshot take the place of the VM's own, once they are whole. Nothing is evicted
    meanwhile: the VM's translations are its own guest's until the end."""
    cdef HostHardware hardware = HostHardware(engine.faults, vm.id, engine.giving, None, snapshot.hardware.hints)
    cdef Guest guest
    try:
        hardware.share_disk(snapshot.hardware, vm.hardware)
        guest = snapshot.guest.copy_for(hardware, draws_of(vm))
    except BaseException:
        vm.hardware.rehome(vm.guest.memory.vpn)
        hardware.end()
        raise
    guest.go_on_counting(vm.guest)
    vm.guest.end()
    vm.hardware.end()
    vm.worker.serve(guest)
    vm.guest = guest
    vm.hardware = hardware
    hardware.rehome(guest.memory.vpn)
    return 0


# ---- leaves

cdef int share(Engine engine, vmid_t parent, vmid_t child) except -1 nogil:
    """The child holds all leaves of the parent; frames for the directory pages that it lacks are secured. OK, or what ran
    out for copies of pinned pages."""
    cdef uint32_t i, leaves = 0
    cdef uint32_t *root = engine.mapping.leaves.directory[parent].root
    while engine.mapping.recency.lazies.of[parent]:     # two will rely on what is read there
        engine.mapping.recency.keep(engine.mapping.recency.lazies.oldest(parent))
    engine.mapping.leaves.pages.make_room(_directory_pages(engine, parent, child))
    for i in range(engine.mapping.leaves.directory[parent].nr_roots):
        if root[i] != NONE:
            leaves += engine.mapping.leaves.hold_all(parent, child, i)
    engine.mapping.tcache.revoke_writes(parent)
    engine.clock.spend(CPU_CLONE, engine.clock.costs.clone_fixed + leaves * engine.clock.costs.clone_leaf)
    engine.meter.ev.clones += 1
    engine.meter.ev.clone_leaves += leaves
    if engine.mapping.charges.of[parent].pinned == 0:
        return OK
    engine.reclaim.foretold = True              # admission has counted the copies
    try:
        return _copy_pinned(engine, parent, child)
    finally:
        engine.reclaim.foretold = False


cdef uint32_t _directory_pages(Engine engine, vmid_t parent, vmid_t child) noexcept nogil:
    """Directory pages that the parent has and the child still lacks."""
    cdef uint32_t pages = 0, i
    for i in range(engine.mapping.leaves.directory[parent].nr_roots):
        pages += (engine.mapping.leaves.directory[parent].root[i] != NONE
                  and engine.mapping.leaves.directory[child].root[i] == NONE)
    return pages


cdef bint _may_take(Engine engine, vmid_t vm, uint32_t frames) except? False nogil:
    """True if `frames` frames for tables are secured. Where it is known that they are too few, no page has gone."""
    cdef int outcome
    if not engine.reclaim.could_take(frames, True):
        return False
    engine.reclaim.foretold = True
    try:
        outcome = engine.reclaim.secure(vm, 0, frames)
    finally:
        engine.reclaim.foretold = False
    return outcome == OK or outcome == AGAIN


cdef int _copy_pinned(Engine engine, vmid_t parent, vmid_t child) except -1 nogil:
    """The child gets leaves and pages of its own where the parent has pinned ones. OK, or what ran out."""
    cdef uint32_t gfn = 0, index, entry
    cdef Look at
    cdef int outcome
    while gfn < engine.mapping.leaves.directory[parent].nr_pages:
        for index in range(LEAF_ENTRIES if engine.mapping.leaves.look(parent, gfn, &at) else 0):
            entry = engine.mapping.leaves.entry(at.leaf, index)
            if entry & PTE_PRESENT and engine.mapping.frames.frame[entry & PTE_WHERE].flags & FRAME_PINNED:
                outcome = _copy_page(engine, child, gfn + index, entry & PTE_WHERE)
                if outcome != OK:
                    return outcome
                engine.mapping.leaves.look(parent, gfn, &at)    # its leaf may have become small
        gfn += LEAF_ENTRIES
    return OK


cdef int _copy_page(Engine engine, vmid_t child, gfn_t gfn, hfn_t frame) except -1 nogil:
    """A page that both have, of which the parent keeps this frame. It is pinned, so AGAIN changes nothing here."""
    cdef Look at
    cdef hfn_t copy
    cdef int outcome
    engine.mapping.leaves.look(child, gfn, &at)
    if at.leaf.nr_holders > 1:
        outcome = engine.reclaim.secure(child, 0, engine.mapping.tables.frames_to_copy_leaf(at.id))
        if outcome != OK and outcome != AGAIN:
            return outcome
        engine.clock.spend(CPU_COPY, engine.clock.costs.leaf_copy)
        engine.mapping.tables.copy_leaf(at.slot)
        engine.mapping.leaves.look(child, gfn, &at)
    outcome = engine.reclaim.secure(child, 1, 0)
    if outcome != OK and outcome != AGAIN:
        return outcome
    engine.frames.claim(0, FRAME_GUEST, &copy)
    engine.content.copy(copy, frame)
    engine.clock.spend(CPU_COPY, engine.clock.costs.copy_page)
    engine.mapping.break_cow(child, at.id, at.index, copy)
    engine.meter.ev.clone_pinned_copied += 1
    return OK
