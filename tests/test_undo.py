"""A machine is left as it was found: at the end of a run, after an error, after Ctrl-C, and by `restore` after a kill.

It is tested on files that stand for settings; test_killed changes this machine.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memvirt.backends.linux import undo
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.undo import Changes
from memvirt.cli import main
from memvirt.errors import ConfigError, Stopped


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Settings of a machine, and a folder for the state file."""
    monkeypatch.setenv(undo.FOLDER, str(tmp_path / "state"))
    monkeypatch.setattr(undo, "PATIENCE_S", 0.2)
    for name in "abc":
        (tmp_path / name).write_text(f"{name}\n")
    return tmp_path


def texts(place):
    return [(place / name).read_text().strip() for name in "abc"]


def test_what_is_changed_is_put_back(place):
    with Changes() as changes:
        changes.set({place / "a": 1, place / "b": "b"})
        assert texts(place) == ["1", "b", "c"]
        kept = json.loads(undo.state_file().read_text())
        assert kept["steps"] == [["write", str(place / "a"), "a"], ["write", str(place / "b"), "b"]]
    assert texts(place) == ["a", "b", "c"] and not undo.state_file().exists()


def test_the_last_change_is_undone_first(place):
    with Changes() as changes:
        changes.set({place / "a": 1})
        changes.set({place / "a": 2})
        with changes.apart():
            changes.set({place / "a": 3, place / "c": 3})
        assert texts(place) == ["2", "b", "c"]
        assert len(json.loads(undo.state_file().read_text())["steps"]) == 2
    assert texts(place) == ["a", "b", "c"]


def test_a_choice_is_put_back_as_the_word_that_was_chosen(place):
    (place / "a").write_text("[none] scan-time\n")
    with Changes() as changes:
        changes.set({place / "a": "scan-time"})
    assert texts(place)[0] == "none"


@pytest.mark.parametrize("error", [ValueError, Missing, Stopped, KeyboardInterrupt])
def test_errors_and_interrupts_undo_too(place, error):
    with pytest.raises(error), Changes() as changes:
        changes.set({place / "a": 1})
        raise error("on the way")
    assert texts(place)[0] == "a"


def test_who_asks_to_stop_waits_until_all_is_undone(place, monkeypatch):
    """A second Ctrl-C in the middle of it is heard at its end."""
    plain = undo.insist

    def insist(step):
        os.kill(os.getpid(), signal.SIGINT)
        return plain(step)

    monkeypatch.setattr(undo, "insist", insist)
    with pytest.raises(KeyboardInterrupt), Changes() as changes:
        changes.set({place / "a": 1, place / "b": 2})
    assert texts(place) == ["a", "b", "c"] and not undo.state_file().exists()


def test_a_change_that_is_refused_is_missing_and_undone(place):
    with Changes() as changes:
        with pytest.raises(Missing, match="nowhere"):
            changes.set({place / "nowhere" / "x": 1})
        changes.set({place / "a": 1})
    assert texts(place)[0] == "a"


def killed(place, words, folder=None):
    """Run Python that is killed in the middle."""
    program = f"import os, signal\nfrom memvirt.backends.linux import undo\nfrom pathlib import Path\n{words}"
    env = {**os.environ, undo.FOLDER: str(folder or place / "state")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_what_a_killed_run_left_is_restored(place):
    killed(
        place,
        f"with undo.Changes() as changes:\n    changes.set({{Path({str(place / 'a')!r}): 1}})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
    )
    assert texts(place)[0] == "1"
    assert undo.restore() == (1, [])
    assert texts(place)[0] == "a" and undo.restore() == (0, [])


def test_the_next_run_restores_first(place):
    killed(
        place,
        f"with undo.Changes() as changes:\n    changes.set({{Path({str(place / 'a')!r}): 1}})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
    )
    with Changes() as changes:
        assert texts(place)[0] == "a"
        changes.set({place / "a": 2})
    assert texts(place)[0] == "a"


def test_a_change_that_was_never_made_is_undone_by_nothing(place):
    """The list is written first: a kill may come between."""
    with Changes() as changes:
        changes.will_undo("unlink", str(place / "swapfile"))
        changes.will_undo("rmdir", str(place / "group"))
        changes.will_undo("swapoff", str(place / "swapfile"))
        changes.will_undo("zram", 4711, True)
        changes.will_undo("zram", 4712, False)
        changes.will_undo("write", str(place / "gone" / "x"), "1")
    assert not undo.state_file().exists()


def test_what_cannot_be_undone_stays_written_down(place):
    (place / "full").mkdir()
    (place / "full" / "x").touch()
    with pytest.raises(ConfigError, match="restore' tries again"), Changes() as changes:
        changes.set({place / "a": 1})
        changes.will_undo("rmdir", str(place / "full"))
        changes.set({place / "b": 2})
    assert texts(place) == ["a", "b", "c"]
    done, problems = undo.restore()
    assert done == 0 and "rmdir" in problems[0] and "full" in problems[0]
    with pytest.raises(ConfigError, match="an earlier run left"), Changes():
        pass
    (place / "full" / "x").unlink()
    assert undo.restore() == (1, []) and not (place / "full").exists()


def test_after_a_boot_only_files_are_removed(place, monkeypatch):
    (place / "swapfile").touch()
    changes = Changes()
    with pytest.raises(AssertionError), changes:
        changes.set({place / "a": 1})
        changes.will_undo("unlink", str(place / "swapfile"))
        monkeypatch.setattr(changes, "_undo", lambda mark: None)  # as if it were killed
        raise AssertionError
    monkeypatch.setattr(undo, "boot_id", lambda: "another")
    assert undo.restore() == (2, [])
    assert texts(place)[0] == "1" and not (place / "swapfile").exists()


def test_there_is_one_run_at_a_time(place):
    with Changes():
        with pytest.raises(ConfigError, match="another run"), Changes():
            pass
        undo.state_file().write_text("{}")
        with pytest.raises(ConfigError, match="another run"):
            undo.restore()
        undo.state_file().unlink()
    with Changes():
        pass


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"schema": 1}', '{"schema": 2, "boot": "", "steps": []}',
        '{"schema": 1, "boot": 1, "steps": []}',
        '{"schema": 1, "boot": "", "steps": [["rm", "/"]]}', '{"schema": 1, "boot": "", "steps": [["write", "/a"]]}',
        '{"schema": 1, "boot": "", "steps": [["zram", "0", true]]}', '{"schema": 1, "boot": "", "steps": [7]}',
        '{"schema": 1, "boot": "", "steps": 7}', '{"schema": 1, "boot": "", "steps": [[]]}', "\x00\xff",
    ],
)  # fmt: skip
def test_a_file_that_is_no_list_of_changes_is_left_alone(place, text):
    undo.folder().mkdir()
    undo.state_file().write_text(text)
    with pytest.raises(ConfigError, match="no list of changes"):
        undo.restore()
    with pytest.raises(ConfigError, match="no list of changes"), Changes():
        pass
    assert undo.state_file().read_text() == text


