"""How a VM's accesses are served: batches of page numbers, bytes by address, whole pages, pins, the balloon.

The unit of work is a batch: one Python call for thousands of accesses, the GIL released. Most accesses are hits in the
translation cache and are served in C (access.h). What misses goes to the guest model, if the VM has one, and then to the
fault handlers. An access that cannot be served (no frame, a limit) ends the batch; the VM's `outcome` says why, and the
caller decides.

An access touches one 8-byte word of its page, chosen by the vpn: a read loads it, a write stores a tag that says which
of the VM's writes it was. So what every page must hold can be computed from the stream alone (see
memvirt.experiment.expected), and a 64-bit fingerprint can stand for a page exactly.
"""

from libc.string cimport memcpy

from memvirt.errors import ConfigError

from ..content.content cimport Content
from ..counters cimport CPU_ACCESS
from ..guests.guest cimport Translation
from ..mapping.spaces cimport unpin_space
from ..mapping.tcache cimport TC_FRAME
from ..memory.frames cimport FRAME_PINNED
from ..reclaim.giveup cimport give_up_lazily
from ..reclaim.lookahead cimport look_ahead
from ..types cimport NO_FRAME, NONE16, OK, PAGE_SHIFT, PAGE_SIZE, gfn_t, uint8_t, uint64_t
from .batch cimport OP_DISCARD, OP_FILL, OP_LAZY, OP_READ, OP_WRITE, PIECE, check_lengths
from .engine cimport END_NS
from .readback cimport read_in_place
from .vm cimport mv_hits

cdef extern from "mapping/access.h" nogil:
    uint32_t mv_word(uint32_t vpn)
    uint32_t mv_tag(uint32_t base, uint64_t sequence)
    uint32_t mv_serve_hits(mv_hits *hits, const uint32_t *pages, const uint8_t *ops, uint32_t first,
                           uint32_t last, uint32_t end)

cdef enum:
    HITS_AT_ONCE = 1 << 16      # accesses between two questions whether to stop


cdef int touch(Engine engine, Vm vm, vpn_t vpn, bint write, hfn_t *frame) except -1 nogil:
    cdef Translation found
    cdef int outcome
    cdef gfn_t gfn = vpn
    cdef bint may_write = True
    if vm.guest is not None:
        outcome = vm.guest.resolve(vpn, write, &found)
        if outcome != OK:
            return outcome
        gfn = found.gfn
        may_write = found.writable
    outcome = engine.faults.resolve(vm.id, gfn, vpn, write, may_write)
    if outcome == OK:
        frame[0] = engine.mapping.tcache.view[vm.id].entry[vpn] & TC_FRAME
    return outcome


cdef int _miss(Engine engine, Vm vm, vpn_t vpn, uint8_t op, const uint32_t *source) except -1 nogil:
    """An access that is not a hit."""
    cdef hfn_t frame
    cdef int outcome
    cdef bint freed
    if op == OP_DISCARD or op == OP_LAZY:
        engine.meter.ev.discards += 1
        if vm.guest is not None:
            return vm.guest.discard(vpn)
        # Without a guest model nobody tells the host what is no longer needed, unless it is asked to: the page stays.
        return give_up_lazily(engine.faults, vm.id, vpn, &freed) if op == OP_LAZY else OK
    outcome = touch(engine, vm, vpn, op != OP_READ, &frame)
    if outcome != OK:
        return outcome
    if op == OP_FILL:
        engine.meter.ev.fills += 1
        engine.content.fill(frame, source[0])
        if engine.faults.index is not None:
            engine.faults.index.arrived(frame)
    elif op == OP_WRITE:
        vm.hits.sequence += 1
        engine.content.store_tag(frame, mv_word(vpn), mv_tag(vm.hits.tag_base, vm.hits.sequence))
    else:
        vm.hits.loaded += engine.content.load(frame, mv_word(vpn))
    return OK


