"""The registry explains every number the engine reports."""

import pytest

import memvirt
from memvirt import names
from memvirt.errors import ConfigError
from memvirt.metrics import registry


@pytest.fixture(scope="module")
def host():
    """One that has counted nothing yet. (That each count stands under its name is the oracle's to say: test_host_oracle.)"""
    host = memvirt.Host(memory="1MiB", sharing="hash")
    host.create_vm("a", memory="1MiB", guest=True)
    return host


def test_every_event_of_the_engine_is_registered_in_its_order(host):
    events = list(host.engine.meter.events())
    assert len(events) > 40
    assert registry.unregistered(events) == []
    assert registry.names(registry.Kind.COUNTER)[: len(events)] == events


def test_every_count_of_the_guest_is_registered(host):
    counts = [name for name in host.counters() if name.startswith("guest.")]
    assert len(counts) > 10
    assert registry.unregistered(counts) == []


def test_every_use_of_a_frame_and_every_mechanism_has_a_name_of_its_own(host):
    assert tuple(host.usage()) == names.FRAME_USES and tuple(host.cpu_ns()) == names.MECHANISMS
    families = [*(f"usage.{use}" for use in host.usage()), *(f"cpu_ns.{name}" for name in host.cpu_ns())]
    assert registry.unregistered(families) == []
    for kind in (names.FAULTS, names.MECHANISMS, names.FRAME_USES, names.SALTING):
        assert len(set(kind)) == len(kind)


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
