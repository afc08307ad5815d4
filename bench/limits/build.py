"""Builds the limit loops: every bench/limits/*.pyx becomes an extension module in bench/build/, when it is stale.

    from limits.build import load       # with bench/ on sys.path
    buddy_limit = load("buddy_limit")

They are benchmarks' own and never shipped. They are compiled with the flags of the engine's release build, so that a
ratio compares designs and not compilers.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

LIMITS = Path(__file__).resolve().parent
ROOT = LIMITS.parents[1]
BUILD = ROOT / "bench" / "build"
ENGINE = ROOT / "ext" / "memvirt" / "engine"


def target(name: str) -> Path:
    """Where the compiled module goes."""
    return BUILD / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"


def stale(name: str) -> bool:
    """True if the module is missing, or older than its source, any header, or any part of the engine's contract."""
    built = target(name)
    if not built.exists():
        return True
    sources = [LIMITS / f"{name}.pyx", *LIMITS.glob("*.h"), *ENGINE.rglob("*.h"), *ENGINE.rglob("*.pxd")]
    return any(source.stat().st_mtime > built.stat().st_mtime for source in sources)


def build(names: list[str] | None = None) -> None:
    """Compile what is stale of these modules (all by default)."""
    names = sorted(path.stem for path in LIMITS.glob("*.pyx")) if names is None else names
    names = [name for name in names if stale(name)]
    if not names:
        return
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    extensions = [
        Extension(
            name,
            [str(LIMITS / f"{name}.pyx")],
            include_dirs=[str(LIMITS), str(ENGINE)],
            extra_compile_args=["-O3", "-g0", "-Wno-unreachable-code", "-Wno-unused-function", "-Wno-unused-variable"],
            define_macros=[("CYTHON_WITHOUT_ASSERTIONS", "1")],
        )
        for name in names
    ]
    directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True}
    modules = cythonize(
        extensions,
        include_path=[str(ROOT / "ext")],
        compiler_directives=directives,
        build_dir=str(BUILD / "c"),
        force=True,
        quiet=True,
    )
    distribution = Distribution({"name": "limits", "ext_modules": modules})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp, command.force = str(BUILD), str(BUILD / "o"), True
    distribution.run_command("build_ext")


def load(name: str) -> ModuleType:
    """Import one limit module, building it first if need be."""
    build([name])
    spec = importlib.util.spec_from_file_location(name, target(name))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    build(sys.argv[1:] or None)
