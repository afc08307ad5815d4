"""Cold ages of pages that are out: a page comes back at its true age, wherever it was meanwhile."""

import pytest

import memvirt

PAGE = 4096
WAYS = {
    "same": {"zpool_percent": 20},
    "zpool": {"zpool_percent": 20},
    "swap": {"zpool_percent": 0, "readahead": 0},
    "ahead": {"zpool_percent": 0, "readahead": 3},
}


def page_of(way, number):
    if way == "same":
        return bytes([number + 1]) * PAGE
    return bytes((number * 7 + i * i) & 0xFF for i in range(PAGE)) if way != "zpool" else b"%04d" % number * 1024


def promoted(vm):
    """{age in harvests: pages accessed at that age}, ages above 0 only."""
    at_least = {age: pages for age, _, pages in vm._ages()}
    counts = {age: pages - at_least.get(age + 1, 0) for age, pages in at_least.items()}
    return {age: pages for age, pages in counts.items() if pages}


@pytest.mark.parametrize("way", WAYS)
def test_a_page_comes_back_at_its_true_age(way):
    host = memvirt.Host(memory="16MiB", swap="16MiB", **WAYS[way])
    vm = host.create_vm("a", "4MiB")
    pages = {number: page_of(way, number) for number in range(16)}

    def harvest(times):
        for _ in range(times):
            host.harvest()

    def out():
        assert host.engine.reclaim_from(vm.engine_vm, 16) == 16
        host.check()

    def back():
        for number, data in pages.items():
            assert vm.read(number * PAGE, PAGE) == data
        host.check()

    for number, data in pages.items():
        vm.write(number * PAGE, data)
    harvest(6)  # the first finds them accessed, then they are idle five times
    out()
    harvest(3)
    assert promoted(vm) == {}
    back()
    assert promoted(vm) == {8: 16}
    harvest(2)  # clean now where the copy was kept, and out once more
    out()
    harvest(2)
    back()
    assert promoted(vm) == {3: 16, 8: 16}
    assert (host.counters()["readahead_hits"] > 0) == (way == "ahead")


def test_what_was_read_ahead_for_nothing_is_as_old_as_before():
    host = memvirt.Host(memory="4MiB", swap="32MiB", zpool_percent=0, readahead=3)
    vm, other = host.create_vm("a", "1MiB"), host.create_vm("b", "8MiB")
    for number in range(16):
        vm.write(number * PAGE, page_of("ahead", number))
    for _ in range(4):
        host.harvest()
    assert host.engine.reclaim_from(vm.engine_vm, 16) == 16
    vm.read(0, 1)
    ahead = host.usage()["swap_cache"]
    assert ahead > 0 and promoted(vm) == {3: 1}
    for number in range(1500):  # pushes out what nobody asked for
        other.write(number * PAGE, page_of("swap", number % 200))
    assert host.usage()["swap_cache"] == 0 and host.counters()["readahead_dropped"] >= ahead
    host.harvest()
    host.check()
    for number in range(1, 16):
        assert vm.read(number * PAGE, PAGE) == page_of("ahead", number)
    assert promoted(vm) == {3: 1, 4: 15}
