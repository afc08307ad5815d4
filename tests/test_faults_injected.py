"""Everything that can fail is made to fail, once at every place: no page is lost, the recount holds, a retry works.

Swap transfers fail with an errno or end early; the swap file is cut or overwritten behind the host's back; bits flip in
slots and in compressed objects; the allocator refuses the n-th request, for every n until an operation gets by without
noticing. What a VM must hold is kept in a plain array beside it.
"""

import errno

import numpy as np
import pytest

import memvirt
from memvirt.engine.testing.host import locate
from memvirt.engine.testing.stores import ZpoolProbe
from memvirt.errors import AdmissionError, MemvirtError, StoreError

PAGE = 4096
MIB = 1 << 20


class Shadow:
    """A VM and, beside it, what it must hold."""

    def __init__(self, vm):
        self.vm, self.pages = vm, np.zeros((vm.pages, PAGE), np.uint8)

    def write(self, page, data):
        """Write a whole page; True if it was."""
        done = self.vm.write(page * PAGE, data)
        assert done in (0, PAGE)
        if done:
            self.pages[page] = np.frombuffer(data, np.uint8)
        return done == PAGE

    def copy_to(self, vm):
        twin = Shadow(vm)
        twin.pages[:] = self.pages
        return twin

    def verify(self):
        """Read every page; retried, as memory may be tight."""
        for page in range(self.vm.pages):
            assert self.vm.read(page * PAGE, PAGE) == self.pages[page].tobytes(), f"{self.vm.name} page {page}"


def noise(seed):
    return np.random.Generator(np.random.PCG64(seed)).bytes(PAGE)


def text(seed):
    return (f"{seed} compresses well ".encode() * 300)[:PAGE]


def host_of(**settings):
    return memvirt.Host(**{"memory": MIB, "swap": 4 * MIB, **settings})


def swap_of(host):
    return host.engine.mapping.swap


def pressed(data=noise, pages=400, **settings):
    """A host with more pages in use than it has frames."""
    host = host_of(**settings)
    shadow = Shadow(host.create_vm("a", 2 * MIB))
    for page in range(pages):
        assert shadow.write(page, data(page))
    return host, shadow


def lies_in(shadow, kind):
    """Pages that are in a store, with their place there."""
    engine, found = shadow.vm.host.engine, {}
    for page in range(shadow.vm.pages):
        where = locate(engine, shadow.vm.engine_vm, page)
        if where is not None and where[0] == kind:
            found[page] = where[1]
    return found


# -- swap: every call fails once --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, "short"])
@pytest.mark.parametrize("settings", [{}, {"zpool_percent": 20}], ids=["swap", "zpool"])
def test_a_write_that_fails_costs_no_page(fault, settings):
    """The n-th system call of swap-out and the one after it fail, for every n there is."""

    def data(page):
        return text(page) if settings and page % 2 else noise(page)

    for nth in range(1, 100):
        host = host_of(**settings)
        shadow = Shadow(host.create_vm("a", 2 * MIB))
        swap_of(host).inject("write", nth, fault, 2)
        written = [page for page in range(400) if shadow.write(page, data(page))]
        assert len(written) == 400, "the pages that could not go stay, others go instead"
        host.check()
        late = swap_of(host).write_calls <= nth
        if fault != "short" and not late:
            assert host.counters()["swap_write_failed"] > 0
            assert host.counters()["evict_failed"] + host.counters()["zpool_writeback_failed"] > 0
        shadow.verify()
        host.check()
        if late:
            break
    assert 3 < nth < 99


@pytest.mark.parametrize("fault", [errno.EIO, "short"])
def test_a_read_that_fails_says_which_page_and_can_be_tried_again(fault):
    host, shadow = pressed(readahead=0)  # one slot a read
    other = Shadow(host.create_vm("other", MIB))
    for page, slot in list(lies_in(shadow, "swap").items())[:20]:
        if locate(host.engine, shadow.vm.engine_vm, page) != ("swap", slot):
            continue
        before = host.counters()
        swap_of(host).inject("read", 1, fault, 2 if fault == "short" else 1)  # the first short one is resumed
        with pytest.raises(StoreError, match=rf"VM 'a' page {page}: swap slot {slot}: reading failed \(errno 5\)"):
            shadow.vm.read(page * PAGE, 1)
        host.check()
        assert host.counters()["swap_read_failed"] == before["swap_read_failed"] + 1
        assert other.write(page, noise(page)), "other VMs go on"
        assert shadow.vm.read(page * PAGE, PAGE) == shadow.pages[page].tobytes()
    for every in (shadow, other):
        every.verify()
    host.check()


