from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memvirt.engine.host.engine import Engine
from memvirt.engine.host.sample import Samples
from memvirt.engine.host.vm import Vm

def require_startable(engine: Engine, vms: Sequence[Vm], until_ns: int | None) -> None: ...
def run(
    engine: Engine,
    streams: Mapping[Vm, Any],
    *,
    on_exhausted: str = ...,
    until_ns: int | None = ...,
    decide: Callable[[int], None] | None = ...,
    decider: object = ...,
    interval_ns: int = ...,
    samples: Samples | None = ...,
) -> dict[Vm, tuple[int, str]]: ...
