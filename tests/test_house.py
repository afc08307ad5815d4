"""The rules of the house that a machine can check: who may import whom, how long things may be, what may not be written."""

import ast
import re
from pathlib import Path

import pytest

import memvirt
from memvirt import errors
from memvirt.settings.orders import ORDERS

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "ext" / "memvirt" / "engine"
PACKAGE = ROOT / "memvirt"
MAX_LINES = 400
MAX_TEST_LINES = 640
MAX_FUNCTION_LINES = 62

# Both lists stand bottom up: a module imports only what stands above it. "group:" opens a folder; "-" is the ground.
ENGINE_ORDER = """
-: types prefetch splitmix counters interrupt agenda simtime device
traces: renumber
content: codec content sources source_table fingerprints
memory: fragmentation buddy frames
stores: sizeclass zspage zspage_report zpool swapspace slots swap swapset
replacement: lists ghosts order random fifo clock lru twolist mglru sieve s3fifo twoq arc lfu
replacement: slru mq lirs clockpro wtinylfu belady registry distances replay
mapping: backing leaf tcache ages rmap lazylist recency charges tables listener mapping spaces
-: stall
sharing: shareindex
reclaim: readahead swapout writeback evict foresight lazyfree sweep harvest marks reclaim fault giveup populate lookahead
upkeep: compact collapse
sharing: scanner hash inline esx treap stable advisor ksm_items ksm registry
guests: guest_memory guest_disk hardware partitions ring guest elastic balloon_driver huge_balloon virtio_mem hyperalloc
guests: squeezy ways balloon
guests: reporting host_hardware
host: gate batch stream vm views fixed engine promises sample readback accesses ending admission cloning deciding schedule
host: contiguity savings audit
testing: agendas orders guests contents memory stores host
"""

PYTHON_ORDER = """
-: errors interrupts untrusted units names shipped
metrics: metric sharing guests fairness levels states registry
policies: base drafts ages columns asking esx far_memory ksmtuned kubevirt proportional proxmox senpai mom squeezed hyperv
policies: damon poking coach
settings: wording diagnose orders fields devices watermarks costs scanner_options config vm_config sources presets
engine:
-: environment versions
inputs: bits files heap corpus masim measure synthetic fingerprints model similarity store summary fit
inputs.sources: runs files process dumps named
inputs: capture written varied
inputs.traces: requests source trace registry text writer exporter importer
inputs.traces.formats:
inputs.traces.capture: kernel process inject faults lackey writes pageout
workloads: base registry aging boot patterns kernels storms trace zipf mixed ycsb recorded instances load touches
simulation: trace reuse curve profile own face
-: border admission vm stores streams deciding host
backends: measured rows table
backends.linux: kernel loads disk undo tenant groups userfault
backends: comparison
backends.linux: pair areas ways limits counting ksm grid pressure swap governing costs
backends: calibrate
backends.linux: pricing
backends: validate
results: timeline shapes record claims manifest shelf run_folder frames shards derived
experiment: fleet_spec life_spec residence service pace scenario simulated living backend fleet suite overrides sweep replayed
experiment: column expected plan prediction preflight trace_cell sampler driver filling working life life_driver
experiment: cell pool elsewhere executors loop
experiment: bisection objectives first_guess capacity sizing searching
timing: hook samples worker
report: statistics standing escape choice columns summary machine check scope claims verdict conclusion runs
report.figures: looks style traces corpora data moments waterfall savings costs latency conditions sizes levels
report.figures: catalog drawing plotting
report: capacity
report: aging_table unused notes document markup beside export terminal
report: likeness comparison comparison_text
report: trace_events openmetrics latency_logs bencher
report.page: packing tables content build
report: bundle.archive bundle.crate bundle.again bundle.nameless bundle.contents bundle.verify
cli: catalog_entry topics catalog show progress figure_files run_options jobs table timings merge
cli: compare export plot report timeline doctor validate calibrate corpora content_models corpus_info corpus trace_info
cli: trace bundle run capacity
"""


def in_order(text):
    """The dotted names of a list, bottom up; a folder without names stands for all that is in it."""
    for line in text.split("\n"):
        if ":" in line:
            group, names = line.split(":")
            yield from ((name if group == "-" else f"{group}.{name}") for name in names.split())
            if not names.split():
                yield group


