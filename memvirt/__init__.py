"""memvirt: how far can memory be overcommitted, by which mechanism, and at what cost?

The face of the library is here; everything else is imported when it is first used.
"""

TYPE_CHECKING = False  # as typing has it, which takes longer to import than the rest of this file

__version__ = "0.1.0"
__all__ = [
    "AdmissionError",
    "ConfigError",
    "CorpusError",
    "Host",
    "InvariantError",
    "MemvirtError",
    "StoreError",
    "Vm",
    "read_results",
    "simulate",
]

if TYPE_CHECKING:
    from memvirt.errors import AdmissionError, ConfigError, CorpusError, InvariantError, MemvirtError, StoreError
    from memvirt.host import Host
    from memvirt.results.frames import read_results
    from memvirt.simulation import simulate
    from memvirt.vm import Vm

_HOMES = {
    "Host": "memvirt.host",
    "Vm": "memvirt.vm",
    "read_results": "memvirt.results.frames",
    "simulate": "memvirt.simulation",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'memvirt' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "memvirt.errors")), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
