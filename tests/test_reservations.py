"""A reservation that was accepted can be had, beside any neighbour: found by search over random hosts and neighbours."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import memvirt
from memvirt.errors import AdmissionError

PAGE = 4096


def host_of(**given):
    return memvirt.Host(**{"content": "fingerprint", "swap_direct": False, "seed": 1, **given})


def touch(vm, pages, op=1):
    pages = np.asarray(pages, np.uint32)
    return vm.access(pages, np.full(len(pages), op, np.uint8)).reason


def test_tables_of_others_are_not_lent():
    """A neighbour that touches a page of each 2 MiB takes as many frames for tables, and these do not come back."""
    host = host_of(memory="8MiB", swap="64MiB")
    kept = host.create_vm("a", 1200 * PAGE, reservation=1200 * PAGE)
    other = host.create_vm("b", "1GiB")
    touch(other, np.arange(0, other.pages, 512))
    assert host.usage()["table"] > 200
    assert touch(kept, np.arange(1200)) == "done" and kept.usage()["charged_pages"] == 1200
    host.check()


def test_a_reservation_that_lies_far_apart_has_its_tables():
    host = host_of(memory="8MiB", swap="64MiB")
    kept = host.create_vm("a", "1GiB", reservation=400 * PAGE)
    other = host.create_vm("b", "16MiB")
    touch(other, np.arange(other.pages))
    assert touch(kept, np.arange(0, 400 * 512, 512)) == "done" and kept.usage()["charged_pages"] == 400
    host.check()


def test_what_is_pinned_is_not_lent():
    host = host_of(memory="8MiB", swap="64MiB")
    kept, other = host.create_vm("a", "4MiB", reservation=1000 * PAGE), host.create_vm("b", "8MiB")
    touch(other, np.arange(1400))
    pinned = other.pin(0, 1400)
    assert pinned < 1400 and other.outcome == "no_frame"
    assert touch(kept, np.arange(1000)) == "done" and kept.usage()["charged_pages"] == 1000
    host.check()
    with pytest.raises(AdmissionError, match="cannot be set aside"):
        host.create_vm("c", "4MiB", reservation=400 * PAGE)
    other.unpin(0, 2048)
    host.create_vm("c", "4MiB", reservation=400 * PAGE)


def test_what_the_compressed_cache_has_is_not_lent():
    host = host_of(memory="8MiB", swap="64MiB", zpool_percent=60, content="bytes")
    kept, other = host.create_vm("a", "6MiB", reservation=1400 * PAGE), host.create_vm("b", "64MiB")
    random = np.random.Generator(np.random.PCG64(1))
    for page in range(4000):
        other.write(page * PAGE, random.bytes(1200))
    assert touch(kept, np.arange(1400)) == "done" and kept.usage()["charged_pages"] == 1400
    host.check()


def test_an_order_that_names_reserved_pages_alone_is_not_asked_for_ever():
    """s3fifo takes from its small queue while its main one is within its share; all in there may be reserved."""
    host = host_of(memory=100 * PAGE, swap="2MiB", replacement="s3fifo")
    kept, other = host.create_vm("a", 8 * PAGE, reservation=8 * PAGE), host.create_vm("b", 200 * PAGE)
    for _ in range(5):
        assert touch(kept, np.arange(8)) == "done"
        assert touch(other, np.random.Generator(np.random.PCG64(_)).permutation(200)) == "done"
        assert kept.usage()["charged_pages"] == 8
    host.check()


def test_where_nobody_has_more_than_was_promised_who_asks_is_killed():
    """All memory is tables and what is reserved: VMs that were only made have left none."""
    host = host_of(memory="8MiB", on_exhausted="kill")
    kept, asks = host.create_vm("kept", "8MiB", reservation=1500 * PAGE), host.create_vm("asks", "8MiB")
    assert touch(kept, np.arange(1500)) == "done"
    for size in (64 << 20, 4 << 20, PAGE):
        with pytest.raises(AdmissionError):
            while True:
                host.create_vm(f"idle{len(host.vms)}", size)
    outcome = host.run({asks: [(np.arange(9, dtype=np.uint32), np.ones(9, np.uint8))]})
    assert outcome[asks].reason == "killed" and host.vms[0] is kept and len(host.vms) > 2
    assert kept.usage()["charged_pages"] == 1500
    host.check()


HOSTS = some.fixed_dictionaries(
    {
        "memory": some.integers(300, 2500).map(lambda pages: pages * PAGE),
        "swap": some.integers(0, 3000).map(lambda pages: pages * PAGE),
        "replacement": some.sampled_from(["clock", "fifo", "lru", "random", "mglru", "arc", "s3fifo", "2q", "lirs"]),
        "provisioning": some.sampled_from(["thin", "thin", "thin-huge"]),
        "sharing": some.sampled_from([None, None, "hash", "ksm"]),
        "zpool_percent": some.sampled_from([0, 0, 10, 40]),
        "readahead": some.sampled_from([0, 3]),
        "on_exhausted": some.sampled_from(["stop", "wait", "kill"]),
        "seed": some.integers(0, 99),
    }
)
NEIGHBOUR = some.fixed_dictionaries(
    {
        "pages": some.sampled_from([40, 900, 4000, 100_000]),
        "kept": some.sampled_from([0, 0, 0, 10, 40]),
        "guest": some.sampled_from([False, False, True]),
        "stride": some.sampled_from([1, 1, 7, 512]),
        "does": some.lists(
            some.sampled_from(["write", "read", "pin", "clone", "snapshot", "balloon", "scan"]), max_size=4
        ),
    }
)


def make(host, name, pages, kept, guest):
    kept = min(pages, kept * host.config.memory // 100)
    return host.create_vm(name, pages * PAGE, reservation=kept * PAGE, guest=guest and {"cache_percent": 0})


def live(host, vm, stride, does):
    """It takes what it can get."""
    pages = np.arange(0, vm.pages * min(stride, 512), stride, dtype=np.uint64) % vm.pages
    for what in does:
        if what in ("write", "read"):
            touch(vm, pages[:3000], what == "write")
        elif what == "pin":
            vm.pin(0, min(vm.pages, 700))
        elif what == "balloon" and vm.engine_vm.guest is not None:
            vm.balloon(vm.pages // 2 * PAGE)
        elif what == "scan" and host.config.sharing:
            host.scan()
        elif what in ("clone", "snapshot"):
            try:
                vm.clone(f"{vm.name}-{len(host.vms)}") if what == "clone" else vm.snapshot()
            except AdmissionError:
                continue


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    HOSTS,
    some.integers(1, 80),
    some.sampled_from([1, 1, 300]),
    some.lists(NEIGHBOUR, min_size=1, max_size=4),
    some.integers(0, 4),
)
def test_a_reservation_can_be_had_beside_any_neighbour(settings, percent, stride, neighbours, first):
    with host_of(**settings) as host:
        size = max(1, percent * host.config.memory // 100)
        kept = None
        for step, each in enumerate([*neighbours[:first], None, *neighbours[first:]]):
            try:
                if each is None:
                    kept = host.create_vm("kept", size * stride * PAGE, reservation=size * PAGE)
                else:
                    vm = make(host, f"n{step}", each["pages"], each["kept"], each["guest"])
                    live(host, vm, each["stride"], each["does"])
            except AdmissionError:
                continue
        if kept is None:
            return
        host.check()
        assert touch(kept, np.arange(0, size * stride, stride)) == "done", (host.usage(), host.config.watermarks)
        held = kept.usage()
        assert held["charged_pages"] == size or host.config.sharing or held["charged_pages"] > size, held
        host.check()
