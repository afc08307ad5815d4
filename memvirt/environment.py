"""What of this machine bears on a measurement and pyperf does not already record.

Everything is read from /proc and /sys; what cannot be read is the word "unavailable", so that a missing file and a
zero are never the same. Nothing here is changed: `doctor` says what would help, the user decides.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

UNAVAILABLE = "unavailable"

SETTINGS = {
    "thp_enabled": "sys/kernel/mm/transparent_hugepage/enabled",
    "thp_defrag": "sys/kernel/mm/transparent_hugepage/defrag",
    "ksm_run": "sys/kernel/mm/ksm/run",
    "ksm_pages_sharing": "sys/kernel/mm/ksm/pages_sharing",
    "zswap_enabled": "sys/module/zswap/parameters/enabled",
    "swappiness": "proc/sys/vm/swappiness",
    "overcommit_memory": "proc/sys/vm/overcommit_memory",
    "governor": "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "clocksource": "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "smt": "sys/devices/system/cpu/smt/active",
    "psi_cpu": "proc/pressure/cpu",
    "psi_memory": "proc/pressure/memory",
    "cgroup_memory_max": "sys/fs/cgroup/memory.max",
    "cgroup_cpu_max": "sys/fs/cgroup/cpu.max",
}
CHOICES = ("thp_enabled", "thp_defrag")  # files that list every choice and bracket the current one


def read_setting(path: Path) -> str:
    """A one-line kernel file, its first line; "unavailable" where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return UNAVAILABLE
    return text.splitlines()[0] if text else ""


def chosen(text: str) -> str:
    """The bracketed word of a kernel choice list: 'always [madvise] never' -> 'madvise'."""
    found = re.search(r"\[([^]]*)]", text)
    return found.group(1) if found else text


def meminfo(root: Path = Path("/")) -> dict[str, int]:
    """/proc/meminfo in bytes; empty where it cannot be read."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for line in lines:
        match = re.fullmatch(r"(\S+):\s+(\d+)( kB)?", line.strip())
        if match:
            found[match[1]] = int(match[2]) * (1024 if match[3] else 1)
    return found


def steal_ticks(root: Path = Path("/")) -> int | None:
    """Clock ticks another guest took from this machine's CPUs since boot."""
    fields = read_setting(root / "proc/stat").split()
    return int(fields[8]) if len(fields) > 8 and fields[0] == "cpu" and fields[8].isdigit() else None


