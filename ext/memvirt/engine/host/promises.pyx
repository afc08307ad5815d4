"""What it costs to keep the promises of a host, at worst.

A promise is a number of pages: a VM may fill all of its memory, and a snapshot needs a second place for whatever is
written while it is kept. What the host needs beside the pages grows as they come, and none of it can be evicted:

    fixed       tables of the host, of each VM, of each guest: taken when those are made
    tables      a leaf table for each 2 MiB, records of leaves, directory pages: as pages are touched (a shared leaf is
                copied sooner or later, so each VM and snapshot counts with its own)
    records     one for each page that is out: as pages go
    scanner     what a scanner keeps of each page, and of each merged frame: as it comes by
    pool        the compressed cache: full of zspages that each hold one object it gives nothing back
    min         the frames below which no guest may go

    memory  |fixed|tables|records|scanner|pool|  frames for pages  |min|      slots of swap |
                                              |<──────────── what may be promised ─────────>|

Tables that have grown do not shrink, so each counts with what it is now, or will be, whichever is more.

A page that is one word over and over needs a record and no slot. Were there no bound to such records, they could take the
frames of pages that are filled with something else later. So where a host keeps its promises, it has no more records
than slots (`bound_records`): whether a page that is out has a slot or none, there are never too few. With a compressed
cache a record can be had without a slot; there each page promised counts with one.

A VM at its limit has the rest of its pages on swap, however much memory is free: `beyond` sums that up. Whose pages the
slots hold by then nobody can say, so that takes a slot for every page there is.
"""

from ..guests.guest cimport Guest
from ..guests.hardware cimport Hardware
from ..memory.frames cimport FRAME_FIXED, Slab
from ..mapping.leaf cimport DIRECTORY_SHIFT, SLOTS_PER_PAGE
from ..reclaim.fault cimport THIN
from ..stores.swapspace cimport SwapSpace
from ..types cimport LEAF_ENTRIES, LEAF_SHIFT, NONE16, uint32_t, uint64_t
from .engine cimport Engine
from .fixed cimport bytes_of_vm, frames_of
from .vm cimport Vm


def fixed_frames(Engine engine not None, uint32_t pages, *, guest=None, nr_vpns=None, SwapSpace disk=None):
    """Frames of fixed size that a new VM takes. guest: None, or the options of Guest; disk: the guest's."""
    cdef uint64_t frames, bytes
    if guest is None:
        return frames_of(bytes_of_vm(pages, pages, True, engine.scanner))
    frames = frames_of(bytes_of_vm(pages, nr_vpns or pages, True, engine.scanner))
    bytes = Guest(Hardware(), nr_vpns or pages, pages, seed=0, **guest).metadata_bytes()
    if disk is not None:
        bytes += (disk.nr_slots + <uint64_t>1) * sizeof(uint32_t) + disk.metadata_bytes()
    return frames + frames_of(bytes)


def fixed_frames_of_copy(Engine engine not None, Vm vm not None, bint runs):
    """The same of a clone of the VM, or (runs=False) of a snapshot."""
    cdef uint64_t frames = frames_of(bytes_of_vm(vm.nr_pages, vm.nr_vpns, runs, engine.scanner))
    if vm.guest is not None:
        frames += frames_of(vm.guest.metadata_bytes() + vm.hardware.metadata_bytes())
    return frames


def promised(Engine engine not None, uint32_t pages=0, uint32_t reservation=0, limit=None, uint64_t fixed=0):
    """What is promised to all VMs and snapshots, and to one more of so many pages, which takes `fixed` frames.

    {"pages", "reserved", "kept": pages that are reserved or pinned, "beyond": pages that limits keep out of memory,
    "frames": for pages, at worst (below 0: none), "slots": of swap, "fixed": frames of fixed size, "margin": frames beside
    those reserved}
    """
    cdef uint64_t total = pages, reserved = reservation, kept = reservation, beyond = 0, leaves = 0, directories = 0, tables
    cdef uint64_t slots, held, beside, margin
    cdef uint32_t most
    cdef Vm vm
    sizes = [pages] if pages else []
    if limit is not None and limit < pages:
        beyond = pages - <uint32_t>limit
    for vm in [*engine.vms.values(), *engine.snapshots]:
        sizes.append(vm.nr_pages)
        total += vm.nr_pages
        reserved += engine.mapping.charges.of[vm.id].reservation
        kept += max(engine.mapping.charges.of[vm.id].reservation, engine.mapping.charges.of[vm.id].pinned)
        most = engine.mapping.charges.of[vm.id].limit
        beyond += vm.nr_pages - most if most < vm.nr_pages else 0
    for size in sizes:
        leaves += (<uint64_t>size + LEAF_ENTRIES - 1) >> LEAF_SHIFT
        directories += (<uint64_t>size + (1 << DIRECTORY_SHIFT) - 1) >> DIRECTORY_SHIFT
    tables = leaves
    slots = 0 if engine.mapping.swap is None else engine.mapping.swap.nr_slots
    if engine.faults.provisioning != THIN:       # a block is given with a record to spare
        leaves += 1
        directories += 1
    held = fixed + engine.frames.nr_state[<int>FRAME_FIXED]
    beside = tables + _at_most(engine.mapping.leaves.records, leaves) + _at_most(engine.mapping.leaves.pages, directories)
    beside += _at_most(engine.mapping.backings.records,
                       total if engine.mapping.zpool is not None else min(total, slots))
    if engine.scanner is not None:
        beside += engine.scanner.most_frames(sizes) - engine.scanner.metadata_frames()
    if engine.mapping.zpool is not None:
        beside += engine.mapping.zpool.most_frames(total)
    margin = _margin(engine, pages, reservation)
    beside += margin
    return {
        "pages": total, "reserved": reserved, "kept": kept, "beyond": beyond, "slots": slots, "fixed": held,
        "margin": margin,
        "frames": engine.frames.nr_frames - <long long>(held + beside + engine.frames.min_pages),
    }


def pinned(Engine engine not None, Vm vm not None):
    """Pages that a VM has pinned."""
    return engine.mapping.charges.of[vm.id].pinned


def lacking(Engine engine not None, uint64_t frames):
    """Frames that are missing until so many are free beside what is set aside for others and the low watermark."""
    cdef uint64_t beside = engine.mapping.charges.aside(NONE16) + engine.frames.low_pages
    return max(0, <long long>(frames + beside) - <long long>engine.frames.buddy.nr_free)


def bound_records(Engine engine not None):
    """From now on this host has no more records of pages that are out than slots of swap, unless it compresses pages."""
    if engine.mapping.zpool is None:
        engine.mapping.backings.records.most = 0 if engine.mapping.swap is None else engine.mapping.swap.nr_slots


cdef uint64_t _at_most(Slab slab, uint64_t records) noexcept:
    return max(<uint64_t>slab.nr_pages, (records + (<uint64_t>1 << slab.shift) - 1) >> slab.shift)


cdef uint64_t _margin(Engine engine, uint32_t pages, uint32_t reservation):
    """What is left free for tables beside pages that are reserved; as Charges.aside counts, with nothing held."""
    cdef uint64_t margin = 0, leaves
    cdef Vm vm
    every = [(vm.nr_pages, engine.mapping.charges.of[vm.id].reservation) for vm in engine.vms.values()]
    for size, own in [*every, (pages, reservation)]:
        if own:
            leaves = (size + LEAF_ENTRIES - 1) >> LEAF_SHIFT
            margin += min(own, leaves) + min(own, (leaves + SLOTS_PER_PAGE - 1) / SLOTS_PER_PAGE) + own / 128 + 5
    return margin