cdef uint32_t serve(Engine engine, Vm vm, Batch batch, uint32_t first, uint32_t end,
                    int64_t until) except? 0xFFFFFFFF nogil:
    cdef uint32_t i = first, last, stop
    cdef uint64_t written
    cdef int64_t hit_ns = engine.clock.costs.hit
    cdef int outcome = OK
    engine.clock.now = vm.now_ns
    engine.stalls.running = vm.id
    while i < end and engine.clock.now < until and not engine.clock.interrupt.asked():
        last = batch.end_within(i, min(end, i + HITS_AT_ONCE), until - engine.clock.now, hit_ns)
        written = vm.hits.sequence
        stop = mv_serve_hits(&vm.hits, batch.pages, batch.ops, i, last, end)
        engine.clock.spend(CPU_ACCESS, (stop - i) * hit_ns)
        engine.clock.now += (stop - i) * batch.work_ns
        written = vm.hits.sequence - written
        engine.meter.ev.writes += written
        engine.meter.ev.reads += (stop - i) - written
        i = stop
        if i == last:
            continue
        if engine.mapping.zpool is not None and vm.guest is None and engine.mapping.zpool.nr_objects:
            look_ahead(engine.mapping, vm.id, batch.pages + i + 1, end - i - 1)
        vm.now_ns = engine.clock.now        # kept if the access raises
        outcome = _miss(engine, vm, batch.pages[i], batch.ops[i], NULL if batch.sources == NULL else batch.sources + i)
        if outcome != OK:
            break
        engine.clock.spend(CPU_ACCESS, hit_ns)
        engine.clock.now += batch.work_ns
        engine.meter.ev.writes += batch.ops[i] == OP_WRITE
        engine.meter.ev.reads += batch.ops[i] == OP_READ
        i += 1
    engine.stalls.running = NONE16
    vm.now_ns = engine.clock.now
    vm.outcome = outcome
    return i - first


# ---- calls for one VM alone

def access(Engine engine not None, Vm vm not None, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None,
           const uint32_t[::1] sources=None):
    """Serve the accesses in order; returns how many were done. `outcome_name` says why it stopped."""
    cdef uint64_t n = pages.shape[0], first = 0
    cdef uint32_t nr_sources = engine.content.nr_sources, done = 0
    cdef Batch batch = engine.batch
    vm.require_running()
    check_lengths(vm.name, pages, ops, sources)
    engine.begin(vm)
    try:
        vm.outcome = OK
        if n > PIECE:                       # refused as a whole, before the first is served
            batch.judge(vm.name, vm.nr_vpns, nr_sources, pages, ops, sources)
        while first < n and done == first:
            batch.own(vm.name, vm.nr_vpns, nr_sources, pages, ops, sources, first, min(n - first, <uint64_t>PIECE))
            first += batch.n
            with nogil:
                done += serve(engine, vm, batch, 0, batch.n, END_NS)
    finally:
        engine.end(vm)
    if done < n and vm.outcome == OK:
        raise ConfigError(f"VM '{vm.name}': simulated time is at its end, after 146 years and {done} of {n} accesses; go "
                          f"on with a new host")
    return done


def write(Engine engine not None, Vm vm not None, uint64_t address, const uint8_t[::1] data not None):
    """Write bytes; returns how many were written (fewer: `outcome_name` says why). Needs content with bytes."""
    return _copy(engine, vm, address, data.shape[0], &data[0] if data.shape[0] else NULL, NULL)


def read(Engine engine not None, Vm vm not None, uint64_t address, uint64_t length):
    """The bytes at an address (guest-virtual for a VM with a guest). Raises ConfigError if memory runs out."""
    cdef uint8_t[::1] view
    _check_range(engine, vm, address, length)
    if length == 0:
        return b""
    out = bytearray(length)
    view = out
    done = _copy(engine, vm, address, length, NULL, &view[0])
    if done != length:
        raise ConfigError(f"VM '{vm.name}': reading {length} bytes at {address:#x} stopped after {done}: "
                          f"{vm.outcome_name}")
    return bytes(out)


