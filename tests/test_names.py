"""Names and what they stand for: the tables and the code agree, and a list imports no more than its table."""

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from memvirt import names, policies
from memvirt.cli.catalog_entry import SINGULAR
from memvirt.engine.content.codec import ROUTES, open_codec
from memvirt.engine.sharing.registry import CLASSES
from memvirt.experiment.cell import RUNNERS
from memvirt.experiment.prediction import POOL_NS, PREDICTIONS
from memvirt.experiment.replayed import REPLAYED
from memvirt.inputs import traces
from memvirt.inputs.measure import COMPRESSORS
from memvirt.inputs.traces.registry import Format
from memvirt.settings.orders import ORDERS
from memvirt.shipped import PRESETS, SUITES
from memvirt.workloads import Workload, registry

KINDS = {
    "deciders": (names.DECIDERS, policies.load, policies.FOLDER),
    "workloads": (names.WORKLOADS, registry.lookup, registry.FOLDER),
    "formats": (names.TRACE_FORMATS, traces.lookup, traces.registry.FOLDER),
}
HEAVY = {"pandas", "scipy", "pyarrow", "altair", "lz4", "distributed"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_stands_for_the_class_that_its_table_says(kind):
    table, load, folder = KINDS[kind]
    for name, written in table.items():
        cls = load(name)
        assert (cls.__module__, cls.__name__) == (f"{folder}.{written.module}", written.name)
        assert getattr(cls, "name", name) == name
        assert inspect.getdoc(cls).partition("\n")[0] == written.summary, "both are read by somebody"
        assert written.summary.endswith(".") and len(written.summary) < 120


@pytest.mark.parametrize("kind", KINDS)
def test_no_class_is_forgotten_in_its_table(kind):
    table, _, folder = KINDS[kind]
    there = {path.stem for path in Path(import_module(folder).__file__).parent.glob("*.py")}
    listed = {(written.module, written.name) for written in table.values()}
    assert {module for module, _ in listed} <= there
    found = set()
    for module in sorted(there - {"__init__"}):
        made = import_module(f"{folder}.{module}")
        own = [cls for _, cls in inspect.getmembers(made, inspect.isclass) if cls.__module__ == made.__name__]
        found |= {(module, cls.__name__) for cls in own if is_one(kind, cls)}
    assert found == listed


def is_one(kind, cls):
    if kind == "deciders":
        return hasattr(cls, "decide") and cls is not policies.Decider
    return issubclass(cls, (Workload, Format)) and "name" in vars(cls)


def test_every_order_is_described_by_the_first_line_of_its_module():
    for name, order in ORDERS.items():
        essay = import_module(f"memvirt.engine.replacement.{order.module}").__doc__
        assert order.summary and not order.summary.endswith("."), name
        assert len(essay.partition("\n")[0]) > 10


def test_tables_by_name_have_an_entry_for_each():
    """What is looked up by a name is there for every name."""
    assert set(CLASSES) == set(names.SCANNERS)
    assert set(POOL_NS) == set(COMPRESSORS) == set(names.CODECS)
    assert set(names.DEVICE_SOURCES) == set(names.DEVICES)
    assert set(PREDICTIONS) == set(RUNNERS) >= set(REPLAYED)  # a fleet that lives replays no trace
    assert set(ROUTES) == set(names.CODECS)
    for codec in names.CODECS.values():
        assert not codec.few or {codec.lowest, codec.default, codec.highest} <= set(codec.few)
    assert open_codec("lz4").level == names.CODECS["lz4"].default


@pytest.mark.parametrize("shipped", [SUITES, PRESETS], ids=["suites", "presets"])
def test_a_shipped_file_says_in_one_line_what_it_is(shipped):
    lines = shipped.lines()
    assert list(lines) == shipped.names() and len(lines) > 5
    assert all(line and "\n" not in line and len(line) < 120 for line in lines.values())


@pytest.mark.parametrize("kind", SINGULAR)
def test_a_list_imports_no_compiled_module(kind, tmp_path):
    code = (
        f"import sys\nsys.argv = ['memvirt', 'list', '{kind}', '--json']\nfrom memvirt.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "ours = [name for name, module in sys.modules.items()\n"
        "        if name.startswith('memvirt.') and not (module.__file__ or '.py').endswith('.py')]\n"
        f"print(sorted([*ours, *{HEAVY} & set(sys.modules)]), file=sys.stderr)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "MEMVIRT_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr.strip() == "[]"
    assert [row for row in json.loads(done.stdout) if not row["summary"]] == []