def engine_modules():
    return {
        ".".join(path.relative_to(ENGINE).with_suffix("").parts): path
        for pattern in ("*.pyx", "*.pxd")
        for path in sorted(ENGINE.rglob(pattern))
    }


IMPORTED = r"(\*|\([^)]*\)|[\w, ]+)"  # names in a line, or in brackets over several


def engine_imports(path, text=None):
    """Engine modules that a .pyx or .pxd imports, as dotted names below memvirt.engine."""
    here = path.relative_to(ENGINE).parent.parts
    text = path.read_text() if text is None else text
    for dots, name, imported in re.findall(rf"^\s*from (\.+)([\w.]*) c?import {IMPORTED}", text, re.MULTILINE):
        above = here[: len(here) - (len(dots) - 1)]
        yield from modules_of(".".join((*above, *filter(None, name.split(".")))), imported)
    for name, imported in re.findall(rf"^\s*from memvirt\.engine\.?([\w.]*) c?import {IMPORTED}", text, re.MULTILINE):
        yield from modules_of(name, imported)
    yield from re.findall(r"^\s*c?import memvirt\.engine\.([\w.]+)", text, re.MULTILINE)


def modules_of(name, imported):
    """The modules that `from NAME import IMPORTED` reaches: the one of the name, or those of a folder."""
    if not name or (ENGINE / name.replace(".", "/")).is_dir():
        each_name = (each.split() for each in imported.strip("()").split(","))
        yield from (f"{name}.{words[0]}".lstrip(".") for words in each_name if words)
    else:
        yield name


def test_every_engine_module_has_its_place():
    assert sorted(engine_modules()) == sorted(in_order(ENGINE_ORDER))


@pytest.mark.parametrize("path", sorted([*ENGINE.rglob("*.pyx"), *ENGINE.rglob("*.pxd")]), ids=lambda path: path.name)
def test_engine_imports_point_upwards_in_the_list(path):
    name, order = ".".join(path.relative_to(ENGINE).with_suffix("").parts), list(in_order(ENGINE_ORDER))
    for imported in engine_imports(path):
        if imported != name:
            assert order.index(imported) < order.index(name), f"{name} imports {imported}"


@pytest.mark.parametrize(
    ("line", "imported"),
    [
        ("from ..host.vm cimport Vm", "host.vm"),
        ("from ..host import vm", "host.vm"),
        ("def later():\n    from ..host.vm import Vm", "host.vm"),
        ("from memvirt.engine.host.vm cimport Vm", "host.vm"),
        ("from memvirt.engine.host cimport vm", "host.vm"),
        ("cimport memvirt.engine.host.vm", "host.vm"),
        ("import memvirt.engine.host.vm as vm", "host.vm"),
        ("from ..host.vm cimport (Vm,\n    VmId)", "host.vm"),
        ("from ..host cimport (\n    vm as machine,\n)", "host.vm"),
        ("from ..host.vm cimport *", "host.vm"),
    ],
)
def test_an_engine_import_that_points_downwards_is_seen(line, imported):
    """However it is written: relative or absolute, of a module or from one, in brackets, or inside a function."""
    order = list(in_order(ENGINE_ORDER))
    assert list(engine_imports(ENGINE / "mapping" / "rmap.pyx", line)) == [imported]
    assert order.index(imported) > order.index("mapping.rmap")


def python_imports_of_engine(text):
    """What a .pyx or .pxd imports of memvirt's Python, as dotted names below it."""
    for name, imported in re.findall(rf"^\s*from memvirt\b\.?([\w.]*) import {IMPORTED}", text, re.MULTILINE):
        if name.split(".")[0] != "engine":
            each_name = (each.split() for each in imported.strip("()").split(","))
            yield from (home_of(f"{name}.{words[0]}".lstrip(".")) for words in each_name if words)
    yield from re.findall(r"^\s*import memvirt\.(?!engine\b)([\w.]+)", text, re.MULTILINE)


def check_python_imports_of_engine(name, text):
    for imported in python_imports_of_engine(text):
        assert python_place(imported) < python_place("engine"), f"{name} imports {imported}"


