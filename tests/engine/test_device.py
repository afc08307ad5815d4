"""The device against the rule of its essay, written down a second time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memvirt.engine.device import Device
from memvirt.errors import ConfigError
from memvirt.names import DEVICE_CONSTANTS, DEVICES

SMALL = dict(zip(DEVICE_CONSTANTS, (100, 50, 7, 3, 3), strict=True))


class Mirror:
    """A request takes the channel that is free first, the lowest of several, and waits for it."""

    def __init__(self, read_latency_ns, write_latency_ns, read_page_ns, write_page_ns, channels):
        self.cost = {"read": (read_latency_ns, read_page_ns), "write": (write_latency_ns, write_page_ns)}
        self.busy, self.queued = [0] * channels, 0

    def submit(self, call, now, pages):
        latency, per_page = self.cost[call]
        channel = self.busy.index(min(self.busy))
        start = max(now, self.busy[channel])
        self.queued += start - now
        self.busy[channel] = start + latency + pages * per_page
        return self.busy[channel]


REQUESTS = st.lists(st.tuples(st.sampled_from(["read", "write"]), st.integers(0, 2000), st.integers(1, 40)))


@given(REQUESTS, st.integers(1, 64))
def test_equals_its_mirror(requests, channels):
    device, mirror = Device("custom", **SMALL | {"channels": channels}), Mirror(**SMALL | {"channels": channels})
    for call, now, pages in requests:
        assert device.submit(call, now, pages) == mirror.submit(call, now, pages)
        device.check()
    assert device.busy_until() == mirror.busy
    assert device.queued_ns == mirror.queued
    reads = [pages for call, _, pages in requests if call == "read"]
    writes = [pages for call, _, pages in requests if call == "write"]
    assert (device.nr_reads, device.pages_read) == (len(reads), sum(reads))
    assert (device.nr_writes, device.pages_written) == (len(writes), sum(writes))


def test_a_worked_example():
    device = Device("custom", **SMALL)
    assert [device.submit("read", 10, 1) for _ in range(3)] == [117, 117, 117]
    assert device.queued_ns == 0
    assert device.submit("write", 20, 2) == 117 + 50 + 6  # waits for channel 0
    assert device.queued_ns == 97
    assert device.busy_until() == [173, 117, 117]
    assert device.submit("read", 500, 1) == 607  # idle again: channel 1, free first
    assert device.busy_until() == [173, 607, 117]


def test_one_vm_swapping_slows_the_other():
    alone, shared = Device("hdd"), Device("hdd")
    shared.submit("write", 0, 256)
    assert shared.submit("read", 0, 1) > alone.submit("read", 0, 1)


@pytest.mark.parametrize("name", DEVICES)
def test_named_models(name):
    device = Device(name)
    expected = dict(zip(DEVICE_CONSTANTS, DEVICES[name], strict=True))
    assert {key: getattr(device, key) for key in DEVICE_CONSTANTS} == expected
    assert Device(name, channels=2).channels == 2
    assert device.submit("read", 0, 1) == device.read_latency_ns + device.read_page_ns


def test_nvme_matches_what_it_was_taken_from():
    """65 us for a raw 4 KiB read; 3.1 GB/s for all channels together."""
    device = Device("nvme")
    assert 64_000 <= device.submit("read", 0, 1) <= 66_000
    assert 3.05 <= 4096 * device.channels / device.write_page_ns <= 3.15


@pytest.mark.parametrize(("name", "constants", "place"), [
    ("floppy", {}, "floppy"),
    ("custom", {"channels": 1}, "read_latency_ns"),
    ("nvme", {"channels": 0}, "channels"),
    ("nvme", {"channels": 65}, "channels"),
    ("nvme", {"read_latency_ns": -1}, "read_latency_ns"),
    ("nvme", {"read_page_ns": 10**9 + 1}, "read_page_ns"),
    ("nvme", {"write_page_ns": 1.5}, "write_page_ns"),
    ("nvme", {"write_latency_ns": True}, "write_latency_ns"),
    ("nvme", {"latency": 5}, "latency"),
])  # fmt: skip
def test_nonsense_is_refused_by_name(name, constants, place):
    with pytest.raises(ConfigError, match=place):
        Device(name, **constants)


@pytest.mark.parametrize("request_", [("trim", 0, 1), ("read", -1, 1), ("write", 0, 0)])
def test_the_border_refuses_bad_requests(request_):
    with pytest.raises(ConfigError, match="submit"):
        Device("hdd").submit(*request_)
