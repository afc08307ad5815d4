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
        begun = {vm: self._of(vm, stream) for vm, stream in streams.items()}
        self._stopped = {vm: pair for vm, pair in self._stopped.items() if vm.engine_vm.alive} | begun
        return {vm: batches for vm, (_, batches) in begun.items()}

    def _of(self, vm: Vm, stream: Iterable[Any]) -> tuple[Iterable[Any], Iterator[Any]]:
        stopped = self._stopped.get(vm)
        if stopped is not None and stopped[0] is stream and iter(stream) is stream:
            return stopped
        return stream, border.Batches(f"VM '{vm.name}'", stream)

    def end(self, outcomes: Mapping[Vm, RunOutcome]) -> None:
        """The run is over: forget what is done."""
        for vm, outcome in outcomes.items():
            if outcome.reason != "until":
                self._stopped.pop(vm, None)
