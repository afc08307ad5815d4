"""Free page reporting: what guests name to the host, when, in how many messages, and what it costs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import memvirt
from memvirt.engine.testing.guests import lookup
from memvirt.errors import ConfigError
from memvirt.settings import presets

PAGE = 4096
MS = 1_000_000
WRITE, DISCARD = 1, 3


def host_of(**given):
    return memvirt.Host(**{"memory": "64MiB", "content": "fingerprint", "swap_direct": False, "seed": 1, **given})


def guest_of(host, memory="16MiB", name="a", **options):
    return host.create_vm(name, memory, guest={"cache_percent": 0, "report_order": 4, **options})


def do(vm, op, pages):
    pages = np.asarray(pages, np.uint32)
    assert vm.access(pages, np.full(len(pages), op, np.uint8)).reason == "done"


def pass_time(host, until_ns):
    host.run({}, until_ns=until_ns)
    host.check()


def told(vm):
    counted = vm.counters()
    return {name: counted[name] for name in ("reported", "report_messages", "report_freed", "charged_pages")}


@pytest.mark.parametrize("order", [None, 0, 5])
def test_the_host_does_not_swap_what_a_guest_has_freed(order):
    """Off: dead pages are written to swap, and read back when they are used again. On: they are gone."""
    host = host_of(memory="32MiB", swap="64MiB")
    vm, other = guest_of(host, "24MiB", report_order=order), host.create_vm("b", "24MiB")
    do(vm, WRITE, np.arange(5000))
    do(vm, DISCARD, np.arange(4000))
    pass_time(host, 60_000 * MS)
    assert told(vm)["charged_pages"] == (5000 if order is None else 1000 if order == 0 else pytest.approx(1000, abs=64))
    do(other, WRITE, np.arange(5000))
    swapped = host.counters()["evicted_swap"]
    before = host.counters()
    do(vm, WRITE, np.arange(4000))
    after = host.counters()
    if order is None:
        assert swapped > 2000 and after["swap_pages_in"] > before["swap_pages_in"] + 1000
    else:
        assert swapped == 0 and after["fault_zero"] - before["fault_zero"] == pytest.approx(4000, abs=64)
    assert vm.counters()["balloon_pages"] == 0, "the guest is as large as before"


def test_the_first_pass_comes_two_seconds_after_the_first_free_block():
    host = host_of()
    vm = guest_of(host)
    do(vm, WRITE, np.arange(4096))
    pass_time(host, 4_000 * MS)
    assert told(vm)["reported"] == 0, "nothing is free"
    freed_ns = host.sim_ns
    do(vm, DISCARD, np.arange(2048))
    pass_time(host, freed_ns + 1_999 * MS)
    assert told(vm)["reported"] == 0
    pass_time(host, freed_ns + 2_010 * MS)
    assert told(vm) == {"reported": 1024, "report_messages": 2, "report_freed": 1024, "charged_pages": 3072}, (
        "its budget"
    )
    pass_time(host, freed_ns + 4_020 * MS)
    assert told(vm) == {"reported": 2048, "report_messages": 4, "report_freed": 2048, "charged_pages": 2048}
    pass_time(host, freed_ns + 60_000 * MS)
    assert told(vm)["report_messages"] == 4, "each block once"
    do(vm, WRITE, np.arange(16))
    do(vm, DISCARD, np.arange(16))
    pass_time(host, freed_ns + 70_000 * MS)
    assert told(vm)["reported"] == 2048 + 16, "until it was used again"


def test_a_message_costs_an_exit_and_a_frame_what_giving_it_back_costs():
    host = host_of()
    vm = guest_of(host, report_delay="10ms")
    costs = host.engine.clock.table if hasattr(host.engine, "clock") else None
    do(vm, WRITE, np.arange(600))
    do(vm, DISCARD, np.arange(512))
    before = host.cpu_ns()["balloon"]
    pass_time(host, host.sim_ns + 100 * MS)
    found = told(vm)
    assert found["reported"] > 3000 and found["report_freed"] == 512, "most of them never had a frame"
    from memvirt.settings.costs import load

    model = costs or load("default").model_dump()
    spent = host.cpu_ns()["balloon"] - before
    assert spent == found["report_messages"] * model["fault"] + found["report_freed"] * model["evict"]


def test_few_free_pages_a_pin_and_a_guest_that_does_not_report():
    host = host_of()
    few, pinned, silent = (
        guest_of(host, "2MiB", "few"),
        guest_of(host, name="pinned"),
        guest_of(host, name="c", report_order=None),
    )
    for vm in (few, pinned, silent):
        do(vm, WRITE, np.arange(vm.pages))
    pinned.pin(0, 64)
    for vm in (few, pinned, silent):
        do(vm, DISCARD, np.arange(vm.pages))
    do(few, WRITE, np.arange(100))
    pass_time(host, 60_000 * MS)
    assert told(few)["reported"] == told(silent)["reported"] == 0, "512 pages have no 32 blocks of 16 to spare"
    assert told(pinned)["reported"] == 4096 and told(pinned)["report_freed"] == 4096 - 64
    assert told(pinned)["charged_pages"] == 64


def test_what_one_vm_reports_does_not_depend_on_others_or_on_cuts():
    def run(others, cut):
        host = host_of(memory="128MiB")
        vms = [guest_of(host, name=name, report_delay="3ms") for name in "abc"[: others + 1]]
        pages = np.concatenate([np.arange(3000), np.arange(2500), np.tile(np.arange(2500, 3000), 600)]).astype(
            np.uint32
        )
        ops = np.concatenate([np.full(3000, WRITE), np.full(2500, DISCARD), np.zeros(300_000)]).astype(np.uint8)
        host.run({vm: [(pages[i : i + cut], ops[i : i + cut]) for i in range(0, len(pages), cut)] for vm in vms})
        host.check()
        return told(vms[0]), vms[0].sim_ns

    assert run(0, 1000) == run(0, 65536) == run(1, 777) == run(2, 65536)


def test_a_clone_and_a_reverted_vm_report_for_themselves():
    host = host_of()
    vm = guest_of(host, report_delay="10ms")
    do(vm, WRITE, np.arange(4000))
    saved, twin = vm.snapshot(), vm.clone("twin")
    do(vm, DISCARD, np.arange(3000))
    pass_time(host, host.sim_ns + 5_000 * MS)
    assert told(vm)["reported"] == pytest.approx(3088, abs=64) and told(twin)["reported"] == 0, "it has 96 free pages"
    vm.revert(saved)
    do(twin, DISCARD, np.arange(3000))
    pass_time(host, host.sim_ns + 5_000 * MS)
    assert told(twin)["reported"] == pytest.approx(3072, abs=96)
    vm.destroy()
    pass_time(host, host.sim_ns + 5_000 * MS)


class Naive:
    """Of one guest whose blocks are single pages: which are free and unreported, when a pass is due, what it names."""

    def __init__(self, pages, delay):
        self.pages, self.delay = pages, delay
        self.reported, self.used, self.due = set(), set(), None
        self.named = self.messages = 0

    def look(self, now, used):
        self.used = used
        self.reported -= used
        if self.due is None and self.left() and self.may():
            self.due = now + self.delay

    def left(self):
        return self.pages - len(self.used) - len(self.reported)

    def may(self):
        return self.pages - len(self.used) > 32

    def until(self, end, exit_ns, page_ns, freed):
        """Passes that begin before `end`; `freed`: pages of those that the host holds."""
        while self.due is not None and self.due < end:
            now, budget = self.due, 1 + -(-(self.pages - len(self.used)) // 512)
            while budget and self.left() and self.may():
                now += exit_ns + page_ns * freed(min(32, self.left()))
                self.messages += 1
                self.name(min(32, self.left()))
                budget -= 1
            self.due = now + self.delay if self.left() and self.may() else None

    def name(self, blocks):
        """By a hand that goes round over the guest's pages."""
        while blocks:
            self.hand = getattr(self, "hand", 0) % self.pages
            if self.hand not in self.used and self.hand not in self.reported:
                self.reported.add(self.hand)
                self.named += 1
                blocks -= 1
            self.hand += 1


