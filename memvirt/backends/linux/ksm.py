"""Kernel samepage merging, the engine's scanner `ksm` beside ksmd: every counter after every full pass.

ksmd is led pass by pass. It sleeps for minutes between two passes, each of which goes over all there is; a change of
sleep_millisecs wakes it. A change before it sleeps would be lost, so how often it has gone to sleep is watched.

Two processes offer memory to it, filled from a mix of contents; between passes they read and write. Its counters are the
machine's, so nobody else may use it: it must be off and hold nothing before, and look at no page that is not ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from memvirt.backends.linux import kernel
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.loads import PATTERNS, Pattern
from memvirt.backends.linux.pair import Pair, contents
from memvirt.backends.linux.undo import Changes, require_writable, write
from memvirt.backends.linux.ways import MIXES, Mix
from memvirt.backends.rows import Row
from memvirt.inputs.bits import Bits

KSM = Path("/sys/kernel/mm/ksm")
MERGEABLE = 12  # MADV_MERGEABLE
PASS_S = 60.0
SLEEPS_MS = ("600000", "600001")
SETTINGS = {
    "advisor_mode": "none",
    "smart_scan": 0,
    "pages_to_scan": 1 << 24,
    "sleep_millisecs": SLEEPS_MS[0],
    "max_page_sharing": 256,
    "use_zero_pages": 0,
    "stable_node_chains_prune_millisecs": 0,
}
NEEDED = {"use_zero_pages": "4.12", "max_page_sharing": "4.13"}  # others were not there before they could be turned off
COMPARED = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "ksm_zero_pages")
SETTLING, ROUNDS = 4, 4


class Ksmd:
    """ksmd for as long as the changes last. Missing where it cannot be had."""

    def __init__(self, changes: Changes) -> None:
        kernel.require_root("ksmd is led by /sys/kernel/mm/ksm")
        if not KSM.exists():
            raise Missing("this kernel has no page merging (CONFIG_KSM)")
        for name in ("run", "pages_shared", "pages_sharing"):
            if (found := kernel.number(KSM / name)) != 0:
                raise Missing(f"KSM is in use on this machine: {name} is {found}")
        for name, since in NEEDED.items():
            if not (KSM / name).exists():
                raise Missing(f"this kernel is too old: {KSM / name} came with Linux {since}")
        require_writable(KSM / "run")
        self._thread = _thread()
        changes.set({KSM / name: value for name, value in SETTINGS.items() if (KSM / name).exists()})
        changes.will_undo("write", str(KSM / "run"), "0")
        changes.will_undo("write", str(KSM / "run"), "2")  # undone first: nothing stays merged

    def begin(self, **settings: int) -> None:
        """Forget everything, and go on with these settings."""
        write(KSM / "run", 2)
        for name, value in settings.items():
            if value or (KSM / name).exists():
                write(KSM / name, value)

    def scan(self) -> None:
        """One full pass."""
        first = kernel.number(KSM / "full_scans")
        before = self._slept()
        if kernel.number(KSM / "run") == 1:
            self._wake()
        else:
            write(KSM / "run", 1)
        self._until(lambda: kernel.number(KSM / "full_scans") > first and self._slept() not in (None, before))
        made = kernel.number(KSM / "full_scans") - first
        if made != 1:
            raise Missing(f"ksmd does not go pass by pass on this kernel: it made {made} instead of one")

    def end(self) -> None:
        """Nothing is merged any more, and ksmd has seen that it is to stop: a run that begins wakes it only then."""
        write(KSM / "run", 2)
        before = self._slept()
        self._wake()
        self._until(lambda: self._slept() not in (None, before))

    def _wake(self) -> None:
        write(KSM / "sleep_millisecs", SLEEPS_MS[kernel.setting(KSM / "sleep_millisecs") == SLEEPS_MS[0]])

    def _until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PASS_S
        while not done():
            if time.monotonic() > deadline:
                raise Missing(f"ksmd does not get through a pass in {PASS_S:g} s")
            time.sleep(0.0005)

    def _slept(self) -> int | None:
        """How often ksmd has gone to sleep; None while it is awake."""
        status = dict(line.split(":", 1) for line in kernel.read(self._thread / "status").splitlines())
        return int(status["voluntary_ctxt_switches"]) if status["State"].split()[0] == "S" else None


def _thread() -> Path:
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "comm").read_text().strip() == "ksmd":
                return process
        except OSError:
            continue  # it has ended
    raise Missing("there is no thread ksmd to be seen in /proc")


# ---- what memory holds, and what is written between passes


def compare(
    name: str, mix: Mix, pattern: Pattern, options: dict[str, int], changes: Changes,
    pages: int, seed: int,
) -> Iterator[Row]:  # fmt: skip
    """A story: fill, passes until it is settled, then accesses and a pass in turn."""
    corpus = contents(seed)
    bits = Bits("validate", seed, name)
    ksmd = Ksmd(changes)
    ksmd.begin(**options)
    settings = {key: bool(value) if key != "max_page_sharing" else value for key, value in options.items()}
    settings.setdefault("smart_scan", False)
    with (
        Pair(pages, corpus, frames=5 * pages + 4096, sharing="ksm", sharing_options=settings) as one,
        Pair(pages, corpus, beside=one) as two,
    ):
        watched = _Watched(ksmd, one, options)
        for pair in (one, two):
            pair.tenant.ask("advise", 0, pages, MERGEABLE)
            pair.fill(mix(bits, corpus, pages))
        for _ in range(SETTLING):
            watched.scan(2 * pages)
        faults = [0, 0]
        for _ in range(ROUNDS):
            for pair in (one, two):
                engine, minor = pair.drive(pattern(bits, pages, pages // 8))
                faults = [faults[0] + engine, faults[1] + minor]
            watched.scan(2 * pages)
        yield from watched.rows(name)
        yield Row(mechanism=name, what="faults of the writes between passes", engine=faults[0], kernel=faults[1])
        equal = sum(pages - pair.unequal() for pair in (one, two))
        yield Row(mechanism=name, what="pages read back equal, of both", engine=2 * pages, kernel=equal)
    ksmd.end()


class _Watched:
    """Counters of both sides after each pass."""

    def __init__(self, ksmd: Ksmd, pair: Pair, options: dict[str, int]) -> None:
        self._ksmd = ksmd
        self._host = pair.host
        names = [name for name in COMPARED if (KSM / name).exists()]
        self._names = [name for name in names if name != "ksm_zero_pages" or options.get("use_zero_pages")]
        self._passes: list[tuple[dict[str, int], dict[str, int]]] = []

    def scan(self, ours: int) -> None:
        before = kernel.number(KSM / "pages_scanned")
        self._ksmd.scan()
        looked = kernel.number(KSM / "pages_scanned") - before
        if looked > ours:
            raise Missing(f"other processes offer memory to KSM: it looked at {looked} pages, of which {ours} are ours")
        self._host.scan()
        theirs = {name: kernel.number(KSM / name) for name in self._names}
        state = self._host.sharing()
        self._passes.append(({name: state[name] for name in self._names}, theirs))

    def rows(self, mechanism: str) -> Iterator[Row]:
        """For each counter its last value, and how far apart the two were when they were furthest apart."""
        for name in self._names:
            apart = [engine[name] - theirs[name] for engine, theirs in self._passes]
            engine, theirs = self._passes[-1]
            what = f"{name}, {len(apart)} passes"
            worst = max(apart, key=abs)
            yield Row(mechanism=mechanism, what=what, engine=engine[name], kernel=theirs[name], apart=worst)


_MIXES: dict[str, tuple[Mix, dict[str, int]]] = {
    "alike": (MIXES["alike"], {"use_zero_pages": 0, "max_page_sharing": 256}),
    "a fleet": (MIXES["a fleet"], {"use_zero_pages": 1, "max_page_sharing": 256}),
    "few contents": (MIXES["few contents"], {"use_zero_pages": 0, "max_page_sharing": 256}),
    "smart_scan": (MIXES["a fleet"], {"use_zero_pages": 0, "max_page_sharing": 256, "smart_scan": 1}),
}
_PATTERNS = {"uniform writes": PATTERNS["uniform"], "skewed writes": PATTERNS["zipf"]}

MECHANISMS: dict[str, Callable[[Changes, int, int], Iterator[Row]]] = {
    f"ksm: {mix} with {pattern}": partial(compare, f"ksm: {mix} with {pattern}", make, pick, options)
    for mix, (make, options) in _MIXES.items()
    for pattern, pick in _PATTERNS.items()
    if mix != "smart_scan" or pattern == "skewed writes"
}
