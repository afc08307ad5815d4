"""The face of the library: a host, its VMs, and what can be asked of them.

Sizes are text ("64MiB") or bytes, page numbers are NumPy arrays, and one call does thousands of accesses. Everything
here translates and validates; the work is done by memvirt.engine.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np

from memvirt import stores
from memvirt.deciding import Decisions
from memvirt.engine.content import codec as codecs
from memvirt.engine.content import content as contents
from memvirt.engine.host import audit, contiguity, savings
from memvirt.engine.host import host as engine_host
from memvirt.engine.host import schedule as engine_run
from memvirt.engine.stores.swap import Swap
from memvirt.environment import memory_problem
from memvirt.errors import AdmissionError, ConfigError
from memvirt.policies.asking import Asked
from memvirt.policies.base import Decider, Snapshot, Targets
from memvirt.settings import costs
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import validate
from memvirt.settings.fields import NAME
from memvirt.settings.vm_config import CloneConfig, GuestOptions, VmConfig
from memvirt.streams import Streams
from memvirt.units import PAGE_SIZE, suggest
from memvirt.vm import RunOutcome, Vm, whole

PROVISIONING = {"thin": 0, "thick": 1, "thin-huge": 2}
COMPACT_NEVER = 1001  # a threshold in thousandths that no index reaches


class Host:
    """A host with less memory than it promised. Keyword arguments: memvirt.settings.config.HostConfig, and `corpus`, whose
    pages VMs fill theirs from (a memvirt.inputs.Corpus, or uint8 [n, 4096] whose first row is the zero page; where
    content is 'fingerprint', memvirt.inputs.Fingerprints too)."""

    def __init__(
        self, *, corpus: Any = None, swap_path: str | None = None, swap_direct: bool = True, **settings: Any
    ) -> None:
        self._make(validate(HostConfig, settings), corpus, swap_path, swap_direct)

    @classmethod
    def of(
        cls, config: HostConfig, *, corpus: Any = None, swap_path: str | None = None, swap_direct: bool = True
    ) -> Self:
        """A host of settings that are validated already: nothing is read, parsed or filled in once more."""
        host = cls.__new__(cls)
        host._make(config, corpus, swap_path, swap_direct)
        return host

    def _make(self, config: HostConfig, corpus: Any, swap_path: str | None, swap_direct: bool) -> None:
        self.config = config
        if config.content == "bytes" and (problem := memory_problem(config.memory * PAGE_SIZE)):
            raise ConfigError(f"memory: {problem}; make the host smaller, or set content to 'fingerprint'")
        codec = codecs.open_codec(config.codec, config.codec_level)
        content = _content(config, corpus, codec)
        marks = config.watermarks
        self._engine: Any = engine_host.Engine(
            content,
            stores.device(config.swap_device),
            stores.swap(config, swap_path, swap_direct),
            order=config.replacement,
            order_options=config.replacement_options,
            min_pages=marks.min,
            low_pages=marks.low,
            high_pages=marks.high,
            zpool=stores.zpool(config),
            sharing=config.sharing,
            sharing_options=config.sharing_options,
            provisioning=PROVISIONING[config.provisioning],
            compress_limit=config.zpool_reject_above,
            readahead=config.readahead,
            zpool_shrinker=config.zpool_shrinker,
            harvest_interval_ns=config.harvest_interval,
            compact_threshold=COMPACT_NEVER if config.compact_threshold is None else config.compact_threshold,
            collapse_interval_ns=config.collapse_interval or 0,
            quantum_ns=config.quantum,
            costs=costs.for_codec(config.costs, config.codec),
            seed=config.seed,
        )
        self._vms: dict[str, Vm] = {}
        self._commit = config.commit
        self._capacity = config.memory + config.swap_total
        self._reservable = config.memory - self._engine.nr_fixed - marks.high
        self._decider = config.decider()
        self._streams = Streams()
        self._decisions = Decisions()

    @property
    def engine(self) -> Any:
        """The engine's host; ConfigError once this host is closed."""
        if self._engine is None:
            raise ConfigError("the host is closed")
        return self._engine

    @property
    def ids_of(self) -> Callable[..., Any] | None:
        """Where content is fingerprints: the id of a page filled from each source, with a tag in a word. None: bytes."""
        return getattr(self.engine.content, "ids_of", None)

    def close(self) -> None:
        """Give the host's memory and swap back to this machine now. VMs of it cannot be used afterwards."""
        for vm in self.vms:
            vm.engine_vm = None
        self._vms = {}
        self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

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
    ) -> Vm:
        """A VM that maps nothing yet (or, provisioned thick, everything). AdmissionError when the host refuses it."""
        config = validate(
            VmConfig,
            {
                "name": name,
                "memory": memory,
                "shares": shares,
                "reservation": reservation,
                "limit": limit,
                "guest": guest,
                "domain": domain,
            },
        )
        return self.create(config)

    def create(self, config: VmConfig) -> Vm:
        """What create_vm does, of settings that are validated already."""
        self._admit(config.name, config.memory, config.reservation)
        vm = self.engine.create_vm(
            config.name,
            config.memory,
            limit=config.limit,
            reservation=config.reservation,
            shares=config.shares,
            domain=config.domain,
            guest=_guest_arguments(config.guest, config.memory) if config.guest else None,
            disk=self._guest_disk(config.guest, config.memory) if config.guest else None,
        )
        return self._adopt(vm)

    def clone_vm(self, parent: Vm, name: str) -> Vm:
        """What Vm.clone does: a clone is promised as much as its parent, and admitted by the same rule."""
        engine = self.engine
        parent.engine_vm._require()
        if not (isinstance(name, str) and NAME.fullmatch(name)):  # building a model takes longer than a clone
            name = validate(CloneConfig, {"name": name}).name
        self._admit(name, parent.pages, parent.engine_vm.reservation)
        return self._adopt(engine.clone_vm(parent.engine_vm, name, parent.disk_for_copy()))

    def forget(self, vm: Vm) -> None:
        """The VM has ended."""
        self._vms.pop(vm.name, None)

    def _guest_disk(self, options: GuestOptions, pages: int) -> Swap | None:
        """The guest's own disk: its swap, then a block for each page of its page cache."""
        blocks = options.swap + pages * options.cache_percent // 100
        return Swap(blocks, slot_bytes=self.engine.content.raw_bytes) if blocks else None

    def _adopt(self, engine_vm: Any) -> Vm:
        vm = Vm(self, engine_vm)
        self._vms[vm.name] = vm
        return vm

    def _admit(self, name: str, pages: int, reservation: int) -> None:
        """The commit rule, after Linux's overcommit_memory: always; heuristic: no single VM beyond memory and swap;
        strict: all VMs together within memory and swap. Reservations must fit into memory in any case."""
        reserved, promised = self.engine.promised()
        reserved += reservation
        promised += pages
        if reserved > self._reservable:
            raise AdmissionError(
                f"VM '{name}': reservations would sum to {reserved} pages; the host has {self.config.memory} frames, "
                f"{self.engine.nr_fixed} of them metadata"
            )
        if self._commit == "strict" and promised > self._capacity:
            raise AdmissionError(
                f"VM '{name}': {promised} pages would be promised; memory and swap have {self._capacity} "
                f"(commit='strict')"
            )
        if self._commit == "heuristic" and pages > self._capacity:
            raise AdmissionError(
                f"VM '{name}': {pages} pages are more than memory and swap together, {self._capacity} "
                f"(commit='heuristic')"
            )

    @property
    def vms(self) -> list[Vm]:
        """The VMs there are, oldest first."""
        return list(self._vms.values())

    # ---- running

    def run(
        self,
        streams: Mapping[Vm, Iterable[Any]],
        until_ns: int | None = None,
        decider: Decider | Callable[[Snapshot], Targets] | None = None,
    ) -> dict[Vm, RunOutcome]:
        """Run the VMs side by side in simulated time until their streams end or `until_ns`, which is rounded up to a
        whole quantum. An iterator that was stopped by that goes on where it was when it is given again. Without streams
        simulated time passes until then, with all VMs idle.

        A stream yields batches (pages uint32, ops uint8, sources uint32 or None); ops: 0 read, 1 write, 2 fill from a
        corpus page, 3 discard. The decider (by default the one the host was created with) is asked at its interval, which
        goes on from one run to the next.
        """
        decider = decider or self._decider
        decide = None
        asked = None if decider is None else Asked(decider)
        if asked is not None:

            def decide(now_ns: int) -> None:
                self._forget_killed()
                self._decisions.make(asked, self.engine, self._vms, now_ns)

        going = self._streams.begin(streams)
        try:
            outcome = engine_run.run(
                self.engine,
                {vm.engine_vm: stream for vm, stream in going.items()},
                on_exhausted=self.config.on_exhausted,
                until_ns=until_ns,
                decide=decide,
                decider=decider,
                interval_ns=0 if asked is None else asked.interval_ns,
            )
        finally:
            self._forget_killed()
        outcomes = {vm: RunOutcome(*outcome[vm.engine_vm]) for vm in streams}
        self._streams.end(outcomes)
        return outcomes

    def _forget_killed(self) -> None:
        self._vms = {name: vm for name, vm in self._vms.items() if vm.engine_vm.alive}

    def snapshot(self, now_ns: int | None = None) -> Snapshot:
        """What a decider is given: the host between two quanta, and what VMs did since the last decision."""
        return self._decisions.snapshot(self.engine, self._vms, self.sim_ns if now_ns is None else now_ns)

    def scan(self, pages: int | None = None) -> int:
        """Returns how many pages were merged: the scanner looks at `pages` pages, or at everything once."""
        return int(self.engine.scan(None if pages is None else whole("pages to scan", pages, 32)))

    def compact(self, blocks: int | None = None) -> int:
        """Returns how many free 2 MiB blocks were made by moving pages: at most `blocks`, or as many as possible (None)."""
        if blocks is not None and not (isinstance(blocks, int) and 0 <= blocks < 1 << 32):
            raise ConfigError(f"blocks={blocks!r}: a whole number from 0 to {2**32 - 1}, or None, is needed")
        return int(self.engine.compact(blocks))

    def collapse(self) -> int:
        """Map everything huge that can be: in place, or by copying into free 2 MiB blocks. Returns how many leaf
        tables became huge."""
        return int(self.engine.collapse())

    def settle(self, passes: int) -> None:
        """The scanner, if there is one, makes `passes` full passes while all VMs are idle."""
        for _ in range(passes if self.engine.scanner is not None else 0):
            self.engine.scan(None)
        self.engine.idle()

    def set_domains(self, domains: Mapping[str, int]) -> None:
        """Move VMs to other domains: {VM's name: domain}. From now on their pages merge with those of their new domain
        (with salting "tenant"); what is merged already stays so until it is written to."""
        unknown = [name for name in domains if name not in self._vms]
        if unknown:
            name = unknown[0]
            raise ConfigError(f"domains: there is no VM '{name}'{suggest(name, list(self._vms))}")
        for name, domain in domains.items():
            if isinstance(domain, bool) or not isinstance(domain, int) or not 0 <= domain < 1 << 31:
                raise ConfigError(f"domains: {domain!r} of VM '{name}'; a domain is a number from 0 to 2^31 - 1")
        for name, domain in domains.items():
            self._vms[name].engine_vm.set_account(domain=domain)

    def harvest(self) -> None:
        """Collect the accessed marks now, instead of waiting for the interval."""
        self.engine.harvest()

    # ---- what there is to see

    @property
    def sim_ns(self) -> int:
        """Simulated time, ns: what every VM had to do before is done."""
        return int(self.engine.sim_ns())

    def counters(self) -> dict[str, int]:
        """Exact event counts; memvirt.metrics.registry describes each. What guests count of themselves (guest.NAME) is summed
        over all that there have been, and left out without any."""
        own = {"decisions": self._decisions.made, "decisions_acted": self._decisions.acted}
        guests = {f"guest.{name}": int(count) for name, count in self.engine.guest_events().items()}
        return {**self.engine.meter.events(), **stores.events(self.engine), **own, **guests}

    def swap(self) -> list[dict[str, Any]]:
        """Every swap area, that of highest priority first: its slots, its device, whether this machine let it have
        O_DIRECT, and what became of its system calls."""
        return stores.swap_areas(self.engine)

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
        """What page sharing saves now, of which kind and at what cost, and the scanner's own counts."""
        return dict(savings.sharing_state(self.engine))

    def sharing_histograms(self) -> dict[str, Any]:
        """Complete histograms (simulated ns) of how long duplicates lived and how long frames stayed merged."""
        return {} if self.engine.index is None else dict(self.engine.index.histograms())

    def fragmentation(self) -> dict[str, Any]:
        """Fragmentation of free memory per order, waste inside the zpool (bytes), and how each VM's memory lies: see
        memvirt.engine.host.contiguity."""
        pool = self.zpool()
        waste = {} if pool is None else {kind: pool[f"{kind}_waste_bytes"] for kind in ("rounding", "sparse", "tail")}
        vms = {vm.name: contiguity.of_vm(self.engine, vm.engine_vm) for vm in self.vms}
        return dict(self.engine.fragmentation()) | {"zpool_waste": waste, "vms": vms}

    def zpool(self) -> dict[str, int] | None:
        """What the compressed cache holds, or None without one."""
        pool = self.engine.mapping.zpool
        return None if pool is None else dict(pool.stats())

    def stores(self) -> dict[str, int]:
        """Pages whose content is out of memory and in no frame, by where it is: as a value, compressed, on swap; and
        pages in balloons. A content that several entries name counts once."""
        records = self.engine.mapping.backings
        out = [kind - cached for kind, cached in zip(records.nr_kind, records.nr_cached, strict=True)]
        balloons = sum(int(vm.counters().get("balloon_pages", 0)) for vm in self.vms)
        return {"same": out[1], "zpool": out[2], "swap": out[3], "balloon": balloons}

    def check(self) -> None:
        """Recount everything; memvirt.InvariantError on the first difference."""
        audit.check(self.engine)


