"""The cells of a search for the largest fleet: one scenario, one of its groups with more or fewer VMs.

Every other group stays as it is at ratio 1.0. So a size is a number of VMs of the varied group, and a cell of a size is an
ordinary cell, by any means that cells are run and kept. Its scenario is called after its size; its record says the size
under `asked.sweep`, as that of a swept setting: tables have a column for it.

    low       the smallest size there is, 1 unless asked
    high      the largest: as asked, or what the least of these allows: MOST VMs of a group, those that come before the
              scenario ends, those whose cells fit into this machine's memory, predicted before anything runs
    starts    the first guess of each column, by a model (memvirt.experiment.first_guess)

With --failover every column is searched a second time, as `COLUMN, one host lost`. There the host is one of N + 1 that hold
the same VMs. A quarter of the measured time has passed when one of the others fails. From all its groups the host gets its
share, a part in N, rounded up: groups of their own, whose VMs boot at once, at ARRIVAL a second as those of suite
host-failure do. Their seconds count like those of the VMs of their level that were there before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from memvirt.environment import memory_problem
from memvirt.errors import ConfigError, FolderError
from memvirt.experiment import plan as plans
from memvirt.experiment import suite as suites
from memvirt.experiment.first_guess import first_guess
from memvirt.experiment.life_spec import BootTimes, Group
from memvirt.experiment.living import Living
from memvirt.experiment.objectives import Objective, parse
from memvirt.experiment.plan import Cell, Plan
from memvirt.experiment.prediction import need
from memvirt.experiment.scenario import TierName
from memvirt.experiment.suite import Suite
from memvirt.results.manifest import Asked, Search
from memvirt.units import PageCount, suggest

RATIO_DIGITS = 4  # tables tell sizes apart by their ratios, and neighbours of a large fleet have nearly the same
MOST = 4096  # VMs of a group, as [[scenarios.groups]] allows
SHOWN = ("slowdown", "effective_overcommit", "swap_traffic_mib", "cpu_overhead_percent")  # behind the objectives
NAME = re.compile(r"\.vms=([0-9]{1,19})--(.+)--s([0-9]{1,19})\Z")  # the end of a cell's name: size, column, seed
NO_LIMIT = "--between"
LOST = ", one host lost"  # ends the name of a column's second search
ARRIVAL = PageCount(256 * 256)  # that an arriving VM fills in a second: 256 MiB, as in suite host-failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the user asks."""

    suite: str
    tier: TierName = "quick"
    vary: str  # GROUP.vms
    slo: Sequence[str]
    scenario: str = ""  # "": the only one that has the group
    presets: Sequence[str] = ()
    settings: Sequence[str] = ()
    seeds: int = 3
    between: tuple[int, int] | None = None
    hosts: int = 4
    failover: bool = False
    corpus: str = ""


@dataclass(frozen=True, slots=True)
class Sizing:
    """A search and the cells that it may ask for. `plan` holds those of the smallest size, one for each column and seed."""

    search: Search
    plan: Plan

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(cell.seed for cell in self.plan.cells))

    @property
    def columns(self) -> list[str]:
        """Those of the plan; of a search that is for failures, too, each once more."""
        presets = list(dict.fromkeys(cell.preset for cell in self.plan.cells))
        return [*presets, *(preset + LOST for preset in presets if self.search.failover)]

    def cell(self, column: str, size: int, seed: int) -> Cell:
        """The cell of a column with so many VMs and a seed."""
        preset = column.removesuffix(LOST)
        base = next(cell for cell in self.plan.cells if (cell.preset, cell.seed) == (preset, seed))
        return resized(base, self.search, size, lost=column != preset)

    def within(self, there: Search) -> Sizing:
        """The same search within the bounds of one before it."""
        search = replace(self.search, low=there.low, high=there.high, limit=there.limit, starts=there.starts)
        return Sizing(search, replace(self.plan, asked=replace(self.plan.asked, search=search)))

    def of(self, cells: Iterable[Cell]) -> Plan:
        """A plan of some cells, ascending in size."""
        order = {column: number for number, column in enumerate(self.columns)}
        alone = self.search.scenario
        found = sorted(
            cells,
            key=lambda cell: (cell.spec.name != alone, size_of(cell, self.search), cell.seed, order[cell.preset]),
        )
        return replace(self.plan, cells=tuple(found))

    def named(self, names: Iterable[str]) -> list[Cell]:
        """The cells of these names. FolderError for one that this search cannot ask for."""
        found = []
        for name in names:
            match = NAME.search(name)
            size, preset, seed = (int(match[1]), match[2], int(match[3])) if match else (0, "", 0)
            columns = [each for each in self.columns if each.removesuffix(LOST) == preset and seed in self.seeds]
            cell = next((cell for each in columns if (cell := self.cell(each, size, seed)).name == name), None)
            if cell is None:
                raise FolderError(f"cell {name} is of another search; use another --out")
            found.append(cell)
        return found


