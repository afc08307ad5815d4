"""What fails leaves everything as it was: by an outcome, by an exception, by a signal; in guest, host and face."""

import contextlib
import errno
import gc
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

import memvirt
from memvirt.engine.testing import guests as probe
from memvirt.errors import AdmissionError, ConfigError, MemvirtError, StoreError

PAGE = 4096
MIB = 1 << 20


def noise(pages, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).bytes(pages * PAGE)


def swap_of(host):
    return host.engine.mapping.swap


# -- a guest whose machine raises -------------------------------------------------------------------------------------


def busy():
    """A guest with pages of every kind, half of its memory in use, and what each vpn holds."""
    guest, machine = probe.make(
        vpns=48, pages=16, cache_border=32, swap_slots=20, kernel_pages=1, low_pages=1, high_pages=2, report_order=1
    )
    content = {}
    for vpn in (*range(20), 33, 34, *range(3, 7), 40):
        tag = 1000 + vpn
        assert probe.write(guest, machine, vpn, tag) == 0
        content[vpn] = tag
    return guest, machine, content


OPERATIONS = {
    "first touches": lambda guest, machine: [probe.resolve(guest, vpn) for vpn in range(20, 28)],
    "swap in": lambda guest, machine: [probe.resolve(guest, vpn, True) for vpn in range(12)],
    "page cache": lambda guest, machine: [probe.resolve(guest, vpn, vpn % 2) for vpn in range(32, 40)],
    "discard": lambda guest, machine: [probe.discard(guest, vpn) for vpn in (44, 45)],
    "balloon": lambda guest, machine: (guest.set_target(6), probe.balloon_step(guest, 6)),
    "report": lambda guest, machine: probe.report(guest, 4),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_request_of_a_guest_may_raise_and_nothing_is_half_done(operation):
    """The tables are whole after it, every page reads as before, and the same call again succeeds."""
    for position in range(1, 200):
        guest, machine, content = busy()
        machine.fail(position, probe.RAISES)
        before = machine.nr_requests
        raised = False
        try:
            OPERATIONS[operation](guest, machine)
        except StoreError:
            raised = True
        guest.check()
        if not raised:
            assert machine.nr_requests - before < position
            break
        OPERATIONS[operation](guest, machine)
        guest.check()
        for vpn, tag in content.items():
            assert probe.read(guest, machine, vpn) == tag, (operation, position, vpn)
        guest.check()
    assert position > 1 or operation in ("report", "discard")


@pytest.mark.parametrize("kernel", ["0", "512KiB"])
@pytest.mark.parametrize("what", ["write", "read", "balloon", "discard", "pin", "clone"])
def test_a_host_that_cannot_read_leaves_its_guests_whole(what, kernel):
    host = memvirt.Host(memory="1MiB", swap="8MiB", readahead=0, seed=1)
    guest = host.create_vm("g", MIB, guest={"swap": "1MiB", "cache_percent": 0, "kernel": kernel})
    held = {}
    for page in range(256):
        if guest.write(page * PAGE, noise(1, page)) == PAGE:
            held[page] = noise(1, page)
    other = host.create_vm("w", "2MiB")
    other.write(0, noise(512, 7))
    errors = 0
    for step in range(60):
        page = step * 7 % 256
        swap_of(host).inject("read", 1 + step % 3, errno.EIO)
        vms = [vm.name for vm in host.vms]
        try:
            if what == "write":
                guest.write(page * PAGE, noise(1, page))
            elif what == "read":
                guest.access(np.arange(page, 256), np.zeros(256 - page))
            elif what == "balloon":
                guest.balloon(f"{(step + 1) * 4}KiB")
            elif what == "discard":
                guest.access([page], [3])
                held.pop(page, None)
            elif what == "pin":
                guest.pin(page, 1)
                guest.unpin(page, 1)
            else:
                guest.clone(f"c{step}").destroy()
        except StoreError:
            errors += 1
            assert [vm.name for vm in host.vms] == vms
        swap_of(host).inject("read", 1, errno.EIO, 0)
        host.check()
    assert errors > 0 or what in ("discard", "clone")
    if what == "balloon":
        guest.balloon(0)
    for page, data in held.items():
        with contextlib.suppress(memvirt.errors.ConfigError):  # memory may have run out
            assert guest.read(page * PAGE, PAGE) == data
    host.check()
    guest.destroy()
    other.destroy()
    host.check()
    assert host.usage()["guest"] == 0 and swap_of(host).nr_used == 0


# -- reverts and clones that fail -------------------------------------------------------------------------------------


def with_disk(host, name="g"):
    """A VM whose guest has pages on its own disk."""
    vm = host.create_vm(name, MIB, guest={"swap": "2MiB", "cache_percent": 0, "kernel": "512KiB"})
    assert vm.write(0, noise(250)) == 250 * PAGE
    return vm


@contextlib.contextmanager
def without_room(holder):
    """The file of its guest's disk, of a VM or snapshot, must not become larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (holder.engine_vm.hardware.disk.file.swap.nr_slots * PAGE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("replacement", ["clock", "random"])
def test_a_revert_whose_disk_has_no_room_leaves_the_vm_as_it_was(replacement):
    """The snapshot is of another VM: its file needs room for one disk more."""
    host = memvirt.Host(memory="4MiB", swap="8MiB", seed=1)
    vm_guest = {"swap": "2MiB", "cache_percent": 0, "kernel": "512KiB", "replacement": replacement}
    vm = host.create_vm("g", MIB, guest=vm_guest)
    assert vm.write(0, noise(250)) == 250 * PAGE
    other = host.create_vm("h", MIB, guest=vm_guest)
    saved = vm.snapshot()
    assert other.write(0, noise(250, 1)) == 250 * PAGE
    vm.destroy()
    vm = other
    before = vm.counters(), host.usage()
    with without_room(saved), pytest.raises(ConfigError, match="swap file"):
        vm.revert(saved)
    assert (vm.counters() | {"sim_ns": 0}, host.usage()) == (before[0] | {"sim_ns": 0}, before[1])
    host.check()
    assert vm.read(0, 250 * PAGE) == noise(250, 1)
    vm.revert(saved)
    host.check()
    assert vm.read(0, 250 * PAGE) == noise(250)
    assert vm.counters()["guest_faults"] >= before[0]["guest_faults"], "counters go on"
    host.check()


def test_a_clone_whose_disk_has_no_room_is_not_there():
    host = memvirt.Host(memory="4MiB", swap="8MiB", seed=1)
    vm = with_disk(host)
    before = host.usage()
    for copy in (lambda: vm.clone("c"), vm.snapshot):
        with without_room(vm), pytest.raises(ConfigError, match="swap file"):
            copy()
        assert [each.name for each in host.vms] == ["g"] and host.saved_states == []
        assert host.usage() == before
        host.check()
    twin = vm.clone("c")
    assert twin.read(0, 250 * PAGE) == noise(250) == vm.read(0, 250 * PAGE)
    host.check()


def test_a_revert_that_finds_no_memory_changes_nothing_of_a_guest():
    host = memvirt.Host(memory="3MiB", seed=1)
    vm = with_disk(host)
    saved = vm.snapshot()
    vm.write(0, noise(250, 1))
    other = host.create_vm("other", "8MiB")
    other.write(0, noise(2048, 2))
    for nth in range(1, 40):
        host.engine.frames.buddy.fail_after(nth)
        expected = 0
        try:
            vm.revert(saved)
        except AdmissionError:
            expected = 1
        late = host.engine.frames.buddy.fail_after(0) > 0
        host.check()
        found = vm.read_pages(np.arange(250))
        assert found.tobytes() == noise(250, expected)
        if late or expected == 0:
            break


# -- tables that cannot be had ----------------------------------------------------------------------------------------

SHORT = """
import resource, memvirt
host = memvirt.Host(memory="64MiB", content="fingerprint")
vm = host.create_vm("a", "1MiB")
size = int(open("/proc/self/statm").read().split()[0]) * 4096
free = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (size + (12 << 20), free[1]))
refused = 0
for i in range(6):
    before = host.usage(), host.vms
    try:
        host.create_vm(f"v{i}", "8GiB", guest=bool(i % 2))
        continue
    except MemoryError:
        refused += 1
    assert (host.usage(), host.vms) == before, (host.usage(), before)
    host.check()
