"""How a host gets a VM, or refuses it.

A VM costs metadata of fixed size at creation (its translations, its directory root, its guest model's tables), taken
from host memory. A host that has no room for that refuses the VM with AdmissionError and is as it was before.

A refusal changes nothing, not even who is resident: all that a VM needs at once is known from sizes, and asked for as one
before the first page goes.

    first       tables of the VM and of its guest; what its reservation sets aside; a clone's directory
    later       thick provisioning: its pages, and tables for them. A clone: copies of pinned pages and of their leaves

What can be had is foretold (see foresight), so a VM that was refused needlessly would be one that takes 2 MiB blocks
which come free only as others' pages go. The exceptions, where others' pages have gone and the VM is refused all the
same: a host with a compressed cache (what pages come to there is known only once they are in it, and to refuse for the
worst case would refuse what nearly always fits); a store that fails on the way; and a signal that stops the call.

What may fail comes first, and what fails, by an outcome or by an exception, leaves host and VMs as they were.
"""

from memvirt.errors import AdmissionError, ConfigError

from ..agenda cimport FIRST_BALLOON, FIRST_VM
from ..guests.balloon cimport Balloon
from ..guests.guest_disk cimport GuestDisk
from ..guests.host_hardware cimport HostHardware
from ..mapping.leaf cimport DIRECTORY_SHIFT
from ..mapping.spaces cimport close_space, open_space
from ..reclaim.fault cimport THICK
from ..reclaim.populate cimport populate
from ..splitmix cimport mix
from ..types cimport HUGE_ORDER, LEAF_ENTRIES, LEAF_SHIFT, MAX_ORDER, MAX_VMS, NONE, NONE16, OK, vmid_t
from .ending cimport destroy_vm
from .fixed cimport bytes_of_vm, frames_of, frames_of_guest, take_fixed

cdef uint64_t draws_of(Vm vm) noexcept:
    return mix(vm.hits.tag_base)


cdef Vm new_vm(Engine engine, str name, uint32_t nr_pages, uint32_t nr_vpns, bint runs):
    cdef Vm vm = Vm.__new__(Vm)
    cdef vmid_t id = 0
    engine.gate.pass_by()                       # not in the middle of a call
    if runs and name in engine.vms:
        raise ConfigError(f"there is a VM '{name}' already; names are unique on a host")
    while engine.mapping.charges.of[id].open:
        id += 1
        if id == MAX_VMS - 1:
            raise AdmissionError(f"a host has room for {MAX_VMS - 1} VMs")
    if nr_pages == 0 or nr_vpns < nr_pages or nr_vpns > <uint32_t>1 << 31:
        raise ConfigError(f"VM '{name}': {nr_pages} pages, {nr_vpns} virtual pages")
    vm.id = id
    vm.name = name
    vm.nr_pages = nr_pages
    vm.nr_vpns = nr_vpns
    vm.frozen = not runs
    vm.block_above = NONE
    vm.hits.tag_base = <uint32_t>mix(engine.seed * 1000003 + mix(engine.nr_created)) & 0x7FFFFFFF
    return vm


cdef int admit(Engine engine, Vm vm, uint64_t first, uint32_t reservation, uint64_t later, bint secured) except -1:
    cdef uint64_t bytes = bytes_of_vm(vm.nr_pages, vm.nr_vpns, not vm.frozen, engine.scanner)
    first += frames_of(bytes)
    if first + later > engine.frames.nr_frames:
        _refuse(engine, vm, first + later)
    open_space(engine.mapping, vm.id, 0 if vm.frozen else vm.nr_vpns, vm.nr_pages)
    try:
        _foresee(engine, vm, first, reservation, later, secured)
        vm.fixed = take_fixed(engine.frames, engine.reclaim, engine.reached_ns, bytes, f"the tables of VM '{vm.name}'")
    except BaseException:
        close_space(engine.mapping, vm.id)
        raise
    vm.worker = Balloon(engine.clock, vm.id)
    _join(engine, vm)
    if vm.frozen:
        engine.snapshots.append(vm)
    else:
        engine.vms[vm.name] = vm
    return 0


cdef int _foresee(Engine engine, Vm vm, uint64_t first, uint32_t reservation, uint64_t later, bint secured) except -1:
    """AdmissionError if what the VM takes cannot be had, beside what is set aside for others and for itself. `later` comes
    to be its own, so nothing is set aside for that."""
    cdef bint fits
    engine.mapping.charges.reserve(vm.id, reservation)
    fits = engine.reclaim.could_take(<uint32_t>first, secured)
    engine.mapping.charges.reserve(vm.id, 0)
    if not fits:
        _refuse(engine, vm, first, reservation)
    if later and not engine.reclaim.could_take(<uint32_t>(first + later), secured):
        _refuse(engine, vm, first + later)
    return 0


cdef int _refuse(Engine engine, Vm vm, uint64_t frames, uint32_t reservation=0) except -1:
    engine.clock.interrupt.deliver()
    beside = f", and {reservation} reserved pages cannot be set aside beside them" if reservation else ""
    raise AdmissionError(f"VM '{vm.name}' needs {frames} frames to begin with{beside}; "
                         f"{engine.frames.buddy.nr_free} are free, and others cannot give back enough")


