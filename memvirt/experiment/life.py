"""A fleet that lives: VMs that come, work, are changed and go while simulated time passes.

Every VM has one stream for all its life: it boots, then it works, second by second (window by window), until it leaves or
the scenario ends. Seconds of VMs do not begin together: each has a place of its own in them. A VM that is behind, because
it waited for memory, does not catch up: it goes on with the second that it finds when it is done (a closed loop: who
waits for an answer asks no new question). Only the requests of a load that has some are not left out: they queue.

Its streams depend on (seed, group, number) and on time alone, so VMs of other groups can be added, and a group can grow,
without changing what the others do (common random numbers).

    coming      at the cut before its time, so that it can begin at its time; a VM that ends within a run leaves at a cut
    waiting     a VM that what is free does not suffice for, while the host's setting admission_wait lasts: the decider is
                told what it lacks. It begins at the cut at which it is admitted
    standing    what events change about VM number n of a group: its load, its limit, how often its image was patched. It
                outlives a restart, and waits for a VM that is yet to come. Events are known beforehand, so a VM that is
                given the work of a second ahead of it is given that of the load which it has then
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal

from memvirt.experiment.backend import AnyVm, Host
from memvirt.experiment.filling import Filling
from memvirt.experiment.life_spec import Event, Group
from memvirt.experiment.living import Living
from memvirt.experiment.working import Working
from memvirt.inputs import ClassTable
from memvirt.settings.vm_config import GuestOptions, VmConfig
from memvirt.units import PageCount
from memvirt.workloads import Batch, Stream
from memvirt.workloads.load import Load, name_number, place


@dataclass(slots=True)
class Standing:
    """What is set for a VM, whether it is there or not."""

    loads: list[tuple[int, Load]]  # since when it has which, in order of time; the first since ever
    patches: list[int] = field(default_factory=list)  # when its image is rewritten, in order of time
    limit_percent: int | None = None  # now

    def load_at(self, now_ns: int) -> Load:
        """The load that it has at that time."""
        return next(load for since_ns, load in reversed(self.loads) if since_ns <= now_ns)

    def patched_at(self, now_ns: int) -> int:
        """How often its image has been rewritten by then."""
        return bisect_right(self.patches, now_ns)


@dataclass(slots=True, eq=False)
class Life(Generic[AnyVm]):
    """One VM, from its coming to its going."""

    group: Group
    number: int
    standing: Standing
    waited_ns: int  # for its admission
    vm: AnyVm
    stream: Iterator[Batch]
    working: Working
    goes_ns: int | None  # when it leaves


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase of a life, as a cell asks for it."""

    name: Literal["warm-up", "measured"]
    began_ns: int
    ends_ns: int


@dataclass(slots=True)
class _Members:
    """A group, and what all its VMs have in common."""

    group: Group
    filling: Filling
    standing: list[Standing]  # of VM 0, 1, ...

    @property
    def count(self) -> int:
        return len(self.standing)


