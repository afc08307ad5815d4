"""A host that is never closed: an hour of VMs that come, work, are cloned, snapshotted, ballooned and go.

    make soak                                  an hour, with the engine under the sanitizers
    python tests/soak.py [--seconds S] [--seed N]

What an hour may find and a test cannot: memory and descriptors of this process that grow by a little each round, and
numbers that run out. Every mechanism is at work at once: guests with a swap of their own, a balloon's decider, ksm, a
compressed cache, two swap areas, the collapser, limits. Beside that host, others are made, used and closed.

In each round some VMs arrive, one of them by clone; all work side by side; some are snapshotted, reverted, squeezed, and
some end. Each VM keeps a ledger, a few pages at its end whose bytes are known here, and every round reads all of it back.
Invariants are recounted every few rounds. Resident memory is read once a round: the most of the last quarter may be no more
than that of the second quarter by SPARE. As many descriptors are open in the end as in the beginning.
"""

import argparse
import gc
import os
import random
import sys
import time
from dataclasses import dataclass, field

import numpy as np

import memvirt
from memvirt import workloads
from memvirt.workloads.base import Space, Stream

PAGE = 4096
MOST_VMS = 12
LEDGER = 8  # pages at a VM's end that only the soak writes
CHECK_EVERY = 4  # rounds
ROUND_NS = 200_000_000  # of simulated time, at most
SPARE = 16 << 20  # bytes by which resident memory may come out otherwise
LEAST_ROUNDS = 16
IN_MEMORY = "/dev/shm"  # for swap files: what is looked for is in this process, not on a disk
SETTINGS = {
    "memory": "24MiB", "swap": "32MiB", "swap_areas": [{"size": "32MiB", "priority": 3, "device": "hdd"}],
    "zpool_percent": 20, "zpool_shrinker": True, "sharing": "ksm", "collapse_interval": "20ms",
    "balloon": "proportional", "harvest_interval": "5ms", "replacement": "twolist", "on_exhausted": "kill",
    "decider_options": {"interval_ns": "10ms"},
}  # fmt: skip
GUEST = {"swap": "4MiB", "cache_percent": 10}
LOADS = (
    {"workload": "zipf", "accesses": 6000, "write_percent": 30},
    {"workload": "uniform", "accesses": 4000, "write_percent": 60},
    {"workload": "sequential", "accesses": 3000},
    {"workload": "phase-change", "accesses": 5000, "write_percent": 20, "period": 1000},
)


@dataclass
class Guest:
    """A VM, the number that its streams are drawn by, and what its ledger holds: page of the ledger -> bytes."""

    vm: memvirt.Vm
    number: int
    ledger: dict[int, bytes] = field(default_factory=dict)
    kept: tuple | None = None  # a snapshot and the ledger of then

    @property
    def pages(self):
        return self.vm.view(ages=False).configured_pages

    def at(self, page):
        return (self.pages - LEDGER + page) * PAGE

    def note(self, draw):
        page = draw.randrange(LEDGER)
        self.ledger[page] = draw.randbytes(64)
        self.vm.write(self.at(page), self.ledger[page])

    def read_back(self):
        for page, data in self.ledger.items():
            found = self.vm.read(self.at(page), len(data))
            assert found == data, f"{self.vm.name}: ledger page {page} holds {found!r} in place of {data!r}"


