"""How a host gets a VM, or refuses it.

A VM costs metadata of fixed size at creation (its translations, its directory root, its guest model's tables), taken
from host memory. A host that has no room for that refuses the VM with AdmissionError and is as it was before. Where it
is known beforehand that memory will not do, no page goes.

What may fail comes first, and what fails, by an outcome or by an exception, leaves host and VMs as they were.
"""

from memvirt.errors import AdmissionError, ConfigError

from ..agenda cimport FIRST_BALLOON, FIRST_VM
from ..guests.balloon cimport Balloon
from ..guests.guest_disk cimport GuestDisk
from ..guests.host_hardware cimport HostHardware
from ..mapping.spaces cimport open_space
from ..reclaim.fault cimport THICK
from ..reclaim.populate cimport populate
from ..splitmix cimport mix
from ..types cimport MAX_VMS, OK, vmid_t
from .ending cimport destroy_vm
from .fixed cimport bytes_of_vm, frames_of, frames_of_guest, give_fixed, take_fixed


cdef uint64_t draws_of(Vm vm) noexcept:
    return mix(vm.hits.tag_base)


cdef Vm new_vm(Engine engine, str name, uint32_t nr_pages, uint32_t nr_vpns, bint runs, uint64_t further):
    cdef Vm vm = Vm.__new__(Vm)
    cdef uint64_t bytes
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
    bytes = bytes_of_vm(nr_pages, nr_vpns, runs, engine.scanner)
    further += frames_of(bytes)
    if further > engine.frames.nr_frames or not engine.reclaim.could_take(<uint32_t>further):
        engine.clock.interrupt.deliver()
        raise AdmissionError(f"VM '{name}' needs {further} frames to begin with; {engine.frames.buddy.nr_free} are free, "
                             f"and others cannot give back enough")
    vm.fixed = take_fixed(engine.frames, engine.reclaim, engine.reached_ns, bytes, f"the tables of VM '{name}'")
    vm.id = id
    vm.name = name
    vm.nr_pages = nr_pages
    vm.nr_vpns = nr_vpns
    vm.frozen = not runs
    vm.worker = Balloon(engine.clock, id)
    try:
        open_space(engine.mapping, id, nr_vpns if runs else 0, nr_pages)
    except BaseException:
        give_fixed(engine.frames, vm.fixed)
        raise
    _join(engine, vm)
    if runs:
        engine.vms[name] = vm
    else:
        engine.snapshots.append(vm)
    return vm


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
    vm.hits.tag_base = <uint32_t>mix(engine.seed * 1000003 + mix(engine.nr_created)) & 0x7FFFFFFF
    engine.nr_created += 1
    vm.alive = True
    vm.now_ns = engine.reached_ns
    engine.stalls.open(vm.id, vm.now_ns)
    engine.reclaim.sweep.hand[vm.id] = 0
    engine.reclaim.readahead.open(vm.id)
    engine.faults.names[vm.id] = vm.name
    return 0


def create_vm(Engine engine not None, str name not None, uint32_t nr_pages, *, limit=None, reservation=0, shares=1000,
              domain=0, guest=None, nr_vpns=None, disk=None):
    """A VM of nr_pages pages. guest: None, or the options of Guest; nr_vpns: its virtual pages; disk: guest swap."""
    cdef bint thick = engine.faults.provisioning == THICK
    cdef uint64_t further = nr_pages if thick else 0
    cdef Vm vm
    if limit is not None and further > limit:
        raise AdmissionError(f"VM '{name}' is provisioned thick and needs {nr_pages} frames; its limit is {limit}")
    if guest is not None:
        further += frames_of_guest(nr_pages, nr_vpns or nr_pages)
    vm = new_vm(engine, name, nr_pages, nr_pages if guest is None else (nr_vpns or nr_pages), True, further)
    try:
        vm.set_account(limit=limit, reservation=reservation, shares=shares, domain=domain)
        set_aside(engine, vm)
        if guest is not None:
            vm.hardware = HostHardware(engine.faults, vm.id, engine.giving, None if disk is None else GuestDisk(disk))
            give_guest(engine, vm, Guest(vm.hardware, vm.nr_vpns, nr_pages, seed=draws_of(vm), **guest))
        if thick:
            _populate(engine, vm)
    except BaseException:
        undo_vm(engine, vm)
        raise
    engine.clock.interrupt.deliver()            # all is done: a signal came too late to stop it
    return vm


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
