"""Deciders of one's own, good and bad: what a bad one does ends in a sentence with its file and line, and in its cell."""

import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from memvirt import policies
from memvirt.errors import ConfigError, DeciderError
from memvirt.host import Host
from memvirt.policies import Snapshot, Targets, VmView
from memvirt.policies.asking import Asked

SHOT = Snapshot(
    now_ns=1,
    interval_ns=1,
    total_pages=100,
    free_pages=5,
    low_pages=1,
    high_pages=2,
    vms=(VmView(name="vm0", configured_pages=10, held_pages=3),),
)


@pytest.fixture
def made(tmp_path):
    """A decider of a file of the user's, from the body of its class."""

    def make(body):
        (tmp_path / "mine.py").write_text("from memvirt.policies import Targets\nclass Mine:\n" + body)
        return policies.build(f"{tmp_path}/mine.py:Mine", {})

    return make


def rule(statement, interval="10**6"):
    return f"    interval_ns = {interval}\n    def decide(self, snapshot):\n        {statement}\n"


RETURNS = [
    ("None", "returned None; return memvirt.policies.Targets"),
    ("{}", "returned a dict"),
    ("'x' * 99", "returned 'xxx"),
    ("Targets", "returned a type"),
    ("Targets(balloon_pages=[1])", "balloon_pages is a list; a dict from names"),
    ("Targets(reclaim_pages={'vm0': -1})", "reclaim_pages of VM 'vm0' is -1; 0 to 10 is the range"),
    ("Targets(reclaim_pages={'vm0': 11})", "0 to 10 is the range"),
    ("Targets(reclaim_pages={'vm0': 10**400})", "is beyond all bounds"),
    ("Targets(reclaim_pages={'vmo': 1})", r"there is no such VM; did you mean 'vm0'\? \(there are vm0\)"),
    ("Targets(balloon_pages={7: 1})", "names 7; there is no such VM"),
    ("Targets(balloon_pages={'vm0': 1.5})", "is 1.5; a whole number is needed"),
    ("Targets(balloon_pages={'vm0': True})", "is True; a whole number is needed"),
    ("Targets(memo=7)", "memo is 7; a dict"),
    ("Targets(memo={'a': [1]})", "memo has 'a': a list"),
    ("Targets(memo={'a': bytearray(8)})", "memo has 'a': a bytearray"),
    ("Targets(memo={'a': (1, 'b')})", "memo 'a' is 'b'"),
    ("Targets(memo={1: (1,)})", "memo has 1: a tuple"),
    ("Targets(scan_pages=-1)", "scan_pages is -1"),
    ("Targets(scan_pages=1 << 32)", "scan_pages is 4294967296"),
    ("Targets(scan_sleep_ns=1 << 63)", "scan_sleep_ns is 9223372036854775808"),
    ("Targets(state='sofd')", r"state is 'sofd'; did you mean 'soft'\?; one of high, clear, soft, hard, low is needed"),
    ("Targets(state=2)", "state is 2; one of high, clear"),
]


@pytest.mark.parametrize(("answer", "said"), RETURNS)
def test_an_answer_that_cannot_be_done_is_named(made, answer, said):
    with pytest.raises(DeciderError, match=f"^decider mine.py:Mine: .*{said}"):
        Asked(made(rule(f"return {answer}"))).answer(SHOT)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import sys; sys.exit()", "SystemExit"),
        ("raise GeneratorExit", "GeneratorExit"),  # no Exception, and no signal's
        ("raise type('Own', (BaseException,), {})('mine')", "Own: mine"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("return self.decide(snapshot)", "RecursionError: maximum recursion depth exceeded"),
        ("snapshot.now_ns = 3", "FrozenInstanceError: cannot assign to field 'now_ns'"),
        ("import json; json.loads('{')", "JSONDecodeError: Expecting property name"),  # raised in a library
    ],
)
def test_what_a_decider_raises_names_it_and_the_line(made, statement, said):
    with pytest.raises(DeciderError) as caught:
        Asked(made(rule(statement))).answer(SHOT)
    assert str(caught.value).startswith(f"decider mine.py:Mine: {said}")
    assert str(caught.value).endswith(" (mine.py:5)")


def test_being_told_to_stop_is_not_the_deciders_doing(made):
    with pytest.raises(KeyboardInterrupt):
        Asked(made(rule("raise KeyboardInterrupt"))).answer(SHOT)


