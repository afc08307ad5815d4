"""The short form of tests/soak.py: some rounds on a host that is never closed."""

import os

import pytest
import soak


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    if os.path.isdir(soak.IN_MEMORY):
        monkeypatch.setenv("MEMVIRT_SWAP_DIR", soak.IN_MEMORY)


def test_some_rounds_leave_memory_and_descriptors_as_they_were():
    rounds, growth = soak.soak(seconds=0, seed=2)
    assert rounds == soak.LEAST_ROUNDS and growth <= soak.SPARE


def test_memory_that_grows_is_noticed(monkeypatch):
    taken = []
    monkeypatch.setattr(soak, "resident", lambda: taken.append(1) or len(taken) * (soak.SPARE // 4))
    with pytest.raises(AssertionError, match="resident memory grew by"):
        soak.soak(seconds=0, seed=3)


def test_a_byte_that_is_lost_is_noticed():
    running = soak.Soak(seed=4)
    with running.host:
        running.round()
        guest = running.guests[0]
        guest.ledger[0] = b"never written"
        with pytest.raises(AssertionError, match="ledger page 0 holds"):
            guest.read_back()
