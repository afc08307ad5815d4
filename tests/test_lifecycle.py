"""What a VM's life may not do to the host: time that runs back, memory lost on the way, promises nobody admitted."""

import gc
import os

import numpy as np
import pytest

import memvirt
from memvirt.errors import AdmissionError, ConfigError, MemvirtError
from memvirt.policies.base import Targets

MIB = 1 << 20


def write_all(vm, pages):
    return vm.access(np.arange(pages), np.ones(pages))


def test_a_revert_that_finds_no_memory_leaves_the_vm_as_it_was():
    host = memvirt.Host(memory="1MiB", seed=1)
    vm = host.create_vm("a", "1MiB")
    vm.write(0, b"hello")
    saved = vm.snapshot()
    vm.write(0, b"later")
    other = host.create_vm("b", "1MiB")
    write_all(other, other.pages)
    try:
        vm.revert(saved)
        expected = b"hello"
    except AdmissionError:
        expected = b"later"
    host.check()
    other.destroy()
    assert vm.read(0, 5) == expected


def test_simulated_time_does_not_run_back_when_the_vm_that_is_ahead_ends():
    host = memvirt.Host(memory="4MiB", swap="16MiB", seed=1)
    ahead, behind = host.create_vm("ahead", "6MiB"), host.create_vm("behind", "1MiB")
    write_all(ahead, 1500)
    before = host.sim_ns
    assert before > behind.sim_ns
    ahead.destroy()
    assert host.sim_ns == before
    late = host.create_vm("late", "1MiB")
    assert late.sim_ns == before
    host.check()


def test_a_vm_that_was_behind_has_been_idle_not_stalled():
    host = memvirt.Host(memory="4MiB", swap="16MiB", seed=1)
    ahead, behind = host.create_vm("ahead", "6MiB"), host.create_vm("behind", "1MiB")
    write_all(ahead, 1500)
    began = host.sim_ns
    host.run({behind: [(np.arange(10), np.ones(10))]})
    assert behind.sim_ns >= began
    assert behind.stall_ns < began


def test_a_snapshot_is_promised_nothing():
    host = memvirt.Host(memory="4MiB", swap="64MiB", seed=1)
    vm = host.create_vm("a", "2MiB", reservation="2MiB")
    write_all(vm, vm.pages)
    vm.snapshot()
    assert write_all(vm, vm.pages).done == vm.pages
    host.check()


def test_a_decider_may_end_any_vm_the_running_one_too():
    host = memvirt.Host(memory="4MiB", swap="16MiB", seed=1)
    vms = [host.create_vm(f"vm{i}", "2MiB") for i in range(3)]

    class Reaper:
        interval_ns = 20_000

        def decide(self, snapshot):
            if len(host.vms) > 1:
                host.vms[0].destroy()
            return Targets()

    batch = (np.arange(400), np.ones(400))
    outcomes = host.run({vm: [batch] * 3 for vm in vms}, decider=Reaper())
    assert [outcome.reason for outcome in outcomes.values()].count("killed") == 2
    host.check()


def test_a_clone_is_refused_in_words():
    host = memvirt.Host(memory="4MiB", seed=1)
    vm = host.create_vm("a", "1MiB")
    for name in ("a\n", "a b", "", 7, None):
        with pytest.raises(ConfigError, match="name: "):
            vm.clone(name)
    assert vm.clone(b"bytes").name == "bytes", "as create_vm takes them"
    assert type(vm.clone(np.str_("numpy")).name) is str
    host.close()
    with pytest.raises(ConfigError, match="the host is closed"):
        vm.clone("b")


def test_thick_provisioning_takes_time():
    host = memvirt.Host(memory="8MiB", provisioning="thick", seed=1)
    assert host.create_vm("a", "2MiB").sim_ns > 0


def test_a_clone_of_a_vm_that_is_behind_begins_now():
    host = memvirt.Host(memory="4MiB", swap="16MiB", seed=1)
    template, busy = host.create_vm("template", "1MiB"), host.create_vm("busy", "6MiB")
    write_all(busy, 1500)
    clone = template.clone("clone")
    assert clone.sim_ns >= busy.sim_ns
    with pytest.raises(MemvirtError):
        template.clone("clone")


@pytest.mark.parametrize("revert", [False, True])
def test_a_guest_that_ended_has_no_say_in_translations(revert):
    """Whoever still names it: the VM that has its number now, or its VM with another guest, is none of its business."""
    host = memvirt.Host(memory="4MiB", swap="16MiB", seed=1)
    parent = host.create_vm("parent", "1MiB", guest=True)
    write_all(parent, 60)
    vm = parent.clone("clone")
    ended = vm.engine_vm.guest
    if revert:
        vm.revert(parent.snapshot())
    else:
        vm.destroy()
        vm = host.create_vm("other", "1MiB", guest=True)
    vm.access(np.arange(120)[::-1], np.ones(120))
    host.check()
    write_all(parent, 100)
    host.check()
    host.engine.reclaim_from(vm.engine_vm, 50)
    host.check()
    assert ended.memory.nr_balloon == 0


def test_the_file_of_a_family_of_disks_goes_with_the_last_of_them():
    """One file for all; whoever keeps tables or the objects of VMs that have ended keeps no disk alive."""
    gc.collect()  # hosts of tests before that were kept by a failure, with their files
    host = memvirt.Host(memory="4MiB", swap="16MiB", seed=1)
    template = host.create_vm("template", "1MiB", guest={"swap": "1MiB"})
    write_all(template, 60)
    files = len(os.listdir("/proc/self/fd"))
    clones = [template.clone("clone"), template.clone("twin")]
    template.destroy()
    assert len(os.listdir("/proc/self/fd")) == files
    host.check()
    clones[0].access(np.arange(100), np.ones(100))
    clones[0].destroy()
    assert len(os.listdir("/proc/self/fd")) == files
    clones[1].destroy()
    assert len(os.listdir("/proc/self/fd")) == files - 1
    host.check()
