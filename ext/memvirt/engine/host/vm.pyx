"""One VM, as Python drives it: accesses in batches, bytes by address, its balloon, its pinned pages."""

from libc.string cimport memcpy

from memvirt.errors import ConfigError

from ..content.content cimport Content
from .batch cimport PIECE, Batch, check_lengths
from .core cimport VmState
from ..counters cimport histogram_dict
from .readback cimport read_in_place
from ..types cimport NONE, OK, PAGE_SHIFT, PAGE_SIZE, hfn_t, int64_t, uint8_t, uint32_t, uint64_t, vpn_t
from .core import OUTCOMES

cdef int64_t LAST_NS = (<int64_t>1) << 60       # no VM sleeps longer


cdef class Vm(VmState):
    """One VM of an Engine; made by Engine.create_vm and clone_vm."""

    @property
    def tag_base(self):
        return self.hits.tag_base

    @property
    def sequence(self):
        """Writes done so far."""
        return self.hits.sequence

    @property
    def disk_slots(self):
        """Slots of its guest's own disk."""
        return self.machine.nr_disk_slots if self.guest is not None else 0

    @property
    def cache_pages(self):
        """Page cache pages that its guest holds."""
        return self.guest._cache.nr_resident if self.guest is not None and self.guest._cache is not None else 0

    @property
    def charged(self):
        """Frames this VM pays for."""
        return self.engine.mapping.account[self.id].charged if self.alive else 0

    @property
    def outcome_name(self):
        return OUTCOMES[self.outcome]

    @property
    def reservation(self):
        """Pages promised to it in host memory."""
        return self.engine.mapping.account[self.id].reservation if self.alive else 0

    def stall(self):
        """How long this VM has waited for memory; see Stalls.of_vm."""
        return self.engine.stalls.of_vm(self.id, self.now_ns) if self.alive else self.last_stall

    def account(self):
        """{"charged", "limit", "reservation", "shares", "domain", "active"}, pages; limit None: no limit."""
        self._require()
        record = dict(self.engine.mapping.account[self.id])
        record["limit"] = None if self.engine.mapping.account[self.id].limit == NONE else record["limit"]
        for own in ("open", "leaving", "pinned"):
            del record[own]
        return record

    def set_account(self, *, limit=-1, reservation=None, shares=None, domain=None):
        """Change what admission and reclaim know of this VM; pages. limit None: no limit."""
        self._require()
        self.engine._enter()                    # not in the middle of a call
        self.engine._leave()
        if limit != -1:
            self.engine.mapping.account[self.id].limit = NONE if limit is None else limit
        if reservation is not None:
            self.engine.mapping.reserve(self.id, reservation)
        if shares is not None:
            self.engine.mapping.account[self.id].shares = shares
        if domain is not None:
            self.engine.mapping.account[self.id].domain = domain

    def freeze(self):
        """It runs no more; clones of it do."""
        self._require()
        self.engine._enter()
        self.engine._leave()
        self.frozen = True

    def access(self, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None,
               const uint32_t[::1] sources=None, int64_t until_ns=0x7FFFFFFFFFFFFFFF):
        """Serve the accesses in order; returns how many were done. `outcome_name` says why it stopped."""
        cdef uint64_t n = pages.shape[0], first = 0
        cdef uint32_t nr_sources, done = 0
        cdef Batch batch
        self._require_running()
        batch = self.engine.batch
        nr_sources = self.engine.content.nr_sources
        check_lengths(self.name, pages, ops, sources)
        self.engine._begin(self)
        try:
            self.outcome = OK
            if n > PIECE:                       # refused as a whole, before the first is served
                batch.judge(self.name, self.nr_vpns, nr_sources, pages, ops, sources)
            while first < n and done == first:
                batch.own(self.name, self.nr_vpns, nr_sources, pages, ops, sources, first, min(n - first, <uint64_t>PIECE))
                first += batch.n
                with nogil:
                    done += self.engine.serve(self, batch, 0, batch.n, until_ns)
        finally:
            self.engine._end(self)
        return done

    def write(self, uint64_t address, const uint8_t[::1] data not None):
        """Write bytes; returns how many were written (fewer: `outcome_name` says why). Needs content with bytes."""
        return self._copy(address, data.shape[0], &data[0] if data.shape[0] else NULL, NULL)

    def read(self, uint64_t address, uint64_t length):
        """The bytes at an address (guest-virtual for a VM with a guest). Raises ConfigError if memory runs out."""
        cdef uint8_t[::1] view
        self._check_range(address, length)
        if length == 0:
            return b""
        out = bytearray(length)
        view = out
        done = self._copy(address, length, NULL, &view[0])
        if done != length:
            raise ConfigError(f"VM '{self.name}': reading {length} bytes at {address:#x} stopped after {done}: "
                              f"{self.outcome_name}")
        return bytes(out)

    cdef uint64_t _copy(self, uint64_t address, uint64_t length, const uint8_t *source, uint8_t *target) except? 0:
        cdef uint64_t done = 0, chunk
        cdef hfn_t frame
        self._check_range(address, length)
        self.engine._begin(self)
        try:
            self.outcome = OK
            while done < length and not self.engine.clock.interrupt.asked():
                chunk = min(length - done, <uint64_t>PAGE_SIZE - (address + done) % PAGE_SIZE)
                self.outcome = self.engine.touch(self, <vpn_t>((address + done) >> PAGE_SHIFT), source != NULL, &frame)
                if self.outcome != OK:
                    break
                if source != NULL:
                    memcpy(self.engine.content.page(frame) + (address + done) % PAGE_SIZE, source + done, chunk)
                else:
                    memcpy(target + done, self.engine.content.page(frame) + (address + done) % PAGE_SIZE, chunk)
                done += chunk
        finally:
            self.engine._end(self)
        return done

    def _check_range(self, uint64_t address, uint64_t length):
        """ConfigError unless the VM has these bytes, and runs."""
        self._require_running()
        if not self.engine.content.has_bytes:
            raise ConfigError("fingerprint content has no bytes to read or write: use content='bytes'")
        if address + length > <uint64_t>self.nr_vpns << PAGE_SHIFT or address + length < address:
            raise ConfigError(f"VM '{self.name}': {length} bytes at {address:#x} reach beyond its "
                              f"{<uint64_t>self.nr_vpns << PAGE_SHIFT:#x} bytes")

    def read_pages(self, const uint32_t[::1] pages not None, uint8_t[:, ::1] out not None):
        """Copy whole pages (vpns) into out[n, 4096]: their bytes; for fingerprints the 8-byte id, rest zero. A page that
        no frame is left for is read where it lies."""
        cdef Py_ssize_t i
        cdef hfn_t frame
        cdef Content content
        if out.shape[0] != pages.shape[0] or out.shape[1] != PAGE_SIZE:
            raise ValueError(f"out must be [{pages.shape[0]}, {PAGE_SIZE}]")
        self._require()
        content = self.engine.content
        for i in range(pages.shape[0]):
            if pages[i] >= self.nr_vpns:
                raise ConfigError(f"VM '{self.name}': page {pages[i]} is beyond its {self.nr_vpns} pages")
        self.engine._begin(self)
        try:
            for i in range(pages.shape[0]):
                if self.engine.clock.interrupt.asked():
                    break                       # _end raises
                self.outcome = self.engine.touch(self, pages[i], False, &frame)
                if self.outcome == OK:
                    memcpy(&out[i, 0], content.raw(frame), content.raw_bytes)
                else:
                    read_in_place(self.engine, self, pages[i], &out[i, 0])
                    self.outcome = OK
        finally:
            self.engine._end(self)

    def balloon(self, uint32_t target_pages, uint32_t step=256):
        """Move the balloon to `target_pages`; returns what it holds when it can go no further."""
        self._require()
        if self.guest is None:
            raise ConfigError(f"VM '{self.name}' has no guest: only a guest can give pages to a balloon. "
                              f"Create it with guest=True")
        cdef uint32_t moved = 1
        self.engine._enter()
        self.engine.clock.now = self.now_ns
        try:
            self.guest.set_target(target_pages)
            while moved and self.guest.nr_balloon != target_pages and not self.engine.clock.interrupt.asked():
                moved = self.worker.work(step)
                self.outcome = self.worker.outcome
        finally:
            self.now_ns = self.engine.clock.now
            self.engine._reach(self)
            self.engine._leave()
        self.engine.clock.interrupt.deliver()
        return self.guest.nr_balloon

    def sleep_until(self, int64_t ns):
        """The VM is idle until then; nothing if it has come further already."""
        self._require_running()
        if not 0 <= ns <= LAST_NS:
            raise ConfigError(f"VM '{self.name}': sleep until {ns} ns; 0 to {LAST_NS} is the range")
        if self.runs:
            raise ConfigError(f"VM '{self.name}' is running a stream; due times of its batches say when it sleeps")
        self.now_ns = max(self.now_ns, ns)

    @property
    def busy_ns(self):
        """How long it has had work in all: it worked, or stalled."""
        return self.engine.stalls.busy(self.id, self.now_ns) if self.alive else self.last_busy_ns

    def requests(self):
        """Of the parts of batches that had due times: how long each took from then until it was done, as a histogram, and
        for how long the first has been due that is not done. None if there were none."""
        cdef Batch batch
        cdef int64_t due_ns = -1
        if self.latency == NULL:
            return None
        batch = self.stream.batch
        if self.stream.at < self.stream.part_end:
            due_ns = self.stream.due_ns
        elif self.stream.at < batch.n and batch.nr_parts:
            due_ns = batch.due_ns[self.stream.at / (batch.n / batch.nr_parts)]
        behind_ns = max(<int64_t>0, self.now_ns - due_ns) if due_ns >= 0 else 0
        return {"latency": histogram_dict(self.latency), "behind_ns": behind_ns}

    def set_balloon_target(self, uint32_t pages):
        """The size that the balloon is to have; its worker moves it there. Whether that is another than before."""
        if not self.alive or self.guest is None or self.guest.balloon_target == pages:
            return False
        self.guest.set_target(pages)
        self.worker.look(self.engine.reached_ns)
        return True

    def pin(self, uint32_t first, uint32_t pages):
        """Keep pages in memory: neither reclaimed nor merged nor moved (passthrough, mlock), nor given up by a guest that
        frees them: they are guest-physical pages. Returns pages pinned."""
        return self._pin(first, pages, True)

    def unpin(self, uint32_t first, uint32_t pages):
        """Let pages go again; with all pages of the VM also those that its guest has freed meanwhile."""
        return self._pin(first, pages, False)

    def _pin(self, uint32_t first, uint32_t pages, bint pinned):
        cdef uint32_t vpn, done = 0
        cdef hfn_t frame
        self._require_running()
        if <uint64_t>first + pages > self.nr_vpns:
            raise ConfigError(f"VM '{self.name}': pages {first}..{first + pages - 1} reach beyond {self.nr_vpns}")
        self.engine._begin(self)
        try:
            for vpn in range(first, first + pages):
                self.outcome = self.engine.touch(self, vpn, pinned, &frame)
                if self.outcome != OK or self.engine.clock.interrupt.asked():
                    break
                self.engine.mapping.set_pinned(frame, pinned)
                if self.guest is not None:              # it does not put the page elsewhere either
                    self.guest.own()
                    self.guest.lock(vpn) if pinned else self.guest.unlock(vpn)
                done += 1
            if not pinned and done == self.nr_vpns:
                self.engine.mapping.unpin_all(self.id)
        finally:
            self.engine._end(self)
        return done
