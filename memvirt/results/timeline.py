"""The time line of a cell: what the host and its VMs looked like over simulated time, as columns.

    phase      fill ········ warm-up ····· measured ·················
    sim_ns     0    64  128  192  320  448 576  704  832  960  1088         ns, a row each
    usage.free 900  512 80   12   12   13  11   9    12   11   12           a state, then
    fault_swap 0    0   0    88   190  201 0    310  298  305  299          gained since the row before, in its phase

Rows of a phase are the first moment of each step of simulated time at which no VM was in the middle of its work; the
step is the shortest power of two, from STEP_NS on, with which they are few enough. So they do not depend on how a phase
was cut into runs. The first row of a phase is its start, with nothing gained yet, and the last one is its end: what a
column of counts gained in a phase sums to what the phase counted.

Counts are what memvirt.names lists as SAMPLED_COUNTS; all else are states. A column that is 0 throughout is left out.
A VM that is not there holds 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from itertools import accumulate, groupby
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from memvirt.names import SAMPLED_COUNTS, SAMPLED_OF_VM, SAMPLED_STATES

MOST_ROWS = 512  # of a phase
FEW_ROWS = 64  # of one that is a first look: tiers smoke and quick, whose records are to stay small
STEP_NS = 1 << 18  # shortest; what a fleet does in it takes this machine about as long, a look a hundredth of that
STRICT = ConfigDict(extra="forbid", strict=True)


Whole = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]  # what an engine counts: 64 bits, as files of tables have them


class Sample(NamedTuple):
    """One look at a host; the numbers are packed as int64."""

    sim_ns: int
    host: bytes  # SAMPLED_STATES, SAMPLED_COUNTS
    vms: tuple[str, ...]
    of_vms: bytes  # of each VM SAMPLED_OF_VM


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Stretch:
    """The rows of one phase."""

    phase: str
    rows: Whole
    step_ns: Whole  # between two rows, at least


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Timeline:
    """Rows of all phases one after the other, by column."""

    phases: list[Stretch] = field(default_factory=list)
    sim_ns: list[Whole] = field(default_factory=list)
    host: dict[str, list[Whole]] = field(default_factory=dict)  # metric -> value a row
    vms: dict[str, dict[str, list[Whole]]] = field(default_factory=dict)  # VM -> the same

    @model_validator(mode="after")
    def _whole(self) -> Timeline:
        rows = len(self.sim_ns)
        if sum(stretch.rows for stretch in self.phases) != rows or any(each.rows < 1 for each in self.phases):
            raise ValueError(f"phases of {[stretch.rows for stretch in self.phases]} rows, but {rows} times")
        long = [each.phase for each in self.phases if each.rows > MOST_ROWS]
        if long:
            raise ValueError(f"phase {long[0]} has more than {MOST_ROWS} rows")
        if sorted(self.sim_ns) != self.sim_ns:
            raise ValueError("times must not go back")
        for name, column in self.columns():
            if len(column) != rows:
                raise ValueError(f"column {name} has {len(column)} rows, not {rows}")
        return self

    def columns(self) -> Iterator[tuple[str, list[int]]]:
        """(name, values) of every column; those of a VM as VM.metric."""
        yield from self.host.items()
        for vm, columns in self.vms.items():
            yield from ((f"{vm}.{name}", column) for name, column in columns.items())

    def of_phase(self, phase: str) -> range:
        """The rows of a phase; none where it has none."""
        ends = list(accumulate(stretch.rows for stretch in self.phases))
        found = [
            range(end - each.rows, end) for each, end in zip(self.phases, ends, strict=True) if each.phase == phase
        ]
        return found[0] if found else range(0)


def timeline(phases: Sequence[tuple[str, int, Sequence[Sample]]]) -> Timeline:
    """The time line of (phase, step_ns, samples) that were taken one after another."""
    kept = [(phase, step_ns, samples) for phase, step_ns, samples in phases if samples]
    every = [sample for _, _, samples in kept for sample in samples]
    return Timeline(
        phases=[Stretch(phase=phase, rows=len(samples), step_ns=step_ns) for phase, step_ns, samples in kept],
        sim_ns=[sample.sim_ns for sample in every],
        host=_host(every, list(accumulate((len(samples) for _, _, samples in kept), initial=0))[:-1]),
        vms=_vms(every),
    )


def _host(every: Sequence[Sample], starts: Sequence[int]) -> dict[str, list[int]]:
    """Columns; `starts`: the rows in which phases begin, where nothing has been gained."""
    rows = np.frombuffer(b"".join(sample.host for sample in every), np.int64)
    rows = rows.reshape(len(every), len(SAMPLED_STATES) + len(SAMPLED_COUNTS)).copy()
    counts = rows[:, len(SAMPLED_STATES) :]
    counts[1:] -= counts[:-1].copy()
    counts[list(starts)] = 0
    return _columns((*SAMPLED_STATES, *SAMPLED_COUNTS), rows)


def _vms(every: Sequence[Sample]) -> dict[str, dict[str, list[int]]]:
    place = {vm: index for index, vm in enumerate(dict.fromkeys(vm for sample in every for vm in sample.vms))}
    rows = np.zeros((len(every), len(place), len(SAMPLED_OF_VM)), np.int64)
    row = 0
    for vms, samples in groupby(every, key=lambda sample: sample.vms):  # while the same VMs are there
        packed = [sample.of_vms for sample in samples]
        numbers = np.frombuffer(b"".join(packed), np.int64).reshape(len(packed), len(vms), len(SAMPLED_OF_VM))
        rows[row : row + len(packed), [place[vm] for vm in vms]] = numbers
        row += len(packed)
    return {vm: _columns(SAMPLED_OF_VM, rows[:, index]) for vm, index in place.items()}


def _columns(names: Sequence[str], rows: np.ndarray[Any, Any]) -> dict[str, list[int]]:
    """Those in which there is anything."""
    return {name: rows[:, index].tolist() for index, name in enumerate(names) if rows[:, index].any()}
