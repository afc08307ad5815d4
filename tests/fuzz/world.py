"""A host and the shadows of its VMs: carries out one operation on both, and says what must be true afterwards."""

import errno

import numpy as np

import memvirt
from fuzz.draws import CORPUS, MIXES, PAGE, PLAIN_MIXES, Draw, contents
from fuzz.shadow import Shadow
from memvirt.engine.testing.host import is_pinned, locate
from memvirt.errors import AdmissionError, ConfigError, StoreError
from memvirt.policies.base import Targets

MOST_VMS, MOST_SAVED = 9, 5


class Meddler:
    """A decider that wants anything, some ten times in a run, more often where VMs overrun it."""

    def __init__(self, seed, until):
        self.draw, self.interval_ns = Draw(seed), max(400_000, until // 10)
        self.wants_ages = seed % 32 == 0  # they are most of what asking costs

    def decide(self, snapshot):
        draw, wanted = self.draw, {}
        for vm in snapshot.vms:
            if vm.balloonable and draw.maybe(0.4):
                wanted[vm.name] = draw.randint(0, vm.configured_pages)
        reclaim = {vm.name: draw.randint(0, min(60, vm.configured_pages)) for vm in snapshot.vms if draw.maybe(0.2)}
        return Targets(balloon_pages=wanted, reclaim_pages=reclaim, scan_pages=draw.choice([None, 5, 100]))


class World:
    """One host. `faults`: stores and allocations are told to fail now and then."""

    def __init__(self, settings, faults=False, content="bytes"):
        self.host = memvirt.Host(corpus=CORPUS, swap_direct=False, content=content, **settings)
        self.faults, self.bytes, self.frames = faults, content == "bytes", settings["memory"] // PAGE
        self.vms, self.saved, self.made = [], [], 0
        self.interrupted = False
        self.before, self.touched = {}, []  # counters; the VMs of the operation that runs

    # ---- doing

    def do(self, name, arguments):
        self.touched = []
        getattr(self, f"do_{name}")(**arguments)

    def some(self, number, running=True):
        vms = [shadow for shadow in self.vms if not (running and shadow.frozen)]
        self.touched = [vms[number % len(vms)]] if vms else []
        return self.touched[0] if vms else None

    def batch(self, shadow, seed, n, mix, spread):
        draws = np.random.Generator(np.random.PCG64(seed))
        kinds = np.array((PLAIN_MIXES[mix % len(PLAIN_MIXES)] if self.faults else MIXES[mix]), np.uint8)
        pages = shadow.vm.address_pages
        numbers = int(draws.integers(0, pages)) + draws.integers(0, min(spread, pages), n)
        if seed % 5 == 0:
            numbers = int(draws.integers(0, pages)) + np.arange(n)
        ops = kinds[draws.integers(0, len(kinds), n)]
        return (numbers % pages).astype(np.uint32), ops, draws.integers(0, len(CORPUS), n).astype(np.uint32)

    def do_create(self, pages, limit, reservation, guest, shares, domain, files=0):
        if len(self.vms) >= MOST_VMS:
            return
        self.made += 1
        settings = {
            "limit": limit and limit * PAGE,
            "reservation": reservation * PAGE,
            "shares": shares,
            "domain": domain,
            "files": files * PAGE,
        }
        before = self.resident()
        try:
            vm = self.host.create_vm(f"vm{self.made}", pages * PAGE, guest=guest, **settings)
        except AdmissionError as error:
            self.refused(error, before)
            return
        self.vms.append(Shadow(vm, guest, {"limit": limit, "reservation": reservation}))

    def do_clone(self, vm):
        shadow = self.some(vm, running=False)
        if shadow is None or len(self.vms) >= MOST_VMS:
            return
        self.made += 1
        before = self.resident()
        try:
            self.vms.append(shadow.copy(shadow.vm.clone(f"vm{self.made}")))
        except (AdmissionError, StoreError) as error:
            self.refused(error, before)

    def do_snapshot(self, vm):
        shadow = self.some(vm, running=False)
        if shadow is None or len(self.saved) >= MOST_SAVED:
            return
        before = self.resident()
        try:
            self.saved.append((shadow.vm.snapshot(), shadow.copy(shadow.vm)))
        except (AdmissionError, StoreError) as error:
            self.refused(error, before)

    def do_revert(self, vm, saved):
        shadow = self.some(vm)
        if shadow is None or not self.saved:
            return
        state, kept = self.saved[saved % len(self.saved)]
        before = self.resident()
        try:
            shadow.vm.revert(state)
        except (AdmissionError, ConfigError, StoreError) as error:
            same = (kept.guest, kept.vm.pages, kept.vm.address_pages) == (
                shadow.guest,
                shadow.vm.pages,
                shadow.vm.address_pages,
            )
            if isinstance(error, ConfigError):
                assert not same or shadow.pinned or "pinned" in str(error), error
            else:
                self.refused(error, before)
            return
        shadow.take(kept)

    def do_drop(self, saved):
        if self.saved:
            self.saved.pop(saved % len(self.saved))[0].drop()

    def do_destroy(self, vm):
        shadow = self.some(vm, running=False)
        if shadow is not None:
            shadow.vm.destroy()
            self.vms.remove(shadow)

    def do_freeze(self, vm):
        shadow = self.some(vm)
        if shadow is not None and sum(each.frozen for each in self.vms) < 2:
            shadow.vm.freeze()
            shadow.frozen = True

    def do_write(self, vm, at, pages, kind, seed, shift):
        shadow = self.some(vm)
        if shadow is None:
            return
        pages = min(pages, shadow.vm.address_pages)
        address = at % (shadow.vm.address_pages - pages + 1) * PAGE
        data = b"".join(contents(kind, seed + i) for i in range(pages))
        if shift:
            address, data = address + shift, data[: len(data) - shift]
        if self.faults:  # an error says nothing of how far it came
            data = data[: PAGE - shift]
        try:
            done = shadow.vm.write(address, data)
        except StoreError as error:
            self.expect(error)
            return
        assert (done == len(data)) == (shadow.vm.outcome == "done")
        shadow.put(address, data[:done])

    def do_access(self, vm, **drawn):
        shadow = self.some(vm)
        if shadow is None:
            return
        batch, before = self.batch(shadow, **drawn), shadow.vm.writes_done
        try:
            outcome = shadow.vm.access(*batch)
        except StoreError as error:
            self.expect(error)
            shadow.apply_writes([batch], shadow.vm.writes_done - before)
            return
        assert (outcome.done == len(batch[0])) == (outcome.reason == "done"), outcome
        shadow.apply(batch, 0, outcome.done)

    def do_discard(self, vm, at, pages):
        shadow = self.some(vm)
        if shadow is None:
            return
        pages = min(pages, shadow.vm.address_pages)
        first = at % (shadow.vm.address_pages - pages + 1)
        try:
            done = shadow.vm.discard(np.arange(first, first + pages), lazy=True).done
        except StoreError as error:  # a guest's, of which nobody knows how far it came
            self.expect(error)
            done = pages
            for page in range(first, first + pages):
                shadow.fade(page)
        shadow.apply([np.arange(first, first + pages), np.full(pages, 4), np.zeros(pages, np.uint8)], 0, done)

    def do_read(self, vm, at, pages):
        shadow = self.some(vm)
        if shadow is None:
            return
        pages = min(pages, shadow.vm.address_pages)
        first = at % (shadow.vm.address_pages - pages + 1)
        try:
            found = shadow.vm.read(first * PAGE, pages * PAGE)
        except (ConfigError, StoreError) as error:
            if isinstance(error, StoreError):
                self.expect(error)
            else:
                assert "stopped after" in str(error), error
            return
        for i in range(pages):
            data = found[i * PAGE : (i + 1) * PAGE]
            assert shadow.matches(first + i, data), f"{shadow.vm} page {first + i}"

    def do_run(self, vms, batches, until, decider, pace=None):
        chosen = [shadow for i, shadow in enumerate(self.vms) if not vms >> i & 1 and not shadow.frozen]
        self.touched = chosen
        streams = {shadow: [self.batch(shadow, **{**drawn, "seed": drawn["seed"] + i}) for drawn in batches]
                   for i, shadow in enumerate(chosen)}  # fmt: skip
        before = {shadow: shadow.vm.writes_done for shadow in chosen}
        end = until and self.host.sim_ns + until
        rule = None if decider is None else Meddler(decider, until)
        try:
            paced = {shadow.vm: self.paced(streams[shadow], pace) for shadow in chosen}
            outcomes = self.host.run(paced, end, rule)
        except StoreError as error:
            self.expect(error)
            outcomes = {}
        alive = {vm.name for vm in self.host.vms}
        for shadow in chosen:
            if shadow.vm not in outcomes:
                shadow.apply_writes(streams[shadow], shadow.vm.writes_done - before[shadow])
                continue
            left = outcomes[shadow.vm].done
            for batch in streams[shadow]:
                shadow.apply(batch, 0, left)
                left -= min(left, len(batch[0]))
        assert self.host.config.on_exhausted == "kill" or len(alive) == len(self.vms)
        self.vms = [shadow for shadow in self.vms if shadow.vm.name in alive]

    def paced(self, batches, pace):
        """The batches, and when they are due: a request each access or each fifth."""
        if pace is None:
            return batches
        paced = []
        for batch in batches:
            n = len(batch[0]) // 5 if len(batch[0]) % 5 == 0 else len(batch[0])
            due = None if pace["gap"] is None else self.host.sim_ns + pace["gap"] * np.arange(n)
            paced.append((*batch, pace["work"]) if due is None else (*batch, pace["work"], due))
        return paced

    def do_pin(self, vm, at, pages):
        shadow = self.some(vm)
        if shadow is None:
            return
        pages = min(pages, shadow.vm.address_pages, 1 + self.frames // 20)
        first = at % (shadow.vm.address_pages - pages + 1)
        try:
            done = shadow.vm.pin(first, pages)
        except StoreError as error:
            self.expect(error)
            return
        for page in range(first, first + done) if shadow.guest is False else ():
            shadow.pinned[page] = self.place(shadow, page)

    def do_unpin(self, vm, all):
        shadow = self.some(vm)
        if shadow is None:
            return
        first, pages = 0, shadow.vm.address_pages // (1 if all else 2)
        try:
            done = shadow.vm.unpin(first, pages)
        except StoreError as error:
            self.expect(error)
            done = 0
            if shadow.guest is False:  # some have been let go
                shadow.pinned = {}
        shadow.pinned = {page: frame for page, frame in shadow.pinned.items() if page >= first + done}

    def place(self, shadow, page):
        return locate(self.host.engine, shadow.vm.engine_vm, page)

    def do_balloon(self, vm, share):
        shadow = self.some(vm)
        if shadow is None or shadow.guest is False:
            return
        try:
            shadow.vm.balloon(shadow.vm.pages * share // 100 * PAGE)
        except StoreError as error:
            self.expect(error)

    def do_reclaim(self, vm, pages):
        shadow = self.some(vm, running=False)
        if shadow is not None:
            self.host.engine.reclaim_from(shadow.vm.engine_vm, pages)

    def do_scan(self, pages):
        if self.host.config.sharing:
            self.host.scan(pages)

    def do_compact(self, blocks):
        self.host.compact(blocks)

    def do_collapse(self):
        self.host.collapse()

    def do_harvest(self):
        self.host.harvest()

    def do_idle(self):
        self.host.settle(0)

    def do_domains(self, vm, domain):
        shadow = self.some(vm, running=False)
        if shadow is not None:
            self.host.set_domains({shadow.vm.name: domain})

    def do_look(self):
        host = self.host
        host.sharing(), host.fragmentation(), host.zpool(), host.stores(), host.stall(), host.swap(), host.snapshot()
        for shadow in self.vms:
            shadow.vm.usage(), shadow.vm.view(), shadow.vm.counters()

    def do_fault(self, where, nth, kind, times):
        self.calm()
        disks = [self.host.engine.mapping.swap] if where != "guest" else []
        if where == "guest":
            disks = self.guest_disks()
        if where == "frame":
            self.host.engine.frames.buddy.fail_after(nth)
            return
        for disk in disks:
            for area in () if disk is None else getattr(disk, "areas", (disk,)):
                for call in ("read", "write") if where == "guest" else (where,):
                    area.inject(call, nth, kind if kind == "short" else int(kind), times)

    def guest_disks(self):
        """The files that disks of guests are in; several may have the same one."""
        disks = [shadow.vm.engine_vm.hardware.disk for shadow in self.vms if shadow.guest is not False]
        return [disk.file.swap for disk in disks if disk is not None]

    def calm(self):
        """Nothing fails any more."""
        engine = self.host.engine
        engine.frames.buddy.fail_after(0)
        for disk in (engine.mapping.swap, *self.guest_disks()):
            for area in () if disk is None else getattr(disk, "areas", (disk,)):
                for call in ("read", "write"):
                    area.inject(call, 1, errno.EIO, 0)

    def expect(self, error, *kinds):
        assert isinstance(error, (StoreError, *kinds) if self.faults else kinds), error

    def resident(self):
        """What a refusal must not change: who is resident."""
        return (
            self.host.usage()["guest"],
            self.host.counters()["evicted"],
            {vm.name: vm.engine_vm.charged for vm in self.host.vms},
        )

    def refused(self, error, before):
        """Nothing has changed by it. (What a pool makes of pages is known only once they are in it.)"""
        self.expect(error, AdmissionError)
        if not self.faults and not self.host.config.zpool_percent:
            assert self.resident() == before, (str(error), before, self.resident())

    # ---- what must be true

    def check(self):
        """Cheap enough for every step."""
        host = self.host
        usage, counters = host.usage(), host.counters()
        assert sum(usage.values()) == self.frames and min(usage.values()) >= 0, usage
        for name, value in counters.items():
            assert value >= self.before.get(name, 0), f"{name} fell from {self.before.get(name)} to {value}"
        self.before = counters
        assert [vm.name for vm in host.vms] == [shadow.vm.name for shadow in self.vms]
        assert [state for state, _ in self.saved] == host.saved_states
        for shadow in self.vms:
            self.check_vm(shadow, counters)

    def check_vm(self, shadow, counters):
        vm, limit = shadow.vm, shadow.settings["limit"]
        assert vm.writes_done == shadow.sequence, (vm, vm.writes_done, shadow.sequence)
        held = vm.engine_vm.charged
        # what an interrupted call could not bring below its limit, the next one does
        kept = limit is None or held <= limit or counters["limit_unmet"] > 0 or self.interrupted
        assert kept, f"{vm} holds {held}, its limit is {limit}"
        for page, place in shadow.pinned.items():
            assert self.place(shadow, page) == place, f"{vm} page {page} was pinned in {place}"
            assert is_pinned(self.host.engine, vm.engine_vm, page), f"{vm} page {page} is pinned no more"

    def verify(self):
        """Recount everything, and compare every page of every VM."""
        self.calm()
        self.host.check()
        for shadow in self.vms:
            pages = sorted({*shadow.pages, 0, shadow.vm.address_pages - 1})
            found = shadow.vm.read_pages(pages)
            for page, data in zip(pages, found, strict=True):
                assert shadow.matches(page, data.tobytes()), f"{shadow.vm} page {page}"
        self.host.check()

    def end(self):
        """Everything ends, and nothing is left."""
        self.calm()
        for state, _ in self.saved:
            state.drop()
        for shadow in self.vms:
            shadow.vm.destroy()
        self.host.check()
        usage, engine = self.host.usage(), self.host.engine
        assert usage["guest"] == usage["swap_cache"] == 0, usage
        assert engine.mapping.swap is None or engine.mapping.swap.nr_used == 0
        assert self.host.zpool() is None or self.host.zpool()["objects"] == 0
        self.host.close()
