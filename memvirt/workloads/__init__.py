"""Seeded generators of access streams, known by name.

`parse({"workload": "zipf", "accesses": 1000})` validates parameters; the workload's `batches(space, stream)` yields
`Batch`es. `names`, `summary` and `parameters` document them.
"""

from memvirt.inputs.bits import Bits

from . import kernels, mixed, patterns, storms, trace, ycsb, zipf  # noqa: F401 - each registers its workloads
from .aging import Action, Plan
from .base import BATCH, DISCARD, FILL, READ, WRITE, Batch, Space, Stream, Workload
from .boot import Boot, discard
from .registry import Parameter, lookup, names, parameters, parse, register, summary
from .trace import replay

__all__ = [
    "BATCH",
    "DISCARD",
    "FILL",
    "READ",
    "WRITE",
    "Action",
    "Batch",
    "Bits",
    "Boot",
    "Parameter",
    "Plan",
    "Space",
    "Stream",
    "Workload",
    "discard",
    "lookup",
    "names",
    "parameters",
    "parse",
    "register",
    "replay",
    "summary",
]
