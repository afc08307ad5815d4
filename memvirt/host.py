"""The face of the library: a host, its VMs, and what can be asked of them.

Sizes are text ("64MiB") or bytes, page numbers are NumPy arrays, and one call does thousands of accesses. Everything
here translates and validates; the work is done by memvirt.engine.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memvirt import costs
from memvirt.config import GuestOptions, HostConfig, VmConfig
from memvirt.diagnose import validate
from memvirt.engine import audit
from memvirt.engine import codec as codecs
from memvirt.engine import content as contents
from memvirt.engine import contiguity
from memvirt.engine import host as engine_host
from memvirt.engine import run as engine_run
from memvirt.engine.device import Device
from memvirt.engine.swap import Swap
from memvirt.errors import AdmissionError, ConfigError
from memvirt.policies.base import ColdAge, Decider, Snapshot, Targets, VmView
from memvirt.units import PAGE_SIZE, parse_pages

PROVISIONING = {"thin": 0, "thick": 1, "thin-huge": 2}
COMPACT_NEVER = 1001  # a threshold in thousandths that no index reaches
COMPRESS_LIMIT = 2990  # bytes: a page that needs more is not kept compressed (73 %, Google's far memory, ASPLOS 2019)


class RunOutcome(NamedTuple):
    """How far a VM's stream got, and why it ended: done, until, killed, or what it could not have."""

    done: int
    reason: str


