"""Every change of this machine is written down before it is made, and undone come what may.

A change is made in three steps: what undoes it is added to the state file, which is replaced as a whole and synced; the
change is made; and at the end, last change first, everything is undone and the file removed. So whenever this process
ends, the file names all that is left to undo, and maybe a change that was not made: undoing that does nothing.

Steps are data, and each names only what is ours or a setting's old value:

    ["write", path, text]       a setting was `text`
    ["swapoff", path]           a swap area of our own
    ["unlink", path]            a file of our own, by a name that no file had
    ["rmdir", path]             a control group of our own, likewise
    ["zram", number, sure]      a zram device. The kernel chooses its number, so it is written down as the one it will
                                choose, not sure; such a device is removed only while nobody has set it up

The folder of the file is locked while a run lasts: there is one run on a machine. A file of an earlier boot names
settings that are gone with it; of its steps only files are removed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memvirt.backends.linux import kernel
from memvirt.errors import ConfigError
from memvirt.interrupts import SIGNALS
from memvirt.untrusted import json_value

SCHEMA = 1
FOLDER = "MEMVIRT_STATE_DIR"
ZRAM = Path("/sys/class/zram-control")
PATIENCE_S = 15.0  # groups and devices empty some time after their last user has ended
KINDS = {"write": (str, str), "swapoff": (str,), "unlink": (str,), "rmdir": (str,), "zram": (int, bool)}
LASTING = ("unlink",)  # what a boot does not undo

Step = list[Any]


def folder() -> Path:
    """Where the state file lies."""
    return Path(os.environ.get(FOLDER) or "/var/lib/memvirt")


def state_file() -> Path:
    return folder() / "changes.json"


def boot_id() -> str:
    try:
        return kernel.read(Path("/proc/sys/kernel/random/boot_id"))
    except kernel.Missing:
        return ""


class Changes:
    """The changes of one run: a context that undoes them at its end. ConfigError when another run is at work, Missing
    where nothing can be written down."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._lock = -1

    def __enter__(self) -> Self:
        self._lock = locked()
        try:
            leftover = state_file().exists()
            problems = undo_file() if leftover else []
            if problems:
                raise ConfigError(
                    f"an earlier run left changes that cannot be undone: {'; '.join(problems)} "
                    f"('memvirt restore' tries again)"
                )
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with _unstoppable():
            try:
                self._undo(0)
            finally:
                self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def will_undo(self, *step: Any) -> None:
        """To be called before the change."""
        self._steps.append(list(step))
        _save(self._steps)

    def set(self, settings: Mapping[Path, object]) -> None:
        """Write settings, which are put back as they were. Missing when they cannot be written, or the kernel refuses."""
        for path in settings:
            require_writable(path)
        self._steps += [["write", str(path), kernel.setting(path)] for path in settings]
        _save(self._steps)
        for path, value in settings.items():
            if kernel.setting(path) != str(value):
                write(path, value)

    @contextmanager
    def apart(self) -> Iterator[Self]:
        """What is changed within the context is undone at its end."""
        mark = len(self._steps)
        try:
            yield self
        finally:
            with _unstoppable():
                self._undo(mark)

    def _undo(self, mark: int) -> None:
        """Undo all changes since the mark, last first. ConfigError names what could not be undone; it stays written
        down."""
        problems = []
        kept = self._steps[:mark]
        for step in reversed(self._steps[mark:]):
            problem = insist(step)
            if problem:
                problems.append(problem)
                kept.insert(mark, step)
        self._steps = kept
        if kept or state_file().exists():
            _save(kept)
        if problems:
            raise ConfigError(f"not undone: {'; '.join(problems)}. 'memvirt restore' tries again")

    def new_zram(self) -> int:
        """The number of a zram device of our own."""
        control = ZRAM
        if not control.exists():
            raise kernel.Missing("this kernel has no zram, or its module is not loaded ('modprobe zram')")
        require_writable(control / "hot_remove")  # hot_add is read, which nothing forbids
        taken = {int(path.name[4:]) for path in Path("/sys/block").glob("zram*")}
        expected = next(number for number in range(len(taken) + 1) if number not in taken)
        self.will_undo("zram", expected, False)
        found = kernel.number(control / "hot_add")
        self._steps[-1] = ["zram", found, True]
        _save(self._steps)
        return found


def require_writable(path: Path) -> None:
    """Missing for a setting that cannot be written: then it cannot be put back either."""
    if path.exists() and not os.access(path, os.W_OK):
        raise kernel.Missing(f"{path} cannot be written here: is this a container?")


