"""Taking the samples of a time line while a phase runs, as many as fit, evenly.

How long a phase will take is not known. So it is sampled at the shortest step first; whenever there is no room for
another row, the step is doubled, and of the rows that lie in one step now the first stays. What is left is what sampling
at the last step from the start would have given: a step of 2 s begins where one of s does.
"""

from __future__ import annotations

from typing import Any

from memvirt.experiment.backend import Host
from memvirt.results.timeline import STEP_NS, Sample, Timeline, timeline


class Sampler:
    """Samples of one host, phase by phase, at most `rows` of each."""

    def __init__(self, host: Host[Any], rows: int) -> None:
        self._host = host
        self._rows = rows
        self._phases: list[tuple[str, int, list[Sample]]] = []
        self._samples: list[Sample] = []
        self._began_ns = self._due_ns = 0
        self._step_ns = STEP_NS

    def begin(self) -> None:
        """A phase begins now."""
        self._samples, self._step_ns = [], STEP_NS
        self._began_ns = self._due_ns = self._host.sim_ns
        self._host.watch(self.look)
        self.look(self._began_ns)

    def look(self, now_ns: int) -> int:
        """Take a sample if one is due; when the next one is."""
        if now_ns >= self._due_ns and (taken := self._host.sample()):
            while len(self._samples) >= self._rows - 1:  # the last row is for the end
                self._thin()
            if not self._samples or self._place(self._samples[-1].sim_ns) < self._place(now_ns):
                self._samples.append(Sample(now_ns, *taken))
            self._due_ns = self._began_ns + (self._place(now_ns) + 1) * self._step_ns
        return self._due_ns

    def end(self, phase: str) -> None:
        """The phase has ended: its last row is what there is now, in place of one at the same time."""
        self._host.watch(None)
        now_ns = self._host.sim_ns
        if taken := self._host.sample():
            if len(self._samples) > 1 and self._samples[-1].sim_ns == now_ns:
                self._samples.pop()
            self._samples.append(Sample(now_ns, *taken))
        self._phases.append((phase, self._step_ns, self._samples))

    def timeline(self) -> Timeline:
        """All phases so far; empty where the host gives no samples."""
        return timeline(self._phases)

    def _thin(self) -> None:
        self._step_ns *= 2
        kept: dict[int, Sample] = {}
        for sample in self._samples:
            kept.setdefault(self._place(sample.sim_ns), sample)
        self._samples = list(kept.values())

    def _place(self, now_ns: int) -> int:
        """In which step from the start this time lies."""
        return (now_ns - self._began_ns) // self._step_ns
