"""What one VM of a living fleet does once it has booted: window after window of its load.

    closed loop     the batch of a window begins at the VM's place in it. A VM that is not done with one when the next
                    begins leaves that out
    trace           the same, and what is used in a window follows from the time since the VM began with its load
    open loop       the requests of a window are due at even distances, all of them, however far behind the VM is; between
                    them it uses its parts as in a closed loop. A VM that is more than a window behind leaves the parts out
    files           what its guest reads of them follows, as a closed loop
    changes         a patched image is written as soon as a window begins; what a load grows or shrinks by, or its instances
                    fill and free, in each window

A batch has a due time for one of two reasons: so that the VM sleeps until a window begins, or because a request is due.
The host counts both; `requests` counts those that are of requests alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from memvirt.experiment.filling import Filling
from memvirt.experiment.life_spec import Files, Time
from memvirt.workloads import BATCH, FILL, READ, Batch, Space, Stream
from memvirt.workloads.instances import Places
from memvirt.workloads.load import HUNDRED, SECOND_NS, WHOLE, Load, level_percent
from memvirt.workloads.recorded import Replay
from memvirt.workloads.touches import Touches

SLICES = 64  # of a window: groups of requests, each followed by its share of what else the VM does
AHEAD = 8  # windows whose touches may be made at once


class Working:
    """Of one VM."""

    def __init__(self, vm: Any, filling: Filling, time: Time, number: int, stream: Stream, place: int) -> None:
        files = filling.group.files
        self.asking = False
        self._before: dict[int, int] = {}  # what the host had counted when its requests began
        self._past: dict[int, int] = {}  # of requests of loads that it has no more
        self._vm = vm
        self._filling = filling
        self._time = time
        self._number = number
        self._stream = stream
        self._offset_ns = time.window * place // WHOLE
        self._resident = filling.touched
        self._read = np.zeros(0 if files is None else files.size, np.bool_)  # pages of files that hold something by now
        self._of_files = None if files is None else _touches_of(files, stream, time.epoch)
        self._load: Load | None = None
        self._touches: Touches | Replay | None = None
        self._places: Places | None = None  # of its instances
        self._done_ns = 0  # of the load's own time
        self._given_ns = 0  # ... up to which parts have been used
        self._filed_ns = 0  # ... and files
        self._owed = 0  # windows that it has not grown or shrunk for

    def batches(
        self, load_at: Callable[[int], Load], patched_at: Callable[[int], int], patched: int
    ) -> Iterator[Batch]:
        """Until the scenario ends, given what it does and how often its image has been patched at a time. `patched`: the
        same when it booted."""
        window_ns = self._time.window
        at_ns = -(-(self._vm.sim_ns - self._offset_ns) // window_ns) * window_ns
        ends_ns = self._time.settle + self._time.duration
        while at_ns + self._offset_ns < ends_ns:
            begins_ns = at_ns + self._offset_ns
            load, version = load_at(begins_ns), patched_at(begins_ns)
            touches = self._begin(load, begins_ns)
            began_ns = self._done_ns
            self._done_ns += window_ns * level_percent(load, at_ns, self._number) // HUNDRED
            self._owed += 1
            if not self.asking:
                if version != patched:
                    yield from self._filling.patched(version, begins_ns)
                    patched = version
                yield from self._used(touches, began_ns, begins_ns, self._later(load, at_ns))
                yield from self._beside(load, begins_ns)
            elif isinstance(touches, Touches) and (count := self._requests_since(load, began_ns)):
                yield from self._open(load, touches, count, begins_ns)
                if version != patched:
                    yield from self._filling.patched(version, None)
                    patched = version
                yield from self._beside(load, None)
            reached_ns = (self._vm.sim_ns - self._offset_ns) // window_ns * window_ns
            at_ns = at_ns + window_ns if self.asking else max(at_ns + window_ns, reached_ns)

    def requests(self) -> dict[int, int]:
        """Of its requests so far: ns from when one was due until it was done -> how many."""
        if not self.asking:
            return dict(self._past)
        counts = dict(self._past)
        for value, count in self._counted().items():
            if more := count - self._before.get(value, 0):
                counts[value] = counts.get(value, 0) + more
        return counts

    def _counted(self) -> dict[int, int]:
        taken = self._vm.requests()
        return {} if taken is None else {int(value): int(count) for value, count in taken["latency"]["buckets"]}

    def behind_ns(self) -> int:
        """For how long the first request has been due that is not done."""
        taken = self._vm.requests() if self.asking else None
        return 0 if taken is None else int(taken["behind_ns"])

    def _begin(self, load: Load, begins_ns: int) -> Touches | Replay:
        if load is not self._load or self._touches is None:
            self._load, self._done_ns, self._given_ns, self._filed_ns = load, 0, 0, 0
            space = Space(self._filling.touched, self._filling.image)
            if load.trace is None:
                self._touches = Touches(load, space, self._stream, self._time.epoch)
            else:
                uses = self._time.uses_of(load.trace)
                self._touches = Replay(uses, load.trace, self._number, space, load.busy_percent, begins_ns)
            self._touches.resident = self._resident
            instances, filling = load.instances, self._filling
            self._places = None if instances is None else Places(instances, filling.touched, filling.memory)
            asks = load.requests is not None
            if asks and not self.asking:
                self._before = self._counted()
            elif self.asking and not asks:
                self._past = self.requests()
            self.asking = asks
        return self._touches

    def _requests_since(self, load: Load, began_ns: int) -> int:
        """Requests that are due from that time of the load on."""
        if load.requests is None:
            return 0
        first, end = (ns * load.requests.per_second // SECOND_NS for ns in (began_ns, self._done_ns))
        return end - first

    def _open(self, load: Load, touches: Touches, count: int, due_ns: int) -> Iterator[Batch]:
        asked = load.requests
        assert asked is not None
        behind = self._vm.sim_ns > due_ns + self._time.window
        slices = min(SLICES, count)
        beside = None if behind else touches.batch(self._given_ns, self._done_ns, 0)
        self._given_ns = self._done_ns
        pages, ops = touches.asked(count)
        due = due_ns + np.arange(count, dtype=np.int64) * self._time.window // count
        for number in range(slices):
            lies = slice(count * number // slices, count * (number + 1) // slices)
            touched = slice(lies.start * asked.touches, lies.stop * asked.touches)
            yield Batch(pages[touched], ops[touched], None, asked.work // asked.touches, due[lies])
            if beside is not None:
                share = slice(*(len(beside.pages) * place // slices for place in (number, number + 1)))
                yield Batch(beside.pages[share], beside.ops[share], None, beside.work_ns, None)

    def _used(
        self, touches: Touches | Replay, began_ns: int, begins_ns: int, later_ns: Iterator[int]
    ) -> Iterator[Batch]:
        """What it uses in a window, from that time of the load on."""
        if isinstance(touches, Replay):
            yield from touches.window(begins_ns)
        elif batch := touches.batch(began_ns, self._done_ns, begins_ns, later_ns):
            yield batch

    def _later(self, load: Load, at_ns: int) -> Iterator[int]:
        """How far the load's own time is at the end of each window after that one, if the VM leaves none out."""
        reached_ns, window_ns = self._done_ns, self._time.window
        for number in range(1, AHEAD):
            reached_ns += window_ns * level_percent(load, at_ns + number * window_ns, self._number) // HUNDRED
            yield reached_ns

    def _beside(self, load: Load, due_ns: int | None) -> Iterator[Batch]:
        """What it reads of files, grows or shrinks by since the last time."""
        yield from self._files(due_ns)
        yield from self._resized(load, due_ns)
        self._owed = 0

    def _files(self, due_ns: int | None) -> Iterator[Batch]:
        """What is read of files: a page for the first time, or again."""
        if self._of_files is None:
            return
        pages, _ = self._of_files.between(self._filed_ns, self._done_ns)
        self._filed_ns = self._done_ns
        for first in range(0, len(pages), BATCH):
            part = pages[first : first + BATCH]
            ops = np.where(self._read[part], READ, FILL).astype(np.uint8)
            self._read[part] = True
            due = None if due_ns is None else np.array([due_ns], np.int64)
            yield Batch(part + np.uint32(self._filling.memory), ops, self._filling.files(part), 0, due)

    def _resized(self, load: Load, due_ns: int | None) -> Iterator[Batch]:
        memory, before, lasts_ns = self._filling.memory, self._resident, self._owed * self._time.window
        if load.grow is not None:
            more = load.grow.per_second * lasts_ns // SECOND_NS
            self._resident = max(before, min(before + more, memory * load.grow.to_percent // HUNDRED))
            yield from self._filling.grown(self._number, before, self._resident, due_ns)
        elif self._places is not None:
            for first, end in self._places.ended(self._done_ns):
                yield from self._filling.shrunk(first, end, due_ns)
            for first, end in self._places.grown(self._done_ns):
                yield from self._filling.grown(self._number, first, end, due_ns)
        elif load.shrink is not None:
            less = load.shrink.per_second * lasts_ns // SECOND_NS
            self._resident = min(before, max(before - less, memory * load.shrink.to_percent // HUNDRED))
            yield from self._filling.shrunk(self._resident, before, due_ns)
        if self._touches is not None:
            self._touches.resident = self._resident


def _touches_of(files: Files, stream: Stream, epoch_ns: int) -> Touches:
    load = Load(busy_percent=1, parts=files.used, write_percent=0)
    return Touches(load, Space(files.size), Stream(stream.seed, stream.vm, "files"), epoch_ns)
