"""A scan without a number is one full pass, whatever was begun before it."""

import numpy as np
import pytest

import memvirt

PAGE = 4096


@pytest.mark.parametrize("sharing", ["hash", "zero-only", "ksm", "esx"])
@pytest.mark.parametrize("slice_pages", [0, 1, 17, 39])
def test_a_scan_is_a_full_pass_whatever_slice_ran_before(sharing, slice_pages):
    host = memvirt.Host(memory=400 * PAGE, sharing=sharing)
    for name in ("one", "two"):
        pages = np.arange(20, dtype=np.uint32)
        host.create_vm(name, 20 * PAGE).access(pages, np.ones(20, np.uint8))  # every write's tag is of its own
    host.scan(slice_pages)
    for _ in range(2):
        before = host.sharing()["pages_scanned"]
        host.scan()
        assert host.sharing()["pages_scanned"] - before == 40
        host.check()


def test_ksm_merges_what_a_pass_given_up_had_in_its_unstable_tree():
    host = memvirt.Host(memory=400 * PAGE, sharing="ksm")
    for name in ("one", "two"):
        vm = host.create_vm(name, 20 * PAGE)
        for page in range(20):
            vm.write(page * PAGE, b"%d" % page)
    host.scan()  # checksums known
    assert host.scan(25) == 5
    host.check()
    assert host.scan() == 15
    host.check()
    assert host.sharing()["pages_sharing"] == 20
