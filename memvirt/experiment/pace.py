"""How simulated time passes in a phase: think time, requests that arrive, phases that last.

A workload says which pages come next. Without a pace an access follows the last one at once, and a VM computes nothing:
a microbenchmark of memory. A pace makes of it a load that an application has.

    think                closed loop: after each access the VM computes so long; when it waits, the next access waits, too
    per_second           open loop: requests arrive from outside, at even distances, whether the VM has served the last
                         one or not. It sleeps until the next is due; if it is behind, requests queue, and the latency of
                         each counts from when it was due. VMs do not beat together: each begins at a time of its own
    warm_up, measured    the phase ends after that time; a stream that ends sooner leaves its VM idle until then

Requests at even distances are the least that an open loop can queue: arrivals by chance would queue more.
"""

from collections.abc import Iterator
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from memvirt.settings.diagnose import Conflicts, Problem
from memvirt.settings.fields import Interval, Model
from memvirt.workloads.base import BATCH, Batch, Stream

SECOND_NS = 10**9
LONGEST_THINK_NS = 10**12

Requests = Annotated[int, Field(strict=True, ge=1, le=SECOND_NS)]


class Pace(Model):
    """The table [scenarios.pace]: how time passes between the accesses of warm-up and measured phase."""

    think: Interval = Field(default=0, description="time that a VM computes after each access")
    per_second: Requests | None = Field(
        default=None,
        description="requests that are due in a second, for each VM; without it an access follows the last",
    )
    request: Annotated[int, Field(strict=True, ge=1, le=BATCH)] = Field(
        default=1, description="accesses of a request; the last may have fewer"
    )
    warm_up: Interval = Field(default=0, description="how long the warm-up lasts; 0: until all accesses are done")
    measured: Interval = Field(
        default=0, description="how long the measured phase lasts; 0: until all accesses are done"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        if self.request > 1 and self.per_second is None:
            problems.append(
                Problem(("request",), "requests of several accesses need per_second, the rate they arrive at")
            )
        if self.think > LONGEST_THINK_NS:
            problems.append(Problem(("think",), "is more than 1000s between two accesses"))
        if self.per_second and self.think * self.request * self.per_second > SECOND_NS:
            beyond = self.think * self.request * self.per_second / SECOND_NS
            text = (
                f"{beyond:.3g} times more than a processor can serve: think × request × per_second is beyond a second"
            )
            problems.append(Problem(("per_second",), text, ("think", "request")))
        if problems:
            raise Conflicts(problems)
        return self

    def scaled(self, percent: int) -> "Pace":
        """With phases `percent` as long; rates and think times are what they are."""
        lasts = {name: getattr(self, name) for name in ("warm_up", "measured")}
        return self.model_copy(update={name: -(-ns * percent // 100) for name, ns in lasts.items()})

    def lasts(self, phase: str) -> int:
        """How long a phase lasts, ns; 0: until its accesses are done."""
        return {"warm-up": self.warm_up, "warm_up": self.warm_up, "measured": self.measured}.get(phase, 0)

    def accesses_within(self, phase: str, accesses: int) -> int:
        """About how many of a VM's accesses a phase has time for."""
        lasts_ns = self.lasts(phase)
        if lasts_ns and self.per_second is not None:
            return min(accesses, lasts_ns * self.per_second * self.request // SECOND_NS + 1)
        return min(accesses, lasts_ns // self.think + 1) if lasts_ns and self.think else accesses


def paced(batches: Iterator[Batch], pace: Pace, stream: Stream) -> Iterator[Batch]:
    """The same accesses, with the times that they have. Due times count from the beginning of the phase."""
    if pace.per_second is None:
        return (batch._replace(work_ns=pace.think) for batch in batches)
    return _due(whole_requests(batches, pace.request), pace, pace.per_second, stream)


def _due(batches: Iterator[Batch], pace: Pace, per_second: int, stream: Stream) -> Iterator[Batch]:
    first = stream.bits("pace").one_below(-(-SECOND_NS // per_second))
    done = 0
    for batch in batches:
        count = -(-len(batch.pages) // pace.request)
        number = np.arange(done, done + count, dtype=np.int64)
        whole, part = np.divmod(number, per_second)
        due = first + whole * SECOND_NS + part * SECOND_NS // per_second
        done += count
        yield batch._replace(work_ns=pace.think, due_ns=due)


def whole_requests(batches: Iterator[Batch], length: int) -> Iterator[Batch]:
    """Batches that hold whole requests of `length` accesses each; the last may be shorter, a batch of its own."""
    rest: Batch | None = None
    for batch in batches:
        joined = batch if rest is None else _joined(rest, batch)
        whole = len(joined.pages) // length * length
        rest = None if whole == len(joined.pages) else _part(joined, whole, len(joined.pages))
        if whole:
            yield _part(joined, 0, whole)
    if rest is not None:
        yield rest


def _joined(one: Batch, other: Batch) -> Batch:
    sources = None
    if one.sources is not None or other.sources is not None:
        parts = (np.zeros(len(b.pages), np.uint32) if b.sources is None else b.sources for b in (one, other))
        sources = np.concatenate(list(parts))
    return Batch(np.concatenate([one.pages, other.pages]), np.concatenate([one.ops, other.ops]), sources)


def _part(batch: Batch, first: int, end: int) -> Batch:
    sources = None if batch.sources is None else batch.sources[first:end]
    return Batch(batch.pages[first:end], batch.ops[first:end], sources)