def test_a_failing_read_interrupts_a_run_and_nothing_else():
    host, shadow = pressed()
    other = Shadow(host.create_vm("other", MIB))
    page = next(iter(lies_in(shadow, "swap")))
    swap_of(host).inject("read", 1, errno.EIO)
    with pytest.raises(StoreError, match=f"page {page}"):
        host.run({shadow.vm: [([page], [0])], other.vm: [([1], [0])]})
    host.check()
    outcome = host.run({shadow.vm: [([page], [0])], other.vm: [([1], [0])]})
    assert {done.reason for done in outcome.values()} == {"done"}
    shadow.verify()
    host.check()


def test_a_full_swap_keeps_pages_in_memory():
    host = host_of(swap=20 * PAGE)
    ballast = Shadow(host.create_vm("ballast", MIB))
    assert all(ballast.write(page, noise(page)) for page in range(40))
    shadow = Shadow(host.create_vm("a", 2 * MIB))
    written = sum(shadow.write(page, noise(page)) for page in range(400))
    assert 150 < written < 280
    assert shadow.vm.outcome == "no_frame"
    assert host.counters()["reject_swap_full"] > 0
    host.check()
    ballast.vm.destroy()
    for page in range(written):
        assert shadow.vm.read(page * PAGE, PAGE) == shadow.pages[page].tobytes()
    host.check()


# -- damage -----------------------------------------------------------------------------------------------------------


