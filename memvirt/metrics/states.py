"""Metrics of the states that a decider names (`Targets.state`): for how long the host was in each, and in which it is."""

from memvirt.metrics.metric import Better, Kind, Metric
from memvirt.names import HOST_STATES

_TIME = "time in which the decider called the host's state '{}'"
_NUMBERS = ", ".join(f"{number} {name}" for number, name in enumerate(HOST_STATES, start=1))

STATES_NAMED = (
    *(
        metric
        for name in HOST_STATES
        for metric in (
            Metric(f"state_ns.{name}", "ns", Kind.COUNTER, _TIME.format(name), Better.NEITHER, "decision to decision"),
            Metric(f"state_percent.{name}", "%", Kind.RATIO, _TIME.format(name), Better.NEITHER, "of state_ns.*"),
        )
    ),
    Metric(
        "decider_state",
        "state",
        Kind.GAUGE,
        f"what the decider calls the host's state: {_NUMBERS}",
        Better.NEITHER,
        "as of the last decision; 0: it has named none",
    ),
)
