"""Versions of everything that can change a counter: memvirt, NumPy, and LZ4 with the route to it."""

from importlib.metadata import PackageNotFoundError, version

import memvirt


def versions() -> dict[str, str]:
    """Name -> version; part of every record."""
    found = {"memvirt": memvirt.__version__}
    for package in ("numpy", "lz4"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found | lz4_route()


def lz4_route() -> dict[str, str]:
    """The LZ4 library's own version and how the engine reaches it: compressed sizes depend on both."""
    from memvirt.engine.content import codec

    return {"lz4_route": str(codec.open_codec("lz4").route)}
