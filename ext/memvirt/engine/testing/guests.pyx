"""For tests of guests only: hardware without a host, and a Python face of what the engine calls on a Guest."""

from libc.stdlib cimport calloc, free

from ..guests.balloon_driver cimport report as name_free
from ..guests.elastic cimport Elastic
from ..guests.guest cimport Guest, Translation
from ..guests.hardware cimport GuestWork, Hardware
from ..guests.guest_memory cimport FILE_ORIGINAL
from ..guests.ways cimport way_of
from ..types cimport LEAF_ENTRIES, NONE, OK, gfn_t, uint8_t, uint32_t, uint64_t, vpn_t

from memvirt.errors import InvariantError, StoreError

FILE_TAG = 1 << 32              # what read_file writes: FILE_TAG + vpn
RAISES = -2                     # in place of an outcome
LOST_TAG = 1 << 63              # what a released page holds: no guest may ever see it


cdef class ArrayHardware(Hardware):
    """One 64-bit tag per page and per slot stands for its content. The n-th request can be told to fail."""

    cdef readonly uint32_t nr_pages, nr_slots
    cdef readonly uint64_t nr_requests          # requests that can fail, so far
    cdef uint64_t _fail_at                      # the request that fails next, counted as nr_requests; 0: none
    cdef int _fail_with
    cdef uint64_t *_tag                         # [nr_pages]
    cdef uint64_t *_slot                        # [nr_slots]
    cdef uint8_t *_in_use                       # [nr_slots] 1: written and not forgotten
    cdef uint8_t *_accessed                     # [nr_pages]
    cdef readonly set flushed                   # vpns flushed since it was last cleared
    cdef readonly list released                 # gfns, in order
    cdef readonly list log                      # names of the requests since it was last cleared
    cdef readonly dict paid                     # {work: times}
    cdef readonly set installed                 # first pages of blocks that got frames before they were used
    cdef readonly set taken                     # ... of those that lost theirs, and have none yet
    cdef uint32_t _freed

    def __cinit__(self, uint32_t nr_pages, uint32_t nr_slots=0):
        self.nr_pages, self.nr_slots = nr_pages, nr_slots
        self._tag = <uint64_t *>calloc(nr_pages, sizeof(uint64_t))
        self._slot = <uint64_t *>calloc(nr_slots + 1, sizeof(uint64_t))
        self._in_use = <uint8_t *>calloc(nr_slots + 1, 1)
        self._accessed = <uint8_t *>calloc(nr_pages, 1)
        if self._tag == NULL or self._slot == NULL or self._in_use == NULL or self._accessed == NULL:
            raise MemoryError(f"no memory for {nr_pages} pages and {nr_slots} slots")
        self.flushed, self.released, self.log, self.paid = set(), [], [], {}
        self.installed, self.taken = set(), set()
        for gfn in range(nr_pages):
            self._tag[gfn] = LOST_TAG           # what a page holds before its first use must not matter

    def __dealloc__(self):
        free(self._tag)
        free(self._slot)
        free(self._in_use)
        free(self._accessed)

    def fail(self, uint64_t request, int outcome):
        """The request-th request from now (1: the next) answers `outcome`, or raises StoreError where that is RAISES, and
        does nothing; 0: none does."""
        self._fail_at = self.nr_requests + request if request else 0
        self._fail_with = outcome

    cdef int _request(self, str name) except -1:
        self.nr_requests += 1
        self.log.append(name)
        if self.nr_requests == self._fail_at and self._fail_with == RAISES:
            raise StoreError(f"request {self.nr_requests}")
        return self._fail_with if self.nr_requests == self._fail_at else OK

    cdef int clear(self, gfn_t gfn) except -1 nogil:
        with gil:
            outcome = self._request("clear")
            if outcome == OK:
                self._tag[gfn] = 0
            return outcome

    cdef int read_file(self, gfn_t gfn, vpn_t vpn) except -1 nogil:
        with gil:
            outcome = self._request("read_file")
            if outcome == OK:
                self._tag[gfn] = <uint64_t>FILE_TAG + vpn
            return outcome

    cdef int read_out(self, gfn_t gfn, uint32_t slot) except -1 nogil:
        with gil:
            outcome = self._request("read_out")
            if outcome == OK:
                self._slot[slot], self._in_use[slot] = self._tag[gfn], 1
            return outcome

    cdef int write_in(self, gfn_t gfn, uint32_t slot) except -1 nogil:
        with gil:
            outcome = self._request("write_in")
            if not self._in_use[slot]:
                raise InvariantError(f"slot {slot} is read and holds nothing")
            if outcome == OK:
                self._tag[gfn] = self._slot[slot]
            return outcome

    cdef int forget_slot(self, uint32_t slot) except -1 nogil:
        with gil:
            outcome = self._request("forget_slot")
            if not self._in_use[slot]:
                raise InvariantError(f"slot {slot} is forgotten and holds nothing")
            if outcome == OK:
                self._in_use[slot] = 0
            return outcome

    cdef int release(self, gfn_t gfn) except -1 nogil:
        with gil:
            outcome = self._request("release")
            if outcome == OK:
                self._freed += self._tag[gfn] != <uint64_t>LOST_TAG
                self._tag[gfn] = LOST_TAG
                self.released.append(gfn)
            return outcome

    cdef int release_block(self, gfn_t first) except -1 nogil:
        with gil:
            outcome = self._request("release_block")
            for gfn in range(first, first + LEAF_ENTRIES if outcome == OK else first):
                self._freed += self._tag[gfn] != <uint64_t>LOST_TAG
                self._tag[gfn] = LOST_TAG
            if outcome == OK:
                self.released.append(range(first, first + LEAF_ENTRIES))
                self.taken.add(first)
            return outcome

    cdef int move(self, gfn_t source, gfn_t target) except -1 nogil:
        with gil:
            outcome = self._request("move")
            if outcome == OK:
                self._tag[target], self._tag[source] = self._tag[source], LOST_TAG
            return outcome

    cdef int install(self, gfn_t first) except -1 nogil:
        with gil:
            outcome = self._request("install")
            if outcome == OK:
                self.installed.add(first)
                self.taken.discard(first)
            return outcome

    cdef void pay(self, GuestWork work, uint32_t times) noexcept nogil:
        with gil:
            self.paid[<int>work] = self.paid.get(<int>work, 0) + times

    cdef uint32_t count_freed(self) noexcept nogil:
        cdef uint32_t freed = self._freed
        self._freed = 0
        return freed

    cdef uint32_t end_report(self) noexcept nogil:
        return self.count_freed()

    cdef int flush(self, vpn_t vpn) except -1 nogil:
        with gil:
            outcome = self._request("flush")
            if outcome == OK:
                self.flushed.add(vpn)
            return outcome

    cdef bint test_and_clear_accessed(self, vpn_t vpn, gfn_t gfn) noexcept nogil:
        cdef bint accessed = self._accessed[gfn]
        self._accessed[gfn] = 0
        return accessed

    def load(self, gfn_t gfn):
        self._accessed[gfn] = 1
        return self._tag[gfn]

    def store(self, gfn_t gfn, uint64_t tag):
        self._accessed[gfn] = 1
        self._tag[gfn] = tag

    def accessed(self, gfn_t gfn):
        return bool(self._accessed[gfn])

    def peek(self, gfn_t gfn):
        return self._tag[gfn]

    def copy_at(self, uint32_t copy, vpn_t vpn):
        return <uint64_t>FILE_TAG + vpn if copy == FILE_ORIGINAL else self._slot[copy]

    def slots_in_use(self):
        return [slot for slot in range(self.nr_slots) if self._in_use[slot]]

    def copy(self):
        cdef ArrayHardware twin = ArrayHardware(self.nr_pages, self.nr_slots)
        for page in range(self.nr_pages):
            twin._tag[page], twin._accessed[page] = self._tag[page], self._accessed[page]
        twin.taken.update(self.taken)
        for slot in range(self.nr_slots):
            twin._slot[slot], twin._in_use[slot] = self._slot[slot], self._in_use[slot]
        return twin