@pytest.mark.parametrize("path", sorted([*ENGINE.rglob("*.pyx"), *ENGINE.rglob("*.pxd")]), ids=lambda path: path.name)
def test_the_engine_imports_of_python_only_what_it_stands_on(path):
    check_python_imports_of_engine(path.name, path.read_text())


@pytest.mark.parametrize(
    "line",
    [
        "from memvirt.report import terminal",
        "from memvirt.inputs.corpus import Corpus",
        "def later():\n    from memvirt.host import Host",
        "from memvirt import Host",
        "import memvirt.cli.run",
    ],
)
def test_an_engine_module_that_imports_what_stands_on_it_is_seen(line):
    with pytest.raises(AssertionError, match=r"rmap\.pyx imports"):
        check_python_imports_of_engine("rmap.pyx", line)


def test_no_engine_module_is_dead():
    """Each is imported by another module, or by Python, or listed in the table of orders."""
    used = {imported for path in ENGINE.rglob("*.p[yx]*") for imported in engine_imports(path)}
    used |= {f"replacement.{written.module}" for written in ORDERS.values()}
    python = "\n".join(
        path.read_text() for base in (PACKAGE, ROOT / "tests", ROOT / "bench") for path in base.rglob("*.py")
    )
    for name in engine_modules():
        last = name.rsplit(".", 1)[-1]
        assert name in used or re.search(
            rf"memvirt\.engine[\w. ]*\bimport\b[^\n]*\b{last}\b|engine\.{name}\b", python
        ), name


def python_modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "engine" and path.name not in ("__init__.py", "__main__.py"):
            yield ".".join(parts), path


def python_packages():
    """Folders that can be imported, with the file that is run then; memvirt itself is the face of all."""
    for path in sorted(PACKAGE.rglob("__init__.py")):
        parts = path.relative_to(PACKAGE).parent.parts
        if parts and parts[0] != "engine":
            yield ".".join(parts), path


def python_place(name):
    """Where a dotted name below memvirt stands in the list; None: it names no module of ours."""
    order = list(in_order(PYTHON_ORDER))
    for known in (name, name.split(".")[0], name.rsplit(".", 1)[0]):
        if known in order:
            return order.index(known)
    packages = [place for place, known in enumerate(order) if known.startswith(name + ".")]
    return packages[0] if packages else None  # a package as a whole: its first module stands for it


def home_of(name):
    """The module that a name of the library's face is from: `from memvirt import Host` imports memvirt.host."""
    return memvirt._HOMES.get(name, "memvirt." + name).removeprefix("memvirt.")


def python_imports(path, text=None):
    """What a module imports of memvirt, as dotted names below it: relative and lazy imports too, not those for types."""
    package = path.relative_to(PACKAGE.parent).parts[:-1]
    tree = ast.parse(path.read_text() if text is None else text)
    types_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in types_only:
            continue
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], *filter(None, [node.module])])
            base = base if node.level else node.module or ""
            modules = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (home_of(module.removeprefix("memvirt.")) for module in modules if module.startswith("memvirt."))


def check_python_imports(name, path, text=None):
    place = python_place(name)
    assert place is not None, f"{path.name}: give it a place in PYTHON_ORDER"
    for imported in python_imports(path, text):
        above = python_place(imported)
        if above is not None and imported.rpartition(".")[0] != name and imported != name:
            assert above < place, f"{name} imports {imported}"


@pytest.mark.parametrize(("name", "path"), list(python_modules()), ids=lambda value: getattr(value, "name", value))
def test_python_imports_point_upwards_in_the_list(name, path):
    check_python_imports(name, path)


def check_imports_of_package(name, path, text=None):
    """A folder's __init__ may import the folder's modules, and what stands above the last of them."""
    inner = [place for place, known in enumerate(in_order(PYTHON_ORDER)) if f"{known}.".startswith(f"{name}.")]
    for imported in python_imports(path, text):
        above = python_place(imported)
        if above is not None and not imported.startswith(f"{name}."):
            assert inner and above < inner[-1], f"{name} imports {imported}"


