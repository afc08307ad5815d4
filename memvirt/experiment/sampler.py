"""The samples of a cell's time line, phase by phase. The host takes them while it runs: memvirt.engine.host.sample."""

from __future__ import annotations

from typing import Any

from memvirt.experiment.backend import Host
from memvirt.results.timeline import STEP_NS, Sample, Timeline, timeline


class Sampler:
    """Samples of one host, at most `rows` of each phase."""

    def __init__(self, host: Host[Any], rows: int) -> None:
        self._host = host
        self._rows = rows
        self._phases: list[tuple[str, int, list[Sample]]] = []

    def begin(self) -> None:
        """A phase begins now."""
        self._host.begin_samples(self._rows, STEP_NS)

    def end(self, phase: str) -> None:
        """The phase has ended."""
        taken = self._host.end_samples()
        if taken is not None:
            step_ns, samples = taken
            self._phases.append((phase, step_ns, [Sample(*each) for each in samples]))

    def timeline(self) -> Timeline:
        """All phases so far; empty where the host gives no samples."""
        return timeline(self._phases)
