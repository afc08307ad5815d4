"""Cost models: what each operation takes, in integer nanoseconds of simulated time.

A model is a preset of its own, presets/costs/NAME.toml, in which every constant carries its source. Simulated time
never looks at this machine's clock: two machines with the same model get the same `sim_ns`.
"""

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from memvirt.diagnose import Problem, read_toml, report, validate
from memvirt.errors import ConfigError
from memvirt.units import suggest

DIRECTORY = Path(__file__).parent / "presets" / "costs"

Nanoseconds = Annotated[int, Field(ge=0, le=10**12, strict=True)]


class CostModel(BaseModel):
    """Nanoseconds per operation; a field's description says what exactly is paid for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hit: Nanoseconds = Field(description="an access that the translation cache serves, its load or store included")
    walk: Nanoseconds = Field(description="refilling the translation cache from the leaf table, no fault")
    fault: Nanoseconds = Field(description="entering and leaving the host's fault handler, whatever it then does")
    guest_fault: Nanoseconds = Field(description="a fault the guest serves itself, without the host")
    clear_page: Nanoseconds = Field(description="clearing one 4 KiB frame")
    copy_page: Nanoseconds = Field(description="copying one 4 KiB frame to another")
    copy_leaf: Nanoseconds = Field(description="copying a shared leaf table of 512 entries")
    clone_leaf: Nanoseconds = Field(description="sharing one leaf table with a clone")
    unmap_site: Nanoseconds = Field(description="changing one entry and its reverse map on eviction")
    harvest_page: Nanoseconds = Field(description="reading and clearing one accessed mark")
    compress_page: Nanoseconds = Field(description="compressing one page")
    decompress_page: Nanoseconds = Field(description="decompressing one page")
    zpool_store: Nanoseconds = Field(description="placing a compressed object in its zspage, compression apart")
    zpool_load: Nanoseconds = Field(description="finding and releasing a compressed object, decompression apart")
    swap_submit: Nanoseconds = Field(description="issuing one request to the swap device, its queue and service apart")
    scan_visit: Nanoseconds = Field(description="one page looked at by the sharing scanner, hash and compare apart")
    hash_page: Nanoseconds = Field(description="hashing one page")
    compare_page: Nanoseconds = Field(description="comparing two equal pages to the last byte")
    merge_page: Nanoseconds = Field(description="making two entries name one frame, compare apart")
    balloon_page: Nanoseconds = Field(description="one page into or out of a balloon, guest and host together")
    compact_page: Nanoseconds = Field(description="moving one frame, its copy apart")


class _CostFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    description: str
    costs: CostModel
    source: dict[str, str]


def names() -> list[str]:
    """The cost models there are."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def load(name: str) -> CostModel:
    """The named model; ConfigError when there is none."""
    return _read(name).costs


def explain(name: str) -> list[tuple[str, int, str, str]]:
    """(operation, nanoseconds, meaning, source) of every constant of a model, in the order of the fields."""
    file = _read(name)
    fields = CostModel.model_fields
    return [(key, getattr(file.costs, key), fields[key].description or "", file.source[key]) for key in fields]


@cache
def _read(name: str) -> _CostFile:
    if name not in names():
        raise ConfigError(f"unknown cost model '{name}'{suggest(name, names())} (known: {', '.join(names())})")
    data, source = read_toml(DIRECTORY / f"{name}.toml")
    file = validate(_CostFile, data, source)
    missing = [Problem(("source", key), "has no source") for key in CostModel.model_fields if key not in file.source]
    if missing:
        raise report(missing, source)
    return file
