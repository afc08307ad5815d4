"""Builds the Cython engine: every ext/memvirt/**/*.pyx becomes the extension module of the same dotted name.

Environment switches (a change of any of them rebuilds everything):
  MEMVIRT_DEBUG=1      bounds checks, assertions, freed frames filled with a pattern
  MEMVIRT_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer; free frames are poisoned
  MEMVIRT_COVERAGE=1   line tracing for coverage's Cython plugin
  MEMVIRT_CFLAGS       further compiler flags
"""

import hashlib
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
os.chdir(ROOT)


def switched_on(name: str) -> bool:
    return os.environ.get(name, "0") == "1"


DEBUG = switched_on("MEMVIRT_DEBUG")
SANITIZE = switched_on("MEMVIRT_SANITIZE")
COVERAGE = switched_on("MEMVIRT_COVERAGE")

compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
building = any(command.startswith(("build", "bdist", "develop", "editable", "install")) for command in sys.argv[1:])
if building and shutil.which(compiler) is None:
    sys.exit(
        f"memvirt: no C compiler: '{compiler}' is not on PATH. The engine is compiled at install time.\n"
        "Install one (Debian: apt-get install gcc libc6-dev; Fedora: dnf install gcc), or set CC to yours."
    )

cflags = ["-O1", "-g"] if DEBUG or SANITIZE else ["-O3", "-g0"]
cflags += ["-Wno-unreachable-code", "-Wno-unused-function"]
ldflags = [] if DEBUG or SANITIZE or COVERAGE else ["-Wl,-s"]
macros = []
if DEBUG:
    macros.append(("MEMVIRT_DEBUG", "1"))
else:
    # Assertions state preconditions for debug and sanitizer builds; check() never relies on them.
    macros += [] if SANITIZE else [("CYTHON_WITHOUT_ASSERTIONS", "1")]
if SANITIZE:
    macros.append(("MEMVIRT_SANITIZE", "1"))
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
    cflags += sanitizers
    ldflags += sanitizers
if COVERAGE:
    macros.append(("CYTHON_TRACE_NOGIL", "1"))
cflags += os.environ.get("MEMVIRT_CFLAGS", "").split()

directives = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "linetrace": COVERAGE,
    "embedsignature": True,
}

# What only tests need is built where they run: in place (build_ext --inplace) and in editable installs.
TESTING = "memvirt.engine.testing"
with_testing = "--inplace" in sys.argv or any(word.startswith(("develop", "editable")) for word in sys.argv[1:])


class BuildPython(build_py):
    """Leaves the faces for tests out of wheels."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if not with_testing:
            self.packages = [name for name in self.packages or [] if name != TESTING]
            self.exclude_package_data = {**(self.exclude_package_data or {}), "memvirt.engine": ["testing/*"]}


extensions = [
    Extension(
        ".".join(source.relative_to("ext").with_suffix("").parts),
        [str(source)],
        include_dirs=["ext/memvirt/engine"],
        depends=[str(header) for header in sorted(Path("ext").rglob("*.h"))],
        extra_compile_args=cflags,
        extra_link_args=ldflags,
        define_macros=macros,
    )
    for source in sorted(Path("ext/memvirt").rglob("*.pyx"))
    if with_testing or source.parent.name != "testing"
]

# setuptools and Cython compare time stamps, and do not follow a header through another one: a change of flags or of any
# header forces the rebuild of everything, or two modules would disagree about a struct.
headers = hashlib.sha256()
for header in sorted(path for kind in ("pxd", "pxi", "h") for path in Path("ext").rglob(f"*.{kind}")):
    headers.update(header.read_bytes())
stamp = Path("build/flags")
flags = repr((sys.version_info[:2], compiler, cflags, ldflags, macros, directives, headers.hexdigest()))
changed = not stamp.exists() or stamp.read_text() != flags
if building and changed:
    stamp.unlink(missing_ok=True)  # until all is built: modules of two kinds would be taken for one
setup(
    ext_modules=cythonize(
        extensions,
        include_path=["ext"],
        compiler_directives=directives,
        force=changed,
        cache=False,  # its key misses headers that are reached through another
        build_dir=None if COVERAGE else "build/cython",
        nthreads=int(os.environ.get("MEMVIRT_JOBS", os.cpu_count() or 1)) if building else 0,
    )
    if building
    else [],
    cmdclass={"build_py": BuildPython},
    options={"build_ext": {"force": changed, "parallel": os.cpu_count() or 1}},
)

if building:
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(flags)
