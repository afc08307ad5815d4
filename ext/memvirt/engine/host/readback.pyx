"""What a page holds, read where it lies: in its frame, as a value, compressed, on swap, on its guest's own disk.

An access brings its page into a frame, and is refused where none is left. What a VM has written must be
readable even then: that nothing is lost has to be shown of full hosts, too. So this brings nothing in. It changes no
entry, no store and no clock, and it needs no memory but a page of the caller's.

Codecs and content work on frames. So one that is in use is borrowed: what it holds is set aside, and put back before
anyone can look.
"""

from libc.string cimport memcpy, memset

from memvirt.errors import StoreError

from ..content.content cimport Content
from ..guests.guest_memory cimport FILE_ORIGINAL
from ..mapping.backing cimport BACKING_CACHED, BACKING_SAME, BACKING_ZPOOL, Backing
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Look
from ..mapping.mapping cimport Mapping
from ..memory.frames cimport FRAME_FREE, FRAME_ZSPAGE
from ..types cimport NONE, OK, PAGE_SIZE, gfn_t, hfn_t, uint32_t


cdef class Borrowed:
    """A frame in use, whose content is the caller's to overwrite until `give_back`. Not one of a zspage: between its
    objects lies what nobody may touch. There is metadata, which is neither."""

    cdef Content content
    cdef hfn_t frame
    cdef uint8_t before[PAGE_SIZE]

    def __cinit__(self, Engine engine not None):
        self.content = engine.content
        self.frame = 0
        while engine.frames.frame[self.frame].state in (FRAME_FREE, FRAME_ZSPAGE):
            self.frame += 1
        memcpy(self.before, self.content.raw(self.frame), self.content.raw_bytes)

    cdef void give_back(self, uint8_t *out) noexcept:
        """Copy what the frame came to hold, and put back what it held."""
        memcpy(out, self.content.raw(self.frame), self.content.raw_bytes)
        memcpy(self.content.raw_target(self.frame), self.before, self.content.raw_bytes)


cdef int read_in_place(Engine engine, Vm vm, vpn_t vpn, uint8_t *out) except -1:
    cdef gfn_t gfn = vm.guest.lookup(vpn) if vm.guest is not None else vpn
    if gfn == NONE:
        return _of_guest(engine, vm, vpn, out)
    return _of_host(engine, vm, gfn, out)


cdef int _of_guest(Engine engine, Vm vm, vpn_t vpn, uint8_t *out) except -1:
    """A page that the guest has in none of its own: never touched, in a file, or out on its disk."""
    cdef uint32_t copy = vm.guest.memory.copy[vpn], checksum = 0
    cdef bint cache = vm.guest.memory.is_cache(vpn)
    cdef int outcome = OK
    cdef Borrowed page
    if copy == NONE and not cache:
        memset(out, 0, engine.content.raw_bytes)
        return 0
    page = Borrowed(engine)
    if copy == NONE or copy == FILE_ORIGINAL:
        engine.content.fill(page.frame, 0)       # files hold zeros
    else:
        outcome = vm.hardware.disk.read(copy, engine.content.raw_target(page.frame))
        checksum = engine.content.checksum(page.frame) ^ vm.hardware.disk.check_sum(copy)
    page.give_back(out)
    if outcome != OK or checksum:
        raise StoreError(f"VM '{vm.name}' page {vpn}: slot {copy} of its guest's disk "
                         + ("cannot be read" if outcome != OK else "does not match its checksum"))
    return 0


cdef int _of_host(Engine engine, Vm vm, gfn_t gfn, uint8_t *out) except -1:
    cdef Mapping mapping = engine.mapping
    cdef Look at
    mapping.leaves.look(vm.id, gfn, &at)
    if at.entry == 0:
        memset(out, 0, engine.content.raw_bytes)
    elif at.entry & PTE_PRESENT:
        memcpy(out, engine.content.raw(at.entry & PTE_WHERE), engine.content.raw_bytes)
    else:
        _of_record(engine, vm, gfn, mapping.backings.at(at.entry & PTE_WHERE), out)
    return 0


cdef int _of_record(Engine engine, Vm vm, gfn_t gfn, Backing *record, uint8_t *out) except -1:
    """A page that is out: its record says where."""
    cdef Mapping mapping = engine.mapping
    cdef uint8_t object[PAGE_SIZE]
    cdef const uint8_t *payload
    cdef uint32_t length, check = record.check  # asked first: the record may lie in the very frame that is borrowed
    cdef int outcome = OK
    cdef bint wrong = False
    cdef Borrowed page
    if record.place & BACKING_CACHED:
        memcpy(out, engine.content.raw(record.link), engine.content.raw_bytes)
        return 0
    page = Borrowed(engine)
    if mapping.backings.kind(record) == BACKING_SAME:
        engine.content.fill_same(page.frame, mapping.backings.value(record))
    elif mapping.backings.kind(record) == BACKING_ZPOOL:
        payload = mapping.zpool.view(mapping.backings.where(record), &length)
        memcpy(object, payload, length)         # it may lie in the very frame that is borrowed
        outcome = engine.content.expand(page.frame, object, length)
        wrong = outcome != OK or engine.content.checksum(page.frame) != check
    else:
        outcome = mapping.swap.read(mapping.backings.where(record), engine.content.raw_target(page.frame))
        wrong = outcome != OK or engine.content.checksum(page.frame) != check
    page.give_back(out)
    if wrong:
        raise StoreError(f"VM '{vm.name}' page {gfn}: what lies outside memory does not come back as it went")
    return 0