cdef uint64_t _copy(Engine engine, Vm vm, uint64_t address, uint64_t length, const uint8_t *source,
                    uint8_t *target) except? 0:
    cdef uint64_t done = 0, chunk
    cdef hfn_t frame
    _check_range(engine, vm, address, length)
    engine.begin(vm)
    try:
        vm.outcome = OK
        while done < length and not engine.clock.interrupt.asked():
            chunk = min(length - done, <uint64_t>PAGE_SIZE - (address + done) % PAGE_SIZE)
            vm.outcome = touch(engine, vm, <vpn_t>((address + done) >> PAGE_SHIFT), source != NULL, &frame)
            if vm.outcome != OK:
                break
            if source != NULL:
                memcpy(engine.content.page(frame) + (address + done) % PAGE_SIZE, source + done, chunk)
            else:
                memcpy(target + done, engine.content.page(frame) + (address + done) % PAGE_SIZE, chunk)
            done += chunk
    finally:
        engine.end(vm)
    return done


cdef int _check_range(Engine engine, Vm vm, uint64_t address, uint64_t length) except -1:
    """ConfigError unless the VM has these bytes, and runs."""
    vm.require_running()
    if not engine.content.has_bytes:
        raise ConfigError("fingerprint content has no bytes to read or write: use content='bytes'")
    if address + length > <uint64_t>vm.nr_vpns << PAGE_SHIFT or address + length < address:
        raise ConfigError(f"VM '{vm.name}': {length} bytes at {address:#x} reach beyond its "
                          f"{<uint64_t>vm.nr_vpns << PAGE_SHIFT:#x} bytes")
    return 0


def read_pages(Engine engine not None, Vm vm not None, const uint32_t[::1] pages not None,
               uint8_t[:, ::1] out not None):
    """Copy whole pages (vpns) into out[n, 4096]: their bytes; for fingerprints the 8-byte id, rest zero. A page that
    no frame is left for is read where it lies."""
    cdef Py_ssize_t i
    cdef hfn_t frame
    cdef Content content = engine.content
    cdef Batch batch = Batch()              # the caller's array may lie in `out`, or change while a signal is answered
    if out.shape[0] != pages.shape[0] or out.shape[1] != PAGE_SIZE:
        raise ValueError(f"out must be [{pages.shape[0]}, {PAGE_SIZE}]")
    vm.require()
    batch.own_reads(vm.name, vm.nr_vpns, pages)
    engine.begin(vm)
    try:
        for i in range(batch.n):
            if engine.clock.interrupt.asked():
                break                       # end raises
            vm.outcome = touch(engine, vm, batch.pages[i], False, &frame)
            if vm.outcome == OK:
                memcpy(&out[i, 0], content.raw(frame), content.raw_bytes)
            else:
                read_in_place(engine, vm, batch.pages[i], &out[i, 0])
                vm.outcome = OK
    finally:
        engine.end(vm)


def read_ids(Engine engine not None, Vm vm not None, const uint32_t[::1] pages not None, uint64_t[::1] out not None):
    """Copy the ids of pages (vpns) into out[n], each read where it lies: no access, and nothing changes. Needs
    fingerprint content."""
    cdef Py_ssize_t i
    cdef Batch batch = Batch()
    if engine.content.has_bytes:
        raise ConfigError("content with bytes has no ids to read: use read_pages, or content='fingerprint'")
    if out.shape[0] != pages.shape[0]:
        raise ValueError(f"out must be [{pages.shape[0]}]")
    engine.own(vm)
    batch.own_reads(vm.name, vm.nr_vpns, pages)
    engine.enter()
    try:
        for i in range(batch.n):
            if engine.clock.interrupt.asked():
                break
            read_in_place(engine, vm, batch.pages[i], <uint8_t *>&out[i])
    finally:
        engine.leave()
        engine.clock.interrupt.deliver()