def damage_slot(path, slot, bit):
    with open(path, "r+b") as file:
        file.seek(slot * PAGE + bit // 8)
        byte = file.read(1)[0]
        file.seek(slot * PAGE + bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@pytest.mark.parametrize("bit", [0, 12345, 8 * PAGE - 1])
def test_a_flipped_bit_in_a_slot_is_found_and_put_right_again(tmp_path, bit):
    path = str(tmp_path / "swap")
    host, shadow = pressed(swap_path=path)
    (page, slot), *_ = lies_in(shadow, "swap").items()
    damage_slot(path, slot, bit)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"VM 'a' page {page}: swap slot {slot}: the bytes do not match"):
            shadow.vm.read(page * PAGE, 1)
        host.check()
    with pytest.raises(StoreError, match="slot"):
        shadow.vm.write(page * PAGE, b"x")
    damage_slot(path, slot, bit)
    shadow.verify()
    host.check()


def test_a_swap_file_cut_short_loses_only_what_lay_beyond(tmp_path):
    path = str(tmp_path / "swap")
    host, shadow = pressed(swap_path=path)
    lost = {page: slot for page, slot in lies_in(shadow, "swap").items() if slot >= 100}
    assert lost
    with open(path, "r+b") as file:
        file.truncate(100 * PAGE)
    for page, slot in lost.items():
        with pytest.raises(StoreError, match=f"page {page}: swap slot {slot}"):
            shadow.vm.read(page * PAGE, 1)
    host.check()
    for page in set(range(100)) - lost.keys():
        assert shadow.vm.read(page * PAGE, PAGE) == shadow.pages[page].tobytes()
    other = Shadow(host.create_vm("other", MIB))
    for page in range(100):
        assert other.write(page, noise(page)), "swap-out goes on: the file grows again"
    other.verify()
    shadow.vm.destroy()
    host.check()


def test_an_overwritten_swap_file_gives_errors_and_no_wrong_bytes(tmp_path):
    path = str(tmp_path / "swap")
    host, shadow = pressed(swap_path=path)
    with open(path, "r+b") as file:
        file.write(b"\xff" * PAGE * 512)
    lost = 0
    for page in range(400):
        try:
            assert shadow.vm.read(page * PAGE, PAGE) == shadow.pages[page].tobytes()
        except StoreError:
            lost += 1
    assert lost > 0
    host.check()
    shadow.vm.destroy()
    host.check()
    assert swap_of(host).nr_used == 0


@pytest.mark.parametrize("bit", [0, 77])
def test_a_flipped_bit_in_a_compressed_object_is_found(bit):
    host, shadow = pressed(text, zpool_percent=30)
    (page, handle), *_ = lies_in(shadow, "zpool").items()
    assert ZpoolProbe(host.engine.mapping.zpool).spoil(handle, bit)
    with pytest.raises(StoreError, match=rf"VM 'a' page {page}: zpool object {handle}: "):
        shadow.vm.read(page * PAGE, 1)
    host.check()
    ZpoolProbe(host.engine.mapping.zpool).spoil(handle, bit)
    shadow.verify()
    host.check()


def test_a_flipped_bit_in_the_length_of_an_object_harms_nothing():
    """Its slot keeps it, beside the bytes: a page is read, and its object freed, as if nothing had been."""
    host, shadow = pressed(text, zpool_percent=30)
    pool, flipped = ZpoolProbe(host.engine.mapping.zpool), 0
    for number, handle in enumerate(lies_in(shadow, "zpool").values()):
        flipped += pool.spoil(handle, 8 * len(pool.get(handle)) + number % 16)
    assert flipped > 16
    host.check()
    shadow.verify()
    host.check()
    shadow.vm.destroy()
    host.check()


def test_a_damaged_object_does_not_stop_writeback_for_others():
    """Whoever needs the page is told. The VM whose fault happens to make room is not."""
    host = host_of(zpool_percent=5)
    shadow = Shadow(host.create_vm("a", 4 * MIB))

    def half(seed):
        return noise(seed)[:2000] + bytes(PAGE - 2000)

    page = 0
    while not lies_in(shadow, "zpool"):
        assert shadow.write(page, half(page))
        page += 1
    (broken, handle), *_ = lies_in(shadow, "zpool").items()
    ZpoolProbe(host.engine.mapping.zpool).spoil(handle, 99)
    for more in range(page, 600):
        assert shadow.write(more, half(more))
    host.check()
    counters = host.counters()
    assert counters["zpool_written_back"] > 0
    assert counters["zpool_writeback_failed"] > 0
    for intact in set(range(600)) - {broken}:
        assert shadow.vm.read(intact * PAGE, PAGE) == shadow.pages[intact].tobytes()
    with pytest.raises(StoreError, match=f"page {broken}: zpool object {handle}"):
        shadow.vm.read(broken * PAGE, 1)
    host.check()


# -- the allocator refuses --------------------------------------------------------------------------------------------


def prepare(**settings):
    """A host in the middle of things: a parent with a clone, merged pages, pages out, a guest."""
    host = host_of(**settings)
    parent = Shadow(host.create_vm("parent", 2 * MIB))
    for page in range(60):
        assert parent.write(page, text(page % 20) if page % 3 else noise(page))
    child = parent.copy_to(parent.vm.clone("child"))
    for page in range(0, 60, 7):
        assert child.write(page, noise(page + 1000))
    options = {"swap": MIB // 2, "cache_percent": 0, "kernel": "400KiB"}  # some of its pages are on its disk
    guest = Shadow(host.create_vm("guest", MIB // 2, guest=options))
    for page in range(40):
        assert guest.write(page, noise(page + 2000))
    host.engine.reclaim_from(parent.vm.engine_vm, 30)
    host.engine.reclaim_from(parent.vm.engine_vm, 30)
    return host, [parent, child, guest]


def write_some(host, shadows):
    for shadow in shadows[:2]:
        for page in (0, 1, 20, 21, 59, 60, 300):
            shadow.write(page, noise(page + 3000))


def read_some(host, shadows):
    for shadow in shadows:
        for page in (0, 3, 7, 38, 59, 100, 127):
            done, _ = shadow.vm.access([page], [0])
            assert done in (0, 1)


def clone(host, shadows):
    shadows.append(shadows[0].copy_to(shadows[0].vm.clone("another")))


def clone_guest(host, shadows):
    shadows.append(shadows[2].copy_to(shadows[2].vm.clone("another")))


def revert_guest(host, shadows):
    saved = shadows[2].vm.snapshot()
    try:
        shadows[2].vm.revert(saved)
    finally:
        saved.drop()


def create(host, shadows):
    shadows.append(Shadow(host.create_vm("new", MIB // 4, guest=True)))
    shadows[-1].write(0, noise(1))


def scan(host, shadows):
    host.scan()
    host.scan()


def balloon(host, shadows):
    shadows[2].vm.balloon(30 * PAGE)
    shadows[2].vm.balloon(0)


def destroy(host, shadows):
    shadows.pop(0).vm.destroy()


def reclaim(host, shadows):
    for shadow in shadows[:2]:
        host.engine.reclaim_from(shadow.vm.engine_vm, 60)


OPERATIONS = [write_some, read_some, clone, clone_guest, revert_guest, create, scan, balloon, destroy, reclaim]
HOSTS = {
    "swap": {"sharing": "hash"},
    "zpool": {"sharing": "hash", "zpool_percent": 20},
    "huge": {"memory": 6 * MIB, "provisioning": "thin-huge", "sharing": "hash"},
}


@pytest.mark.parametrize("settings", HOSTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_refused_frame_undoes_cleanly_at_every_request(operation, settings):
    """Refuse request 1, 2, … of the operation, each on a new host, until a refusal would come too late."""
    refused = 0
    for nth in range(1, 400):
        host, shadows = prepare(**HOSTS[settings])
        buddy = host.engine.frames.buddy
        before = host.usage(), [vm.name for vm in host.vms]
        buddy.fail_after(nth)
        failed = None
        try:
            operation(host, shadows)
        except MemvirtError as error:
            failed = error
        late = buddy.fail_after(0) > 0
        host.check()
        if failed is not None:
            assert isinstance(failed, AdmissionError), failed
            assert [vm.name for vm in host.vms] == before[1], "a VM that was refused is gone"
            operation(host, shadows)
            host.check()
        if late:
            break
        refused += 1
        if nth % 7 == 1:
            for shadow in shadows:
                shadow.verify()
            host.check()
    else:
        pytest.fail("400 requests and no end")
    assert refused > 0 or operation in (scan, balloon, destroy, reclaim), "those need frames only now and then"
    for shadow in shadows:
        shadow.verify()
