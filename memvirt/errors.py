"""Everything memvirt raises.

MemvirtError
├── ConfigError      what the user asked for cannot be: names the place, the value and what would do (also ValueError)
├── AdmissionError   the host has no room for this VM, or its commit rule forbids it
├── InvariantError   memvirt is broken: check() found a difference, or a caller misused an engine part
├── DeciderError     a decider raised, or asked for what cannot be: names it, its file and the line
├── StoreError       bytes that left memory did not come back: names VM, page, store and slot
└── CorpusError      a corpus or trace file cannot be used: names the file and what is wrong (also ValueError)

Exhaustion (no frame, no slot, a full pool, a refused balloon) is never an exception: it is an outcome, counted by
reason.
"""


class MemvirtError(Exception):
    """Base of all errors that memvirt raises on purpose."""


class ConfigError(MemvirtError, ValueError):
    """A setting, size or name that cannot be honoured."""


class AdmissionError(MemvirtError):
    """A VM that the host refuses: no memory for its fixed parts, or a commit rule that forbids it."""


class InvariantError(MemvirtError):
    """Derived state differs from its recount, or an engine part was misused."""


class DeciderError(MemvirtError):
    """A decider did what none may do: it raised, or it answered with what cannot be done."""


class StoreError(MemvirtError):
    """A page could not be read back from the place that held it."""


class CorpusError(MemvirtError, ValueError):
    """A corpus or trace that is missing, truncated, damaged or of another format."""