assert refused >= 4, refused
resource.setrlimit(resource.RLIMIT_AS, free)
host.check()
assert vm.access([1], [1]).done == 1
print("well")
"""


def test_a_vm_whose_translations_cannot_be_had_takes_no_frame():
    done = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, timeout=60)
    assert done.stdout == "well\n", done.stderr


# -- signals ----------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def storm(call, tries, spread_us=300):
    """Call again and again, with a signal that comes ever later; how often it was interrupted."""
    hits = 0

    def raise_it(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, raise_it)
    gc.disable()  # what others have the collector call could drop a signal with a warning
    try:
        for step in range(tries):
            try:  # the outer one takes a signal that comes while a refusal is handled
                try:
                    signal.setitimer(signal.ITIMER_REAL, (1 + step * 7 % spread_us) / 1e6)
                    call(step)
                except MemvirtError:
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    return hits


def test_no_vm_is_lost_to_a_signal_and_none_shown_that_has_ended():
    """Engine and face agree after every call, whatever it was in the middle of."""
    host = memvirt.Host(memory="4MiB", swap="8MiB", seed=1)
    keep = host.create_vm("keep", MIB, guest={"swap": "256KiB"})
    keep.write(0, noise(100))

    def call(step):
        kind, names = step % 6, [vm.name for vm in host.vms if vm is not keep]
        if kind == 0:
            host.create_vm(f"vm{step}", "64KiB", guest=bool(step % 12))
        elif kind == 1:
            keep.clone(f"clone{step}")
        elif kind == 2:
            keep.snapshot()
        elif kind == 3 and names:
            next(vm for vm in host.vms if vm.name == names[0]).destroy()
        elif kind == 4 and host.saved_states:
            host.saved_states[0].drop()
        elif kind == 5 and host.saved_states:
            keep.revert(host.saved_states[-1])

    hits = 0
    for turn in range(40):
        hits += storm(call, 60, 150 + turn * 10)
        engine = host.engine
        assert [vm.engine_vm for vm in host.vms] == list(engine.vms.values())
        assert [saved.engine_vm for saved in host.saved_states] == list(engine.snapshots)
        assert all(vm.engine_vm.alive for vm in host.vms)
        assert all(vm is again for vm, again in zip(host.vms, host.vms, strict=True)), "one face each"
        host.check()
        while len(host.vms) > 20:
            host.vms[1].destroy()
        while len(host.saved_states) > 20:
            host.saved_states[0].drop()
    assert hits > 100
    for saved in host.saved_states:
        saved.drop()
    for vm in host.vms:
        vm.destroy()
    host.check()
    assert host.usage()["guest"] == 0 and swap_of(host).nr_used == 0
    assert host.create_vm("keep", MIB).name == "keep"
