"""500 VMs on a host of 256 GiB for half an hour of simulated time: processor time and memory of the whole cell.

A cell as a suite runs it, in a process of its own: the fleet boots, works, is measured and sampled; at the end every page
is read back and all books are audited. Takes a quarter of an hour.
"""

import resource
import time
from collections.abc import Iterator

from harness import Row, bounded
from peers.worker import Worker

from memvirt.experiment.cell import prepare, run_cell
from memvirt.inputs import synthetic
from memvirt.results.record import Record
from rows.life import cell

HOST_GIB, VMS, VM_MIB = 256, 500, 768
MINUTES, EPOCH = 30, "10s"
BOUND_S, BOUND_GIB = 1200, 5


def rows(repeats: int) -> Iterator[Row]:
    with Worker() as worker:
        spent_s, gib, record = worker(whole)
    if record.status != "done":
        raise RuntimeError(f"the cell is {record.status}: {record.reason}")
    what = f"fleet: {VMS} VMs of {VM_MIB} MiB on {HOST_GIB} GiB for {MINUTES} min"
    minutes = sum(vm["sim_ns"] for vm in record.vms.values()) / 60e9
    note = f"{spent_s / minutes:.3f} s a VM-minute, slowdown {record.derived['slowdown']}"
    yield bounded(f"{what}, processor time", spent_s, BOUND_S, "s", note)
    yield bounded(f"{what}, memory", gib, BOUND_GIB, "GiB", "resident at its height; what is to be read back included")


def whole() -> tuple[float, float, Record]:
    """(processor seconds, GiB resident at the height, the record) of the cell."""
    corpus = synthetic(8192, seed=1)
    began = time.process_time()
    record = run_cell(prepare(corpus), cell(EPOCH, f"{HOST_GIB}GiB", f"{VM_MIB}MiB", VMS, MINUTES))
    return time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), record