def write(path: Path, value: object) -> None:
    """Write a setting of the kernel's; Missing when it refuses."""
    try:
        path.write_text(str(value), encoding="ascii")
    except OSError as error:
        raise kernel.Missing(f"{path} does not take {value}: {error.strerror}") from error


def restore() -> tuple[int, list[str]]:
    """Undo what a run left that was killed: (changes undone, what could not be). ConfigError while a run is at work."""
    if not state_file().exists():
        return 0, []
    try:
        lock = locked()
    except kernel.Missing as error:
        raise ConfigError(str(error)) from error
    try:
        with _unstoppable():
            before = len(read_steps()[0])
            problems = undo_file()
            return before - len(problems), problems
    finally:
        os.close(lock)


def undo_file() -> list[str]:
    """Carry out the steps of the state file, last first; returns what could not be undone, which stays in it."""
    steps, boot = read_steps()
    same_boot = boot == boot_id()
    problems: list[str] = []
    kept: list[Step] = []
    for step in reversed(steps):
        problem = insist(step) if same_boot or step[0] in LASTING else ""
        if problem:
            problems.append(problem)
            kept.insert(0, step)
    _save(kept)
    return problems


def read_steps() -> tuple[list[Step], str]:
    """The steps of the state file and the boot it is of; ConfigError for a file that is none of ours."""
    path = state_file()
    try:
        found = json_value(path.read_text(encoding="utf-8"))
        steps, boot = found["steps"], found["boot"]
        if found["schema"] != SCHEMA or not isinstance(boot, str) or not all(_is_step(step) for step in steps):
            raise ValueError("it is of another version")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; run this as the user who ran validate") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no list of changes ({error}); nothing was undone. Look at the file, undo what it says by hand, "
            f"and remove it"
        ) from error
    return steps, boot


def _is_step(step: Any) -> bool:
    kinds = KINDS.get(step[0]) if isinstance(step, list) and step else None
    return kinds is not None and len(step) == len(kinds) + 1 and all(map(isinstance, step[1:], kinds))


def insist(step: Step) -> str:
    """Undo one step, again and again while it is refused; what was wrong in the end, or ""."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            _undo(*step)
            return ""
        except FileNotFoundError:
            return ""  # gone already
        except kernel.Missing as error:
            return "" if isinstance(error.__cause__, FileNotFoundError) else f"{' '.join(map(str, step))}: {error}"
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) or time.monotonic() > deadline:
                return f"{' '.join(map(str, step))}: {error.strerror or error}"
            time.sleep(0.05)


def _undo(kind: str, *arguments: Any) -> None:
    """What has not come about is undone by nothing, also where nothing may be written."""
    if kind == "write":
        if kernel.setting(Path(arguments[0])) != arguments[1]:
            Path(arguments[0]).write_text(arguments[1], encoding="ascii")
    elif kind == "swapoff":
        if arguments[0] in [line.split()[0] for line in kernel.SWAPS.read_text().splitlines()]:
            kernel.swap_off(arguments[0])
    elif kind in ("unlink", "rmdir"):
        if os.path.lexists(arguments[0]):
            (os.unlink if kind == "unlink" else os.rmdir)(arguments[0])
    elif kind == "zram":
        number, sure = arguments
        size = Path(f"/sys/block/zram{number}/disksize").read_text(encoding="ascii")
        if sure or size.strip() == "0":
            (ZRAM / "hot_remove").write_text(str(number), encoding="ascii")


def locked() -> int:
    """The lock of the folder, as an open file. ConfigError when another run holds it, Missing where there can be no state
    file."""
    place = folder()
    try:
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise kernel.Missing(
            f"{place}: {error.strerror}. Changes of this machine are written down there before they are made; {FOLDER} "
            f"names another folder"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            "another run of memvirt validate is changing this machine's settings; wait for its end"
        ) from None
    return lock


def _save(steps: list[Step]) -> None:
    """Replace the state file; without steps, remove it. On disk when this returns."""
    path = state_file()
    if steps:
        fresh = path.with_suffix(".new")
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump({"schema": SCHEMA, "boot": boot_id(), "pid": os.getpid(), "steps": steps}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    else:
        path.unlink(missing_ok=True)
    place = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system that cannot
            os.fsync(place)
    finally:
        os.close(place)


@contextmanager
def _unstoppable() -> Iterator[None]:
    """Whoever asks to stop has to wait until all is undone."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    heard: list[int] = []
    # Masks would not do: they are a thread's, and another thread (of a library's pool) would take the signal.
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
