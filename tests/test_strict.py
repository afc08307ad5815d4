"""Under commit="strict" whatever is admitted can be filled, whatever else is done: found by search over random hosts."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import memvirt
from memvirt.engine.host import promises
from memvirt.errors import AdmissionError

PAGE = 4096
READ, WRITE = 0, 1


def host_of(**given):
    return memvirt.Host(**{"commit": "strict", "content": "fingerprint", "swap_direct": False, "seed": 1, **given})


def touch(vm, op, pages):
    return vm.access(np.asarray(pages, np.uint32), np.full(len(pages), op, np.uint8)).reason


def largest(memory, commit, **given):
    """Pages of the largest VM that is admitted and filled."""
    low, high = 1, 8 * memory
    while low < high:
        pages = (low + high + 1) // 2
        try:
            with host_of(memory=memory * PAGE, commit=commit, **given) as host:
                filled = touch(host.create_vm("a", pages * PAGE), WRITE, np.arange(pages)) == "done"
        except AdmissionError:
            filled = False
        low, high = (pages, high) if filled else (low, pages - 1)
    return low


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"swap": "4MiB"},
        {"swap": "40MiB"},
        {"swap": "4MiB", "swap_areas": [{"size": "3MiB", "priority": 2}]},
        {"sharing": "hash"},
        {"sharing": "esx", "swap": "4MiB"},
        {"provisioning": "thin-huge", "swap": "4MiB"},
        {"watermarks": {"min": 100, "low": 120, "high": 140}},
    ],
    ids=str,
)
def test_the_largest_vm_that_is_admitted_is_the_largest_that_can_be_filled(given):
    """But for a page: what `always` gives for a record that it need not have."""
    assert 0 <= largest(4096, "strict", **given) - largest(4096, "always", **given) <= 1
    with host_of(memory=4096 * PAGE, **given) as host:
        most = largest(4096, "strict", **given)
        with pytest.raises(
            AdmissionError, match=f"{most + 1} pages would be promised; beside what that costs, memory has"
        ):
            host.create_vm("a", (most + 1) * PAGE)
        host.create_vm("a", most * PAGE)
        with pytest.raises(AdmissionError):
            host.create_vm("b", PAGE)


def test_nominal_counts_what_is_configured():
    host = host_of(memory="8MiB", commit="nominal")
    vm = host.create_vm("a", "8MiB")
    with pytest.raises(
        AdmissionError, match=r"2049 pages would be promised; memory and swap have 2048 \(commit='nominal'\)"
    ):
        host.create_vm("b", PAGE)
    assert touch(vm, WRITE, np.arange(2048)) == "no_frame"


def test_eight_vms_of_an_eighth_are_filled_as_one_is():
    host = host_of(memory="32MiB")
    size = promises.promised(host.engine)["frames"] // 8
    vms = []
    with pytest.raises(AdmissionError):
        while True:
            vms.append(host.create_vm(f"v{len(vms)}", (size - 12) * PAGE))
    assert len(vms) == 8
    for vm in vms:
        assert touch(vm, WRITE, np.arange(vm.pages)) == "done"
    host.check()


def test_what_limits_keep_out_of_memory_needs_swap():
    host = host_of(memory="32MiB", swap="12MiB")
    with pytest.raises(AdmissionError, match="limits keep 3072 of them out of memory, .* and swap has 3072"):
        host.create_vm("a", "16MiB", limit="4MiB")
    vm = host.create_vm("a", "8MiB", limit="4MiB")
    assert touch(vm, WRITE, np.arange(2048)) == "done"
    for more in (lambda: vm.clone("b"), lambda: host.create_vm("c", "8MiB")):
        with pytest.raises(AdmissionError, match="limits keep"):
            more()
    host.create_vm("c", "4MiB")


def test_pages_of_one_word_do_not_use_up_the_records_of_others():
    """Zero pages go without a slot; were there a record for each, its frame would be missed later."""
    memory, swap = 2048, 1024
    host = host_of(memory=memory * PAGE, swap=swap * PAGE)
    pages = promises.promised(host.engine)["frames"] + swap - 24
    vm = host.create_vm("a", pages * PAGE)
    for op in (READ, WRITE, WRITE):
        assert touch(vm, op, np.arange(pages)) == "done"
        host.check()
    assert host.counters()["evicted_same"] > 0


HOSTS = some.fixed_dictionaries(
    {
        "memory": some.integers(100, 2500).map(lambda pages: pages * PAGE),
        "swap": some.sampled_from([0, 0, 1, 3]).flatmap(lambda n: some.integers(0, 900 * n)).map(lambda n: n * PAGE),
        "replacement": some.sampled_from(["clock", "fifo", "lru", "random", "mglru", "arc", "s3fifo"]),
        "provisioning": some.sampled_from(["thin", "thin", "thin-huge", "thick"]),
        "sharing": some.sampled_from([None, None, "hash", "ksm", "esx", "inline"]),
        "zpool_percent": some.sampled_from([0, 0, 5, 20]),
        "readahead": some.sampled_from([0, 3]),
        "collapse_interval": some.sampled_from([None, 1_000_000]),
        "seed": some.integers(0, 99),
    }
)
VM = some.fixed_dictionaries(
    {
        "share": some.integers(1, 100),
        "limit": some.sampled_from([None, None, None, 30, 80]),
        "reservation": some.sampled_from([0, 0, 20, 70]),
        "guest": some.sampled_from([False, False, True]),
    }
)
STEP = some.one_of(
    some.tuples(some.just("create"), VM),
    some.tuples(
        some.sampled_from(["clone", "snapshot", "drop", "destroy", "scan", "read", "fill"]), some.integers(0, 9)
    ),
)


def create(host, name, share, limit, reservation, guest):
    """A VM of that many per cent of what is still to be had; one that is too large is refused."""
    of_all = promises.promised(host.engine)
    pages = max(1, share * (of_all["frames"] + of_all["slots"] - of_all["pages"]) // 95)
    limit = limit and max(1, pages * limit // 100)
    reservation = min(pages, limit or pages) * reservation // 100
    host.create_vm(
        name,
        pages * PAGE,
        limit=limit and limit * PAGE,
        reservation=reservation * PAGE,
        guest=guest and {"cache_percent": 0},
    )


def fill(host, seed):
    """Every VM writes all of its pages, two of them at a time, each in an order of its own."""
    rng = np.random.Generator(np.random.PCG64(seed))
    orders = [(vm, rng.permutation(vm.pages).astype(np.uint32)) for vm in host.vms]
    for first in range(0, len(orders), 2):
        streams = {vm: [(order, np.full(len(order), WRITE, np.uint8))] for vm, order in orders[first : first + 2]}
        for vm, outcome in host.run(streams).items():
            assert outcome.reason == "done", (vm, outcome, host.usage(), promises.promised(host.engine))


def do(host, name, what, step):
    some_vm = host.vms[what % len(host.vms)] if name != "create" and host.vms else None
    if name == "create":
        create(host, f"v{step}", **what)
    elif some_vm is None:
        return
    elif name == "clone":
        some_vm.clone(f"v{step}")
    elif name == "snapshot":
        some_vm.snapshot()
    elif name == "drop" and host.saved_states:
        host.saved_states[what % len(host.saved_states)].drop()
    elif name == "destroy":
        some_vm.destroy()
    elif name == "scan" and host.config.sharing:
        host.scan()
    elif name == "read":
        touch(some_vm, READ, np.arange(some_vm.pages))
    elif name == "fill":
        fill(host, what)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(HOSTS, some.lists(STEP, min_size=1, max_size=8))
def test_whatever_is_admitted_can_be_filled(settings, steps):
    with host_of(**settings) as host:
        for step, (name, what) in enumerate(
            [("create", {"share": 50, "limit": None, "reservation": 0, "guest": False}), *steps]
        ):
            try:
                do(host, name, what, step)
            except AdmissionError:
                continue
        for seed in range(3):
            fill(host, seed)
        host.check()


# ---- what is changed later


def test_pins_leave_frames_for_the_others_to_take_turns_in():
    """A VM of 10 MiB on 8 MiB pinned all that there was, and its neighbour got not a page with all swap free."""
    with host_of(memory="8MiB", swap="16MiB") as host:
        a, b = host.create_vm("a", "10MiB"), host.create_vm("b", "5MiB")
        pinned = a.pin(0, a.pages)
        assert 1500 < pinned < 2048 - 100
        assert a.pin(0, pinned) == pinned, "again: nothing is taken from anybody"
        assert touch(b, WRITE, np.arange(b.pages)) == "done"
        assert touch(a, WRITE, np.arange(a.pages)) == "done"
        with pytest.raises(AdmissionError, match="reserved or pinned"):
            host.create_vm("c", "2MiB")
        assert a.unpin(0, a.pages) and host.create_vm("c", "2MiB")
        host.check()


def test_pins_are_not_bounded_where_all_fits_nor_under_another_rule():
    with host_of(memory="8MiB", swap="16MiB") as host:
        a = host.create_vm("a", "6MiB")
        assert a.pin(0, a.pages) == a.pages
    with host_of(memory="8MiB", swap="16MiB", commit="always") as host:
        a = host.create_vm("a", "10MiB")
        assert a.pin(0, a.pages) > 1900


def test_a_limit_that_admission_would_refuse_is_refused_later_too():
    with host_of(memory="8MiB", swap="6MiB") as host:
        b, a = host.create_vm("b", "5MiB"), host.create_vm("a", "5MiB")
        for vm in (b, a):
            assert touch(vm, WRITE, np.arange(vm.pages)) == "done"
        held = a.counters()["charged_pages"]
        with pytest.raises(AdmissionError, match="VM 'a': with this limit .* takes a slot for each page"):
            a.set_limit("256KiB")
        assert a.view().limit_pages is None and a.counters()["charged_pages"] == held, "a refusal changes nothing"
        assert touch(a, WRITE, np.arange(a.pages)) == "done"
        assert a.set_limit("6MiB") == 0
        host.check()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    sizes=some.lists(some.integers(64, 1500), min_size=1, max_size=4),
    swap=some.integers(0, 4000),
    changes=some.lists(
        some.tuples(some.integers(0, 3), some.sampled_from(("pin", "limit", "fill")), some.integers(1, 1500)),
        max_size=8,
    ),
)
def test_whatever_is_pinned_or_limited_all_can_be_filled(sizes, swap, changes):
    with host_of(memory=1500 * PAGE, swap=swap * PAGE) as host:
        vms = []
        for number, pages in enumerate(sizes):
            try:
                vms.append(host.create_vm(f"v{number}", pages * PAGE))
            except AdmissionError:
                continue
        for which, what, pages in changes:
            if which >= len(vms):
                continue
            vm = vms[which]
            if what == "pin":
                vm.pin(0, min(pages, vm.pages))
            elif what == "limit":
                try:
                    vm.set_limit(pages * PAGE)
                except AdmissionError:
                    continue
            else:
                pinned_out = touch(vm, WRITE, np.arange(min(pages, vm.pages)))
                assert pinned_out == "done"
        for vm in vms:
            assert touch(vm, WRITE, np.arange(vm.pages)) == "done"
        host.check()