class Soak:
    """One host, its guests, and what was seen round by round."""

    def __init__(self, seed):
        gc.collect()  # what was kept before is not ours to count
        self.draw = random.Random(seed)
        self.corpus = np.frombuffer(self.draw.randbytes(16 * PAGE), np.uint8).reshape(16, PAGE).repeat(4, axis=0).copy()
        self.corpus[:, 2048:], self.corpus[0] = 0, 0  # half of each page compresses away; the first is all zero
        self.host = memvirt.Host(**SETTINGS, corpus=self.corpus, seed=seed)
        self.guests, self.made, self.rounds = [], 0, 0
        self.resident, self.descriptors = [], len(os.listdir("/proc/self/fd"))

    def name(self):
        self.made += 1
        return f"vm{self.made}"

    def arrive(self):
        memory = self.draw.choice((4, 6, 8)) << 20
        try:
            guest = Guest(self.host.create_vm(self.name(), memory, guest=GUEST), self.made)
        except memvirt.AdmissionError:
            return
        count = self.draw.randrange(200, 1000)
        pages = np.arange(count, dtype=np.uint32)
        guest.vm.access(pages, np.full(count, 2, np.uint8), pages % len(self.corpus))
        self.guests.append(guest)

    def part(self):
        """One arrives as a clone of another, one is snapshotted or goes back, one is squeezed, one may end."""
        if not self.guests:
            return
        one, other, third = (self.draw.choice(self.guests) for _ in range(3))
        if len(self.guests) < MOST_VMS and one.kept is None:
            self.guests.append(Guest(one.vm.clone(self.name()), self.made, dict(one.ledger)))
        if other.kept is None:
            other.kept = (other.vm.snapshot(), dict(other.ledger))
        else:
            saved, ledger = other.kept
            other.vm.revert(saved)
            saved.drop()
            other.ledger, other.kept = ledger, None
        third.vm.set_limit(self.draw.choice((None, 2 << 20)))

    def end(self, guest):
        if guest.kept:
            guest.kept[0].drop()
        if guest in self.guests:
            self.guests.remove(guest)
        guest.vm.destroy()

    def work(self):
        streams = {
            guest.vm: workloads.parse(self.draw.choice(LOADS)).batches(
                Space(guest.pages - LEDGER), Stream(self.rounds, guest.number, "soak")
            )
            for guest in self.guests
        }
        self.host.run(streams, until_ns=self.host.sim_ns + ROUND_NS)
        for guest in [guest for guest in self.guests if guest.vm.outcome not in ("running", "done")]:
            self.end(guest)

    def round(self):
        while len(self.guests) < MOST_VMS // 2:
            self.arrive()
        self.part()
        for guest in self.guests:
            guest.note(self.draw)
        self.work()
        for guest in self.guests:
            guest.read_back()
        for guest in self.draw.sample(self.guests, min(2, len(self.guests))):
            self.end(guest)
        if self.rounds % CHECK_EVERY == 0:
            self.host.check()
            another(self.draw.random())
        self.rounds += 1
        self.resident.append(resident())

    def growth(self):
        """Bytes by which the most resident memory of the last quarter of the rounds is above that of the second."""
        quarter = len(self.resident) // 4
        return max(self.resident[-quarter:]) - max(self.resident[quarter : 2 * quarter])

    def finish(self):
        for guest in list(self.guests):
            self.end(guest)
        self.host.check()
        used = self.host.usage()
        assert used["guest"] == 0 and not self.host.vms, f"all VMs have ended, and these frames are used: {used}"
        assert len(os.listdir("/proc/self/fd")) == self.descriptors, "descriptors were left open"
        self.host.close()


def another(seed):
    """Another host, made, used and closed."""
    with memvirt.Host(memory="4MiB", swap="8MiB", zpool_percent=20, seed=int(seed * 1000)) as host:
        vm = host.create_vm("a", "8MiB")
        vm.access(np.arange(1500), np.ones(1500, np.uint8))
        host.check()


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(seconds, seed, told=lambda text: None):
    """(rounds, growth in bytes) after so many seconds, and LEAST_ROUNDS. AssertionError for what is wrong."""
    end, say, soaked = time.monotonic() + seconds, 0.0, Soak(seed)
    while time.monotonic() < end or soaked.rounds < LEAST_ROUNDS:
        soaked.round()
        if time.monotonic() >= say:
            say = time.monotonic() + 60
            told(f"round {soaked.rounds}: {soaked.made} VMs so far, {soaked.resident[-1] >> 20} MiB resident")
    growth = soaked.growth()
    soaked.finish()
    assert growth <= SPARE, f"resident memory grew by {growth >> 20} MiB in {soaked.rounds} rounds"
    return soaked.rounds, growth


def main():
    if os.path.isdir(IN_MEMORY):
        os.environ.setdefault("MEMVIRT_SWAP_DIR", IN_MEMORY)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    rounds, growth = soak(asked.seconds, asked.seed, lambda text: print(text, flush=True))
    print(f"{rounds} rounds, resident memory {growth / 2**20:+.1f} MiB; seed {asked.seed}")


if __name__ == "__main__":
    sys.exit(main())