def linux_watermarks(frames: int) -> tuple[int, int, int]:
    """min, low, high in free frames, as Linux sets them (mm/page_alloc.c: min_free_kbytes and watermark_scale_factor
    10), without the raise for transparent huge pages; never more than an eighth of a small host."""
    min_kib = max(128, min(isqrt(frames * 4 * 16), 262_144))
    low_gap = max(min_kib // 4 // 4, frames * 10 // 10_000)
    min_pages = min(min_kib // 4, frames // 16)
    gap = min(low_gap, max(1, frames // 32))
    return min_pages, min_pages + gap, min_pages + 2 * gap


class Host:
    """A host with less memory than it promised. Keyword arguments: memvirt.config.HostConfig, and `corpus`, whose
    pages VMs fill theirs from (a memvirt.inputs.Corpus, or uint8 [n, 4096] whose first row is the zero page)."""

    def __init__(
        self, *, corpus: Any = None, swap_path: str | None = None, swap_direct: bool = True, **settings: Any
    ) -> None:
        self.config = validate(HostConfig, settings)
        config = self.config
        pages = np.ascontiguousarray(getattr(corpus, "pages", corpus)) if corpus is not None else None
        if pages is not None and (pages.ndim != 2 or pages.shape[1] != PAGE_SIZE or pages[0].any()):
            raise ConfigError(f"corpus: an array of shape {pages.shape}; [n, {PAGE_SIZE}] with a zero page first is needed")
        codec = codecs.open_codec(config.codec, config.codec_level_used)
        kind = contents.Bytes if config.content == "bytes" else _fingerprints()
        content = kind(config.memory, None if pages is None else pages[1:], codec)
        slot_bytes = PAGE_SIZE if config.content == "bytes" else 8
        swap = Swap(config.swap, path=swap_path, slot_bytes=slot_bytes, direct=swap_direct) if config.swap else None
        marks = config.watermarks
        low, mid, high = (marks.min, marks.low, marks.high) if marks else linux_watermarks(config.memory)
        zpool = {"limit_frames": config.memory * config.zpool_percent // 100} if config.zpool_percent else None
        self.engine = engine_host.Engine(
            content,
            _device(config.swap_device),
            swap,
            order=config.replacement,
            order_options={},
            min_pages=low,
            low_pages=mid,
            high_pages=high,
            zpool=zpool,
            sharing=config.sharing,
            sharing_options=config.scanner_options(),
            provisioning=PROVISIONING[config.provisioning],
            compress_limit=COMPRESS_LIMIT,
            readahead=config.readahead,
            zpool_shrinker=config.zpool_shrinker,
            harvest_interval_ns=config.harvest_interval,
            compact_threshold=COMPACT_NEVER if config.compact_threshold is None else config.compact_threshold,
            collapse_interval_ns=config.collapse_interval or 0,
            costs=costs.load(config.costs).model_dump(),
            seed=config.seed,
        )
        self._vms: dict[str, Vm] = {}
        self._decider = config.decider()
        self._memo: Mapping[str, tuple[int, ...]] = {}
        self._last_decision_ns = 0

    # ---- VMs

    def create_vm(
        self,
        name: str,
        memory: str | int,
        *,
        shares: int = 1000,
        reservation: str | int = 0,
        limit: str | int | None = None,
        guest: bool | Mapping[str, Any] = False,
        domain: int = 0,
    ) -> "Vm":
        """A VM that maps nothing yet (or, provisioned thick, everything). AdmissionError when the host refuses it."""
        config = validate(
            VmConfig,
            {"name": name, "memory": memory, "shares": shares, "reservation": reservation, "limit": limit, "guest": guest},
        )
        self._admit(config)
        options = config.guest if isinstance(config.guest, GuestOptions) else GuestOptions(cache_percent=0)
        vm = self.engine.create_vm(
            config.name,
            config.memory,
            limit=config.limit,
            reservation=config.reservation,
            shares=config.shares,
            domain=domain,
            guest=_guest_arguments(options, config.memory) if config.guest else None,
            disk=self._guest_disk(options, config.memory) if config.guest else None,
        )
        return self._adopt(vm)

    def _guest_disk(self, options: GuestOptions, pages: int) -> Swap | None:
        """The guest's own disk: its swap, then a block for each page of its page cache."""
        blocks = options.swap + pages * options.cache_percent // 100
        return Swap(blocks, slot_bytes=self.engine.content.raw_bytes) if blocks else None

    def _adopt(self, engine_vm: Any) -> "Vm":
        vm = Vm(self, engine_vm)
        self._vms[vm.name] = vm
        return vm

    def _admit(self, config: VmConfig) -> None:
        """The commit rule, after Linux's overcommit_memory: always; heuristic: no single VM beyond memory and swap;
        strict: all VMs together within memory and swap. Reservations must fit into memory in any case."""
        memory, swap = self.config.memory, self.config.swap
        reserved = sum(vm.engine_vm.account()["reservation"] for vm in self.vms) + config.reservation
        if reserved > memory - self.engine.nr_fixed - self.engine.frames.high_pages:
            raise AdmissionError(
                f"VM '{config.name}': reservations would sum to {reserved} pages; the host has {memory} frames, "
                f"{self.engine.nr_fixed} of them metadata"
            )
        promised = sum(vm.pages for vm in self.vms) + config.memory
        if self.config.commit == "strict" and promised > memory + swap:
            raise AdmissionError(
                f"VM '{config.name}': {promised} pages would be promised; memory and swap have {memory + swap} "
                f"(commit='strict')"
            )
        if self.config.commit == "heuristic" and config.memory > memory + swap:
            raise AdmissionError(
                f"VM '{config.name}': {config.memory} pages are more than memory and swap together, {memory + swap} "
                f"(commit='heuristic')"
            )

    @property
    def vms(self) -> list["Vm"]:
        """The VMs there are, oldest first."""
        return list(self._vms.values())

    # ---- running

    def run(
        self,
        streams: Mapping["Vm", Iterable[Any]],
        until_ns: int | None = None,
        decider: Decider | Callable[[Snapshot], Targets] | None = None,
    ) -> dict["Vm", RunOutcome]:
        """Run the VMs side by side in simulated time until their streams end or `until_ns`.

        A stream yields batches (pages uint32, ops uint8, sources uint32 or None); ops: 0 read, 1 write, 2 fill from a
        corpus page, 3 discard. The decider (by default the one the host was created with) is asked between quanta.
        """
        decider = decider or self._decider
        decide = None
        interval = 0
        if decider is not None:
            interval = int(getattr(decider, "interval_ns", 1_000_000))
            rule = getattr(decider, "decide", decider)

            def decide(now_ns: int) -> None:
                snapshot = self.snapshot(now_ns)
                self._last_decision_ns = now_ns
                for vm in self.vms:
                    vm.mark()
                self._apply(rule(snapshot))

        outcome = engine_run.run(
            self.engine,
            {vm.engine_vm: _checked(stream) for vm, stream in streams.items()},
            on_exhausted=self.config.on_exhausted,
            until_ns=until_ns,
            decide=decide,
            interval_ns=interval,
        )
        by_engine = {vm.engine_vm: vm for vm in streams}
        self._vms = {name: vm for name, vm in self._vms.items() if vm.engine_vm.alive}
        return {by_engine[vm]: RunOutcome(done, reason) for vm, (done, reason) in outcome.items()}

    def snapshot(self, now_ns: int | None = None) -> Snapshot:
        """What a decider is given: the host between two quanta, and what VMs did since the last decision."""
        now = self.sim_ns if now_ns is None else now_ns
        frames = self.engine.frames
        return Snapshot(
            now_ns=now,
            interval_ns=max(0, now - self._last_decision_ns),
            total_pages=frames.nr_frames,
            free_pages=frames.buddy.nr_free,
            low_pages=frames.low_pages,
            high_pages=frames.high_pages,
            vms=tuple(vm.view() for vm in self.vms),
            memo=self._memo,
        )

    def _apply(self, targets: Targets) -> None:
        self._memo = targets.memo
        for name, pages in targets.balloon_pages.items():
            if name in self._vms and self._vms[name].engine_vm.guest is not None:
                self._vms[name].engine_vm.guest.set_target(pages)
        for name, pages in targets.reclaim_pages.items():
            if name in self._vms:
                self.engine.reclaim_from(self._vms[name].engine_vm, pages)
        scanner = self.engine.scanner
        if scanner is not None and targets.scan_pages is not None:
            scanner.pages_to_scan = targets.scan_pages
        if scanner is not None and targets.scan_sleep_ns is not None:
            scanner.sleep_ns = targets.scan_sleep_ns

    def scan(self, pages: int | None = None) -> int:
        """Let the scanner look at so many pages, or at everything once. Returns how many pages it merged."""
        return int(self.engine.scan(pages))

    def compact(self, blocks: int | None = None) -> int:
        """Make so many free 2 MiB blocks (None: as many as can be) by moving pages together; returns how many."""
        if blocks is not None and not (isinstance(blocks, int) and 0 <= blocks < 1 << 32):
            raise ConfigError(f"blocks={blocks!r}: a whole number from 0 to {2**32 - 1}, or None, is needed")
        return int(self.engine.compact(blocks))

    def collapse(self) -> int:
        """Map everything huge that can be: in place, or by copying into free 2 MiB blocks. Returns how many leaf
        tables became huge."""
        return int(self.engine.collapse())

    def harvest(self) -> None:
        """Collect the accessed marks now, instead of waiting for the interval."""
        self.engine.harvest()

    # ---- what there is to see

    @property
    def sim_ns(self) -> int:
        """Simulated time, ns: the clock of the VM that is ahead."""
        return int(self.engine.sim_ns())

    def counters(self) -> dict[str, int]:
        """Exact event counts; memvirt.metrics describes each."""
        return dict(self.engine.meter.events())

    def cpu_ns(self) -> dict[str, int]:
        """Simulated processor time by mechanism, ns."""
        return dict(self.engine.meter.cpu())

    def histograms(self) -> dict[str, Any]:
        """Per fault kind the complete histogram of simulated latency: count, sum_ns, max_ns, buckets."""
        return dict(self.engine.meter.histograms())

    def wall_samples(self) -> dict[str, Any]:
        """The same in this machine's time, of one fault in `every`."""
        return dict(self.engine.meter.wall_samples())

    def usage(self) -> dict[str, int]:
        """Frames by use; sums to the host's memory."""
        return dict(self.engine.frames.usage())

    def stall(self) -> dict[str, int]:
        """Time in which VMs waited for memory, as Linux's PSI: some (at least one) and full (all that had work), as
        totals in simulated ns and averages over 10, 60 and 300 simulated seconds in 1/100 %."""
        return dict(self.engine.stalls.of_host())

    def sharing(self) -> dict[str, int]:
        """What page sharing holds now: frames shared, further entries sharing them, and the scanner's own counts."""
        return dict(self.engine.sharing_state())

    def fragmentation(self) -> dict[str, Any]:
        """Fragmentation of free memory per order, waste inside the zpool (bytes), and how each VM's memory lies: see
        memvirt.engine.contiguity."""
        pool = self.zpool()
        waste = {} if pool is None else {kind: pool[f"{kind}_waste_bytes"] for kind in ("rounding", "sparse", "tail")}
        vms = {vm.name: contiguity.of_vm(self.engine, vm.engine_vm) for vm in self.vms}
        return dict(self.engine.fragmentation()) | {"zpool_waste": waste, "vms": vms}

    def zpool(self) -> dict[str, int] | None:
        """What the compressed cache holds, or None without one."""
        pool = self.engine.mapping.zpool
        return None if pool is None else dict(pool.stats())

    def check(self) -> None:
        """Recount everything; memvirt.InvariantError on the first difference."""
        audit.check(self.engine)


class Vm:
    """One VM of a host; made by Host.create_vm and Vm.clone."""

    def __init__(self, host: Host, engine_vm: Any) -> None:
        self.host = host
        self.engine_vm = engine_vm
        self.name: str = engine_vm.name
        self.pages: int = engine_vm.nr_pages
        self.mark()

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
        return int(self.engine_vm.write(address, np.frombuffer(data, np.uint8)))

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.engine_vm.read(address, length))

    def read_pages(self, pages: ArrayLike) -> NDArray[np.uint8]:
        """Whole pages, uint8 [n, 4096]."""
        numbers = _page_numbers(pages)
        out = np.zeros((len(numbers), PAGE_SIZE), np.uint8)
        self.engine_vm.read_pages(numbers, out)
        return out

    def access(self, pages: ArrayLike, writes: ArrayLike, sources: ArrayLike | None = None) -> RunOutcome:
        """Touch pages in order: `writes` is a bool (or an op code, see Host.run) per page. Says how many were done and
        why it stopped."""
        numbers = _page_numbers(pages)
        ops = np.ascontiguousarray(writes, dtype=np.uint8)
        origin = None if sources is None else _page_numbers(sources)
        done = self.engine_vm.access(numbers, ops, origin)
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

    def clone(self, name: str) -> "Vm":
        """A copy-on-write clone: shares all memory until one of the two writes."""
        return self.host._adopt(self.host.engine.clone_vm(self.engine_vm, name, self._disk_for_copy()))

    def _disk_for_copy(self) -> Swap | None:
        slots = self.engine_vm.disk_slots
        return Swap(slots, slot_bytes=self.host.engine.content.raw_bytes) if slots else None

    def freeze(self) -> None:
        """Make this VM a template: it runs no more, and its clones start from what it holds now."""
        self.engine_vm.frozen = True

    def snapshot(self) -> "SavedState":
        """Keep what the VM's memory holds now, copy-on-write; `revert` brings it back."""
        engine_vm = self.host.engine.clone_vm(self.engine_vm, self.name, self._disk_for_copy(), False)
        return SavedState(self.host, engine_vm)

    def revert(self, saved: "SavedState") -> None:
        """Make the VM's memory what it was when the snapshot was taken. The snapshot stays good."""
        if saved.host is not self.host:
            raise ConfigError(f"VM '{self.name}': the snapshot of '{saved.name}' belongs to another host")
        self.host.engine.revert_vm(self.engine_vm, saved.engine_vm)

    def balloon(self, target: str | int) -> int:
        """Move the balloon towards `target` (text, or bytes) and return what it holds now, in bytes."""
        return int(self.engine_vm.balloon(parse_pages(target, allow_zero=True))) * PAGE_SIZE

    def pin(self, first: int, pages: int) -> int:
        """Keep pages in memory, as passthrough and mlock do. Returns how many could be."""
        return int(self.engine_vm.pin(first, pages))

    def unpin(self, first: int, pages: int) -> int:
        return int(self.engine_vm.unpin(first, pages))

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
        self.host._vms.pop(self.name, None)


class SavedState:
    """What a VM's memory held when Vm.snapshot was called. Costs leaf tables until its pages are written."""

    def __init__(self, host: Host, engine_vm: Any) -> None:
        self.host = host
        self.engine_vm = engine_vm
        self.name: str = engine_vm.name

    def drop(self) -> None:
        """Give it up; what only it held is free again."""
        self.host.engine.destroy_vm(self.engine_vm)


def _page_numbers(pages: ArrayLike) -> NDArray[np.uint32]:
    array = np.asarray(pages)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ConfigError(f"page numbers: an array of {array.dtype} with {array.ndim} dimensions; one of integers is needed")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 1 << 32):
        raise ConfigError(f"page numbers: {int(array.min())} to {int(array.max())}; 0 to {2**32 - 1} is the range")
    return np.ascontiguousarray(array, dtype=np.uint32)


def _checked(stream: Iterable[Any]) -> Iterator[tuple[Any, Any, Any]]:
    for batch in stream:
        sources = batch[2] if len(batch) > 2 else None
        yield (
            _page_numbers(batch[0]),
            np.ascontiguousarray(batch[1], dtype=np.uint8),
            None if sources is None else _page_numbers(sources),
        )


def _guest_arguments(options: GuestOptions, pages: int) -> dict[str, Any]:
    return {
        "cache_border": pages - pages * options.cache_percent // 100,
        "swap_slots": options.swap,
        "kernel_pages": options.kernel,
        "low_pages": options.low_pages,
        "high_pages": options.high_pages,
        "balloon_floor": options.balloon_floor,
        "oom_deflate_pages": options.oom_deflate_pages,
        "report_order": options.report_order,
        "replacement": options.replacement,
        "swappiness": options.swappiness,
    }


def _device(device: Any) -> Device:
    return Device(device) if isinstance(device, str) else Device("custom", **device.model_dump())


def _fingerprints() -> Any:
    from memvirt.engine.fingerprints import Fingerprints

    return Fingerprints