@pytest.mark.parametrize(("name", "path"), list(python_packages()), ids=lambda value: getattr(value, "name", value))
def test_imports_of_packages_point_upwards_too(name, path):
    check_imports_of_package(name, path)


def test_the_order_names_nothing_that_is_gone():
    """Modules, and folders that stand in the list as a whole."""
    order = list(in_order(PYTHON_ORDER))
    assert len(set(order)) == len(order)
    assert set(order) - {name for name, _ in python_modules()} == {
        "engine",
        "settings.presets",
        "inputs.traces.formats",
    }
    assert all((PACKAGE / name.replace(".", "/")).is_dir() for name in ("engine", "settings/presets", "inputs/traces"))


@pytest.mark.parametrize(
    "line",
    [
        "from memvirt.cli import catalog",
        "import memvirt.report.terminal",
        "from ..report import terminal",
        "from .. import report",
        "def later():\n    from memvirt.experiment import plan",
        "def later():\n    from ..experiment.cell import run_cell",
        "from memvirt import read_results",
    ],
)
def test_an_import_that_points_downwards_is_seen(line):
    """However it is written: absolute, relative, or inside a function; in a module, or in the folder's own file."""
    with pytest.raises(AssertionError, match="results.record imports"):
        check_python_imports("results.record", PACKAGE / "results" / "record.py", line)
    if "read_results" not in line:
        with pytest.raises(AssertionError, match="results imports"):
            check_imports_of_package("results", PACKAGE / "results" / "__init__.py", line)


