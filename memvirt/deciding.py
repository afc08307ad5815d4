"""A host's decisions: what the decider is shown, and what is done of what it wants."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from memvirt import stores
from memvirt.engine.host import accesses, promises, views
from memvirt.engine.host.engine import Engine
from memvirt.errors import DeciderError
from memvirt.names import HOST_STATES
from memvirt.policies.asking import Asked
from memvirt.policies.base import OLDEST, Memo, Snapshot, Targets
from memvirt.units import format_time
from memvirt.vm import Vm, seen

ALWAYS_RUNS = 0xFFFFFFFF  # frames: more than any VM holds


class Decisions:
    """The decisions of one host. A decider's memo, and the moment from which VMs are reported, go on from run to run; another
    decider begins without a memo."""

    def __init__(self, harvest_interval_ns: int) -> None:
        self._harvest_interval_ns = harvest_interval_ns
        self.made = self.acted = 0  # times the decider was asked; of these, the ones that changed something
        self.clipped = 0  # targets that were more than can be: cut to what a VM has beyond its reservation
        self._last_ns = 0
        self._stalled_before_ns = 0
        self._reclaim_ns = 0  # processor time of what was reclaimed because the decider asked
        self._memo: Memo = {}
        self._asked: Asked | None = None  # whose memo that is
        self._state: str | None = None  # as of the last decision
        self._awaited = 0  # frames that VMs need to be admitted which wait for that
        self._blocks = False  # the last decision kept VMs from running
        self._in_state: dict[str, int] = {}  # simulated time spent in each; empty while the decider has said none

    def counters(self, blocked_ns: int) -> dict[str, int]:
        """What is counted of decisions; targets_clipped and blocked_ns only if there were some, and how long the host was in
        which state, up to the last decision, if the decider has said so."""
        rare = {"targets_clipped": self.clipped, "blocked_ns": blocked_ns}
        clipped = {name: count for name, count in rare.items() if count}
        states = {f"state_ns.{name}": spent_ns for name, spent_ns in self._in_state.items()}
        return {"decisions": self.made, "decisions_acted": self.acted, **clipped, **states}

    def snapshot(self, engine: Engine, now_ns: int, ages: bool = True) -> Snapshot:
        """The host between two turns, and what VMs did since the last decision; without their ages if nobody wants them."""
        frames = engine.frames
        events = engine.meter.events()
        areas = stores.areas(engine)
        return Snapshot(
            now_ns=now_ns,
            interval_ns=max(0, now_ns - self._last_ns),
            total_pages=frames.nr_frames,
            free_pages=frames.buddy.nr_free,
            low_pages=frames.low_pages,
            high_pages=frames.high_pages,
            stall_some_ns=engine.stalls.of_host()["stall_some_ns"] - self._stalled_before_ns,
            swap_pages=sum(area.nr_slots for area in areas),
            swap_used_pages=sum(area.nr_used for area in areas),
            swapped_out_pages=events["swap_pages_out"],
            reclaimed_pages=events["reclaim_proactive"],
            reclaim_ns=self._reclaim_ns,
            wanted_pages=promises.lacking(engine, self._awaited) if self._awaited else 0,
            vms=seen(list(engine.vms.values()), self._harvest_interval_ns, ages),  # type: ignore[arg-type] # until looked at
            memo=self._memo,
        )

    def wait_for(self, engine: Engine, needs: Sequence[int]) -> list[int]:
        """VMs wait to be admitted, which need so many frames each: what is missing for each and those before it. A decider is
        told what is missing for all."""
        self._awaited = sum(needs)
        return [promises.lacking(engine, frames) for frames in accumulate(needs)]

    def make(self, asked: Asked, engine: Engine, vms: Mapping[str, Vm], now_ns: int) -> None:
        """Ask, and do what is wanted."""
        if self._asked is not None and not asked.goes_on_from(self._asked):
            self._memo = {}
        self._asked = asked
        snapshot = self.snapshot(engine, now_ns, asked.wants_ages)
        if self._state is not None:
            self._in_state[self._state] += snapshot.interval_ns
        self._last_ns = now_ns
        self._stalled_before_ns += snapshot.stall_some_ns
        self.made += 1
        views.mark(list(engine.vms.values()), asked.wants_ages)
        try:
            targets = asked.answer(snapshot)
            self._require_alive(asked, targets, vms)
        except DeciderError as error:
            raise DeciderError(f"{error}; decision {self.made}, at {format_time(now_ns)}") from error.__cause__
        self.acted += self.apply(targets, engine, vms)

    def _require_alive(self, asked: Asked, targets: Targets, vms: Mapping[str, Vm]) -> None:
        """DeciderError for a VM that was there when the decider was asked, and that it has ended itself."""
        named = {**targets.balloon_pages, **targets.reclaim_pages, **targets.block_above_pages}
        for name in named if asked.is_users else ():
            if not vms[name].engine_vm.alive:
                raise DeciderError(
                    f"decider {asked.name} names '{name}', which it has ended meanwhile; leave it out of its answer"
                )

    def apply(self, targets: Targets, engine: Engine, vms: Mapping[str, Vm]) -> bool:
        """Do what a decider wants, as far as it can be done; whether anything changed. No balloon takes what is reserved
        for a VM."""
        self._memo = targets.memo
        self._enter(targets.state, engine)
        engine.wake_below = targets.wake_below_pages
        acted = self._block(targets.block_above_pages, vms)
        for name, pages in targets.balloon_pages.items():
            if name in vms:
                vm = vms[name].engine_vm
                most = vms[name].pages - vm.reservation if vm.guest is not None else 0
                self.clipped += pages > most
                acted |= accesses.set_balloon_target(engine, vm, min(pages, most))
        if targets.reclaim_pages:
            before_ns = sum(engine.meter.cpu().values())
            for name, pages in targets.reclaim_pages.items():
                if name in vms:
                    vm = vms[name].engine_vm
                    most = max(0, vm.charged - vm.reservation)
                    self.clipped += pages > most
                    acted |= engine.reclaim_from(vm, min(pages, most)) > 0
            self._reclaim_ns += sum(engine.meter.cpu().values()) - before_ns
        scanner = engine.scanner
        if scanner is not None:
            before = (scanner.pages_to_scan, scanner.sleep_ns)
            wanted = (targets.scan_pages, targets.scan_sleep_ns)
            pace = tuple(old if new is None else new for old, new in zip(before, wanted, strict=True))
            if pace != before:
                engine.set_pace(*pace)
                acted = True
        return acted

    def _block(self, above: Mapping[str, int], vms: Mapping[str, Vm]) -> bool:
        """Which VMs do not run while they hold more than that; whether anything changed. None is kept from what is reserved
        for it."""
        acted = False
        for name, vm in vms.items() if above or self._blocks else ():
            pages = above.get(name, ALWAYS_RUNS)
            least = vm.engine_vm.reservation
            self.clipped += pages < least
            acted |= vm.engine_vm.block_above != max(pages, least)
            vm.engine_vm.block_above = max(pages, least)
        self._blocks = bool(above)
        return acted

    def _enter(self, state: str | None, engine: Engine) -> None:
        self._state = state
        engine.decider_state = 0 if state is None else HOST_STATES.index(state) + 1
        if state is not None and not self._in_state:
            self._in_state = dict.fromkeys(HOST_STATES, 0)


def cold_pages(engine: Engine, harvests: int) -> tuple[int, int] | None:
    """As of the last harvest: pages in frames that so many harvests in a row have found without an accessed mark, and all
    pages of VMs in frames. None for more than are kept."""
    vms, of_vm = list(engine.vms.values()), engine.mapping.ages.of_vm
    cold = sum(next((pages for age, pages, _ in of_vm(vm.id) if age >= harvests), 0) for vm in vms)
    return (cold, sum(vm.charged for vm in vms)) if 0 < harvests <= OLDEST else None
