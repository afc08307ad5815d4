"""The rules of the house that a machine can check: who may import whom, how long things may be, what may not be written."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "ext" / "memvirt" / "engine"
PACKAGE = ROOT / "memvirt"
MAX_LINES = 440
MAX_FUNCTION_LINES = 62

# Listed bottom up: a module imports only modules listed above it.
ENGINE_ORDER = """
types counters clock device codec content fingerprints fragmentation blocks buddy
frames sizeclass zspage zpool swapspace swap swapset backing leaf tcache ages
replacement.lists replacement.ghosts replacement.order
replacement.random replacement.fifo replacement.clock replacement.lru replacement.twolist replacement.mglru
replacement.sieve replacement.s3fifo replacement.twoq replacement.arc replacement.lfu replacement.belady
replacement.registry replacement.probe
rmap tables mapping stall shareindex readahead writeback evict reclaim fault compact collapse
scan.scanner scan.hash scan.inline scan.esx scan.treap scan.stable scan.advisor scan.ksm scan.registry
clone guest_memory guest guest_testing machine core vm host contiguity run savings audit
""".split()

PYTHON_ORDER = """
errors interrupts units metric sharing_metrics metrics diagnose costs policies scanner_options replacement_options config
presets environment inputs workloads simulation vm stores host fleet suite shadow versions record derive plan results replay
cell run stats columns summary learned overtime export tables pyperf_hook timing cell_worker comparison compare doctor
catalog cli
""".split()


def engine_modules():
    return {
        ".".join(path.relative_to(ENGINE).with_suffix("").parts): path
        for pattern in ("*.pyx", "*.pxd")
        for path in sorted(ENGINE.rglob(pattern))
    }


def engine_imports(path):
    """Engine modules that a .pyx or .pxd imports, as dotted names below memvirt.engine."""
    here = path.relative_to(ENGINE).parent.parts
    text = path.read_text()
    for dots, name in re.findall(r"^\s*from (\.+)([\w.]*) c?import", text, re.MULTILINE):
        above = here[: len(here) - (len(dots) - 1)]
        if name:
            yield ".".join((*above, *name.split(".")))
    yield from re.findall(r"^\s*from memvirt\.engine\.([\w.]+) c?import", text, re.MULTILINE)


def test_every_engine_module_has_its_place():
    assert sorted(engine_modules()) == sorted(ENGINE_ORDER)


@pytest.mark.parametrize("path", sorted([*ENGINE.rglob("*.pyx"), *ENGINE.rglob("*.pxd")]), ids=lambda path: path.name)
def test_engine_imports_point_upwards_in_the_list(path):
    name = ".".join(path.relative_to(ENGINE).with_suffix("").parts)
    for imported in engine_imports(path):
        if imported != name:
            assert ENGINE_ORDER.index(imported) < ENGINE_ORDER.index(name), f"{name} imports {imported}"


def test_no_engine_module_is_dead():
    """Each is imported by another module, or by Python."""
    used = {imported for path in ENGINE.rglob("*.p[yx]*") for imported in engine_imports(path)}
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
            yield parts[0], path


@pytest.mark.parametrize(("name", "path"), list(python_modules()), ids=lambda value: getattr(value, "name", value))
def test_python_imports_point_upwards_in_the_list(name, path):
    assert name in PYTHON_ORDER, f"{path.name}: give it a place in PYTHON_ORDER"
    for node in ast.parse(path.read_text()).body:
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module == "memvirt":
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memvirt."):
            modules = [node.module.split(".")[1]]
        for imported in modules:
            if imported not in ("engine", name, "__version__"):
                assert PYTHON_ORDER.index(imported) < PYTHON_ORDER.index(name), f"{name} imports {imported}"


def sources():
    for base, patterns in (
        (ENGINE, ("*.pyx", "*.pxd", "*.pxi", "*.h")),
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