def pin(Engine engine not None, Vm vm not None, uint32_t first, uint32_t pages, uint32_t most):
    """Keep pages in memory: neither reclaimed nor merged nor moved (passthrough, mlock), nor given up by a guest that
    frees them: they are guest-physical pages. `most`: of them that were not pinned before. Returns pages pinned."""
    return _pin(engine, vm, first, pages, True, most)


def unpin(Engine engine not None, Vm vm not None, uint32_t first, uint32_t pages):
    """Let pages go again; with all pages of the VM also those that its guest has freed meanwhile."""
    return _pin(engine, vm, first, pages, False, 0)


cdef uint32_t _pin(Engine engine, Vm vm, uint32_t first, uint32_t pages, bint pinned, uint32_t most) except? 0xFFFFFFFF:
    cdef uint32_t vpn, done = 0
    cdef hfn_t frame
    cdef bint before
    vm.require_running()
    if <uint64_t>first + pages > vm.nr_vpns:
        raise ConfigError(f"VM '{vm.name}': pages {first}..{<uint64_t>first + pages - 1} reach beyond {vm.nr_vpns}")
    engine.begin(vm)
    try:
        for vpn in range(first, first + pages):
            vm.outcome = touch(engine, vm, vpn, pinned, &frame)
            if vm.outcome != OK or engine.clock.interrupt.asked():
                break
            before = engine.frames.frame[frame].flags & FRAME_PINNED
            # What was pinned before takes nothing from others.
            if pinned and not before and most == 0:
                vm.outcome = NO_FRAME
                break
            engine.mapping.set_pinned(frame, pinned)
            # Others could not have what is reserved for them.
            if pinned and not before:
                if engine.reclaim.keep_aside() != OK:
                    engine.mapping.set_pinned(frame, False)
                    vm.outcome = NO_FRAME
                    break
                most -= 1
            if vm.guest is not None:                # it does not put the page elsewhere either
                vm.guest.own()
                vm.guest.memory.lock(vpn) if pinned else vm.guest.memory.unlock(vpn)
            done += 1
        if not pinned and done == vm.nr_vpns:
            unpin_space(engine.mapping, vm.id)
    finally:
        engine.end(vm)
    return done


# ---- its balloon

def balloon(Engine engine not None, Vm vm not None, uint32_t target_pages, uint32_t step=256):
    """Move the balloon to `target_pages`; returns what it holds when it can go no further."""
    engine.own(vm)
    if vm.guest is None:
        raise ConfigError(f"VM '{vm.name}' has no guest: only a guest can give pages to a balloon. "
                          f"Create it with guest=True")
    cdef uint32_t moved = 1
    cdef int64_t owed = vm.guest.owed_ns
    engine.enter()
    engine.clock.now = vm.now_ns
    try:
        vm.guest.set_target(target_pages)
        while moved and vm.guest.memory.nr_balloon != vm.guest.balloon_target and not engine.clock.interrupt.asked():
            moved = vm.worker.work(step)
            vm.outcome = vm.worker.outcome
        engine.keep_limits()
    finally:
        vm.guest.owed_ns = owed                     # this has been the VM's own time
        vm.now_ns = engine.clock.now
        engine.reach(vm)
        engine.leave()
    engine.clock.interrupt.deliver()
    return vm.guest.memory.nr_balloon


def set_balloon_target(Engine engine not None, Vm vm not None, uint32_t pages):
    """The size that the balloon is to have; its worker moves it there. True if that is another than before."""
    if not vm.alive or vm.guest is None or vm.guest.balloon_target == vm.guest.in_units(pages):
        return False
    vm.guest.set_target(pages)
    vm.worker.look(engine.reached_ns)
    return True