def collect(root: Path = Path("/")) -> dict[str, Any]:
    """The environment part of a record."""
    found: dict[str, Any] = {name: read_setting(root / path) for name, path in SETTINGS.items()}
    for name in CHOICES:
        found[name] = chosen(found[name])
    memory = meminfo(root)
    steal = steal_ticks(root)
    found |= {
        "hostname": platform.node(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpus": os.cpu_count() or 0,
        "cpu_model": cpu_model(root),
        "hypervisor": "yes" if "hypervisor" in cpu_flags(root) else "no",
        "memory_total_bytes": memory.get("MemTotal", UNAVAILABLE),
        "memory_available_bytes": memory.get("MemAvailable", UNAVAILABLE),
        "swap_used_bytes": memory["SwapTotal"] - memory["SwapFree"] if "SwapTotal" in memory else UNAVAILABLE,
        "load_1min": f"{os.getloadavg()[0]:.2f}",
        "steal_ticks": UNAVAILABLE if steal is None else steal,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return found


def memory_problem(needed_bytes: int, root: Path = Path("/")) -> str:
    """Why this machine cannot give that many bytes to a host, which are populated when it is made; "" when it can."""
    available = meminfo(root).get("MemAvailable")
    if available is not None and needed_bytes > available:
        return (
            f"needs {_mebibytes(needed_bytes)} of this machine's memory, of which {_mebibytes(available)} are available"
        )
    limit = read_setting(root / SETTINGS["cgroup_memory_max"])
    if not _limit_suffices(limit, needed_bytes):
        return (
            f"needs {_mebibytes(needed_bytes)} of memory; the control group has {_mebibytes(int(limit))} (memory.max)"
        )
    return ""


def swap_folder() -> Path:
    """Where swap files lie, unless a host is given another path."""
    return Path(os.environ.get("MEMVIRT_SWAP_DIR") or tempfile.gettempdir())


def disk_problem(needed_bytes: int) -> str:
    """Why files of swap of that many bytes cannot be made; "" when they can."""
    folder = swap_folder()
    try:
        space = os.statvfs(folder)
        if not os.path.isdir(folder):
            return f"swap files cannot be made in {folder}: it is no folder"
    except OSError as error:
        return f"swap files cannot be made in {folder}: {error.strerror}"
    available = space.f_bavail * space.f_frsize
    if needed_bytes <= available:
        return ""
    return f"needs {_mebibytes(needed_bytes)} of disk in {folder}, where {_mebibytes(available)} are free"


def cores(root: Path = Path("/")) -> int:
    """Processors that this process may use: its affinity, and the quota of its control group, rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quota, _, period = read_setting(root / SETTINGS["cgroup_cpu_max"]).partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        allowed = min(allowed, -(-int(quota) // int(period)))
    return max(1, allowed)


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: what is available, within its control group's limit."""
    available = meminfo(root).get("MemAvailable", 1 << 62)
    limit = read_setting(root / SETTINGS["cgroup_memory_max"])
    used = read_setting(root / "sys/fs/cgroup/memory.current")
    if limit.isdigit():
        available = min(available, int(limit) - (int(used) if used.isdigit() else 0))
    return available


def cpu_model(root: Path = Path("/")) -> str:
    """The first CPU's model name."""
    return _cpuinfo(root, "model name") or UNAVAILABLE


def cpu_flags(root: Path = Path("/")) -> list[str]:
    """The first CPU's feature flags."""
    return _cpuinfo(root, "flags").split()


def _cpuinfo(root: Path, key: str) -> str:
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{re.escape(key)}\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def source_commit() -> str:
    """The commit of the source tree memvirt runs from; "+" appended when it was edited, "" outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not os.path.exists(root / ".git"):
        return ""
    try:
        head = _git(root, "rev-parse", "HEAD")
        edited = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+" if edited else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


class Finding(NamedTuple):
    """One thing doctor looked at."""

    what: str
    ok: bool
    found: str
    remedy: str  # what the user can do; empty when ok


def examine(root: Path = Path("/"), needed_bytes: int = 1 << 30) -> list[Finding]:
    """What on this machine will spoil a measurement, each with its remedy. Changes nothing."""
    facts = collect(root)
    available, swap = facts["memory_available_bytes"], facts["swap_used_bytes"]
    load, cpus = float(facts["load_1min"]), facts["cpus"]
    checks = [
        ("transparent huge pages", facts["thp_enabled"] in ("always", "madvise"), facts["thp_enabled"],
         "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: the arena asks for huge pages"),
        ("CPU frequency governor", facts["governor"] in ("performance", UNAVAILABLE), facts["governor"],
         "cpupower frequency-set -g performance, and put it back afterwards"),
        ("load", load < 0.5 * max(1, cpus), f"{load:.2f} on {cpus} CPUs", "stop other work: timings must run alone"),
        ("host page merging (KSM)", facts["ksm_run"] in ("0", "2", UNAVAILABLE), facts["ksm_run"],
         "echo 0 > /sys/kernel/mm/ksm/run: its scanner takes CPU time and write-protects pages"),
        ("host swap in use", swap in (0, UNAVAILABLE), _mebibytes(swap),
         "free memory, then swapoff -a && swapon -a: a page of the arena may be out"),
        ("memory available", available == UNAVAILABLE or available >= needed_bytes, _mebibytes(available),
         f"free memory until {_mebibytes(needed_bytes)} are available"),
        ("memory limit of the control group", _limit_suffices(facts["cgroup_memory_max"], needed_bytes),
         facts["cgroup_memory_max"], f"raise memory.max to {_mebibytes(needed_bytes)} or more"),
        _steal_check(root),
        _clock_check(facts["clocksource"]),
    ]  # fmt: skip
    return [Finding(what, ok, str(found), "" if ok else remedy) for what, ok, found, remedy in checks]


def _steal_check(root: Path, wait_s: float = 0.1) -> tuple[str, bool, str, str]:
    before = steal_ticks(root)
    time.sleep(wait_s)
    after = steal_ticks(root)
    remedy = "use a machine of your own: another guest takes this one's CPU time"
    if before is None or after is None:
        return ("steal", True, UNAVAILABLE, remedy)
    return ("steal", after == before, f"{after - before} ticks in {wait_s} s", remedy)


def _clock_check(clocksource: str) -> tuple[str, bool, str, str]:
    reads = 1000
    start = time.perf_counter_ns()
    for _ in range(reads):
        time.perf_counter_ns()
    cost_ns = (time.perf_counter_ns() - start) // reads
    remedy = "boot with clocksource=tsc if the CPU keeps it stable: reading the clock costs as much as a fault"
    return ("clock", cost_ns < 500, f"{clocksource}, {cost_ns} ns a reading", remedy)


def _limit_suffices(limit: str, needed_bytes: int) -> bool:
    return not limit.isdigit() or int(limit) >= needed_bytes


def _mebibytes(size: int | str) -> str:
    return f"{size >> 20} MiB" if isinstance(size, int) else size