class LivingFleet(Generic[AnyVm]):
    """The VMs of a scenario on one host. `vms` maps names to those that exist now."""

    def __init__(
        self,
        host: Host[AnyVm],
        spec: Living,
        corpus: ClassTable,
        seed: int,
        *,
        overcommit_percent: int,
        guest: GuestOptions | None,
        admission_wait_ns: int = 0,
    ) -> None:
        self.lives: dict[str, Life[AnyVm]] = {}
        self.window_ns = spec.time.window
        self.asks = any(load.requests is not None for load in spec.loads.values())
        self.configured_pages = sum(spec.sizes(overcommit_percent))
        self._host = host
        self._spec = spec
        self._seed = seed
        self._guest = guest
        self._members = {
            group.name: _Members(
                group,
                Filling(group, corpus, spec.rounds_of(group, corpus)),
                self._standing(group, overcommit_percent),
            )
            for group in spec.groups
        }
        self._patience_ns = admission_wait_ns
        self._to_come = self._comings()
        self._waiting: list[tuple[int, str, int]] = []  # (since when, group, number): who is to be admitted
        self._to_happen = self._events()
        time = spec.time
        settles = [Stretch("warm-up", 0, time.settle)] if time.settle else []
        self.phases = (*settles, Stretch("measured", time.settle, time.settle + time.duration))

    @property
    def vms(self) -> dict[str, AnyVm]:
        return {name: life.vm for name, life in self.lives.items()}

    def _standing(self, group: Group, percent: int) -> list[Standing]:
        loads, count = self._spec.loads, group.count(percent)
        standing = [Standing([(0, loads[group.load])], limit_percent=group.limit_percent) for _ in range(count)]
        for event in (event for event in self._spec.events if event.group == group.name):
            for number, at_ns in event.happens(count):
                if event.load is not None:
                    standing[number].loads.append((at_ns, loads[event.load]))
                elif event.what == "rewrite-image":
                    standing[number].patches.append(at_ns)
        return standing

    def _comings(self) -> list[tuple[int, int, str, int]]:
        """(when, place of the group, group, number), latest first."""
        coming = [
            (members.group.comes_ns(number), index, name, number)
            for index, (name, members) in enumerate(self._members.items())
            for number in range(members.count)
        ]
        return sorted(coming, reverse=True)

    def _events(self) -> list[tuple[int, int, int]]:
        """(when, event, number of the VM), latest first."""
        at_cuts = ("set-limit", "set-balloon", "restart")
        events = [(index, e) for index, e in enumerate(self._spec.events) if e.what in at_cuts]
        return sorted(
            ((at, index, vm) for index, e in events for vm, at in e.happens(self._members[e.group].count)), reverse=True
        )

    def move_to(self, now_ns: int, until_ns: int) -> None:
        """Whoever leaves by now leaves; then what happens happens; then who comes before `until_ns` comes."""
        for name, life in list(self.lives.items()):
            if life.goes_ns is not None and life.goes_ns <= now_ns:
                del self.lives[name]
                life.vm.destroy()
        while self._to_happen and self._to_happen[-1][0] <= now_ns:
            _, index, number = self._to_happen.pop()
            self._happen(self._spec.events[index], number, now_ns)
        while self._to_come and self._to_come[-1][0] < until_ns:
            at_ns, _, name, number = self._to_come.pop()
            self._waiting.append((at_ns, name, number))
        self._admit(now_ns)

    def _admit(self, now_ns: int) -> None:
        """Who is to come does, at once where memory is free or may not be waited for."""
        waiting, self._waiting = self._waiting, []
        for at_ns, name, number in waiting:
            config = self._config(self._members[name], number)
            if self._patience_ns and now_ns - at_ns < self._patience_ns and self._host.wait_for([config])[0]:
                self._waiting.append((at_ns, name, number))
            else:
                self._come(self._members[name], number, max(at_ns, now_ns), max(0, now_ns - at_ns))
        if self._patience_ns:
            self._host.wait_for([self._config(self._members[name], number) for _, name, number in self._waiting])

    def _config(self, members: _Members, number: int) -> VmConfig:
        return members.group.vm(number, self._guest, members.standing[number].limit_percent)

    def _come(self, members: _Members, number: int, at_ns: int, waited_ns: int = 0) -> None:
        group, standing = members.group, members.standing[number]
        vm = self._host.create(self._config(members, number))
        if group.ballooned_percent:
            vm.balloon(PageCount(group.memory * group.ballooned_percent // 100))
        working = Working(
            vm,
            members.filling,
            self._spec.time,
            number,
            Stream(self._seed, name_number(group.name, number), "load"),
            place(group.name, number),
        )
        stream = self._stream(members.filling, number, working, standing, at_ns)
        self.lives[vm.name] = Life(
            group, number, standing, waited_ns, vm, stream, working, group.goes_ns(number, self._seed)
        )

    def _happen(self, event: Event, number: int, now_ns: int) -> None:
        members = self._members[event.group]
        life = self.lives.get(members.group.vm_name(number))
        if event.what == "set-limit":
            members.standing[number].limit_percent = event.limit_percent
            if life is not None:
                life.vm.set_limit(members.group.limit(event.limit_percent))
        elif event.balloon_percent is not None:
            if life is not None:
                life.vm.set_balloon(PageCount(members.group.memory * event.balloon_percent // 100))
        elif life is not None:
            life.vm.destroy()
            del self.lives[life.vm.name]
            self._come(members, number, now_ns)

    def _stream(
        self, filling: Filling, number: int, working: Working, standing: Standing, begins_ns: int
    ) -> Iterator[Batch]:
        version = standing.patched_at(begins_ns)
        yield from filling.booting(number, version, begins_ns)
        yield from working.batches(standing.load_at, standing.patched_at, version)