cdef int _join(Engine engine, Vm vm) except -1:
    """The host has the VM from now on: its number is the VM's in every part."""
    vm.gate = engine.gate
    vm.mapping = engine.mapping
    vm.stalls = engine.stalls
    engine.reporting.join(vm.id, vm.worker)
    engine.who[FIRST_BALLOON + vm.id] = <void *>vm.worker
    engine.who[FIRST_VM + vm.id] = <void *>vm
    vm.hits.entry = engine.mapping.tcache.view[vm.id].entry
    vm.hits.writes = engine.mapping.tcache.view[vm.id].writes
    vm.hits.arena = engine.content.arena
    vm.hits.ids = engine.content.ids
    engine.nr_created += 1
    vm.alive = True
    vm.now_ns = engine.reached_ns
    engine.stalls.open(vm.id, vm.now_ns)
    engine.reclaim.sweep.hand[vm.id] = 0
    engine.reclaim.readahead.open(vm.id)
    engine.faults.names[vm.id] = vm.name
    return 0


def create_vm(Engine engine not None, str name not None, uint32_t nr_pages, *, limit=None, reservation=0, shares=1000,
              domain=0, guest=None, nr_vpns=None, disk=None, hints=False):
    """A VM of nr_pages pages. guest: None, or the options of Guest; nr_vpns: its virtual pages; disk: guest swap; hints:
    see HostHardware."""
    cdef bint thick = engine.faults.provisioning == THICK
    cdef uint32_t addresses = nr_pages if guest is None else (nr_vpns or nr_pages)
    cdef uint64_t first = 0
    cdef HostHardware hardware
    cdef Guest model = None
    cdef Vm vm
    if limit is not None and thick and nr_pages > limit:
        raise AdmissionError(f"VM '{name}' is provisioned thick and needs {nr_pages} frames; its limit is {limit}")
    vm = new_vm(engine, name, nr_pages, addresses, True)
    if guest is not None:
        first = frames_of_guest(nr_pages, addresses)
        if first > engine.frames.nr_frames:     # before this machine makes tables of that size
            _refuse(engine, vm, first)
        hardware = HostHardware(engine.faults, vm.id, engine.giving, None if disk is None else GuestDisk(disk), hints)
        model = Guest(hardware, addresses, nr_pages, seed=draws_of(vm), **guest)
        first = frames_of(model.metadata_bytes() + hardware.metadata_bytes())
    admit(engine, vm, first, reservation, _filling(engine, vm, first) if thick else 0, False)
    try:
        vm.set_account(limit=limit, reservation=reservation, shares=shares, domain=domain)
        set_aside(engine, vm)
        if model is not None:
            vm.hardware = hardware
            give_guest(engine, vm, model)
        if thick:
            _populate(engine, vm)
    except BaseException:
        undo_vm(engine, vm)
        raise
    engine.clock.interrupt.deliver()            # all is done: a signal came too late to stop it
    return vm


cdef uint64_t _filling(Engine engine, Vm vm, uint64_t first) except? 0:
    """Frames that all its pages take, and tables for them; none for 2 MiB blocks that are there now and will be then."""
    cdef uint64_t leaves = (vm.nr_pages + LEAF_ENTRIES - 1) >> LEAF_SHIFT
    cdef uint64_t directories = (vm.nr_pages + (<uint64_t>1 << DIRECTORY_SHIFT) - 1) >> DIRECTORY_SHIFT
    cdef uint64_t tables = leaves + engine.mapping.leaves.records.frames_needed(<uint32_t>leaves)
    cdef uint64_t free = engine.frames.buddy.nr_free, blocks = 0, kept
    cdef uint64_t floor = engine.reclaim.highest_floor(True) - engine.frames.min_pages
    cdef int order
    kept = first + frames_of(bytes_of_vm(vm.nr_pages, vm.nr_vpns, True, engine.scanner)) + LEAF_ENTRIES
    for order in range(HUGE_ORDER, MAX_ORDER + 1):
        blocks += <uint64_t>engine.frames.buddy.free_blocks(order) << (order - HUGE_ORDER)
    blocks -= min(blocks, kept >> HUGE_ORDER)   # as many as tables of fixed size may break
    kept += engine.frames.high_pages + engine.mapping.charges.aside(NONE16)
    blocks = min(blocks, (free - min(free, kept)) >> HUGE_ORDER, vm.nr_pages >> LEAF_SHIFT)
    return vm.nr_pages + tables - blocks + engine.mapping.leaves.pages.frames_needed(<uint32_t>directories) + floor


cdef int _populate(Engine engine, Vm vm) except -1:
    """All its pages get frames now, on its own time."""
    engine.enter()
    engine.clock.now = vm.now_ns
    try:
        if populate(engine.faults, vm.id) != OK:
            engine.clock.interrupt.deliver()
            raise AdmissionError(f"VM '{vm.name}' is provisioned thick and needs {vm.nr_pages} frames; "
                                 f"only {vm.charged} could be had")
    finally:
        vm.now_ns = engine.clock.now
        engine.reach(vm)
        engine.leave()
    return 0


cdef int set_aside(Engine engine, Vm vm) except -1:
    cdef uint32_t reserved = engine.mapping.charges.of[vm.id].reservation
    if reserved and engine.reclaim.make_room(engine.frames.min_pages, engine.reached_ns) != OK:
        engine.clock.interrupt.deliver()
        raise AdmissionError(f"VM '{vm.name}': {reserved} reserved pages cannot be set aside: "
                             f"{engine.frames.buddy.nr_free} frames are free, {engine.frames.min_pages} of them reserved, "
                             f"and others cannot give back enough")
    return 0


cdef int give_guest(Engine engine, Vm vm, Guest guest) except -1:
    vm.fixed += take_fixed(engine.frames, engine.reclaim, engine.reached_ns,
                           guest.metadata_bytes() + vm.hardware.metadata_bytes(), f"the guest model of VM '{vm.name}'")
    vm.worker.serve(guest)
    vm.guest = guest
    vm.hardware.rehome(guest.memory.vpn)
    return 0


cdef int undo_vm(Engine engine, Vm vm) except -1:
    try:
        destroy_vm(engine, vm)
    finally:
        engine.nr_created -= 1
    return 0
