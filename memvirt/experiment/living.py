"""A scenario whose fleet lives: groups of VMs with loads over simulated time, on a host of real size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from memvirt.errors import ConfigError, CorpusError
from memvirt.experiment import residence
from memvirt.experiment.fleet_spec import Named
from memvirt.experiment.life_spec import HARVEST_EPOCHS, Event, Group, Time, disagreements
from memvirt.experiment.scenario import Scale, Tier
from memvirt.inputs import ClassTable
from memvirt.inputs.varied import varied
from memvirt.policies.base import OLDEST
from memvirt.results.record import Kind, ratio_text
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import Conflicts, changed
from memvirt.settings.fields import DISTINCT, Name
from memvirt.settings.vm_config import VmConfig
from memvirt.units import PAGE_SIZE, format_pages, format_time
from memvirt.workloads.load import SECOND_NS, Load
from memvirt.workloads.recorded import Recorded, Recording

MS_NS = 10**6


class Living(Named):
    """Groups of VMs, what they do all the time, and the ratios to try."""

    kind: ClassVar[Kind] = "life"
    has_vms: ClassVar[bool] = True
    times_wall: ClassVar[bool] = False
    measures_workload: ClassVar[bool] = False
    private: ClassVar[tuple[str, ...]] = ()  # contents of its groups are not compared with other scenarios'
    baseline: ClassVar[str] = "baseline"
    has_baseline: ClassVar[bool] = False  # its slowdown is of the VMs' own work
    host_settings: ClassVar[tuple[str, ...]] = tuple(name for name in HostConfig.model_fields if name != "content")

    overcommit_percent: Annotated[list[Scale], DISTINCT] = Field(
        description="ratios to run, in per cent: VMs of every group that is not fixed, to those at ratio 1.0",
        min_length=1,
    )
    content: Literal["fingerprint", "bytes"] = Field(
        default="fingerprint", description="what VMs' pages are on this machine: 8-byte fingerprints, or bytes"
    )
    time: Time = Field(description="how long it lasts, and how finely it is looked at; keys below")
    loads: dict[Name, Load] = Field(description="what VMs do all the time, by name; keys below", min_length=1)
    groups: list[Group] = Field(description="VMs that are alike; keys below", min_length=1)
    events: list[Event] = Field(description="what happens to groups; keys below", default=[])

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if problems := disagreements(self.time, self.loads, self.groups, self.events):
            raise Conflicts(problems)
        return self

    timed: ClassVar[bool] = True
    _sought: bool = PrivateAttr(default=False)

    def sought(self) -> Living:
        """The scenario as a search for the largest fleet asks for it. Sizes far beyond the answer are run, too, though their
        pages do not stay for an epoch: they wait even more than is seen."""
        copy = self.model_copy()
        copy._sought = True
        return copy

    def scaled(self, tier: Tier) -> Living:
        """The scenario with a tier's memory and durations."""
        memory, time = tier.memory_percent, tier.accesses_percent
        changed = {
            "time": self.time.scaled(time),
            "loads": {name: load.scaled(memory) for name, load in self.loads.items()},
            "groups": [group.scaled(memory, time) for group in self.groups],
            "events": [event.scaled(time) for event in self.events],
        }
        return self.model_copy(update=changed)

    def promising(self, promised: Mapping[str, tuple[int, ...]]) -> Living:
        """The scenario itself: its groups say what they are promised."""
        return self

    with_promises = promising

    def with_contents(self, classes: Mapping[str, Sequence[str]]) -> Living:
        """The scenario whose VMs are filled from other classes: of "image", of "private", or of both."""
        changed = {key: tuple(names) for key, names in classes.items()}
        groups = [
            group.model_copy(update={"content": group.content.model_copy(update=changed)}) for group in self.groups
        ]
        return self.model_copy(update={"groups": groups})

    def comparable_with(self, private: tuple[str, ...]) -> Living:
        """The scenario itself."""
        return self

    @property
    def points(self) -> list[int]:
        """The ratios the scenario is run at, in percent."""
        return self.overcommit_percent

    def sizes(self, percent: int) -> list[int]:
        """Configured pages of each VM at a ratio, those that come later included."""
        return [group.memory for group in self.groups for _ in range(group.count(percent))]

    @property
    def needs_guest(self) -> tuple[str, ...]:
        """What it asks of VMs that only a guest can do, as texts."""
        files = (
            f"group {group.name} has files, which a guest reads" for group in self.groups if group.files is not None
        )
        whose = [group.name for group in self.groups if group.ballooned_percent]
        whose += [event.group for event in self.events if event.what == "set-balloon"]
        return (*files, *(f"group {name} has a balloon, which a guest fills" for name in dict.fromkeys(whose)))

    def file_pages(self, percent: int) -> int:
        """Pages of files of all VMs at a ratio."""
        return sum(group.count(percent) * group.files.size for group in self.groups if group.files is not None)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of a corpus that its VMs are filled from."""
        own = (name for group in self.groups for name in (*group.content.image, *group.content.private))
        return (*own, *(name for group in self.groups if group.files is not None for name in group.files.classes))

    def rounds_of(self, group: Group, corpus: ClassTable) -> int:
        """How often its image classes have to be gone through for the largest image of the same classes."""
        classes = group.content.image
        largest = max(other.image_pages for other in self.groups if other.content.image == classes)
        return max(1, -(-largest // sum(len(corpus.sources([name])) for name in classes)))

    def filled_from(self, corpus: ClassTable) -> ClassTable:
        """The corpus with as many different pages as its images, patched as often as they are, and files have."""
        rounds: dict[str, int] = {}
        for group in self.groups:
            patches = sum(event.what == "rewrite-image" and event.group == group.name for event in self.events)
            needed = {group.content.image: self.rounds_of(group, corpus) * (1 + patches) - 1}
            if group.files is not None:
                pages = sum(len(corpus.sources([name])) for name in group.files.classes)
                needed[group.files.classes] = max(needed.get(group.files.classes, 0), -(-group.files.size // pages) - 1)
            for classes, count in needed.items():
                rounds |= {name: max(rounds.get(name, 0), count) for name in classes}
        return varied(corpus, rounds)

    def distinct_pages(self) -> int:
        """At most so many pages are added to a corpus for its images and files."""
        images = sum(
            group.image_pages * (1 + sum(event.what == "rewrite-image" for event in self.events))
            for group in self.groups
        )
        return images + sum(group.files.size for group in self.groups if group.files is not None)

    def vms(self, percent: int) -> list[VmConfig]:
        """Its VMs at a ratio, without guests."""
        return [group.vm(number, files=False) for group in self.groups for number in range(group.count(percent))]

    def accesses(self, percent: int) -> int:
        """About how many operations a cell does."""
        return sum(self._accesses_of(group, group.count(percent)) for group in self.groups)

    def _accesses_of(self, group: Group, vms: int) -> int:
        load, touched, lasts_ns = self.loads[group.load], group.memory * group.touched_percent // 100, self.time.lasts
        made = vms * (2 * touched + load.touches(touched, self.time.epoch, lasts_ns))
        if load.trace is None:
            return made
        recorded, again = self._recorded(group.load, load.trace), load.trace.at_end == "again"
        return made + sum(recorded.touches(number, lasts_ns, again) for number in range(vms))

    @property
    def readers(self) -> dict[tuple[str, ...], Recording]:
        """What of its loads reads files, by its keys."""
        return {("loads", name, "trace"): load.trace for name, load in self.loads.items() if load.trace is not None}

    def trace_bytes(self) -> int:
        """What the traces of its loads take of this machine's memory."""
        traces = {load.trace: name for name, load in self.loads.items() if load.trace is not None}
        return sum(self._recorded(name, trace).held_bytes for trace, name in traces.items())

    def _recorded(self, load: str, trace: Recording) -> Recorded:
        """What of a trace its VMs are given; ConfigError where it cannot say that."""
        try:
            return self.time.uses_of(trace)
        except CorpusError as error:
            raise ConfigError(f"scenario {self.name}: load {load}: {error}") from None

    def host(self, percent: int, column: HostConfig) -> HostConfig:
        """The column's host, with the scenario's content. ConfigError where accessed marks are collected more often than
        its epochs allow, a decider cannot act, or VMs use more in an epoch than there is room for."""
        if column.harvest_interval < HARVEST_EPOCHS * self.time.epoch:
            raise ConfigError(
                f"scenario {self.name}: harvest_interval {format_time(column.harvest_interval)} is shorter than "
                f"{HARVEST_EPOCHS} epochs of {format_time(self.time.epoch)}: warm pages would look cold; give "
                f"{format_time(HARVEST_EPOCHS * self.time.epoch)} or more, a shorter epoch in the suite's file, or name the "
                f"scenarios to run: --scenario"
            )
        self._refuse_inert(column)
        self._refuse_unservable(percent, column.costs.hit)
        self._refuse_late(percent)
        problem = residence.problem(self, percent, column.memory, bool(column.sharing))
        if problem and not self._sought:
            raise ConfigError(f"scenario {self.name}: {problem}")
        return changed(column, content=self.content)

    def _refuse_late(self, percent: int) -> None:
        """ConfigError where a VM that is counted as promised never comes."""
        for group in self.groups:
            last = group.count(percent) - 1
            if group.comes_ns(last) >= self.time.lasts and not self._sought:
                raise ConfigError(
                    f"scenario {self.name}: at {percent} % VM {group.vm_name(last)} would come at "
                    f"{format_time(group.comes_ns(last))}, and the scenario ends at {format_time(self.time.lasts)}, settling "
                    f"included: it is promised memory and never there; let VMs come sooner (boot.every), or measure longer"
                )

    def _refuse_inert(self, column: HostConfig) -> None:
        """ConfigError where a decider cannot change anything while it is looked at: its row would be another preset's."""
        decider, time = column.decider(), self.time
        if decider is None:
            return
        marks_ns, lasts_ns = column.harvest_interval, time.lasts
        watches_ns, age_ns = getattr(decider, "warmup_ns", 0), getattr(decider, "min_age_ns", 0)
        lasts, marks = format_time(lasts_ns), format_time(marks_ns)
        why = ""
        if decider.interval_ns > time.duration:
            why = (
                f"is asked every {format_time(decider.interval_ns)} (decider_options.interval_ns), and the measured phase "
                f"(time.duration) lasts {format_time(time.duration)}"
            )
        elif getattr(decider, "weighs_marks", False) and marks_ns > lasts_ns:
            why = f"weighs accessed marks, which are collected every {marks} (harvest_interval), and all of it lasts {lasts}"
        elif watches_ns > lasts_ns:
            why = f"only watches for {format_time(watches_ns)} (decider_options.warmup_ns), and all of it lasts {lasts}"
        elif age_ns > min(lasts_ns, OLDEST * marks_ns):
            known = f"all of it lasts {lasts}" if lasts_ns < age_ns else f"ages are known to {OLDEST} times {marks}"
            why = f"takes pages that have been cold for {format_time(age_ns)} (decider_options.min_age_ns), and {known}"
        if why:
            raise ConfigError(
                f"scenario {self.name}: decider {column.balloon} {why}: it cannot act; measure longer, leave the preset "
                f"out, or give another interval"
            )

    def _refuse_unservable(self, percent: int, hit_ns: int) -> None:
        """ConfigError where a VM would be behind for ever, though it had all memory: its work, and its touches, of which each
        takes `hit_ns`, come to more than the time there is; or where a trace touches more than there is."""
        changed = {(event.group, event.load) for event in self.events if event.load is not None}
        for group in self.groups:
            for name in {group.load, *(load for whose, load in changed if whose == group.name)}:
                load, pages = self.loads[name], group.memory * group.touched_percent // 100
                if load.trace is not None:
                    self._refuse_trace(group, name, load.trace, group.count(percent), hit_ns)
                    continue
                touches = load.touches(pages, self.time.epoch, SECOND_NS)
                asked_ns = load.work_ns + touches * hit_ns
                if asked_ns > SECOND_NS:
                    raise ConfigError(
                        f"scenario {self.name}: load {name} of group {group.name} is {asked_ns / SECOND_NS:.3g} times what a "
                        f"processor can serve: {touches} touches a second take {touches * hit_ns // MS_NS} ms, and the VM "
                        f"computes for {load.work_ns // MS_NS} ms beside; use parts less often, or give a longer epoch"
                    )

    def _refuse_trace(self, group: Group, name: str, trace: Recording, vms: int, hit_ns: int) -> None:
        """The same of a load that follows a trace, window by window."""
        recorded, filling = self._recorded(name, trace), group.memory * group.touched_percent // 100
        room, window_ns = filling - filling * group.content.image_percent // 100, self.time.window
        where = f"scenario {self.name}: load {name} of group {group.name}"
        for number in range(min(vms, len(recorded.streams))):
            uses = recorded.of(number)
            if uses.footprint > room:
                whose = f"stream {number} of trace" if len(recorded.streams) > 1 else "trace"
                raise ConfigError(
                    f"{where}: {whose} {trace.file} touches {uses.footprint} pages, and a VM fills {room} behind its image "
                    f"(memory {format_pages(group.memory)}, touched_percent {group.touched_percent}, content.image_percent "
                    f"{group.content.image_percent}); give the group more memory"
                )
            at, touches, work_ns = recorded.busiest(number, self.loads[name].busy_percent, hit_ns)
            asked_ns = touches * hit_ns + work_ns
            if asked_ns > window_ns:
                raise ConfigError(
                    f"{where} is {asked_ns / window_ns:.3g} times what a processor can serve in window {at} (from 0) of "
                    f"trace {trace.file}: {touches} touches take {format_time(touches * hit_ns)}, and the VM computes "
                    f"for {format_time(work_ns)} beside, of {format_time(window_ns)}; give a lower speed_percent or "
                    f"busy_percent, or a longer epoch"
                )

    def baseline_host(self, percent: int, host: HostConfig) -> HostConfig:
        """The same: there is no baseline."""
        return host

    def ratio(self, percent: int, host: HostConfig) -> str:
        """Overcommit: configured pages / the host's, an exact decimal."""
        return ratio_text(sum(self.sizes(percent)), host.memory, 2)

    def bytes_held(self, host: HostConfig) -> int:
        """Memory of this machine that a host takes: page bytes, where it has any."""
        return host.memory * PAGE_SIZE if host.content == "bytes" else 0