def _corpus_pages(corpus: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pages of a corpus, read-only, so that what was looked at is what is used; ConfigError for what is none."""
    pages = np.asarray(getattr(corpus, "pages", corpus))
    if pages.ndim != 2 or pages.shape[1] != PAGE_SIZE or pages.dtype != np.uint8 or not len(pages) or pages[0].any():
        raise ConfigError(
            f"corpus: an array of {pages.dtype} of shape {pages.shape}; uint8 [n, {PAGE_SIZE}] with a zero page first "
            f"is needed"
        )
    if pages.flags.writeable or not pages.flags.c_contiguous:
        pages = pages.copy()
        pages.flags.writeable = False
    return pages


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
        "replacement_options": options.replacement_options,
        "swappiness": options.swappiness,
    }


def _content(config: HostConfig, corpus: Any, codec: Any) -> Any:
    """The engine's content over a corpus, or over what is known of one."""
    from memvirt.engine.content.fingerprints import Fingerprints

    if hasattr(corpus, "table"):
        if config.content == "bytes":
            raise ConfigError("content: the corpus is fingerprints, which have no bytes; set content to 'fingerprint'")
        return Fingerprints(config.memory, codec=codec, table=corpus.table(codec.name, codec.level))
    pages = None if corpus is None else _corpus_pages(corpus)
    kind = contents.Bytes if config.content == "bytes" else Fingerprints
    return kind(config.memory, None if pages is None else pages[1:], codec)
