"""Seeded generators of access streams, known by name.

`parse({"workload": "zipf", "accesses": 1000})` validates parameters; the workload's `batches(space, stream)` yields
`Batch`es. A workload is a class in a file of this folder and a line in memvirt.names.WORKLOADS; its file is imported when
it is first asked for.
"""

from memvirt.inputs.bits import Bits

from .aging import Action, AgingPlan
from .base import BATCH, DISCARD, FILL, READ, WRITE, Batch, Space, Stream, Workload
from .boot import Boot, discard
from .registry import Parameter, lookup, names, parameters, parse

__all__ = [
    "BATCH",
    "DISCARD",
    "FILL",
    "READ",
    "WRITE",
    "Action",
    "AgingPlan",
    "Batch",
    "Bits",
    "Boot",
    "Parameter",
    "Space",
    "Stream",
    "Workload",
    "discard",
    "lookup",
    "names",
    "parameters",
    "parse",
]