def sources():
    for base, patterns in (
        (ROOT / "ext", ("*.pyx", "*.pxd", "*.pxi", "*.h")),
        (PACKAGE, ("*.py",)),
        (ROOT / "bench", ("*.py", "*.pyx")),
    ):
        for pattern in patterns:
            yield from (path for path in sorted(base.rglob(pattern)) if "build" not in path.parts)


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: path.name)
def test_files_and_functions_are_short(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= MAX_LINES, f"{path.name}: {len(lines)} lines; is it still one idea?"
    starts = [i for i, line in enumerate(lines) if re.match(r"\s*(cdef|cpdef|def|async def) (?!class )[^=]*\(.*", line)]
    for start in starts:
        indent = len(lines[start]) - len(lines[start].lstrip())
        end = start + 1
        while end < len(lines) and (
            not lines[end].strip()
            or len(lines[end]) - len(lines[end].lstrip()) > indent
            or lines[end].strip().startswith(")")
        ):
            end += 1
        while not lines[end - 1].strip():
            end -= 1
        assert end - start <= MAX_FUNCTION_LINES, f"{path.name}:{start + 1}: {end - start} lines"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_tests_are_short_too(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_TEST_LINES, f"{path.name}: {lines} lines; are these tests of one thing?"


def tree_of_readme():
    """(folder, purpose) of every line of the tree that the README shows."""
    text = (ROOT / "README.md").read_text()
    above: list[str] = []
    for line in re.search(r"^ext/memvirt/engine/ .*?(?=^```)", text, re.MULTILINE | re.DOTALL).group().splitlines():
        found = re.match(r"( *)([\w./-]+/) +(\S.*)", line)
        if found:
            depth, name = len(found[1]) // 2, found[2].rstrip("/")
            above = [*above[:depth], name]
            yield "/".join(above), found[3]


def test_the_readme_names_every_folder_and_its_purpose():
    told = dict(tree_of_readme())
    inner = {"memvirt/settings/presets/costs", "memvirt/inputs/traces/capture", "memvirt/inputs/traces/formats"}
    stubs = {f"memvirt/engine/{path.name}" for path in ENGINE.iterdir() if path.is_dir()}
    kept = [path for path in ("memvirt", "ext", "bench", "tests", "results", ".ci") if (ROOT / path).is_dir()]
    there = {
        str(path.parent.relative_to(ROOT))
        for base in kept
        for path in (ROOT / base).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".so") and "build" not in path.parts
    }
    data = {folder for folder in there if folder.startswith(("results/", "tests/data/"))}
    assert there - data - inner - stubs <= set(told), "give each a line in the README's tree"
    assert set(told) <= there | {"tests/data"}, "the README's tree names what is not there"
    assert all(len(purpose) > 8 for purpose in told.values())
    layers = list(dict.fromkeys(name.split(".")[0] for name in in_order(PYTHON_ORDER)))
    shown = [name.removeprefix("memvirt/") for name in told if name.startswith("memvirt/")]
    assert [name for name in shown if name in layers] == [name for name in layers if name in shown]


def test_what_the_text_names_exists():
    """Modules and files of ours that comments, messages and the README name."""
    modules = {f"memvirt.{name}" for name, _ in python_modules()} | {
        f"memvirt.engine.{name}" for name in engine_modules()
    }
    modules |= {
        ".".join(path.relative_to(ROOT / "ext").with_suffix("").parts) for path in (ROOT / "ext").rglob("*.pyx")
    }
    modules |= {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    modules |= {f"memvirt.engine.{path.name}" for path in ENGINE.iterdir() if path.is_dir()} | {"memvirt.engine"}
    for path in [*sources(), ROOT / "README.md", ROOT / "setup.py"]:
        text = path.read_text()
        for name in re.findall(r"(?<![\w./{-])(?:memvirt|ext|bench|tests)/[\w./-]+\.(?:py|md|pyx|pxd|toml|h)\b", text):
            assert (ROOT / name).exists(), f"{path.name} names {name}"
        for name in (
            re.findall(r"\bmemvirt(?:\.[a-z]\w*)+", text) if path.suffix in (".py", ".pyx", ".pxd", ".md") else ()
        ):
            assert known_name(name, modules), f"{path.name} names {name}"


def known_name(name, modules):
    """Whether a dotted name is a module, or something that its module's text has."""
    parts = name.split(".")
    inner = next(length for length in range(len(parts), 0, -1) if ".".join(parts[:length]) in modules)
    if inner == len(parts):
        return True
    place = Path(*parts[:inner])
    files = [ROOT / place.with_suffix(".py"), ROOT / place / "__init__.py"]
    files += [ROOT / "ext" / place.with_suffix(suffix) for suffix in (".pyx", ".pxd")]
    return any(re.search(rf"\b{parts[inner]}\b", file.read_text()) for file in files if file.exists())


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_tests_import_what_they_use_like_anyone(path):
    """Folders that tests import from stand in pyproject.toml; none is added on the way, and no file is run as a module."""
    asked = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert not asked & {"sys.path.insert", "sys.path.append", "importlib.util.spec_from_file_location"}


def test_the_tree_of_errors_names_all_that_is_raised():
    known = {"Exception", "BaseException", "RuntimeError", "PydanticCustomError", *vars(errors)}
    own = {
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) in known for base in node.bases)
    }
    assert {"ConfigError", "TimeUp", "TooLong"} <= own
    assert own - {"MemvirtError"} <= set(re.findall(r"\w+", errors.__doc__.partition("MemvirtError\n")[2]))


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: path.name)
def test_words_that_are_not_written(path):
    text = path.read_text()
    assert not re.search(r"\bpfn\b", text, re.IGNORECASE), "say gfn or hfn"
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert not re.search(r"^#\s*cython:", text, re.MULTILINE), "directives belong into setup.py"


def test_the_top_level_is_what_it_is():
    allowed = {
        "memvirt", "ext", "bench", "tests", "results", "setup.py", "pyproject.toml", "README.md", ".ci", "Makefile",
        "MANIFEST.in", "LICENSE", "CITATION.cff", "CHANGELOG.md", ".gitignore", ".git",
    }  # fmt: skip
    made_by_tools = {
        ".venv",
        "build",
        "dist",
        ".pytest_cache",
        ".ruff_cache",
        ".mypy_cache",
        ".hypothesis",
        ".benchmarks",
    }
    found = {path.name for path in ROOT.iterdir() if not path.name.endswith(".egg-info")}
    assert found <= allowed | made_by_tools | {"__pycache__"}, found - allowed


def test_a_folder_that_may_not_be_entered_is_told_and_not_tripped_over():
    """What pathlib asks of a place raises there; os.path says no, and the next step says why."""
    for name, path in python_modules():
        if name.startswith("backends."):
            continue  # the kernel's own files, which no user names
        assert not re.search(r"\.(exists|is_dir|is_file)\(\)", path.read_text()), name
