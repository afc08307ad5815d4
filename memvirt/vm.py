"""One VM of a host, and what a snapshot of one keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memvirt.engine.stores.swap import Swap
from memvirt.errors import ConfigError
from memvirt.policies.base import ColdAge, VmView
from memvirt.units import PAGE_SIZE, parse_pages

if TYPE_CHECKING:
    from memvirt.host import Host


LAST_OP = 3


class RunOutcome(NamedTuple):
    """How far a VM's stream got, and why it ended: done, until, killed, or what it could not have."""

    done: int
    reason: str


class Vm:
    """One VM of a host; made by Host.create_vm and Vm.clone."""

    def __init__(self, host: Host, engine_vm: Any) -> None:
        self.host = host
        self.engine_vm = engine_vm
        self.name: str = engine_vm.name
        self.pages: int = engine_vm.nr_pages
        self._stalled_before_ns = 0
        self._promoted_before: dict[int, int] = {}

    def mark(self) -> None:
        """A decision is made now: the next view tells what happens from here on."""
        self._stalled_before_ns = self.stall_ns
        self._promoted_before = {age: promoted for age, _, promoted in self._ages()}

    def _ages(self) -> list[tuple[int, int, int]]:
        """(age in harvests, pages at least that old, promotions at least that old), ages rising."""
        return list(self.host.engine.mapping.ages.of_vm(self.engine_vm.id)) if self.engine_vm.alive else []

    def _cold_ages(self) -> tuple[ColdAge, ...]:
        interval = self.host.config.harvest_interval
        before = self._promoted_before
        return tuple(
            ColdAge(age_ns=age * interval, cold_pages=cold, promoted_pages=promoted - before.get(age, 0))
            for age, cold, promoted in self._ages()
        )

    def __repr__(self) -> str:
        return f"<memvirt.Vm '{self.name}', {self.pages} pages>"

    def write(self, address: int, data: bytes) -> int:
        """Write bytes at a guest-physical address (guest-virtual for a VM with a guest). Returns how many were
        written; fewer than asked when memory ran out, `outcome` says why."""
        return int(self.engine_vm.write(whole("address", address, 64), np.frombuffer(data, np.uint8)))

    def read(self, address: int, length: int) -> bytes:
        """The bytes there; ConfigError when memory runs out on the way, StoreError when they are lost."""
        return bytes(self.engine_vm.read(whole("address", address, 64), whole("length", length, 64)))

    def read_pages(self, pages: ArrayLike) -> NDArray[np.uint8]:
        """Whole pages, uint8 [n, 4096]."""
        numbers = page_numbers(pages)
        out = np.zeros((len(numbers), PAGE_SIZE), np.uint8)
        self.engine_vm.read_pages(numbers, out)
        return out

    def access(self, pages: ArrayLike, writes: ArrayLike, sources: ArrayLike | None = None) -> RunOutcome:
        """Touch pages in order: `writes` is a bool (or an op code, see Host.run) per page. Says how many were done and
        why it stopped."""
        numbers = page_numbers(pages)
        origin = None if sources is None else page_numbers(sources)
        done = self.engine_vm.access(numbers, op_codes(writes), origin)
        return RunOutcome(int(done), self.engine_vm.outcome_name)

    @property
    def outcome(self) -> str:
        """How the last access ended: done, or what could not be had."""
        return str(self.engine_vm.outcome_name)

    @property
    def sim_ns(self) -> int:
        return int(self.engine_vm.now_ns)

    @property
    def stall_ns(self) -> int:
        """Simulated time this VM has waited for memory."""
        return self.stall()["stall_some_ns"]

    def stall(self) -> dict[str, int]:
        """As Host.stall, of this VM alone: some and full are the same."""
        return dict(self.engine_vm.stall())

    @property
    def tag_base(self) -> int:
        return int(self.engine_vm.tag_base)

    @property
    def writes_done(self) -> int:
        """How many access writes the VM has done; the next one's tag follows from it."""
        return int(self.engine_vm.sequence)

    def clone(self, name: str) -> Vm:
        """A copy-on-write clone: shares all memory until one of the two writes. It is promised as much as this VM:
        AdmissionError when the host refuses that."""
        return self.host.clone_vm(self, name)

    def disk_for_copy(self) -> Swap | None:
        """An empty disk of the size of this VM's, or None without one."""
        slots = self.engine_vm.disk_slots
        return Swap(slots, slot_bytes=self.host.engine.content.raw_bytes) if slots else None

    def freeze(self) -> None:
        """Make this VM a template: it runs no more, and its clones start from what it holds now."""
        self.engine_vm.frozen = True

    def snapshot(self) -> SavedState:
        """Keep what the VM's memory holds now, copy-on-write; `revert` brings it back."""
        engine_vm = self.host.engine.clone_vm(self.engine_vm, self.name, self.disk_for_copy(), False)
        return SavedState(self.host, engine_vm)

    def revert(self, saved: SavedState) -> None:
        """Make the VM's memory what it was when the snapshot was taken. The snapshot stays good."""
        if saved.host is not self.host:
            raise ConfigError(f"VM '{self.name}': the snapshot of '{saved.name}' belongs to another host")
        self.host.engine.revert_vm(self.engine_vm, saved.engine_vm)

    def balloon(self, target: str | int) -> int:
        """Move the balloon towards `target` (text, or bytes) and return what it holds now, in bytes."""
        return int(self.engine_vm.balloon(parse_pages(target, allow_zero=True))) * PAGE_SIZE

    def pin(self, first: int, pages: int) -> int:
        """Keep pages in memory, as passthrough and mlock do. Returns how many could be."""
        return int(self.engine_vm.pin(whole("first page", first, 32), whole("pages", pages, 32)))

    def unpin(self, first: int, pages: int) -> int:
        """Let pages go again. Returns how many could be reached."""
        return int(self.engine_vm.unpin(whole("first page", first, 32), whole("pages", pages, 32)))

    def counters(self) -> dict[str, int]:
        """Frames charged, balloon, and what the guest counts for itself."""
        guest = self.engine_vm.guest
        own = {"charged_pages": self.engine_vm.charged, "stall_ns": self.stall_ns, "sim_ns": self.sim_ns}
        return own if guest is None else {**own, "balloon_pages": guest.nr_balloon, **guest.counters()}

    def usage(self) -> dict[str, int]:
        """Pages charged, present, out of memory, and the proportional share (in thousandths of a page)."""
        return dict(self.host.engine.vm_usage(self.engine_vm))

    def view(self) -> VmView:
        """This VM as a decider sees it."""
        account = self.engine_vm.account()
        guest = self.engine_vm.guest
        return VmView(
            name=self.name,
            configured_pages=self.pages,
            held_pages=account["charged"],
            balloon_pages=0 if guest is None else guest.nr_balloon,
            active_pages=account["active"],
            shares=account["shares"],
            reservation_pages=account["reservation"],
            limit_pages=account["limit"],
            guest_free_pages=0 if guest is None else guest.buddy.nr_free,
            guest_cache_pages=self.engine_vm.cache_pages,
            stall_some_ns=self.stall_ns - self._stalled_before_ns,
            stall_full_ns=self.stall_ns - self._stalled_before_ns,
            balloonable=guest is not None,
            cold_ages=self._cold_ages(),
        )

    def destroy(self) -> None:
        """The VM ends; what only it held is free again."""
        self.host.engine.destroy_vm(self.engine_vm)
        self.host.forget(self)


