"""At which read latency of the disk a compressed cache and swap alone take the same time.    python bench/breakeven.py

A compressed cache takes frames from the VMs, so they fault more often, and pays for it with what its loads spare the
disk. How long a read from the disk takes decides which is faster:

    wait(swap)   = reads of the disk * latency                          + what swap costs the processor
    wait(zcache) = fewer reads * latency + loads and stores of the pool + more faults

Both are straight lines over the latency. The program runs the presets `swap` and `zcache` on disks that differ in nothing
but the latency of a read, on the scenario zipf of the suite `quick` (or --suite FILE), prints the slowdown of each, and where
the lines cross. --scale runs it on a host so many times as large, with as many times the accesses.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from memvirt import read_results
from memvirt.experiment import suite
from memvirt.names import DEVICE_CONSTANTS, DEVICES

PRESETS = ("swap", "zcache")
LATENCIES_US = (5, 10, 20, 44, 80, 160, 320, 640)
Point = tuple[float, dict[str, float]]  # latency of a read in us, page and all; slowdown by preset


def crossings(points: Sequence[Point], first: str, second: str) -> list[float]:
    """Latencies at which the two take the same time, between neighbouring points."""
    gaps = [(at, found[first] - found[second]) for at, found in points]
    return [
        at + (then - at) * gap / (gap - next_gap)
        for (at, gap), (then, next_gap) in pairwise(gaps)
        if (gap < 0) != (next_gap < 0)
    ]


def scenario_alone(scale: int) -> str:
    """quick's zipf at its second ratio, as a suite of its own."""
    text = (Path(suite.__file__).parent / "suites" / "quick.toml").read_text(encoding="utf-8")
    head = text.partition("[[scenarios]]")[0]
    zipf = next(part for part in text.split("[[scenarios]]")[1:] if 'name = "zipf"' in part)
    head = head.replace('name = "quick"', 'name = "break-even"', 1)
    tier = f"[tiers.quick]\nmemory_percent = {100 * scale}\naccesses_percent = {100 * scale}\n"
    head = head.replace("[tiers.quick]\n", tier, 1)
    return head + "[[scenarios]]" + zipf.replace("[100, 150, 200]", "[150]")


def devices(place: Path, latencies_us: Iterable[float]) -> dict[str, float]:
    """A file for each disk: the path, and how long it takes to read a page (us)."""
    found = {}
    for latency in latencies_us:
        constants = dict(zip(DEVICE_CONSTANTS, DEVICES["nvme"], strict=True)) | {
            "read_latency_ns": round(latency * 1000)
        }
        path = place / f"disk-{latency:g}us.toml"
        path.write_text("[swap_device]\n" + "".join(f"{key} = {value}\n" for key, value in constants.items()))
        found[str(path)] = (constants["read_latency_ns"] + constants["read_page_ns"]) / 1000
    return found


def measured(wanted: str, seeds: str, latencies_us: Iterable[float], jobs: str) -> list[Point]:
    """Runs the suite once for each disk."""
    points = []
    with tempfile.TemporaryDirectory() as there:
        place = Path(there)
        for path, latency in devices(place, latencies_us).items():
            out = place / Path(path).stem
            words = [
                "run",
                wanted,
                "--preset",
                ",".join(PRESETS),
                "--corpus",
                "synthetic",
                "--tier",
                "quick",
                "--seed",
                seeds,
            ]
            words += ["--jobs", jobs, "--set", f"swap_device={path}", "--out", str(out)]
            subprocess.run([sys.executable, "-m", "memvirt", *words], check=True, stdout=subprocess.DEVNULL)
            cells = read_results(out).cells
            found = {preset: mean(cells[cells["preset"] == preset]["slowdown"].dropna()) for preset in PRESETS}
            points.append((latency, found))
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", help="a suite's file of one scenario, in place of quick's zipf")
    parser.add_argument("--scale", type=int, default=1, help="the host and its load so many times as large")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--latencies", default=",".join(map(str, LATENCIES_US)), help="of a read request, us")
    parser.add_argument("--jobs", default="1")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as there:
        path = Path(there) / "break-even.toml"
        path.write_text(scenario_alone(asked.scale), encoding="utf-8")
        latencies = [float(word) for word in asked.latencies.split(",")]
        points = measured(asked.suite or str(path), asked.seeds, latencies, asked.jobs)
    print("read of a page, us   " + "".join(f"{preset:>10}" for preset in PRESETS))
    for latency, found in points:
        print(f"{latency:18.1f}   " + "".join(f"{found[preset]:10.2f}" for preset in PRESETS))
    even = crossings(points, *PRESETS)
    print("equal at " + " and ".join(f"{at:.0f} us" for at in even) if even else "they do not cross")


if __name__ == "__main__":
    main()
