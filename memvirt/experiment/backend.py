"""What runs a cell: a host, its VMs, and which of their answers may be missing.

The engine is one backend (`memvirt.Host.of`); another is a class that derives from `Host` and one that derives from
`Vm`, and a function that makes the host of a `HostConfig`. Nothing else in this package asks who is behind them.

    must        make VMs, run streams on them, read their pages back, end
    may         everything that measures: a method that is not overridden answers "nothing", the record's part stays
                empty, and the numbers that follow from it are missing from the tables

A backend without simulated time leaves `sim_ns` at 0: its cells have wall times and no slowdown. The content of pages
is no matter of taste, for every page is read back and compared: a fill copies a corpus page, and the n-th access write of
a VM stores a tag in one word of its page (memvirt.experiment.expected says which), counted from `writes_done`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memvirt.settings.config import HostConfig
from memvirt.settings.vm_config import VmConfig
from memvirt.units import PageCount


class Outcome(Protocol):
    """How far a VM's stream got, and why it ended: "done", "until", or what could not be had."""

    @property
    def done(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Vm(Protocol):
    """A VM: hashable, equal to itself alone."""

    # ---- must

    @property
    def name(self) -> str: ...
    @property
    def pages(self) -> int:
        """Configured size."""

    @property
    def tag_base(self) -> int:
        """Added to the number of an access write to give its tag."""

    @property
    def writes_done(self) -> int:
        """Access writes so far; a clone may go on with its parent's count or begin its own."""

    def read_pages(self, pages: ArrayLike) -> NDArray[np.uint8]:
        """What the VM would read there, uint8 [n, 4096]."""

    def clone(self, name: str) -> Self:
        """A VM with the same content, from now on by itself. AdmissionError when the host refuses it."""

    def destroy(self) -> None:
        """The VM ends."""

    # ---- may

    @property
    def sim_ns(self) -> int:
        """Its clock, in simulated time."""
        return 0

    @property
    def address_pages(self) -> int:
        """Pages that its accesses may name: its memory, and files of its guest behind it."""
        return self.pages

    @property
    def held_pages(self) -> int:
        """Frames of the host that are charged to it."""
        return 0

    @property
    def stall_ns(self) -> int:
        """Simulated time in which it has waited for memory."""
        return 0

    @property
    def work_ns(self) -> int:
        """Simulated time in which it had work and did not wait for memory; sleep is neither."""
        return 0

    @property
    def driver_ns(self) -> int:
        """Simulated time in which it had work and the driver in its guest had its processor."""
        return 0

    def balloon(self, target: PageCount) -> int:
        """Move the balloon of its guest towards `target`; what it holds now, in bytes."""
        return 0

    def set_balloon(self, target: PageCount) -> None:
        """From now on the balloon of its guest is to hold `target`, and moves there as time passes."""

    def requests(self) -> dict[str, Any] | None:
        """Of the parts of batches that had due times: "latency", how long each took from then on ({"buckets": [[simulated
        ns, count], ...]}), and "behind_ns", for how long the first has been due that is not done. None: there were none."""
        return None

    def set_limit(self, limit: PageCount | None) -> int:
        """From now on it gets so much host memory at most (None: as much as there is); bytes that went at once."""
        return 0


AnyVm = TypeVar("AnyVm", bound=Vm)


class Host(Protocol[AnyVm]):
    """A host and what it knows about itself. All numbers are integers."""

    # ---- must

    def create(self, config: VmConfig) -> AnyVm:
        """A VM that holds nothing yet. AdmissionError when the host refuses it."""

    def run(self, streams: Mapping[AnyVm, Iterable[Any]], until_ns: int | None = None) -> Mapping[AnyVm, Outcome]:
        """Run batches (see memvirt.workloads.Batch; due times are of the host's clock) until the streams end, side by
        side, or simulated time has come to `until_ns`, which is given only where a scenario's pace says how long a phase
        lasts. A batch is asked for once the one before it is done whole."""

    def close(self) -> None:
        """Give everything back to this machine."""

    # ---- may: the state of things, now

    def wait_for(self, configs: Sequence[VmConfig]) -> list[int]:
        """VMs that are to be admitted, in this order: frames that would have to be taken from others for each and those
        before it. What decides of memory is told of all of them until this is called again."""
        return [0] * len(configs)

    @property
    def sim_ns(self) -> int:
        """Simulated time: that of the VM that is ahead."""
        return 0

    @property
    def ids_of(self) -> Callable[..., Any] | None:
        """Where content is fingerprints: the ids of (source, word, tag). None: pages have bytes."""
        return None

    def usage(self) -> Mapping[str, int]:
        """Frames by use; "free" among them. They sum to the host's memory."""
        return {}

    def sharing(self) -> Mapping[str, int]:
        """What page sharing saves, and its scanner's counts."""
        return {}

    def stores(self) -> Mapping[str, int]:
        """Pages that are out of memory, by where they are."""
        return {}

    def fragmentation(self) -> Mapping[str, Any]:
        """How free memory and the VMs' pages lie. Aging needs "unusable", the index per order, in thousandths."""
        return {}

    def cold_pages(self, age_ns: int) -> tuple[int, int] | None:
        """Pages in frames that have not been accessed for so long, and all pages of VMs in frames. None: not known."""
        return None

    # ---- may: what has been counted since the host was made

    def counters(self) -> Mapping[str, int]:
        """Events by name; memvirt.metrics.registry explains them."""
        return {}

    def cpu_ns(self) -> Mapping[str, int]:
        """Simulated processor time by mechanism."""
        return {}

    def histograms(self) -> Mapping[str, Any]:
        """Fault kind -> {"buckets": [[simulated ns, count], ...]}."""
        return {}

    def stall(self) -> Mapping[str, int]:
        """Time in which VMs waited for memory; totals end in _ns."""
        return {}

    def wall_samples(self) -> Mapping[str, Any]:
        """Histograms in this machine's time, of some of the faults."""
        return {}

    def swap(self) -> list[dict[str, Any]]:
        """What this machine's system calls for swap came to, by area."""
        return []

    # ---- may: time lines

    def begin_samples(self, rows: int, step_ns: int) -> None:
        """Take samples while VMs run, from now on: at most `rows`, evenly, at first `step_ns` of simulated time apart."""

    def end_samples(self) -> tuple[int, Sequence[tuple[int, bytes, tuple[str, ...], bytes]]] | None:
        """How far apart the last ones were, and all of them, the last of the present: simulated time, what memvirt.names
        lists as SAMPLED_STATES and SAMPLED_COUNTS, the names of the VMs, and of each SAMPLED_OF_VM, packed as int64.
        None: no time lines."""
        return None

    # ---- may: what it can be asked to do

    def settle(self, passes: int) -> None:
        """Let the page-sharing scanner go over all memory `passes` times while all VMs are idle."""

    def check(self) -> None:
        """Recount everything that was derived; InvariantError at the first difference."""


class MakeHost(Protocol):
    """How a backend makes the host of a cell."""

    def __call__(self, config: HostConfig, /, *, corpus: Any, swap_direct: bool) -> Host[Any]:
        """An empty host. `corpus`: the pages that VMs fill theirs from, a memvirt.inputs.ClassTable. `swap_direct`: past
        this machine's page cache, where there is a swap file."""