class SavedState:
    """What a VM's memory held when Vm.snapshot was called. Costs leaf tables until its pages are written."""

    def __init__(self, host: Host, engine_vm: Any) -> None:
        self.host = host
        self.engine_vm = engine_vm
        self.name: str = engine_vm.name

    def drop(self) -> None:
        """Give it up; what only it held is free again."""
        self.host.engine.destroy_vm(self.engine_vm)


def whole(what: str, value: int, bits: int) -> int:
    """A number of at most that many bits; ConfigError for any other."""
    if not isinstance(value, int | np.integer) or not 0 <= value < 1 << bits:
        raise ConfigError(f"{what}: {value!r}; 0 to {(1 << bits) - 1} is the range")
    return int(value)


def page_numbers(pages: ArrayLike) -> NDArray[np.uint32]:
    """Page numbers as the engine takes them (it copies them); ConfigError for what is none."""
    array = np.asarray(pages)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ConfigError(
            f"page numbers: an array of {array.dtype} with {array.ndim} dimensions; one of integers is needed"
        )
    if array.size and array.dtype != np.uint32 and (int(array.min()) < 0 or int(array.max()) >= 1 << 32):
        raise ConfigError(f"page numbers: {int(array.min())} to {int(array.max())}; 0 to {2**32 - 1} is the range")
    return np.ascontiguousarray(array, dtype=np.uint32)


def op_codes(ops: ArrayLike) -> NDArray[np.uint8]:
    """Op codes, or a bool per access, as the engine takes them (it copies them); ConfigError for what is none. Floats
    are taken where they are whole: numpy makes them of ones() and zeros()."""
    array = np.asarray(ops)
    if array.ndim != 1:
        raise ConfigError(f"ops: an array with {array.ndim} dimensions; one op or bool per access is needed")
    if array.dtype in (np.uint8, np.bool_):
        return np.ascontiguousarray(array).view(np.uint8)
    if array.size and array.dtype.kind not in "iuf":
        raise ConfigError(f"ops: an array of {array.dtype}; one op or bool per access is needed")
    wrong = ~((array >= 0) & (array <= LAST_OP) & (array == np.floor(array))) if array.size else array
    if wrong.any():
        at = int(wrong.argmax())
        raise ConfigError(f"ops[{at}] is {array[at]}; 0 read, 1 write, 2 fill, 3 discard")
    return array.astype(np.uint8)
