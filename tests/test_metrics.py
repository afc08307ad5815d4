"""The registry explains every number the engine reports."""

import re
from pathlib import Path

import pytest

from memvirt.errors import ConfigError
from memvirt.metrics import registry

ENGINE = Path(__file__).parents[1] / "ext/memvirt/engine"


def struct_fields(header, struct):
    """Field names of a struct in a .pxd, in order."""
    body = (ENGINE / header).read_text().split(f"cdef struct {struct}:")[1]
    body = re.split(r"\n(?=\S)", body)[0]
    return re.findall(r"^    u?int64_t (\w+)", body, re.MULTILINE)


def names_tuple(source, name):
    text = (ENGINE / source).read_text().split(f"{name} = (")[1].split(")")[0]
    return tuple(re.findall(r'"(\w+)"', text))


def test_every_event_of_the_engine_is_registered_in_its_order():
    events = struct_fields("counters.pxd", "Events")
    assert len(events) > 40
    assert registry.unregistered(events) == []
    assert registry.names(registry.Kind.COUNTER)[: len(events)] == events


def test_every_count_of_the_guest_is_registered():
    counts = struct_fields("guests/guest.pxd", "GuestCounters")
    assert len(counts) > 10
    assert registry.unregistered(f"guest.{name}" for name in counts) == []


def test_families_follow_the_engine():
    assert names_tuple("counters.pyx", "FAULT_NAMES") == registry.FAULT_KINDS
    assert names_tuple("counters.pyx", "MECHANISM_NAMES") == registry.MECHANISMS
    assert names_tuple("memory/frames.pyx", "STATE_NAMES") == registry.FRAME_USES


def test_unregistered_names_the_unknown_ones_sorted():
    assert registry.unregistered(["zzz", "fault_zero", "aaa", "zzz"]) == ["aaa", "zzz"]


def test_every_entry_is_complete():
    for name, metric in registry.REGISTRY.items():
        assert metric.name == name
        assert metric.unit and metric.meaning and metric.derivation
        assert not metric.meaning.endswith("."), name


def test_names_are_unique():
    rows = [
        *registry._EVENTS,
        *registry._STORE_EVENTS,
        *((metric.name,) for metric in [*registry._STATES, *registry._families()]),
    ]
    assert len(registry.REGISTRY) == len(rows)


def test_the_two_kinds_of_time_stay_apart():
    for metric in registry.REGISTRY.values():
        assert not (metric.name.startswith("sim_") and metric.kind is registry.Kind.WALL_TIME)
        assert not (metric.name.startswith("wall") and metric.kind is registry.Kind.SIM_TIME)


def test_describe():
    assert registry.describe("slowdown").better is registry.Better.LOWER
    with pytest.raises(ConfigError, match="did you mean 'fault_zero'"):
        registry.describe("fault_zer")
