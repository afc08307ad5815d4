"""What VMs are to do in a run: streams of batches, as the engine takes them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from memvirt import border
from memvirt.vm import RunOutcome, Vm


class Streams:
    """The streams of one host's VMs. An iterator that a run has stopped in goes on where it was when it is given to the
    next; anything else begins anew."""

    def __init__(self) -> None:
        # as they were given, and as the engine has them
        self._stopped: dict[Vm, tuple[Iterable[Any], Iterator[Any]]] = {}

    def begin(self, streams: Mapping[Vm, Iterable[Any]]) -> dict[Vm, Iterator[Any]]:
        """What the engine is to run."""
        self._stopped = {vm: pair for vm, pair in self._stopped.items() if vm.engine_vm.alive}
        for vm, stream in streams.items():
            given, _ = self._stopped.get(vm, (None, None))
            if given is not stream or iter(stream) is not stream:
                self._stopped[vm] = (stream, border.batches(stream))
        return {vm: self._stopped[vm][1] for vm in streams}

    def end(self, outcomes: Mapping[Vm, RunOutcome]) -> None:
        """The run is over: forget what is done."""
        for vm, outcome in outcomes.items():
            if outcome.reason != "until":
                self._stopped.pop(vm, None)