class Rung(BaseException):
    """What a program's own signal handler raises."""


def test_what_a_programs_handler_raises_in_the_middle_of_an_answer_passes(made):
    def ring(number, frame):
        raise Rung

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with pytest.raises(Rung):
            Asked(made(rule("import signal; signal.raise_signal(signal.SIGUSR1)"))).answer(SHOT)
    finally:
        signal.signal(signal.SIGUSR1, before)


HOSTILE = """
import itertools
from collections.abc import Mapping
from memvirt.policies import Targets
class Mute(Exception):
    def __str__(self): return self.args[1]
class Endless(Exception):
    def __str__(self):
        while True: pass
class Nameless(type):
    @property
    def __name__(cls): raise RuntimeError("name")
class Hidden(Exception, metaclass=Nameless): pass
class Table(Mapping):
    def __getitem__(self, key): raise RuntimeError("get")
    def __iter__(self): return iter(["vm0"])
    def __len__(self): return 1
class Unlisted(Table):
    def __iter__(self): raise RuntimeError("iter")
class Odd(Table):
    def __iter__(self): return iter([[]])
    def __getitem__(self, key): return 1
class Forever(Table):
    def __iter__(self): return itertools.repeat("vm0")
    def __getitem__(self, key): return 1
class Number:
    def __index__(self): raise RuntimeError("index")
class Shy(int):
    def __repr__(self): raise RuntimeError("repr")
class Name(str):
    def __repr__(self): raise RuntimeError("repr")
    def __str__(self): raise RuntimeError("str")
class Row(tuple):
    def __iter__(self): return itertools.repeat(1)
class Late(Targets):
    def __getattribute__(self, name): raise RuntimeError("memo")
class Masked:
    __class__ = property(lambda self: 1 / 0)
class Mine:
    interval_ns = 100_000
    time_limit_s = 0.3
    def decide(self, snapshot):
        STATEMENT
"""


def hostile(statement):
    return HOSTILE.replace("STATEMENT", statement)


ODDITIES = [
    ("raise Mute('only one')", r"Mute \(mine.py:43\)"),
    ("raise Endless", r"Endless \(mine.py:43\)"),
    ("raise Hidden('x')", r"Hidden: x \(mine.py:43\)"),
    ("raise StopIteration(3)", r"StopIteration: 3 \(mine.py:43\)"),
    ("raise ValueError('\\ud800')", r"ValueError: \\ud800 \(mine.py:43\)"),
    ("raise ValueError('x' * 10**6)", r"ValueError: x{500} \(mine.py:43\)"),
    ("raise SyntaxError('x', (7, 1, 1, 'x'))", r"SyntaxError: x \(mine.py:43\)"),
    ("return Targets(balloon_pages=Table())", r"RuntimeError: get \(mine.py:15\)"),
    ("return Targets(reclaim_pages=Unlisted())", r"RuntimeError: iter \(mine.py:19\)"),
    ("return Targets(balloon_pages=Odd())", r"balloon_pages names a list; there is no such VM"),
    ("return Targets(balloon_pages=Forever())", r"has not answered within 0.3 s"),
    ("return Targets(memo=Forever())", r"memo has 'vm0': 1; text and a tuple"),
    ("return Targets(memo=Unlisted())", r"RuntimeError: iter \(mine.py:19\)"),
    ("return Targets(reclaim_pages={'vm0': Number()})", r"RuntimeError: index \(mine.py:27\)"),
    ("return Targets(scan_pages=Number())", r"RuntimeError: index \(mine.py:27\)"),
    ("return Targets(memo={'x': (Number(),)})", r"RuntimeError: index \(mine.py:27\)"),
    ("return Targets(reclaim_pages={'vm0': Shy(-5)})", r"reclaim_pages of VM 'vm0' is -5; 0 to"),
    ("return Targets(reclaim_pages={Name('vm9'): 1})", r"reclaim_pages names a Name; there is no such VM"),
    ("return Targets(state=Name('x'))", "state is a Name; one of"),
    ("return Late()", r"RuntimeError: memo \(mine.py:36\)"),
    ("return Masked()", r"ZeroDivisionError: .* \(mine.py:38\)"),
    ("return 10**5000", r"decide\(\) returned beyond all bounds; return"),
]


