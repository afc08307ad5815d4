"""The face of the library: a host, its VMs, and what can be asked of them.

Sizes are text ("64MiB") or bytes, page numbers are NumPy arrays, one call of memvirt.engine does thousands of accesses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import sub
from os import PathLike
from typing import Any, Self, TypeVar

from memvirt import border, stores
from memvirt.admission import Admission
from memvirt.deciding import Decisions, cold_pages
from memvirt.engine.content import codec as codecs
from memvirt.engine.host import admission, audit, cloning, contiguity, ending, sample, savings, schedule
from memvirt.engine.host.engine import Engine
from memvirt.engine.host.vm import Vm as EngineVm
from memvirt.environment import memory_problem
from memvirt.errors import ConfigError
from memvirt.names import BACKINGS
from memvirt.policies.asking import Asked
from memvirt.policies.base import Decider, Snapshot, Targets
from memvirt.settings import costs
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import validate
from memvirt.settings.fields import NAME
from memvirt.settings.vm_config import CloneConfig, VmConfig
from memvirt.streams import Streams
from memvirt.units import PAGE_SIZE
from memvirt.vm import RunOutcome, SavedState, Vm

Face = TypeVar("Face", Vm, SavedState)
PROVISIONING = {"thin": 0, "thick": 1, "thin-huge": 2, "on-write": 3}


class Host:
    """A host with less memory than it promised. Keyword arguments: memvirt.settings.config.HostConfig, and `corpus`, whose
    pages VMs fill theirs from (a memvirt.inputs.Corpus, or uint8 [n, 4096] whose first row is the zero page; where
    content is 'fingerprint', memvirt.inputs.Fingerprints too)."""

    def __init__(
        self,
        *,
        corpus: Any = None,
        swap_path: str | PathLike[str] | None = None,
        swap_direct: bool = True,
        **settings: Any,
    ) -> None:
        self._make(validate(HostConfig, settings), corpus, swap_path, swap_direct)

    @classmethod
    def of(
        cls,
        config: HostConfig,
        *,
        corpus: Any = None,
        swap_path: str | PathLike[str] | None = None,
        swap_direct: bool = True,
    ) -> Self:
        """A host of settings that are validated already: nothing is read, parsed or filled in once more."""
        host = cls.__new__(cls)
        host._make(config, corpus, swap_path, swap_direct)
        return host

    def _make(self, config: HostConfig, corpus: Any, swap_path: object, swap_direct: bool) -> None:
        self.config = config
        if config.has_bytes and (problem := memory_problem(config.memory * PAGE_SIZE)):
            raise ConfigError(f"memory: {problem}; make the host smaller, or set content to 'fingerprint'")
        codec = codecs.open_codec(config.codec, config.codec_level)
        content = border.content(config, corpus, codec)
        marks = config.watermarks
        self._engine: Engine | None = Engine(
            content,
            stores.device(config.swap_device),
            stores.swap(config, border.swap_path(swap_path, config), swap_direct),
            order=config.replacement,
            order_options=config.replacement_options,
            min_pages=marks.min,
            low_pages=marks.low,
            high_pages=marks.high,
            zpool=stores.zpool(config),
            sharing=config.sharing,
            sharing_options=config.sharing_options,
            provisioning=PROVISIONING[config.provisioning],
            readahead=config.readahead,
            readahead_by_address=config.readahead_kind == "vma",
            psi_linux=config.psi == "linux",
            zpool_shrinker=config.zpool_shrinker,
            zeros_only=config.same_filled == "zero",
            victims_by_shares=config.victims == "shares",
            harvest_interval_ns=config.harvest_interval,
            compact_threshold=config.compact_threshold,
            collapse_interval_ns=config.collapse_interval or 0,
            quantum_ns=config.quantum,
            **costs.for_engine(config.costs, config.codec),
            seed=config.seed,
        )
        self._faces: dict[EngineVm, Any] = {}  # of the engine's VMs and snapshots; what there is, it knows
        self.admission = Admission(config, self._engine)
        self._decider = config.decider()
        self._streams = Streams()
        self._decisions = Decisions(config.harvest_interval)
        self._samples: sample.Samples | None = None

    @property
    def engine(self) -> Engine:
        """The engine's host; ConfigError once this host is closed, and in a process that was forked from its own,
        InvariantError in another thread than the one that made it."""
        if self._engine is None:
            raise ConfigError("the host is closed")
        self._engine.look()
        return self._engine

    @property
    def ids_of(self) -> Callable[..., Any] | None:
        """Where content is fingerprints: the id of a page filled from each source, with a tag in a word. None: bytes."""
        return getattr(self.engine.content, "ids_of", None)

    def close(self) -> None:
        """Give the host's memory and swap back to this machine now, whatever objects of it are kept: its VMs and
        snapshots cannot be used afterwards."""
        if self._engine is not None:
            ending.close(self._engine)
        self._engine = self._samples = None
        self._faces = {}

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
        files: str | int = 0,
    ) -> Vm:
        """A VM that maps nothing yet (provisioned thick: everything). `files`: pages behind its memory that its guest reads
        through its page cache. AdmissionError when the host refuses it."""
        settings = {"name": name, "memory": memory, "shares": shares, "reservation": reservation, "limit": limit}
        config = validate(VmConfig, {**settings, "guest": guest, "domain": domain, "files": files})
        return self.create(config)

    def create(self, config: VmConfig) -> Vm:
        """What create_vm does, of settings that are validated already."""
        engine = self.engine
        guest = border.guest_arguments(config.guest, config.memory) if config.guest else None
        disk = stores.guest_disk(config, engine.content.raw_bytes)
        self.admission.require_new(engine, config, guest, disk)
        vm = admission.create_vm(
            engine,
            config.name,
            config.memory,
            limit=config.limit,
            reservation=config.reservation,
            shares=config.shares,
            domain=config.domain,
            guest=guest,
            nr_vpns=config.memory + config.files,
            disk=disk,
            hints=bool(config.guest and config.guest.hinting),
        )
        return self._face(Vm, vm)

    def wait_for(self, configs: Sequence[VmConfig]) -> list[int]:
        """VMs that are to be admitted, in this order: frames that would have to be taken from others for each and those
        before it. Until this is called again, the decider is told what all of them lack (Snapshot.wanted_pages)."""
        return self._decisions.wait_for(self.engine, [self.admission.needs(self.engine, config) for config in configs])

    def clone_vm(self, parent: Vm, name: str) -> Vm:
        """What Vm.clone does: a clone is promised as much as its parent, and admitted by the same rule."""
        engine = self.engine
        self.require(parent)
        if not (type(name) is str and NAME.fullmatch(name)):  # building a model takes longer than a clone
            name = str(validate(CloneConfig, {"name": name}).name)
        self.admission.require_copy(engine, name, parent.engine_vm, True)
        return self._face(Vm, cloning.clone_vm(engine, parent.engine_vm, name))

    def save_vm(self, vm: Vm) -> SavedState:
        """What Vm.snapshot does: it reserves nothing, and is promised what its VM is, whose writes need a second place."""
        engine = self.engine
        self.require(vm)
        self.admission.require_copy(engine, vm.name, vm.engine_vm, False)
        return self._face(SavedState, cloning.clone_vm(engine, vm.engine_vm, vm.name, False))

    def require(self, vm: object) -> None:
        """ConfigError unless this is a VM of this host, and lives."""
        if not isinstance(vm, Vm):
            raise ConfigError(f"{vm!r} is no VM of this host")
        if vm.host is not self:
            raise ConfigError(f"VM '{vm.name}' belongs to another host")
        vm.engine_vm.require()

    def _face(self, kind: type[Face], engine_vm: EngineVm) -> Face:
        """The one Vm or SavedState of an engine's VM. A signal may come at any moment: one that is made twice has not been
        seen yet."""
        face: Face = self._faces.get(engine_vm) or self._faces.setdefault(engine_vm, kind(self, engine_vm))
        return face

    def forget(self, engine_vm: EngineVm) -> None:
        """Drop the face of a VM or snapshot that has ended. One that stays costs a little memory."""
        self._faces.pop(engine_vm, None)

    def _named(self) -> dict[str, Vm]:
        return {name: self._face(Vm, vm) for name, vm in list(self.engine.vms.items())}

    @property
    def vms(self) -> list[Vm]:
        """The VMs there are, oldest first; none once the host is closed."""
        return [] if self._engine is None else [self._face(Vm, vm) for vm in list(self.engine.vms.values())]

    @property
    def saved_states(self) -> list[SavedState]:
        """The snapshots that are kept, oldest first: also those that the program has lost sight of. They hold memory
        until they are dropped."""
        return [] if self._engine is None else [self._face(SavedState, vm) for vm in list(self.engine.snapshots)]

    # ---- running

    def run(
        self,
        streams: Mapping[Vm, Iterable[Any]],
        until_ns: int | None = None,
        decider: Decider | Callable[[Snapshot], Targets] | None = None,
    ) -> dict[Vm, RunOutcome]:
        """Run the VMs side by side in simulated time until their streams end or `until_ns`, which is rounded up to a
        whole quantum. An iterator that was stopped by that, or by what was raised, goes on where it was when it is given
        again. Without streams simulated time passes until then, with all VMs idle.

        A stream yields batches (pages uint32, ops uint8, sources uint32 or None, work_ns, due_ns), of which the last three
        may be left out; ops: 0 read, 1 write, 2 fill from a corpus page, 3 discard, 4 discard lazily (see Vm.discard). The VM
        computes for work_ns after each access (0: nothing). due_ns, one simulated time or a row of them, none earlier than
        the one before: so many parts of equal length begin then. Until the next part is due the VM sleeps; if it is
        behind, the part begins late, and its latency (Vm.requests) counts from when it was due.

        The decider (the host's; an object with decide(snapshot), or a function) is asked at its interval_ns, or each ms. Its
        interval and memo go on from run to run, and begin anew with another one. It may ask and end VMs, but not access them.
        """
        engine = self.engine
        for vm in border.of_vms(streams):
            self.require(vm)
        if until_ns is not None:
            until_ns = border.whole("until_ns", until_ns, 63)
        schedule.require_startable(engine, [vm.engine_vm for vm in streams], until_ns)
        decider = decider or self._decider
        decide = None
        asked = None if decider is None else Asked(decider)
        if asked is not None:

            def decide(now_ns: int) -> None:
                self._decisions.make(asked, engine, self._named(), now_ns)

        outcome = schedule.run(
            engine,
            {vm.engine_vm: batches for vm, batches in self._streams.begin(streams).items()},
            on_exhausted=self.config.on_exhausted,
            until_ns=until_ns,
            decide=decide,
            decider=decider,
            interval_ns=0 if asked is None else asked.interval_ns,
            samples=self._samples,
        )
        for vm in [vm for vm in streams if not vm.engine_vm.alive]:
            self.forget(vm.engine_vm)
        outcomes = {vm: RunOutcome(*outcome[vm.engine_vm]) for vm in streams}
        self._streams.end(outcomes)
        return outcomes

    def snapshot(self, now_ns: int | None = None) -> Snapshot:
        """What a decider is given: the host between two quanta, and what VMs did since the last decision."""
        return self._decisions.snapshot(self.engine, self.sim_ns if now_ns is None else now_ns)

    def scan(self, pages: int | None = None) -> int:
        """Returns how many pages were merged: the scanner looks at `pages` pages, or at everything once."""
        return self.engine.scan(None if pages is None else border.whole("pages to scan", pages, 32))

    def compact(self, blocks: int | None = None) -> int:
        """Returns how many free 2 MiB blocks were made by moving pages: at most `blocks`, or as many as possible (None)."""
        return self.engine.compact(None if blocks is None else border.whole("blocks", blocks, 32))

    def collapse(self) -> int:
        """Map everything huge that can be: in place, or by copying into free 2 MiB blocks. Returns how many leaf
        tables became huge."""
        return self.engine.collapse()

    def settle(self, passes: int) -> None:
        """The scanner, if there is one, makes `passes` full passes while all VMs are idle."""
        self.engine.settle(border.whole("passes", passes, 32))

    def set_domains(self, domains: Mapping[str, int]) -> None:
        """Move VMs to other domains: {VM's name: domain}. From now on their pages merge with those of their new domain
        (with salting "tenant"); what is merged already stays so until it is written to."""
        vms = self._named()
        for name, domain in border.domains_of(domains, vms).items():
            vms[name].engine_vm.set_account(domain=domain)

    def harvest(self) -> None:
        """Collect the accessed marks now, instead of waiting for the interval."""
        self.engine.harvest()

    # ---- what there is to see

    @property
    def sim_ns(self) -> int:
        """Simulated time, ns: what every VM had to do before is done."""
        return self.engine.sim_ns()

    def counters(self) -> dict[str, int]:
        """Exact event counts; memvirt.metrics.registry describes each. What guests count of themselves (guest.NAME) is summed
        over all there have been; that, and counts of lazily freed pages (lazy_NAME), are left out without any."""
        decisions = self._decisions.counters(self.engine.blocked_ns)
        guests = {f"guest.{name}": int(count) for name, count in self.engine.guest_events().items()}
        return {**self.engine.meter.events(), **stores.events(self.engine), **decisions, **guests}

    def swap(self) -> list[dict[str, Any]]:
        """Every swap area, that of highest priority first: its slots, its device, whether this machine let it have
        O_DIRECT, and what became of its system calls."""
        return stores.swap_areas(self.engine)

    def cpu_ns(self) -> dict[str, int]:
        """Simulated processor time by mechanism, ns."""
        return self.engine.meter.cpu()

    def histograms(self) -> dict[str, Any]:
        """Per fault kind the complete histogram of simulated latency: count, sum_ns, max_ns, buckets. "request": of the parts
        of batches that had due times, from then until they were done, of all VMs that there have been."""
        requests = self.engine.request_latencies()
        return {**self.engine.meter.histograms(), **({} if requests is None else {"request": requests})}

    def wall_samples(self) -> dict[str, Any]:
        """The same in this machine's time, of one fault in `every`."""
        return self.engine.meter.wall_samples()

    def usage(self) -> dict[str, int]:
        """Frames by use; sums to the host's memory."""
        return self.engine.frames.usage()

    def stall(self) -> dict[str, int]:
        """Time in which VMs waited for memory, as Linux's PSI: some (at least one) and full (all that had work), as
        totals in simulated ns and averages over 10, 60 and 300 simulated seconds in 1/100 %."""
        return self.engine.stalls.of_host()

    def sharing(self) -> dict[str, int]:
        """What page sharing saves now, of which kind and at what cost, and the scanner's own counts."""
        return savings.sharing_state(self.engine)

    def sharing_histograms(self) -> dict[str, Any]:
        """Complete histograms (simulated ns) of how long duplicates lived and how long frames stayed merged."""
        return {} if self.engine.index is None else self.engine.index.histograms()

    def begin_samples(self, rows: int, step_ns: int) -> None:
        """Take samples while VMs run: at most `rows`, evenly, `step_ns` apart at first. See memvirt.engine.host.sample."""
        self._samples = sample.Samples(self.engine, *border.sample_step(rows, step_ns))

    def end_samples(self) -> tuple[int, list[tuple[int, bytes, tuple[str, ...], bytes]]]:
        """How far apart the last samples were (ns), and all of them, that of the present last: simulated time (ns), packed
        as int64 memvirt.names' SAMPLED_STATES and SAMPLED_COUNTS, the VMs' names, and of each SAMPLED_OF_VM."""
        taking, self._samples = self._samples, None
        if taking is None:
            raise ConfigError("no samples were begun")
        return taking.step_ns, taking.end(self.sim_ns)

    def fragmentation(self) -> dict[str, Any]:
        """Fragmentation of free memory per order, waste inside the zpool (bytes), and how each VM's memory lies: see
        memvirt.engine.host.contiguity."""
        pool = self.zpool()
        waste = {} if pool is None else {kind: pool[f"{kind}_waste_bytes"] for kind in ("rounding", "sparse", "tail")}
        vms = {vm.name: contiguity.of_vm(self.engine, vm.engine_vm) for vm in self.vms}
        return contiguity.of_host(self.engine) | {"zpool_waste": waste, "vms": vms}

    def cold_pages(self, age_ns: int) -> tuple[int, int] | None:
        """At the last harvest of accessed marks: pages in frames that nobody has accessed for `age_ns` (simulated; rounded up
        to whole harvests), and all pages of VMs in frames. None for an age beyond what is kept."""
        return cold_pages(self.engine, -(-age_ns // self.config.harvest_interval))

    def zpool(self) -> dict[str, int] | None:
        """What the compressed cache holds, or None without one."""
        pool = self.engine.mapping.zpool
        return None if pool is None else dict(pool.stats())

    def stores(self) -> dict[str, int]:
        """Pages whose content is out of memory and in no frame, by where it is: as a value, compressed, on swap; and
        pages in balloons. A content that several entries name counts once."""
        records = self.engine.mapping.backings
        out = dict(zip(BACKINGS, map(sub, records.nr_kind, records.nr_cached), strict=True))
        del out["new"]  # of pages whose content is on its way
        return {**out, "balloon": sum(int(vm.counters().get("balloon_pages", 0)) for vm in self.vms)}

    def check(self) -> None:
        """Recount everything; memvirt.InvariantError on the first difference."""
        audit.check(self.engine)
