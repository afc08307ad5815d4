"""Cost models: what each operation takes, in integer nanoseconds of simulated time.

A model is a preset of its own, presets/costs/NAME.toml or a file of one's own, in which every constant carries its
source. A host holds its model by value, and so does every record. Simulated time never looks at this machine's clock:
two machines with the same model get the same `sim_ns`.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from memvirt.errors import ConfigError
from memvirt.settings.devices import SwapDevice
from memvirt.settings.diagnose import Problem, read_toml, report, validate
from memvirt.units import suggest

DIRECTORY = Path(__file__).parent / "presets" / "costs"

Nanoseconds = Annotated[int, Field(ge=0, le=10**12, strict=True)]


# Of a codec: the operations for which the numbers of lz4 do not stand.
OWN_NUMBERS = {"lz4hc": ("compress",), "zstd": ("compress", "decompress")}

# Of giving memory: what may be left out, and whose number then stands for it.
AS_OF = {"unplug_block": "offline_block", "plug_block": "online_block"}


class GivingCosts(BaseModel):
    """Nanoseconds of what a guest gives the host, and has back: the guest's part, the host's part and messages apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    give_page: Nanoseconds = Field(description="a guest giving up one page: its allocator, its entry in a message")
    return_page: Nanoseconds = Field(description="having one page back")
    release_page: Nanoseconds = Field(description="the host freeing the frame behind one page that was given")
    release_block: Nanoseconds = Field(description="the host freeing 2 MiB that are mapped as one")
    give_block: Nanoseconds = Field(description="a guest giving up 2 MiB of free memory as one")
    return_block: Nanoseconds = Field(description="having such 2 MiB back")
    offline_block: Nanoseconds = Field(description="unplugging 2 MiB; the moving of pages out of it apart (move_page)")
    online_block: Nanoseconds = Field(description="plugging 2 MiB")
    claim_block: Nanoseconds = Field(description="the host taking free 2 MiB in the guest's own allocator")
    restore_block: Nanoseconds = Field(description="the host leaving such 2 MiB to the guest again")
    unplug_block: Nanoseconds | None = Field(
        default=None, description="unplugging 2 MiB of a partition that is free (squeezy); none = offline_block"
    )
    plug_block: Nanoseconds | None = Field(
        default=None, description="plugging 2 MiB of a partition; none = online_block"
    )
    message: Nanoseconds = Field(
        description="a message of a balloon, or a request to unplug or plug, leaving the guest"
    )


class CostModel(BaseModel):
    """Nanoseconds per operation; a field's description says what exactly is paid for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hit: Nanoseconds = Field(description="an access that the translation cache serves, its load or store included")
    refill: Nanoseconds = Field(description="a walk of the tables that finds a present entry")
    fault: Nanoseconds = Field(description="entering and leaving the hypervisor for a fault, whatever it then does")
    zero_page: Nanoseconds = Field(description="clearing 4 KiB")
    zero_huge: Nanoseconds = Field(description="clearing 2 MiB")
    copy_page: Nanoseconds = Field(description="copying 4 KiB from one frame to another")
    leaf_copy: Nanoseconds = Field(description="copying the 512 entries of a shared leaf table")
    same_filled: Nanoseconds = Field(description="testing a page for equal words")
    compress: Nanoseconds = Field(description="compressing one page with lz4")
    decompress: Nanoseconds = Field(description="decompressing one page, of lz4 or lz4hc")
    compress_lz4hc: Nanoseconds = Field(description="compressing one page with lz4hc, whatever its level")
    compress_zstd: Nanoseconds = Field(description="compressing one page with zstd, whatever its level")
    decompress_zstd: Nanoseconds = Field(description="decompressing one page of zstd")
    zpool_store: Nanoseconds = Field(description="placing and copying a compressed object, compression apart")
    swap_submit: Nanoseconds = Field(description="processor time of one swap request; the device's time is its own")
    evict: Nanoseconds = Field(description="unmapping one page and giving its frame back")
    reclaim_visit: Nanoseconds = Field(description="looking at one candidate for eviction")
    scan_visit: Nanoseconds = Field(description="the sharing scanner looking at one page; hash and compare apart")
    hash_page: Nanoseconds = Field(description="hashing one page")
    compare_page: Nanoseconds = Field(description="comparing two equal pages to the last byte")
    merge: Nanoseconds = Field(description="making two entries name one frame, compare apart")
    clone_fixed: Nanoseconds = Field(description="creating the fixed parts of a clone")
    clone_leaf: Nanoseconds = Field(description="sharing one leaf table with a clone")
    balloon_page: Nanoseconds = Field(description="giving up or taking back one page through the balloon")
    giving: GivingCosts | None = Field(
        default=None,
        description="what ballooning and its like cost, split; none = balloon_page for a page, 512 times that for 2 MiB",
    )
    guest_fault: Nanoseconds = Field(description="the guest kernel's own handling of a fault")
    move_page: Nanoseconds = Field(description="compaction: copying a page and rewriting what names it")
    wait_quantum: Nanoseconds = Field(description="how long a VM that found no memory sleeps before it tries again")

    def flat(self) -> dict[str, int]:
        """Operation -> ns, those of giving beside the others."""
        table: dict[str, Any] = self.model_dump(exclude_none=True)
        giving: dict[str, int] = table.pop("giving", {})
        return table | giving


class Spread(BaseModel):
    """How sure a measured time is: the median over batches, and the interval in which it lies at 95 %."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str = Field(description="what was done")
    median: Nanoseconds = Field(description="of one operation")
    low: Nanoseconds = Field(description="end of the interval")
    high: Nanoseconds = Field(description="end of the interval")
    batches: Annotated[int, Field(ge=1, strict=True)] = Field(description="over how many the median is")
    each: Annotated[int, Field(ge=1, strict=True)] = Field(description="operations in a batch")


