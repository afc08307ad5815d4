"""A suite whose VMs replay a trace: what `run --trace FILE` makes of any suite.

Every scenario with a measured workload replays the trace in its place, without a warm-up. Scenarios that only differed
in their workload are one then. Memory is sized by the trace: host, swap and VMs grow or shrink together, until the
smallest VM has room for the pages that the trace touches behind its image. So ratios and mechanisms mean what they mean
in the suite. Touches are due at the trace's own times, or at a rate, where that is asked for. A simulated scenario gets
the trace as it is, and capacities in per cent of its pages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np

from memvirt.engine.traces.renumber import Renumber
from memvirt.errors import ConfigError
from memvirt.inputs.traces import Trace, open_trace
from memvirt.results.record import Kind
from memvirt.settings.diagnose import validate
from memvirt.units import MAX_PAGES
from memvirt.workloads.trace import RecordedTrace

from .fleet import Layout
from .pace import Pace
from .scenario import Scenario, TierName
from .simulated import Simulated
from .suite import AnyScenario, Suite

Streams = Literal["all", "each"]

LEAST_HOST_PAGES = 4096  # 16 MiB: with less, fixed parts and watermarks are most of what there is
LEAST_SIMULATED, MOST_SIMULATED = 100, 1 << 24  # pages of a simulated scenario


@dataclass(frozen=True, slots=True)
class _Replay:
    """What takes the place of a scenario's workload."""

    trace: Trace
    plain: RecordedTrace  # touch after touch
    timed: RecordedTrace  # as it was asked for
    pace: Pace | None
    grows: tuple[int, int]  # by which fraction sizes are multiplied

    def grown(self, pages: int) -> int:
        """A size (pages), multiplied and rounded up."""
        numerator, denominator = self.grows
        return -(-pages * numerator // denominator)


def with_trace(
    sized: Suite,
    tier: TierName,
    file: Path,
    streams: Streams = "all",
    *,
    times: bool = False,
    speed: int = 100,
    per_second: int | None = None,
) -> Suite:
    """The suite as a tier runs it, with the trace for its workloads, at its own times and a speed in per cent, at a rate,
    or touch after touch. ConfigError where no scenario can replay it so."""
    if times and per_second is not None:
        raise ConfigError("--times and --per-second both say when touches of a trace are due; give one of them")
    if speed != 100 and not times:
        raise ConfigError(f"--speed {speed}: is that of a trace's own times; add --times")
    trace = open_trace(file)
    if not trace.info.touches:
        raise ConfigError(f"trace {file}: it holds no page numbers, so there is nothing to replay")
    change = sized.tiers.get(tier)
    percent = min(100, change.accesses_percent) if change else 100
    workload = RecordedTrace(file=file, streams=streams, percent=percent)
    timed = RecordedTrace(file=file, streams=streams, percent=percent, times=times, speed_percent=speed)
    timed.check_times(trace)
    pace = None if per_second is None else validate(Pace, {"per_second": per_second})
    replaced = [each for each in sized.scenarios if each.measures_workload]
    hosted = [cast(Scenario, each) for each in replaced if each.has_vms]
    if not replaced:
        raise ConfigError(f"suite '{sized.name}' has no scenario with a workload that a trace could replace")
    if not hosted and (times or per_second is not None):
        raise ConfigError(f"suite '{sized.name}' has no hosts, only traces without: no time passes; leave out --times")
    grows = _factor(sized, hosted, footprint(trace, streams))
    replay = _Replay(trace, workload, timed, pace, grows)
    alike: dict[str, AnyScenario] = {}
    for scenario in sorted(replaced, key=lambda each: not each.has_vms):  # those with hosts first
        made = REPLAYED[scenario.kind](scenario, replay)
        own = made.own_host and made.own_host.grown(replay.grown)
        made = made.model_copy(update={"own_host": own})
        what = made.model_copy(update={"name": "", "description": ""}).model_dump_json()
        alike.setdefault(f"{what} {own!r} {made.presets}", made)
    scenarios = _named(list(alike.values()), file)
    return sized.model_copy(update={"host": sized.host.grown(replay.grown), "scenarios": scenarios})


def footprint(trace: Trace, streams: Streams) -> int:
    """Different pages that a VM touches: all of the trace's, or those of its largest stream."""
    if streams == "all":
        return max(1, trace.info.pages)
    tables = [Renumber() for _ in trace.info.streams]
    for chunk in trace.chunks(times=False):
        for stream in np.unique(chunk.stream).tolist():
            tables[stream].number(chunk.pages[chunk.stream == stream].astype(np.uint64))
    return max(1, *(table.pages for table in tables))


def _factor(sized: Suite, hosted: list[Scenario], pages: int) -> tuple[int, int]:
    """By which fraction all sizes are multiplied: the least that gives each VM its pages."""
    if not hosted:
        return 1, 1
    numerator, denominator = max(
        ((_memory_for(each, pages), each.fleet.memory) for each in hosted), key=lambda pair: pair[0] / pair[1]
    )
    least = min(LEAST_HOST_PAGES, sized.host.memory)
    if sized.host.memory * numerator < least * denominator:
        return least, sized.host.memory
    return numerator, denominator


def _memory_for(scenario: Scenario, pages: int) -> int:
    """The least configured size with which every VM of the scenario has room for `pages` at every ratio, in pages."""
    most = 1
    while _room(scenario, most) < pages:
        most *= 2
        if most > MAX_PAGES:
            raise ConfigError(f"scenario '{scenario.name}': no size of its VMs gives a trace of {pages} pages room")
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if _room(scenario, middle) >= pages else (middle, most)
    return most


def _room(scenario: Scenario, memory: int) -> int:
    """Pages behind the image that the smallest VM works in, where VMs at ratio 1.0 have `memory` pages."""
    fleet = scenario.fleet.model_copy(update={"memory": memory})
    try:
        sizes = [size for percent in scenario.points for size in fleet.sizes(percent)]
    except ConfigError:  # too small to be shared out
        return 0
    return min(layout.live - layout.image for layout in (Layout.of(fleet, size) for size in sizes))


def _on_hosts(each: AnyScenario, replay: _Replay) -> AnyScenario:
    scenario = cast(Scenario, each)
    fleet = scenario.fleet.model_copy(update={"memory": replay.grown(scenario.fleet.memory)})
    changed = {"fleet": fleet, "warm_up": None, "measured": replay.timed, "pace": replay.pace}
    return scenario.model_copy(update=changed)


def _alone(each: AnyScenario, replay: _Replay) -> AnyScenario:
    scenario, pages = cast(Simulated, each), replay.trace.info.pages
    if pages > MOST_SIMULATED:
        raise ConfigError(
            f"scenario '{scenario.name}' simulates at most {MOST_SIMULATED} pages, the trace touches {pages}"
        )
    changed = {"pages": max(LEAST_SIMULATED, pages), "workload": replay.plain}
    return scenario.model_copy(update={"simulate": scenario.simulate.model_copy(update=changed)})


REPLAYED: Mapping[Kind, Callable[[AnyScenario, _Replay], AnyScenario]] = {"fleet": _on_hosts, "trace": _alone}


def _named(scenarios: list[AnyScenario], file: Path) -> list[AnyScenario]:
    """The scenarios, called trace, or trace-NAME where there are several; what they were is in their description."""
    several = len(scenarios) > 1
    return [
        each.model_copy(
            update={
                "name": f"trace-{each.name}" if several else "trace",
                "description": f"A replay of {file.name} in the place of the workload of '{each.name}'.",
            }
        )
        for each in scenarios
    ]