@pytest.mark.parametrize(("statement", "said"), ODDITIES)
def test_what_an_answer_runs_when_it_is_looked_at_is_the_deciders_doing(tmp_path, statement, said):
    """Texts of exceptions, mappings, numbers: all may be classes of the user's."""
    (tmp_path / "mine.py").write_text(hostile(statement))
    with pytest.raises(DeciderError, match=f"^decider mine.py:Mine:? {said}") as caught:
        Asked(policies.build(f"{tmp_path}/mine.py:Mine", {})).answer(SHOT)
    str(caught.value).encode()


def test_nothing_of_a_users_classes_goes_further_than_the_answer(tmp_path):
    (tmp_path / "mine.py").write_text(
        hostile("return Targets(balloon_pages={Name('vm0'): Shy(3)}, memo={Name('a'): Row((Shy(1), 2))})")
    )
    targets = Asked(policies.build(f"{tmp_path}/mine.py:Mine", {})).answer(SHOT)
    assert targets == Targets(balloon_pages={"vm0": 3}, memo={"a": (1, 2)})
    ((name, pages),), ((key, row),) = targets.balloon_pages.items(), targets.memo.items()
    assert [type(each) for each in (name, pages, key, row, row[0])] == [str, int, str, tuple, int]


@pytest.mark.parametrize("name", ["time_limit_s", "wants_ages", "interval_ns", "decide"])
def test_a_property_that_raises_is_told_with_its_line(tmp_path, name):
    class Mine:
        interval_ns = 1

        def decide(self, snapshot):
            return Targets()

    setattr(Mine, name, property(lambda self: 1 / 0))
    with pytest.raises(ConfigError, match=r"^decider.*: ZeroDivisionError: division by zero"):
        Asked(Mine())


@pytest.mark.parametrize("interval", ['"1ms"', "0", "-5", "1 << 63", "True", "None", "1.5"])
def test_an_interval_that_no_clock_can_keep_is_refused_before_anything_runs(made, interval):
    with pytest.raises(ConfigError, match="^decider mine.py:Mine: interval_ns is "):
        made(rule("return Targets()", interval))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    interval_ns = 1\n    def decide(self): return Targets()\n", r"decide\(self, snapshot\) is needed"),
        ("    interval_ns = 1\n    async def decide(self, shot): return Targets()\n", "a coroutine or generator"),
        ("    interval_ns = 1\n    def decide(self, shot): yield Targets()\n", "a coroutine or generator"),
        (rule("") + "        pass\n    def __init__(self): raise KeyError('x')\n", r"KeyError: 'x' \(mine.py:7\)"),
        (rule("") + "        pass\n    def __init__(self): raise SystemExit(4)\n", r"SystemExit: 4 \(mine.py:7\)"),
        (rule("pass") + "raise SystemExit(5)\n", r"fails to run: SystemExit: 5 \(mine.py:6\)"),
        ("    def (\n", r"SyntaxError: invalid syntax \(mine.py:3\)"),
        (
            "    interval_ns = property(lambda self: 1 / 0)\n    def decide(self, shot): pass\n",
            r"ZeroDivisionError.*:3\)",
        ),
    ],
)
def test_a_class_that_cannot_decide_is_refused_before_anything_runs(made, body, said):
    with pytest.raises(ConfigError, match=said):
        made(body)


def test_numbers_of_numpy_are_taken_as_what_they_are(made):
    decider = made(
        rule("import numpy; return Targets(balloon_pages={'vm0': numpy.int64(3)}, memo={'a': (numpy.int8(1),)})")
    )
    targets = Asked(decider).answer(SHOT)
    assert targets == Targets(balloon_pages={"vm0": 3}, memo={"a": (1,)})
    assert type(targets.balloon_pages["vm0"]) is type(targets.memo["a"][0]) is int


@pytest.mark.parametrize("decider", [7, "mom", Targets()])
def test_a_host_is_run_by_deciders_only(decider):
    with Host(memory="1MiB") as host, pytest.raises(ConfigError, match="^decider: .* no method decide"):
        host.run({host.create_vm("a", "64KiB"): [(np.arange(4), np.ones(4))]}, decider=decider)


def test_a_plain_function_is_named_too():
    def nothing(snapshot):
        return None

    with (
        Host(memory="1MiB") as host,
        pytest.raises(DeciderError, match=r"test_own_deciders.py:.*nothing: decide\(\) ret"),
    ):
        host.run({host.create_vm("a", "64KiB"): [(np.arange(4), np.ones(4))] * 200_000}, decider=nothing)


