"""Everything that memvirt raises on purpose, in one tree.

MemvirtError
├── ConfigError      what the user asked for cannot be: names the place, the value and what would do (also ValueError)
│   ├── FolderError  a results folder that cannot be used: what it holds, and what to do
│   └── BundleError  an archive that cannot be read, or that is not to be trusted: what is wrong with it
├── AdmissionError   the host has no room for this VM, or its commit rule forbids it
├── InvariantError   memvirt is broken: check() found a difference, or a caller misused an engine part
├── ContentError     a VM read back something else than it wrote: names VM, page and word
├── DeciderError     a decider raised, or asked for what cannot be: names it, its file and the line
├── StoreError       bytes that left memory did not come back: names VM, page, store and slot
├── CorpusError      a corpus or trace file cannot be used: names the file and what is wrong (also ValueError)
├── RecordError      a record cannot be read or written: names the file (also ValueError)
├── TimingError      a wall time could not be taken or read: names the cell or the file
└── TenantError      a process that stands for a VM beside this machine's kernel has ended before its time

Exhaustion (no frame, no slot, a full pool, a refused balloon) is never an error: the engine returns it as a value,
counted by reason. Three exceptions (of Exception alone) carry an end to where it is reported, and no user sees them:

Exhausted            a VM's stream stopped for want of memory: the outcome of the cell
WorkerDied           the process that ran the cell was killed, or its executor lost it: the cell has failed
ExecutorLost         the executor is gone, and no cell will come from it any more: the run stops

Being told to stop is no error either, and nothing that handles errors may take it for one (a BaseException):

Stopped              by Ctrl-C, SIGTERM or SIGHUP
└── TimeUp           by the clock

Some stay where they are raised, and their folders have them: Conflicts of settings, Missing and TooSmall of a
comparison with this machine's kernel, TooLong and Unfit of a decider that never answers, or answers what cannot be,
and Excess of files that hold more than any of memvirt's.
"""

import os


def absence(path: str | os.PathLike[str]) -> str:
    """Why nothing is found at a place that a user named, as the end of a sentence; "" where there is something."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be looked at: {getattr(error, 'strerror', None) or error}"
    return ""


class MemvirtError(Exception):
    """Base of all errors that memvirt raises on purpose."""


class ConfigError(MemvirtError, ValueError):
    """A setting, size or name that cannot be honoured."""


class FolderError(ConfigError):
    """A results folder that cannot be used: what it holds, and what to do."""


class BundleError(ConfigError):
    """An archive of results that cannot be read or written, or that is not to be trusted."""


class AdmissionError(MemvirtError):
    """A VM that the host refuses: no memory for its fixed parts, or a commit rule that forbids it."""


class InvariantError(MemvirtError):
    """Derived state differs from its recount, or an engine part was misused."""


class ContentError(MemvirtError):
    """A VM read back something else than it wrote; names VM, page and the first word that differs."""


class DeciderError(MemvirtError):
    """A decider did what none may do: it raised, or it answered with what cannot be done."""


class StoreError(MemvirtError):
    """A page could not be read back from the place that held it."""


class CorpusError(MemvirtError, ValueError):
    """A corpus or trace that is missing, truncated, damaged or of another format."""


class RecordError(MemvirtError, ValueError):
    """A result file that is missing, damaged, foreign or of another run; the message names the path."""


class TimingError(MemvirtError):
    """A sample that could not be taken or read: names the cell or the file, and what its process said last."""


class TenantError(MemvirtError):
    """A process that stood for a VM has ended before its time."""


class Exhausted(Exception):
    """A VM's stream stopped for want of memory; not an error of memvirt: the outcome of the cell."""


class WorkerDied(Exception):
    """A worker process ended in the middle of a cell; the message says how."""


class ExecutorLost(Exception):
    """No record will come from the executor any more; the message says why."""


class Stopped(BaseException):
    """Stop now. No Exception: what runs a cell must not take it for a failure of the cell."""

    code = 130  # of the program
    said = "interrupted"


class TimeUp(Stopped):
    """The time of --timeout is over."""

    code = 124
    said = "time is up"