cdef vpn_t checked(Guest guest, vpn) except? 0xFFFFFFFF:
    if not 0 <= vpn < guest.memory.nr_vpns:
        raise IndexError(f"vpn {vpn} is outside 0 .. {guest.memory.nr_vpns - 1}")
    return vpn


def resolve(Guest guest not None, vpn, bint write=False):
    """(outcome, gfn, event, writable); gfn is None unless the outcome is OK."""
    cdef Translation out
    cdef int outcome = guest.resolve(checked(guest, vpn), write, &out)
    return (outcome, out.gfn, out.event, bool(out.writable)) if outcome == OK else (outcome, None, None, None)


def discard(Guest guest not None, vpn):
    return guest.discard(checked(guest, vpn))


def lookup(Guest guest not None, vpn):
    """The gfn of vpn, None if it is unmapped; both directions must agree."""
    cdef gfn_t gfn = guest.lookup(checked(guest, vpn))
    if gfn == NONE:
        return None
    if guest.vpn_of(gfn) != vpn:
        raise InvariantError(f"vpn {vpn} has gfn {gfn}, which has vpn {guest.vpn_of(gfn)}")
    return gfn


def balloon_step(Guest guest not None, uint32_t pages):
    """(outcome, pages moved); `pages` of its units are asked for."""
    cdef uint32_t moved = 0
    cdef Elastic way = way_of(guest)
    outcome = way.step(guest, pages, &moved)
    return outcome, moved


