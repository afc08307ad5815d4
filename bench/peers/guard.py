"""Changes of the machine's state that are undone come what may: at the end, at exit, and when this process is killed.

Before each change, what undoes it is written to a state file and synced. A guard, a process of its own in a session of
its own, waits on a pipe whose other end only this process holds; when that closes, however this process ended, the
guard carries out what is left in the file, last change first. `python bench/peers/guard.py FILE` does the same by hand,
should the guard itself be lost to a reboot or a kill.

Undo steps are data: ("write", path, text), ("swapoff", device), ("zram", number), ("rmdir", path), ("unlink", path).
One process at a time: the state file's folder is locked, and a file left behind by an earlier one is carried out first.
"""

import atexit
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path("/run/memvirt-bench") if os.access("/run", os.W_OK) else Path(f"/tmp/memvirt-bench-{os.getuid()}")
STATE = FOLDER / "undo.json"
PATIENCE_S = 10.0

Step = list[Any]


class Busy(Exception):
    """Someone else is using what was asked for."""


def read(path: str | Path) -> str:
    return Path(path).read_text().strip()


def undo_all(path: Path = STATE) -> list[str]:
    """Carry out the steps of a state file, last first, and remove it. Returns what could not be undone."""
    if not path.exists():
        return []
    failed = []
    for step in reversed(json.loads(path.read_text())):
        problem = _insist(step)
        if problem:
            failed.append(f"{step}: {problem}")
    path.unlink(missing_ok=True)
    return failed


def _insist(step: Step) -> str:
    """One step, again while it is refused: groups and devices empty some time after their last user."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            _undo(*step)
            return ""
        except FileNotFoundError:
            return ""  # gone already
        except OSError as error:
            if time.monotonic() > deadline:
                return str(error)
            time.sleep(0.05)


def _undo(kind: str, *arguments: Any) -> None:
    if kind == "write":
        Path(arguments[0]).write_text(arguments[1])
    elif kind == "swapoff":
        if any(line.split()[0] == arguments[0] for line in read("/proc/swaps").splitlines()[1:]):
            done = subprocess.run(["swapoff", arguments[0]], capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(done.stderr.strip())
    elif kind == "zram":
        if Path(f"/sys/block/zram{arguments[0]}").exists():
            Path("/sys/class/zram-control/hot_remove").write_text(str(arguments[0]))
    elif kind == "rmdir":
        os.rmdir(arguments[0])
    elif kind == "unlink":
        os.unlink(arguments[0])
    else:
        raise ValueError(f"no such step: {kind}")


class Guard:
    """A list of undo steps that outlives this process. Use as a context; raises Busy when another one is at work."""

    def __init__(self) -> None:
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(FOLDER / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Busy("another run is changing this machine's settings") from None
        self._theirs = self._lock_of_validate()
        undo_all()
        self._steps: list[Step] = []
        self._save()
        # The child holds the reading end only: our end closes when we end.
        reading, self._writing = os.pipe()
        self._child = subprocess.Popen(
            [sys.executable, __file__, str(STATE), str(reading)],
            pass_fds=[reading],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        os.close(reading)
        atexit.register(self.close)

    def _lock_of_validate(self) -> int:
        """`memvirt validate` changes the same settings."""
        from memvirt.backends.linux import undo
        from memvirt.backends.linux.kernel import Missing
        from memvirt.errors import ConfigError

        try:
            return undo.locked()
        except (ConfigError, Missing) as busy:
            os.close(self._lock)
            raise Busy(str(busy)) from None

    def __enter__(self) -> "Guard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def will_undo(self, *step: Any) -> None:
        """To be called before the change."""
        self._steps.append(list(step))
        self._save()

    def set(self, path: str | Path, text: object) -> None:
        """Write a setting that is to be put back as it was."""
        self.will_undo("write", str(path), read(path))
        Path(path).write_text(str(text))

    def close(self) -> None:
        """Undo everything now."""
        if self._writing < 0:
            return
        os.close(self._writing)
        self._writing = -1
        if self._child.wait():
            print("memvirt bench: not everything could be put back; see above", file=sys.stderr)
        os.close(self._theirs)
        os.close(self._lock)
        atexit.unregister(self.close)

    def _save(self) -> None:
        fresh = STATE.with_suffix(".new")
        with open(fresh, "w") as file:
            json.dump(self._steps, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, STATE)


def main(state: str, pipe: str | None = None) -> int:
    if pipe is not None:
        os.read(int(pipe), 1)  # returns when the other end is closed
    failed = undo_all(Path(state))
    for problem in failed:
        print(f"memvirt bench: not undone: {problem}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