def resized(base: Cell, search: Search, size: int, lost: bool = False) -> Cell:
    """A cell with so many VMs of the varied group; `lost`: beside what comes from a host that failed."""
    assert isinstance(base.spec, Living)
    swept = {**base.asked.get("sweep", {}), search.varied: str(size)}
    spec = with_vms(base.spec, search.group, size)
    spec = with_arrivals(spec, search.hosts - 1) if lost else spec
    return replace(
        base,
        scenario=f"{spec.name}-{search.varied}={size}",
        spec=spec,
        asked={**base.asked, "sweep": swept},
        ratio_digits=RATIO_DIGITS,
    )


def with_vms(spec: Living, group: str, size: int) -> Living:
    """The scenario with so many VMs of one group."""
    groups = [each.model_copy(update={"vms": size}) if each.name == group else each for each in spec.groups]
    return spec.model_copy(update={"groups": groups})


def with_arrivals(spec: Living, survivors: int) -> Living:
    """The scenario with its share of the VMs of a host like it, which fails when a quarter of the measured time is over."""
    boot = BootTimes(at=spec.time.settle + spec.time.duration // 4, per_second=ARRIVAL)
    arriving = [
        each.model_copy(update={"name": f"{each.name}-moved", "vms": -(-each.count(100) // survivors), "boot": boot})
        for each in spec.groups
    ]
    return spec.model_copy(update={"name": f"{spec.name}-failover", "groups": [*spec.groups, *arriving]})


def size_of(cell: Cell, search: Search) -> int:
    """How many VMs of the varied group a cell has."""
    return int(cell.asked["sweep"][search.varied])


def make(question: Question, jobs: Callable[[Plan], int] = lambda plan: 1) -> Sizing:
    """The search that a question asks for; `jobs`: how many cells of a plan run at once, and must fit into memory together.

    ConfigError with what is wrong with the suite, the columns, the group, the objectives or the bounds.
    """
    sized = suites.load(question.suite).at(question.tier)
    spec, group = _varied(sized, question.vary, question.scenario)
    objectives, low = _checked(question, {each.level for each in spec.groups})
    columns = [objective.metric for objective in objectives]

    def narrowed(whole: Suite) -> Suite:
        one = with_vms(spec, group.name, low).model_copy(update={"overcommit_percent": [100], "seeds": None})
        one = one.sought()
        shown = [*columns, *(name for name in SHOWN if name not in columns)]
        changed = {"scenarios": [one], "columns": shown, "claims": [], "learned": "slowdown"}
        return whole.model_copy(update=changed)

    made = plans.make(
        question.suite,
        question.tier,
        only=question.presets,
        overrides=question.settings,
        seeds=range(1, question.seeds + 1),
        corpus=question.corpus,
        narrowed=narrowed,
    )
    search = Search(
        scenario=spec.name,
        group=group.name,
        slo=[objective.text for objective in objectives],
        low=low,
        high=low,
        limit=NO_LIMIT,
        starts={},
        hosts=question.hosts,
        failover=question.failover,
    )
    sizing = Sizing(search, made)
    high, limit = _largest(sizing, question, group, jobs(made))
    guesses = {cell.preset: first_guess(spec, cell.host, group.name, objectives) for cell in made.cells}
    starts = {column: min(high, max(low, guess)) for column, guess in guesses.items()}
    search = replace(search, high=high, limit=limit, starts=starts)
    return Sizing(search, replace(made, asked=replace(made.asked, search=search)))


def again(asked: Asked, suite: str) -> Sizing:
    """The search that a run was of, by the suite of that name or file."""
    search = asked.search
    assert search is not None
    question = Question(
        suite=suite,
        tier=asked.tier,
        vary=search.varied,
        slo=search.slo,
        scenario=search.scenario,
        presets=asked.presets,
        settings=asked.settings,
        seeds=len(asked.seeds),
        between=(search.low, search.low),  # what this machine can run is not asked
        hosts=search.hosts,
        failover=search.failover,
        corpus=asked.corpus,
    )
    made = make(question)
    return Sizing(search, replace(made.plan, asked=replace(made.plan.asked, search=search)))


def _varied(sized: Suite, vary: str, scenario: str) -> tuple[Living, Group]:
    """The scenario and the group that --vary and --scenario name."""
    living = [each for each in sized.scenarios if isinstance(each, Living)]
    if not living:
        raise ConfigError(
            f"suite '{sized.name}' has no fleet that lives, whose VMs have service levels; take one of: "
            f"{', '.join(name for name in suites.names() if _lives(name))}"
        )
    name, dot, what = vary.rpartition(".")
    every = list(dict.fromkeys(group.name for each in living for group in each.groups))
    if not dot or what != "vms":
        said = name if dot else vary
        near = said if said in every else every[0]
        raise ConfigError(f"--vary {vary}: names no number of VMs; write GROUP.vms, as in --vary {near}.vms")
    having = {each.name: each for each in living if any(group.name == name for group in each.groups)}
    if not having:
        raise ConfigError(
            f"--vary {vary}: no group is called '{name}'{suggest(name, every)} (groups: {', '.join(every)})"
        )
    if scenario and scenario not in having:
        known = list(having)
        raise ConfigError(
            f"--scenario {scenario}: no scenario with a group '{name}' is called so{suggest(scenario, known)} "
            f"(there are: {', '.join(known)})"
        )
    if not scenario and len(having) > 1:
        raise ConfigError(f"several scenarios have a group '{name}'; choose one by --scenario: {', '.join(having)}")
    spec = having[scenario] if scenario else next(iter(having.values()))
    return spec, next(group for group in spec.groups if group.name == name)


def _lives(name: str) -> bool:
    return any(isinstance(each, Living) for each in suites.load(name).scenarios)


def _checked(question: Question, levels: Collection[str]) -> tuple[tuple[Objective, ...], int]:
    """The objectives and the smallest size; ConfigError with all that is wrong with them."""
    problems: list[str] = []
    objectives: tuple[Objective, ...] = ()
    try:
        objectives = parse(question.slo, levels)
    except ConfigError as error:
        problems.append(str(error))
    low, high = question.between or (1, MOST)
    if not 1 <= low <= high <= MOST:
        problems.append(f"--between {low},{high}: give two numbers of VMs, the smaller one first, 1 to {MOST}")
    if problems:
        raise ConfigError("\n".join(problems))
    return objectives, low


def _largest(sizing: Sizing, question: Question, group: Group, jobs: int) -> tuple[int, str]:
    """The largest size there may be, and what limits it; ConfigError where that is less than what was asked for."""
    search = sizing.search
    base = max(sizing.plan.cells, key=lambda cell: need(cell).memory_bytes)
    spec = base.spec
    assert isinstance(spec, Living)
    ends_ns = spec.time.settle + spec.time.duration

    def problem(size: int) -> str:
        return memory_problem(jobs * need(resized(base, search, size, search.failover)).memory_bytes)

    def comes(size: int) -> bool:
        return group.comes_ns(size - 1) < ends_ns

    limits: Mapping[str, Callable[[int], bool]] = {
        "this machine's memory": lambda size: not problem(size),
        "VMs that come before the scenario ends": comes,
    }
    asked = question.between[1] if question.between else MOST
    high, why = asked, NO_LIMIT if question.between else "VMs of a group"
    for limit, fits in limits.items():
        most = _most(fits, search.low - 1, high)
        if most < high:
            high, why = most, limit
    if high < search.low or (question.between and high < asked):
        size = max(asked if question.between else search.low, search.low)
        told = "" if why != "this machine's memory" else f": {jobs} cells at once, {problem(size)}"
        remedy = f"at most {high} do" if high >= search.low else "choose a smaller tier, or --set memory=..."
        raise ConfigError(
            f"{size} VMs of group '{group.name}' are beyond {why}{told.replace('1 cells at once, ', '')}; {remedy}"
        )
    return high, why


def _most(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number up to `high` that fits, where all smaller ones do; `low` fits unasked."""
    if fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
