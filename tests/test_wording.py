"""Errors of configuration speak of tables, lists, text and numbers, not of pydantic's classes and Python's types."""

import pytest

from memvirt.errors import ConfigError
from memvirt.experiment import suite
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import validate
from memvirt.units import suggest

SUITE = """
schema = 1
name = "one"
title = "t"
description = "d"
presets = ["none"]
[host]
memory = "4MiB"
[[scenarios]]
name = "u"
description = "d"
overcommit_percent = [100]
measured = { workload = "uniform", accesses = 500 }
fleet = { vms = 2, memory = "2MiB" }
"""
FOREIGN = ("Input should", "instance of", "Value error", "after validation", "pattern", "valid integer", "__root__")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema = 1", "schema = 2", r"one.toml:2: schema: unknown value 2 \(known: 1\)"),
        ("schema = 1", 'schema = "1"', "schema: unknown value '1'; write it without quotes"),
        ('name = "one"', 'name = "a b"', r"name: is no name \(got 'a b'\): letters, digits"),
        ('name = "one"', "name = 7", r"name: must be text \(got 7\)"),
        ("[100]", "[]", "overcommit_percent: needs at least 1 entry, not 0"),
        ("[100]", "100", r"overcommit_percent: must be a list \(got 100\)"),
        ("[100]", "[true]", r"overcommit_percent\[0\]: must be a whole number \(got true\)"),
        ("[100]", "[0]", r"must be at least 1 \(got 0\); did you mean 1\?"),
        ('presets = ["none"]', "presets = [3]", r"presets\[0\]: must be text \(got 3\)"),
        ('fleet = { vms = 2, memory = "2MiB" }', "fleet = 3", r"fleet: must be a table \(got 3\)"),
        (
            'measured = { workload = "uniform", accesses = 500 }',
            "measured = 3",
            r"measured: must be a table.*\(got 3\)",
        ),
        ('workload = "uniform"', "workload = [1]", r"workload: must be text \(got a list\)"),
        ("accesses = 500", 'accesses = "fast"', "accesses = 'fast': must be a whole number"),
        ("[[scenarios]]", "[scenarios]", r"scenarios: must be a list \(got a table\)"),
    ],
)
def test_a_suite_is_told_what_is_needed_instead(tmp_path, old, new, said):
    assert old in SUITE
    (tmp_path / "one.toml").write_text(SUITE.replace(old, new))
    with pytest.raises(ConfigError, match=said) as caught:
        suite.load(tmp_path / "one.toml")
    assert not [word for word in FOREIGN if word in str(caught.value)]
    assert "problems" not in str(caught.value), "one mistake is one problem"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"watermarks": 5}, r"watermarks: must be a table with the keys high, low, min \(got 5\)"),
        ({"readahead": 9}, r"readahead: must be at most 5 \(got 9\); did you mean 5\?"),
        ({"readahead": "much"}, r"readahead: must be a whole number \(got 'much'\)"),
        ({"swap_areas": 3}, r"swap_areas: must be a list \(got 3\)"),
        ({"swap_areas": [3]}, r"swap_areas\[0\]: must be a table with the keys device, priority, size \(got 3\)"),
        ({"swap_discard": "yes"}, r"swap_discard: must be true or false \(got 'yes'\)"),
        ({"costs": 3}, r"costs: must be .*\(got 3\)"),
        ({"sharing": "hash", "sharing_options": 3}, r"sharing_options: must be a table \(got 3\)"),
    ],
)
def test_a_host_is_told_what_is_needed_instead(settings, said):
    with pytest.raises(ConfigError, match=said) as caught:
        validate(HostConfig, settings)
    assert not [word for word in FOREIGN if word in str(caught.value)]


FLEET = """
[[scenarios]]
name = "f"
description = "d"
overcommit_percent = [100]
time = { duration = "10s" }
[scenarios.loads.day]
busy_percent = 1
parts = [{ percent = 1, every = "1s" }]
[[scenarios.groups]]
name = "g"
vms = 1
memory = "1MiB"
load = "day"
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'memory = "1MiB"',
            'memory = "1MiB"\nhost = {}',
            r"scenarios\[1\]\.groups\[0\]\.host: unknown key 'host' \(known: ballooned_percent, ",
        ),
        (
            'name = "f"',
            'name = "f"\nhost = { memory = "9MiB", content = "bytes" }',
            r"scenarios\[1\]\.host\.content: unknown key 'content' \(known: harvest_interval, memory, swap\)",
        ),
        (
            'name = "u"',
            'name = "u"\ncontent = "bytes"',
            r"scenarios\[0\]\.content: unknown key 'content' \(known: aging, de",
        ),
        ('name = "u"', 'name = "u"\ntime = {}', r"scenarios\[0\]\.time: unknown key 'time' \(known: aging, desc"),
        ('name = "u"', 'name = "u"\nown_host = {}', r"unknown key 'own_host'; did you mean 'host'\?"),
        (
            "busy_percent",
            "busy_prcent = 3\nbusy_percent",
            r"loads\.day\.busy_prcent: unknown .* did you mean 'busy_percent'\?",
        ),
        (
            "busy_percent",
            'period = "1s"\nbusy_percent',
            r"loads\.day\.period: unknown key 'period' \(known: bursts, busy_p",
        ),
    ],
)
def test_a_key_is_held_against_those_of_its_own_table_as_users_spell_them(tmp_path, old, new, said):
    """No suggestion is the word itself, or a key of another table or kind of scenario."""
    file = tmp_path / "one.toml"
    assert old in SUITE + FLEET
    file.write_text((SUITE + FLEET).replace(old, new, 1))
    with pytest.raises(ConfigError, match=said):
        suite.load(file)


def test_a_suggestion_is_never_the_word_itself():
    assert suggest("content", ["content"]) == ""
    assert suggest("content", ["content", "contents"]) == "; did you mean 'contents'?"
    assert suggest("Content", ["content"]) == "; did you mean 'content'?"