SUITE = """
schema = 1
name = "own"
title = "t"
description = "d"
presets = ["swap"]
[[variants]]
name = "mine"
preset = "swap"
set = {{ balloon = "{file}:Mine" }}
[host]
memory = "4MiB"
swap = "16MiB"
[[scenarios]]
name = "u"
description = "d"
overcommit_percent = [100, 150]
measured = {{ workload = "uniform", accesses = 20000 }}
fleet = {{ vms = 2, memory = "2MiB" }}
"""


@pytest.mark.parametrize(
    "statement",
    [
        "raise ValueError('boom')",
        "import sys; sys.exit(3)",
        "return None",
        "raise Mute('only one')",
        "raise ValueError('\\ud800')",
        "return Targets(balloon_pages=Unlisted())",
        "return Targets(balloon_pages=Forever())",
    ],
)
def test_a_decider_that_errs_fails_its_cells_and_no_others(tmp_path, statement):
    (tmp_path / "mine.py").write_text(hostile(statement))
    (tmp_path / "own.toml").write_text(SUITE.format(file=tmp_path / "mine.py"))
    command = [sys.executable, "-m", "memvirt", "run", "own.toml", "--corpus", "synthetic", "--out", "o"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert re.search("failed: u-1[05]0--mine--s1 and 1 more: decider mine.py:Mine", run.stderr), "whichever ended first"
    assert len(list((tmp_path / "o" / "cells").glob("u-*--swap--s1*.json"))) == 2


def test_one_that_ends_a_vm_and_names_it_is_told_so():
    """The VM is in the snapshot that it answers; it has been destroyed since."""
    with Host(memory="16MiB", swap="4MiB") as host:
        vms = [host.create_vm(name, "1MiB", guest=True) for name in "ab"]
        batch = (np.arange(50, dtype=np.uint32), np.ones(50, np.uint8), None, 10**6)

        class Ends:
            interval_ns = 10**6

            def decide(self, snapshot):
                if len(host.vms) == 2:
                    vms[1].destroy()
                return Targets(balloon_pages={"b": 5})

        with pytest.raises(
            DeciderError, match=r"decider .*Ends names 'b', which it has ended meanwhile.*; decision 1, at"
        ):
            host.run({vm: iter([batch] * 3) for vm in vms[:1]}, decider=Ends())
        assert [vm.name for vm in host.vms] == ["a"]
        host.check()


@pytest.mark.parametrize("kind", ["mine", "memvirt's"])
def test_a_class_is_not_asked_but_an_instance_of_it(kind):
    class Mine:
        def decide(self, snapshot):
            return Targets()

    cls = Mine if kind == "mine" else type(policies.build("esx", {}))
    with (
        Host(memory="16MiB") as host,
        pytest.raises(ConfigError, match=rf"decider .*{cls.__name__}: a class cannot.*an instance, {cls.__name__}\(\)"),
    ):
        host.run({}, until_ns=10**7, decider=cls)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ("self.n = getattr(self, 'n', 0) + 1; return Targets(balloon_pages={'vm0': self.n % 10})", 1),
        (
            "import random; return Targets(balloon_pages={'vm0': random.randrange(11)}, scan_pages=random.getrandbits(30))",
            1,
        ),
        ("self.n = getattr(self, 'n', 0) + 1; return Targets(scan_pages=int(self.n > 6))", 4),
    ],
)
def test_one_that_remembers_beside_its_memo_or_draws_is_found(made, body, asked):
    """What others run again would not come out again. It is asked twice the first, second, fourth ... time."""
    decider = Asked(made(rule(body)))
    for _ in range(asked - 1):
        decider.answer(SHOT)
    with pytest.raises(DeciderError, match=r"decider mine.py:Mine answers one snapshot in two ways: .*Targets.memo"):
        decider.answer(SHOT)


def test_one_that_answers_alike_is_asked_twice_now_and_then(made, tmp_path):
    """And one of the library's caller, which may look around and keep what it sees, never."""
    body = f"open({str(tmp_path / 'asked')!r}, 'a').write('x'); return Targets()"
    decider, seen = Asked(made(rule(body))), []
    for _ in range(9):
        decider.answer(SHOT)
    assert (tmp_path / "asked").read_text() == "x" * (9 + 4)
    plain = Asked(lambda snapshot: seen.append(1) or Targets(scan_pages=len(seen)))
    assert [plain.answer(SHOT).scan_pages for _ in range(9)] == [*range(1, 10)]
