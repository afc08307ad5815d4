"""A refusal changes nothing, not even who is resident: whatever a VM would have needed at once, on full hosts of all kinds.

Without a compressed cache, of which that is not promised (see the essay of ext/memvirt/engine/host/admission.pyx).
"""

import random

import numpy as np
import pytest

import memvirt
from memvirt.errors import AdmissionError, ConfigError

PAGE = 4096
KINDS = ("plain", "guest", "reserved", "thick", "clone", "snapshot")
SEEDS = 40


def noise(pages, seed):
    return np.random.Generator(np.random.PCG64(seed)).bytes(pages * PAGE)


def full_host(draw, kind):
    """A host with little that is free: pages that need slots and pages of one word, some reserved, some pinned, some in
    2 MiB mappings."""
    frames = draw.choice([400, 900, 2200])
    provisioning = "thick" if kind == "thick" else draw.choice(["thin", "thin-huge"])
    watermarks = draw.choice([None, {"min": 0, "low": 0, "high": 0}])
    settings = {"watermarks": watermarks} if watermarks else {}
    host = memvirt.Host(
        memory=frames * PAGE,
        swap=draw.choice([0, 20, 100, 700]) * PAGE,
        replacement=draw.choice(["clock", "lru", "random", "fifo", "mglru", "arc"]),
        provisioning=provisioning,
        seed=draw.randrange(1000),
        **settings,
    )
    for number in range(draw.randint(2, 4)):
        pages = frames // 4 if kind == "thick" else draw.choice([frames // 3, 600, 40])
        reservation = draw.choice([0, 0, pages // 3])
        try:
            vm = host.create_vm(f"old{number}", pages * PAGE, reservation=reservation * PAGE)
        except AdmissionError:
            continue
        written = vm.write(0, noise(pages // 2, number) + b"\7" * (draw.choice([0, pages // 4]) * PAGE))
        vm.pin(0, min(draw.choice([0, 0, 5, 300]), written // PAGE))
        vm.access(np.arange(pages), np.ones(pages))
    return host, frames


def ask(host, frames, draw, kind, name):
    """One VM more."""
    size = draw.choice([1, 30, frames // 4, frames, 30 * frames, 100 * frames])
    if kind in ("clone", "snapshot"):
        vm = draw.choice(host.vms)
        return vm.clone(name) if kind == "clone" else vm.snapshot()
    if kind == "guest":
        return host.create_vm(
            name, size * PAGE, guest={"swap": 2 * size * PAGE, "replacement": draw.choice(["clock", "arc"])}
        )
    if kind == "reserved":
        reservation = min(size, draw.choice([20, frames // 3]))
        return host.create_vm(name, size * PAGE, reservation=reservation * PAGE)
    return host.create_vm(name, min(size, frames) * PAGE)


def state(host):
    return host.counters()["evicted"], host.usage(), {vm.name: vm.usage() for vm in host.vms}


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_evicts_nobody(kind):
    refused = admitted = 0
    for seed in range(SEEDS):
        draw = random.Random(f"{kind} {seed}")
        host, frames = full_host(draw, kind)
        for number in range(12 if host.vms else 0):
            before = state(host)
            try:
                ask(host, frames, draw, kind, f"new{number}")
            except AdmissionError as error:
                assert state(host) == before, f"seed {seed}: {error}"
                refused += 1
            else:
                admitted += 1
        host.check()
        host.close()
    assert refused > 20 and admitted > 20, (refused, admitted)


def one_read(frames, guest, low):
    """A host of so few frames that their last is asked for, with a VM that has read one page."""
    watermarks = {"min": low, "low": low, "high": low}
    host = memvirt.Host(memory=frames * PAGE, watermarks=watermarks)
    vm = host.create_vm("vm", 26 * PAGE, guest={"swap": 52 * PAGE} if guest else None)
    return host, vm, vm.read(0, PAGE)


@pytest.mark.parametrize("low", [0, 1, 2])
@pytest.mark.parametrize("guest", [False, True])
def test_a_copy_that_is_refused_for_the_last_frames_evicts_nobody(guest, low):
    """Reclaim keeps a frame or two for itself where the min watermark does not: a clone has to find them, too."""
    refused = 0
    for frames in range(9, 60):
        try:
            host, vm, _ = one_read(frames, guest, low)
        except (AdmissionError, ConfigError):
            continue
        for number in range(60):
            before = state(host)
            try:
                vm.clone(f"clone{number}") if number % 2 == 0 else vm.snapshot()
            except AdmissionError as error:
                assert state(host) == before, f"{frames} frames: {error}"
                refused += 1
        host.check()
        host.close()
    assert refused > 50
