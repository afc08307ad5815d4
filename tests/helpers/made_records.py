"""Records made by hand, with numbers chosen by the test and the rest plausible."""

import hashlib
from pathlib import Path

from memvirt.results import manifest
from memvirt.results.manifest import Asked, Manifest
from memvirt.results.record import Record, dumps, sha256_of

CORPUS = hashlib.sha256(b"corpus").hexdigest()
VERSIONS = {"memvirt": "0.1.0", "lz4": "4.4.5", "lz4_route": "C functions", "numpy": "2.0"}
DESCRIPTIONS = {"zipf": "Few pages are hot.", "scan": "From end to end."}


def made(
    scenario="zipf",
    ratio="1.50",
    preset="swap",
    seed=1,
    *,
    slowdown="2.000",
    overcommit="1.500",
    faults=100,
    p99_ns=66_560,
    swap_pages=512,
    unusable=250,
    cpu=(600, 400),
    saved=(("swap", 300),),
    speed=2_000_000,
    status="done",
    reason="",
    role="column",
    kind="fleet",
    config=None,
    **parts,
):
    """A record of one cell; `cpu` is (accesses, mechanisms)."""
    name = f"{scenario}-{int(float(ratio) * 100)}"
    config = config or {"scenario": {"name": scenario, "description": DESCRIPTIONS.get(scenario, "")}, "ratio": ratio}
    done = {
        "accesses": 1000,
        "sim_ns": 1_000_000 if role == "baseline" or not slowdown else round(1_000_000 * float(slowdown)),
        "counters": {
            "fault_swap": faults,
            "swap_pages_in": swap_pages // 2,
            "swap_pages_out": swap_pages - swap_pages // 2,
        },
        "histograms": {"swap": [(500, 98), (p99_ns, 2)]} if p99_ns else {},
        "usage": {"free": 10, "guest": 90},
        "fragmentation": {"unusable": [0] * 9 + [unusable, 1000], "external": [-1000] * 11},
        "cpu_ns": {"access": cpu[0], "swap": cpu[1]},
        "derived": {
            "slowdown": slowdown,
            "effective_overcommit": overcommit,
            "faults": faults,
            "fault_p99_us": f"{p99_ns / 1000:.3f}" if p99_ns else "",
            "swap_traffic_mib": f"{swap_pages / 256:.6f}",
            "unusable_2mib_percent": f"{unusable / 10:.1f}",
            "cpu_overhead_percent": f"{100 * cpu[1] / sum(cpu):.6f}",
            **{f"saved_{mechanism}_frames": frames for mechanism, frames in saved},
        },
        "measured": {"accesses_per_s": speed, "wall_ns": {"measured": 500_000}},
        "verified": True,
    }
    return Record(
        **{
            "suite": "tiny",
            "scenario": name,
            "preset": preset,
            "role": role,
            "kind": kind,
            "seed": seed,
            "tier": "quick",
            "status": status,
            "reason": reason,
            "ratio": ratio,
            "config": config,
            "config_sha256": sha256_of(config),
            "inputs": {"corpus": CORPUS},
            "versions": VERSIONS,
            **(done if status == "done" else {}),
            **parts,
        }
    )


def folder(path, records, **about):
    """A results folder that holds these records."""
    path = Path(path)
    (path / "cells").mkdir(parents=True)
    cells = {record.cell: record.config_sha256 for record in records}
    fields = {"suite": "tiny", "tier": "quick", "asked": Asked(suite="tiny"), "cells": cells, **about}
    (path / "run.json").write_text(manifest.dumps(Manifest(**fields)))
    for record in records:
        (path / "cells" / f"{record.cell}.json").write_text(dumps(record))
    return path
