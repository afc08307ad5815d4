"""`memvirt describe TOPIC`: no key, field, code or variable is missing, and what is shown runs."""

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memvirt.cli
from memvirt.cli import catalog, topics
from memvirt.experiment import plan
from memvirt.policies import Snapshot, Targets, VmView

ROOT = Path(__file__).parents[1]
BY_NAME = {entry.name: entry for entry in topics.entries()}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_row_says_what_it_means(name):
    entry = BY_NAME[name]
    assert entry.text or entry.rows
    for row in entry.rows:
        assert len(row) == len(entry.heads) and row[0] and row[-1], row


@pytest.mark.parametrize(
    ("cls", "table"), [(Snapshot, topics.SNAPSHOT), (VmView, topics.VM_VIEW), (Targets, topics.TARGETS)]
)
def test_every_field_of_a_decision_is_told(cls, table):
    fields = [field.name for field in dataclasses.fields(cls)]
    computed = [name.removesuffix("()") for name in list(table)[len(fields) :]]
    assert list(table)[: len(fields)] == fields
    assert computed == [name for name in vars(cls) if name[0] != "_" and name not in fields]


def test_every_exit_code_is_told():
    told = set(re.findall(r"^    (\d+) ", memvirt.cli.__doc__, re.MULTILINE))
    assert told == {code for code, _ in topics.EXIT_CODES}


def test_every_variable_is_told():
    texts = {
        node.value
        for path in (ROOT / "memvirt").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    }
    found = {text for text in texts if text.startswith("MEMVIRT_")}
    assert found and found <= {name for name, _, _ in topics.ENVIRONMENT}


def test_a_name_that_texts_send_a_reader_to_is_described():
    texts = [ROOT / "README.md", *(path for end in ("py", "toml") for path in (ROOT / "memvirt").rglob(f"*.{end}"))]
    named = {
        name
        for path in texts
        for name in re.findall(r"(?:memvirt|[a-z]:) describe ([a-z][\w-]*)", path.read_text(encoding="utf-8"))
    }
    assert {"snapshot", "decider-file"} <= named
    assert all(catalog.find(name) for name in named)


def test_the_decider_that_is_shown_runs(tmp_path):
    code = re.search(r"\n    from memvirt.*?(?=\n\ninterval_ns)", topics.DECIDER, re.DOTALL).group()
    (tmp_path / "mine.py").write_text("\n".join(line[4:] for line in code.splitlines()))
    made = plan.make("quick", "smoke", only=["balloon"], overrides=[f"balloon={tmp_path}/mine.py:Mine"])
    assert made.cells
    words = [
        "run",
        "quick",
        "--tier",
        "smoke",
        "--preset",
        "balloon",
        "--corpus",
        "synthetic",
        "--out",
        "out",
        "--json",
    ]
    words += ["--set", "balloon=mine.py:Mine", "--set", "decider_options.interval_ns=1000000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "memvirt", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert '"done"' in done.stdout and "was never asked" not in done.stderr
