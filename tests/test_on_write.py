"""provisioning = "on-write": a page that was only read maps one frame of zeros, and gets its own when it is written."""

import numpy as np
import pytest

import memvirt

PAGE = 4096


def touch(vm, pages, write):
    vm.access(np.asarray(pages, np.uint32), np.full(len(pages), write))


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
def test_reads_cost_no_frame_and_the_first_write_breaks_away(content):
    with memvirt.Host(memory="8MiB", provisioning="on-write", content=content, seed=1) as host:
        vm = host.create_vm("one", "1MiB")
        touch(vm, range(200), False)
        counted = host.counters()
        assert counted["fault_zero_read"] == 200 and counted["fault_zero"] == 0
        assert host.usage()["guest"] == vm.engine_vm.charged == 0
        host.check()
        touch(vm, range(150), True)
        counted = host.counters()
        assert counted["fault_cow"] == 150 and counted["cow_breaks_shared"] == 0, "breaks, of nothing that was merged"
        assert host.usage()["guest"] == vm.engine_vm.charged == 150
        touch(vm, range(200, 256), True)
        assert host.counters()["fault_zero"] == 56 and host.counters()["fault_cow"] == 150
        assert host.cpu_ns()["copy"] == 0, "what is cleared is not copied"
        host.check()


def test_it_holds_zeros_whoever_writes():
    with memvirt.Host(memory="8MiB", provisioning="on-write", seed=1) as host:
        one, two = host.create_vm("one", "1MiB"), host.create_vm("two", "1MiB")
        assert one.read(0, 1 << 20) == two.read(0, 1 << 20) == bytes(1 << 20)
        one.write(5 * PAGE + 8, b"mine")
        twin = one.clone("twin")
        twin.write(6 * PAGE, b"his")
        assert two.read(0, 1 << 20) == bytes(1 << 20)
        assert one.read(5 * PAGE, 16) == twin.read(5 * PAGE, 16) == bytes(8) + b"mine" + bytes(4)
        assert one.read(6 * PAGE, 8) == bytes(8)
        host.check()
        one.destroy()
        two.destroy()
        host.check()
        assert twin.read(6 * PAGE, 3) == b"his" and twin.read(200 * PAGE, PAGE) == bytes(PAGE)


def test_reads_go_on_where_no_frame_is_left():
    """Frames run out by writes; pages that are only read need none."""
    with memvirt.Host(memory="1MiB", provisioning="on-write", seed=1) as host:
        vm = host.create_vm("one", "2MiB")
        done = vm.access(np.arange(512, dtype=np.uint32), np.ones(512, bool))
        assert done.done < 256 and vm.outcome == "no_frame"
        left = np.arange(done.done, 512, dtype=np.uint32)
        assert vm.access(left, np.zeros(len(left), bool)).done == len(left)
        host.check()


def test_scanners_and_pins_leave_the_zero_frame_alone():
    options = {"use_zero_pages": True}
    with memvirt.Host(memory="8MiB", provisioning="on-write", sharing="ksm", sharing_options=options, seed=1) as host:
        vm = host.create_vm("one", "1MiB")
        touch(vm, range(100), False)
        touch(vm, range(100, 200), True)
        for page in range(200, 256):
            vm.write(page * PAGE, bytes(8))
        for _ in range(3):
            host.scan()
            host.check()
        assert host.counters()["merges_zero"] == 56, "pages of zeros that have frames, and no others"
        assert vm.pin(0, 20) == 20 and vm.unpin(0, 100) == 100
        host.check()
        assert vm.read(0, 256 * PAGE)[: 100 * PAGE] == bytes(100 * PAGE)


def test_without_it_a_read_gives_a_frame_and_nothing_more_is_counted():
    with memvirt.Host(memory="8MiB", seed=1) as host:
        vm = host.create_vm("one", "1MiB")
        touch(vm, range(10), False)
        assert host.counters()["fault_zero"] == 10 and "fault_zero_read" not in host.counters()