STEP = some.tuples(some.sampled_from(["write", "discard", "wait"]), some.integers(0, 299), some.integers(1, 200))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(some.lists(STEP, min_size=1, max_size=12), some.sampled_from([1, 7, 2000]))
def test_against_a_naive_model(steps, delay_ms):
    """Frames cost nothing here, so the model knows when each pass ends."""
    host = host_of(memory="4MiB")
    vm = host.create_vm("a", 300 * PAGE, guest={"cache_percent": 0, "report_order": 0, "report_delay": f"{delay_ms}ms"})
    naive, held = Naive(300, delay_ms * MS), set()
    exit_ns, page_ns = host.config.costs.fault, host.config.costs.evict
    for what, first, n in steps:
        if what == "wait":
            end = -(-(host.sim_ns + n * MS * delay_ms // 50) // host.config.quantum) * host.config.quantum
            # what the host holds of the pages that are named next is not the model's to know: it asks for the sum
            before = vm.counters()["report_freed"]
            pass_time(host, end)
            freed = vm.counters()["report_freed"] - before
            naive.until(end, exit_ns, 0, lambda blocks: 0)
            if page_ns * freed < naive.delay // 10:
                assert abs(vm.counters()["reported"] - naive.named) == 0, (what, first, n)
                assert vm.counters()["report_messages"] == naive.messages
            else:
                return
            continue
        pages = np.arange(first, min(300, first + n))
        do(vm, WRITE if what == "write" else DISCARD, pages)
        held = {lookup(vm.engine_vm.guest, page) for page in range(300)} - {None}
        naive.look(host.sim_ns, held)
    assert 300 - len(held) == vm.engine_vm.guest.memory.buddy.nr_free


def test_the_preset_is_linux_and_a_delay_is_a_time():
    guest = presets.vm_settings("virtio-fpr").guest
    assert (guest.report_order, guest.report_delay) == (9, 2_000_000_000)
    assert presets.resolve("virtio-fpr").swap and presets.check_sources("virtio-fpr") == []
    for delay in ("often", 0):
        with pytest.raises(ConfigError, match="report_delay"):
            host_of().create_vm("a", "1MiB", guest={"report_order": 0, "report_delay": delay})


def test_a_guest_that_waits_for_memory_is_not_woken_by_what_it_reports_itself():
    """Its fault takes a free page of its own, finds no frame for it, and gives it back: free anew, it is named to the host,
    which holds nothing there. 10,000 sleeps were as many looks at every page."""
    host = host_of(memory="8MiB", on_exhausted="wait")
    vm = guest_of(host, "16MiB", report_order=0, report_delay="1ms")
    full = host.run({vm: [(np.arange(4000, dtype=np.uint32), np.full(4000, WRITE, np.uint8))]})[vm]
    assert full.reason == "no_frame" and host.counters()["waits"] == 10_000
    counted = vm.counters()
    assert counted["report_messages"] > 0 and counted["report_freed"] == 0
    assert counted["guest_faults_failed"] < 100
    host.check()