class CostFile(BaseModel):
    """A file of a cost model. What follows `source` is of models that were measured (memvirt calibrate)."""

    model_config = ConfigDict(extra="forbid")

    description: str
    costs: CostModel
    source: dict[str, str]
    swap_device: SwapDevice | None = None
    spread: dict[str, Spread] = {}
    skipped: dict[str, str] = {}  # what could not be measured, and why


def names() -> list[str]:
    """The cost models there are."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def load(name: str) -> CostModel:
    """The named model, or that of a file NAME.toml; ConfigError when there is none."""
    return _read(name).costs


def by_value(setting: object) -> object:
    """A model's name or file as its constants; anything else as it is."""
    return load(setting) if isinstance(setting, str) else setting


def for_engine(costs: CostModel, codec: str) -> dict[str, dict[str, int]]:
    """What the engine takes, by argument."""
    return {"costs": for_codec(costs, codec), "giving": of_giving(costs)}


def for_codec(costs: CostModel, codec: str) -> dict[str, int]:
    """Operation -> ns: compress and decompress are those of the codec."""
    model = costs.model_dump()
    model.pop("giving", None)
    own = {key: model.pop(f"{key}_{codec}") for key in OWN_NUMBERS.get(codec, ())}
    return {key: value for key, value in model.items() if key.rpartition("_")[2] not in OWN_NUMBERS} | own


def of_giving(costs: CostModel) -> dict[str, int]:
    """Operation -> ns of giving memory. Where that is not split a page costs the same whoever has the work, each way."""
    if costs.giving is not None:
        split = costs.giving.model_dump()
        return {key: split[AS_OF[key]] if value is None else value for key, value in split.items()}
    blocks = (*(f"{both}_block" for both in ("give", "return", "offline", "online", "claim", "restore")), *AS_OF)
    split = dict.fromkeys(GivingCosts.model_fields, 0) | dict.fromkeys(blocks, 512 * costs.balloon_page)
    return split | dict.fromkeys(("give_page", "return_page"), costs.balloon_page)


def file(name: str) -> CostFile:
    """All that the file of a model says; ConfigError when there is none."""
    return _read(name)


def source(name: str, operation: str) -> str:
    """Where an operation's constant is from; of giving.NAME, too."""
    return _read(name).source[operation.removeprefix("giving.")]


def _read(name: str) -> CostFile:
    if name.endswith(".toml"):
        return _read_file(Path(name))  # of the user, who may change it: read each time
    if name not in names():
        known = f"(known: {', '.join(names())}; or file.toml)"
        raise ConfigError(f"unknown cost model '{name}'{suggest(name, names())} {known}")
    return _shipped(DIRECTORY / f"{name}.toml")


def _read_file(path: Path) -> CostFile:
    data, source = read_toml(path)
    file = validate(CostFile, data, source)
    giving = {} if file.costs.giving is None else file.costs.giving.model_dump(exclude_none=True)
    constants = [*CostModel.model_fields.keys() - {"giving"}, *giving]
    missing = [Problem(("source", key), "has no source") for key in constants if key not in file.source]
    if missing:
        raise report(missing, source)
    return file


_shipped = cache(_read_file)
