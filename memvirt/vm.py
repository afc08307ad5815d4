"""One VM of a host, and what a snapshot of one keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memvirt.border import DISCARD, DISCARD_LAZILY, op_codes, page_numbers, whole
from memvirt.engine.host import accesses, cloning, contiguity, ending, views
from memvirt.engine.host.vm import Vm as EngineVm
from memvirt.errors import AdmissionError, ConfigError
from memvirt.policies.ages import by_interval, no_ages
from memvirt.policies.base import VmView
from memvirt.policies.columns import FIELDS, Columns
from memvirt.units import PAGE_SIZE, format_pages, parse_pages

if TYPE_CHECKING:
    from memvirt.host import Host


class RunOutcome(NamedTuple):
    """How far a VM's stream got, and why it ended: done, until, killed, or what it could not have."""

    done: int
    reason: str


class Vm:
    """One VM of a host; made by Host.create_vm and Vm.clone."""

    def __init__(self, host: Host, engine_vm: EngineVm) -> None:
        self.host = host
        self._engine_vm = engine_vm
        self.name: str = engine_vm.name
        self.pages: int = engine_vm.nr_pages
        self.address_pages: int = engine_vm.nr_vpns  # that its accesses may name: its memory, and files behind it

    @property
    def engine_vm(self) -> EngineVm:
        """The engine's VM. ConfigError once the host is closed, or in a process that was forked from its own."""
        _ = self.host.engine
        return self._engine_vm

    def _ages(self) -> list[tuple[int, int, int]]:
        """(age in harvests, pages at least that old, promotions at least that old), ages rising."""
        return self.host.engine.mapping.ages.of_vm(self.engine_vm.id) if self.engine_vm.alive else []

    def __repr__(self) -> str:
        return f"<memvirt.Vm '{self.name}', {self.pages} pages>"

    def write(self, address: int, data: bytes) -> int:
        """Write bytes at a guest-physical address (guest-virtual for a VM with a guest). Returns how many were
        written; fewer than asked when memory ran out, `outcome` says why."""
        return accesses.write(
            self.host.engine, self._engine_vm, whole("address", address, 64), np.frombuffer(data, np.uint8)
        )

    def read(self, address: int, length: int) -> bytes:
        """The bytes there; ConfigError when memory runs out on the way, StoreError when they are lost."""
        return accesses.read(
            self.host.engine, self._engine_vm, whole("address", address, 64), whole("length", length, 64)
        )

    def read_pages(self, pages: ArrayLike, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Whole pages, uint8 [n, 4096]; `out`: where they are copied to. Where content is fingerprints, a page is its 8-byte
        id, and what follows stays as it is: zeros, unless `out` holds others."""
        numbers = page_numbers(pages)
        if out is None:
            out = np.zeros((len(numbers), PAGE_SIZE), np.uint8)
        accesses.read_pages(self.host.engine, self._engine_vm, numbers, out)
        return out

    def read_ids(self, pages: ArrayLike) -> NDArray[np.uint64]:
        """Where content is fingerprints: the id of each page, uint64 [n], read where it lies, in memory or out of it. No
        access is made, and nothing changes. StoreError when one is lost; ConfigError where content is bytes."""
        numbers = page_numbers(pages)
        ids = np.zeros(len(numbers), np.uint64)
        accesses.read_ids(self.host.engine, self._engine_vm, numbers, ids)
        return ids

    def access(self, pages: ArrayLike, writes: ArrayLike, sources: ArrayLike | None = None) -> RunOutcome:
        """Touch pages in order: `writes` is a bool (or an op code, see Host.run) per page. Says how many were done and
        why it stopped."""
        numbers = page_numbers(pages)
        origin = None if sources is None else page_numbers(sources)
        done = accesses.access(self.host.engine, self._engine_vm, numbers, op_codes(writes), origin)
        return RunOutcome(done, self.engine_vm.outcome_name)

    def discard(self, pages: ArrayLike, *, lazy: bool = False) -> RunOutcome:
        """The VM needs these pages no more. With a guest they are free in it, and the host learns of that by its balloon or
        its reports alone. A VM without one can only tell the host, which is to be asked for: `lazy`, as by
        madvise(MADV_FREE). The host keeps such pages, mapped and with their bytes, until it is short of frames, and takes
        them first then: without I/O, whether there is swap or not; what is touched there afterwards is zeros. A write
        before that keeps a page; a clone or a snapshot keeps them all. Pages that others have a part in (merged, cloned)
        and pinned ones stay as they are; what is out of memory is forgotten at once.

        ConfigError for a VM without a guest unless `lazy`. In a stream of operations, which is the same for VMs with a
        guest and without, a discard of such a VM is counted and changes nothing."""
        numbers = page_numbers(pages)
        if self._engine_vm.guest is None and not lazy:
            raise ConfigError(
                f"VM '{self.name}' has no guest in which these pages could be free, and so the host would not learn of it; "
                "make the VM with guest=True, or say lazy=True"
            )
        return self.access(numbers, np.full(len(numbers), DISCARD_LAZILY if lazy else DISCARD, np.uint8))

    @property
    def outcome(self) -> str:
        """How the last access ended: done, or what could not be had. Like sim_ns, stall_ns and writes_done it can be asked
        of a VM that has ended."""
        return self.engine_vm.outcome_name

    @property
    def sim_ns(self) -> int:
        return self.engine_vm.now_ns

    @property
    def held_pages(self) -> int:
        """Frames of the host that are charged to it."""
        return self.engine_vm.charged

    @property
    def stall_ns(self) -> int:
        """Simulated time this VM has waited for memory, whether that counts as pressure or not."""
        return self.engine_vm.waited_ns

    def stall(self) -> dict[str, int]:
        """As Host.stall, of this VM alone: some and full are the same, and stall_ns where all waits are pressure."""
        return dict(self.engine_vm.stall())

    @property
    def work_ns(self) -> int:
        """Simulated time in which this VM had work and did not wait for memory. What it is slowed down by is
        (work_ns + stall_ns + driver_ns) / work_ns. Sleep is neither: see Host.run and sleep_until."""
        return self.engine_vm.busy_ns - self.stall_ns - self.driver_ns

    @property
    def driver_ns(self) -> int:
        """Simulated time by which this VM went on later because the driver in its guest had its processor; 0 unless the
        guest option driver is "vcpu"."""
        return self.engine_vm.driver_ns

    def sleep_until(self, sim_ns: int) -> None:
        """The VM is idle until that simulated time; nothing if its clock has come further already. ConfigError while it
        runs a stream, whose due times say when it sleeps."""
        self.engine_vm.sleep_until(whole("sim_ns", sim_ns, 60))

    def requests(self) -> dict[str, Any] | None:
        """Of the parts of batches that had due times: "latency", a histogram of the simulated ns from then until each was
        done, waiting for those before it included; "behind_ns", for how long the first has been due that is not done.
        None if there were none."""
        return self.engine_vm.requests()

    @property
    def tag_base(self) -> int:
        return self.engine_vm.tag_base

    @property
    def writes_done(self) -> int:
        """How many access writes the VM has done; the next one's tag follows from it."""
        return self.engine_vm.sequence

    def clone(self, name: str) -> Vm:
        """A copy-on-write clone: shares all memory until one of the two writes. It is promised as much as this VM:
        AdmissionError when the host refuses that."""
        return self.host.clone_vm(self, name)

    def freeze(self) -> None:
        """Make this VM a template: it runs no more, and its clones start from what it holds now."""
        self.engine_vm.freeze()

    def snapshot(self) -> SavedState:
        """Keep what the VM's memory holds now, copy-on-write; `revert` brings it back. It is kept until it is dropped:
        `Host.saved_states` names it. AdmissionError when the host refuses it."""
        return self.host.save_vm(self)

    def revert(self, saved: SavedState) -> None:
        """Make the VM's memory what it was when the snapshot was taken; clocks and counters go on. The snapshot stays
        good. It may be of any VM of the host with as many pages and a guest of the same make, or none. What cannot be
        leaves the VM as it was. Ctrl-C is answered when it is done, some 0.1 s per 10 GiB later."""
        if not isinstance(saved, SavedState):
            raise ConfigError(f"VM '{self.name}': {saved!r} is no snapshot")
        if saved.host is not self.host:
            raise ConfigError(f"VM '{self.name}': the snapshot of '{saved.name}' belongs to another host")
        self.engine_vm.require()
        cloning.revert_vm(self.host.engine, self._engine_vm, saved.engine_vm)

    def balloon(self, target: str | int) -> int:
        """Move the balloon towards `target` (text, or bytes) and return what it holds now, in bytes."""
        return accesses.balloon(self.host.engine, self._engine_vm, parse_pages(target, allow_zero=True)) * PAGE_SIZE

    def set_balloon(self, target: str | int) -> None:
        """From now on the balloon is to hold `target` (text, or bytes): it moves there beside the VM, while simulated time
        passes, in the guest's way (guest option elastic). ConfigError without a guest."""
        engine_vm = self.engine_vm
        engine_vm.require()
        if engine_vm.guest is None:
            raise ConfigError(f"VM '{self.name}' has no guest: only a guest has a balloon. Create it with guest=True")
        pages = parse_pages(target, allow_zero=True)
        if pages > self.pages:
            raise ConfigError(f"VM '{self.name}': a balloon of {format_pages(pages)} is more than it is configured for")
        accesses.set_balloon_target(self.host.engine, engine_vm, pages)

    def set_limit(self, limit: str | int | None) -> int:
        """From now on the VM gets at most `limit` of host memory (text, or bytes; None: as much as there is). What it holds
        beyond that goes at once, on the background reclaimer's time, as far as there is where it can go to. Which of
        its pages go an order of its own says, of the kind of the host's (`replacement`), as in Linux each memory cgroup
        has its lists; it plans with the first limit that it is made for.
        Returns the bytes that went. ConfigError for a limit below the VM's reservation, AdmissionError for one under which a
        host with commit="strict" could not keep what it promised: the limit stays what it was then."""
        pages = None if limit is None else parse_pages(limit)
        engine, vm = self.host.engine, self.engine_vm
        reserved = vm.reservation
        if pages is not None and pages < reserved:
            raise ConfigError(
                f"VM '{self.name}': a limit of {format_pages(pages)} is below its reservation, {format_pages(reserved)}"
            )
        before = vm.account()["limit"]
        vm.set_account(limit=pages)
        try:
            self.host.admission.require_limit(engine, vm)
        except AdmissionError:
            vm.set_account(limit=before)
            raise
        beyond = 0 if pages is None else max(0, vm.charged - pages)
        return engine.reclaim_from(vm, beyond, for_limit=True) * PAGE_SIZE if beyond else 0

    def pin(self, first: int, pages: int) -> int:
        """Keep pages in memory, as passthrough and mlock do: what the host does with clones, sharing and reclaim, and a
        guest with its own swap and balloon, leaves them where they are. Returns how many could be: no more than leave what
        is reserved for others, nor under commit="strict" than leave frames for all others' pages to take turns in."""
        first, pages = whole("first page", first, 32), whole("pages", pages, 32)
        engine, vm = self.host.engine, self._engine_vm
        return accesses.pin(engine, vm, first, pages, self.host.admission.pinnable(engine, vm, pages))

    def unpin(self, first: int, pages: int) -> int:
        """Let pages go again; with all pages of the VM, also those that its guest has freed since. Returns how many could
        be reached."""
        return accesses.unpin(
            self.host.engine, self._engine_vm, whole("first page", first, 32), whole("pages", pages, 32)
        )

    def counters(self) -> dict[str, int]:
        """Frames charged, balloon, and what the guest counts for itself."""
        guest = self.engine_vm.guest
        own = {"charged_pages": self.engine_vm.charged, "stall_ns": self.stall_ns, "sim_ns": self.sim_ns}
        return own if guest is None else {**own, "balloon_pages": guest.memory.nr_balloon, **guest.counters()}

    def usage(self) -> dict[str, int]:
        """Pages charged, present, out of memory, and the proportional share (in thousandths of a page)."""
        return contiguity.usage_of_vm(self.host.engine, self._engine_vm)

    def view(self, ages: bool = True) -> VmView:
        """This VM as a decider sees it; without `ages` its cold_ages are empty."""
        return seen([self.engine_vm], self.host.config.harvest_interval, ages).made()[0]

    def destroy(self) -> None:
        """The VM ends; what only it held is free again. No part of that is left out: Ctrl-C is answered when it is done,
        some 0.1 s per 10 GiB later."""
        ending.destroy_vm(self.host.engine, self._engine_vm)
        self.host.forget(self._engine_vm)


def seen(vms: list[EngineVm], harvest_interval_ns: int, ages: bool) -> Columns:
    """These VMs of one host as a decider sees them. Where `ages` are not wanted they have none."""
    numbers = np.empty((len(FIELDS), len(vms)), np.int64)
    views.see(vms, numbers)
    table = by_interval(harvest_interval_ns, *views.see_ages(vms)) if ages else no_ages(len(vms))
    return Columns([vm.name for vm in vms], table, *numbers)


class SavedState:
    """What a VM's memory held when Vm.snapshot was called. Costs leaf tables until its pages are written."""

    def __init__(self, host: Host, engine_vm: EngineVm) -> None:
        self.host = host
        self.engine_vm = engine_vm
        self.name: str = engine_vm.name

    def __repr__(self) -> str:
        return f"<memvirt.SavedState of '{self.name}'>"

    def drop(self) -> None:
        """Give it up; what only it held is free again. As of Vm.destroy, no part of that is left out."""
        ending.destroy_vm(self.host.engine, self.engine_vm)
        self.host.forget(self.engine_vm)
