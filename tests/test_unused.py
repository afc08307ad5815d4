"""What a table says of mechanisms that had no part in its numbers."""

import numpy as np
import pytest

import memvirt
from helpers.made_records import made
from memvirt.report.unused import unused
from memvirt.settings.config import HostConfig

PAGE = 4096


def of(preset, host, **parts):
    return made(preset=preset, config={"scenario": {"name": "zipf"}, "ratio": "1.50", "host": host}, **parts)


def test_a_scanner_that_did_not_get_round_is_named():
    ksm = {"sharing": "ksm"}
    seen = of("ksm", ksm, usage={"guest": 1000}, sharing={"pages_scanned": 900, "pages_skipped": 100})
    missed = of("ksm", ksm, usage={"guest": 1000}, sharing={"pages_scanned": 999}, seed=2)
    assert unused([seen]) == []
    assert (
        len(unused([seen, missed])) == 1
        and "The scanner of ksm (1 of 2 cells) had not looked" in unused([seen, missed])[0]
    )
    assert "The scanner of ksm had" in unused([missed])[0]
    inline = of("inline", {"sharing": "inline"}, usage={"guest": 1000}, sharing={"pages_scanned": 0})
    none = of("swap", {"sharing": None}, usage={"guest": 1000})
    assert unused([inline, none]) == []
    assert unused([of("ksm", ksm, usage={"guest": 9}, status="refused", reason="no room")]) == []


def test_a_cache_that_took_no_page_is_named():
    pool = {"zpool_percent": 20}
    idle = of("zcache", pool, counters={"evicted": 10, "evicted_zpool": 0, "fault_zpool": 0})
    calm = of("zcache", pool, counters={"evicted": 0, "evicted_zpool": 0, "fault_zpool": 0}, seed=2)
    used = of("zcache", pool, counters={"evicted": 10, "evicted_zpool": 3, "fault_zpool": 0}, seed=3)
    assert unused([calm]) == [] == unused([idle, used])
    assert "The compressed cache of zcache took no page" in unused([idle, calm])[0]


def test_decisions_on_marks_of_long_ago_are_named():
    host = {"balloon": "proportional", "decider_options": {"interval_ns": 1_000_000}, "harvest_interval": "100ms"}
    said = unused([of("balloon", host)])
    assert len(said) == 1 and "collected every 100ms, and is asked every 1ms" in said[0]
    assert unused([of("balloon", {**host, "harvest_interval": "1ms"})]) == []
    assert unused([of("tmo", {**host, "balloon": "tmo"})]) == [], "it does not weigh them"


def test_ages_to_which_nothing_is_counted_are_named():
    """Far memory looks at ages from 120 s on; 127 harvests of 100 ms are 12.7 s."""
    host = {"balloon": "far-memory", "decider_options": {"interval_ns": 60 * 10**9, "min_age_ns": 120 * 10**9}}
    (said,) = unused([of("far-memory", {**host, "harvest_interval": "100ms"})])
    assert "looks at ages from 2min on" in said and "are counted to 12700ms" in said
    assert unused([of("far-memory", {**host, "harvest_interval": "30s"})]) == []


def test_a_host_s_settings_are_told_as_records_have_them():
    """Not as a test would write them: intervals are text there."""
    resolved = HostConfig(balloon="proportional", decider_options={"interval_ns": 1_000_000}).resolved()
    assert len(unused([of("balloon", resolved)])) == 1
    young = HostConfig(balloon="far-memory", harvest_interval="100ms").resolved()
    assert len(unused([of("far-memory", young)])) == 1


@pytest.mark.parametrize("sharing", ["hash", "ksm", "esx", "zero-only"])
def test_no_pass_is_counted_in_which_no_page_was_there(sharing):
    host = memvirt.Host(memory="8MiB", sharing=sharing, content="fingerprint", seed=1)
    for _ in range(3):
        host.scan()
        assert host.sharing()["pages_scanned"] == host.sharing()["full_scans"] == 0
    vm = host.create_vm("a", "1MiB")
    host.scan()
    empty = host.sharing()["full_scans"]
    assert empty == (sharing == "ksm"), "a VM that has touched nothing has no pages; ksmd goes through it all the same"
    vm.access(np.arange(9), np.ones(9))
    for done in range(1, 5):
        host.scan()
        assert host.sharing()["full_scans"] == empty + done
    vm.destroy()
    host.scan()
    assert host.sharing()["full_scans"] == empty + 4
    host.check()
