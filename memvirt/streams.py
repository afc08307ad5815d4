"""What VMs are to do in a run: streams of batches, as the engine takes them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from memvirt.vm import RunOutcome, Vm, op_codes, page_numbers


class Streams:
    """The streams of one host's VMs. An iterator that a run has stopped in goes on where it was when it is given to the
    next; anything else begins anew."""

    def __init__(self) -> None:
        self._stopped: dict[
            Vm, tuple[Iterable[Any], Iterator[Any]]
        ] = {}  # as they were given, and as the engine has them

    def begin(self, streams: Mapping[Vm, Iterable[Any]]) -> dict[Vm, Iterator[Any]]:
        """What the engine is to run."""
        self._stopped = {vm: pair for vm, pair in self._stopped.items() if vm.engine_vm.alive}
        for vm, stream in streams.items():
            given, _ = self._stopped.get(vm, (None, None))
            if given is not stream or iter(stream) is not stream:
                self._stopped[vm] = (stream, checked(stream))
        return {vm: self._stopped[vm][1] for vm in streams}

    def end(self, outcomes: Mapping[Vm, RunOutcome]) -> None:
        """The run is over: forget what is done."""
        for vm, outcome in outcomes.items():
            if outcome.reason != "until":
                self._stopped.pop(vm, None)


def checked(stream: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """The batches of a stream as arrays that the engine takes; ConfigError for what is none."""
    for batch in stream:
        sources = batch[2] if len(batch) > 2 else None
        yield page_numbers(batch[0]), op_codes(batch[1]), None if sources is None else page_numbers(sources)