def report(Guest guest not None, uint32_t blocks):
    """(outcome, blocks reported)"""
    cdef uint32_t reported = 0
    outcome = name_free(guest, blocks, &reported)
    return outcome, reported


def pages(Guest guest not None):
    """The state of the guest to compare before and after: (states, vpn -> gfn, vpn -> copy, balloon)."""
    return (
        bytes(guest.memory.state[:guest.memory.nr_pages]),
        [guest.memory.gfn[vpn] for vpn in range(guest.memory.nr_vpns)],
        [guest.memory.copy[vpn] for vpn in range(guest.memory.nr_vpns)],
        [guest.memory.balloon[i] for i in range(guest.memory.nr_balloon)],
    )


def corrupt(Guest guest not None, str what, uint32_t at, uint32_t value):
    """Damage one table entry, to see that check() finds it."""
    if what == "gfn":
        guest.memory.gfn[at] = value
    elif what == "vpn":
        guest.memory.vpn[at] = value
    elif what == "copy":
        guest.memory.copy[at] = value
    elif what == "state":
        guest.memory.state[at] = <uint8_t>value
    elif what == "balloon":
        guest.memory.balloon[at] = value
    elif what == "reported":
        guest.memory.reported[at] = <uint8_t>value
    elif what == "nr_balloon":
        guest.memory.nr_balloon = value
    elif what == "nr_clean_anon":
        guest.memory.nr_clean_anon = value
    else:
        raise KeyError(what)


def make(vpns=32, pages=16, **options):
    """A guest and the hardware it runs on, with room for its swap and its file."""
    hardware = ArrayHardware(pages, options.get("swap_slots", 0) + vpns - options.get("cache_border", vpns))
    return Guest(hardware, vpns, pages, **options), hardware


def write(guest, hardware, vpn, tag):
    """Store a tag through the guest; returns the outcome."""
    outcome, gfn, _, writable = resolve(guest, vpn, True)
    if outcome == OK:
        if not writable:
            raise InvariantError(f"vpn {vpn} was resolved for a store and is not writable")
        hardware.store(gfn, tag)
    return outcome


def read(guest, hardware, vpn):
    """Load the tag of a vpn that can be resolved."""
    outcome, gfn, _, _ = resolve(guest, vpn)
    if outcome != OK:
        raise InvariantError(f"vpn {vpn} cannot be read: outcome {outcome}")
    return hardware.load(gfn)


def lock(Guest guest not None, vpn, bint locked=True):
    """Lock or unlock a mapped page."""
    guest.own()
    if locked:
        guest.memory.lock(checked(guest, vpn))
    else:
        guest.memory.unlock(checked(guest, vpn))


def part(Guest guest not None):
    """Give the guest tables of its own, as a change would. Returns whether it had none of its own, or others used them."""
    shared = guest.shares()
    guest.own()
    return bool(shared)