def test_a_folder_that_cannot_be_is_named_and_what_needs_none_runs(place, monkeypatch):
    from memvirt.backends import validate

    monkeypatch.setenv(undo.FOLDER, str(place / "a" / "state"))
    with pytest.raises(Missing, match=undo.FOLDER), Changes():
        pass
    monkeypatch.setattr(validate.os, "geteuid", lambda: 0)
    first, *_, last = validate.run(["release: MADV_FREE", "zswap"], validate.Scale(2048, 0))
    assert first.kernel == first.engine == 64 and last.verdict == "skipped" and undo.FOLDER in last.reason


def test_where_nothing_may_be_written_nothing_has_to_be_undone(place, monkeypatch):
    """As in a container: /sys and /proc/sys are read-only, also for root."""
    monkeypatch.setattr(undo.os, "access", lambda path, mode: False)
    with Changes() as changes:
        with pytest.raises(Missing, match="is this a container"):
            changes.set({place / "a": 1})
        assert not undo.state_file().exists()

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    for step in (["write", str(place / "a"), "a"], ["rmdir", str(place / "x")], ["unlink", str(place / "x")]):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", refused)
            patch.setattr(undo.os, "rmdir", refused)
            patch.setattr(undo.os, "unlink", refused)
            assert undo.insist(step) == ""
            assert "Read-only" in undo.insist(["write", str(place / "a"), "b"])


def test_a_zram_device_that_is_not_sure_goes_only_while_it_is_empty(monkeypatch):
    """The kernel's file says 0 until somebody sets the device up."""
    removed = []
    plain = Path.read_text, Path.write_text
    sizes = {"/sys/block/zram0/disksize": "0\n", "/sys/block/zram1/disksize": "4096\n"}
    monkeypatch.setattr(Path, "read_text", lambda path, **k: sizes.get(str(path)) or plain[0](path, **k))
    monkeypatch.setattr(Path, "write_text", lambda path, text, **k: removed.append((str(path), text)))
    for step in (["zram", 0, False], ["zram", 1, False], ["zram", 1, True]):
        assert undo.insist(step) == ""
    assert removed == [("/sys/class/zram-control/hot_remove", "0"), ("/sys/class/zram-control/hot_remove", "1")]


def test_the_command_says_what_it_did(place, monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["memvirt", "restore", *words])
        with pytest.raises(SystemExit) as end:
            main()
        out = capsys.readouterr()
        return end.value.code or 0, out.out.strip(), out.err

    assert call() == (0, "nothing to restore", "")
    undo.folder().mkdir()
    steps = [["write", str(place / "a"), "x"], ["rmdir", str(place)]]
    undo.state_file().write_text(json.dumps({"schema": 1, "boot": undo.boot_id(), "steps": steps}))
    code, out, err = call()
    assert (code, out) == (1, "1 changes undone") and f"not undone: rmdir {place}" in err
    assert texts(place)[0] == "x"
    code, out, _ = call("--json")
    assert code == 1 and json.loads(out)["undone"] == 0 and len(json.loads(out)["left"]) == 1


def test_the_guard_of_the_benchmarks_undoes_by_itself_after_a_kill(place):
    """It is a process that outlives the run; while it lasts, validate waits."""
    words = (
        f"import os, signal, sys\nsys.path.insert(0, {str(Path(__file__).parents[1] / 'bench')!r})\n"
        "from pathlib import Path\nfrom memvirt.backends.linux import undo\nfrom memvirt.errors import ConfigError\n"
        "from peers.guard import Busy, Guard\n"
        "try:\n    guard = Guard()\nexcept Busy as busy:\n    sys.exit(str(busy))\n"
        f"guard.set(Path({str(place / 'a')!r}), 1)\nprint(Path({str(place / 'a')!r}).read_text(), flush=True)\n"
        "try:\n    undo.locked()\nexcept ConfigError:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60)
    if done.returncode == 1 and "another" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n"), done.stderr
    deadline = time.monotonic() + 20
    while texts(place)[0] != "a":
        assert time.monotonic() < deadline
        time.sleep(0.05)
