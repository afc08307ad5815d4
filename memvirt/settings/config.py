"""Settings of hosts and VMs: validated, complete, hashable.

Sizes are held as pages and times as nanoseconds, and both are written back as text ("64MiB", "50us"), so what a config
dumps reads like what a user types and gives the same config when read again. The SHA-256 of the resolved config, with
all options and costs that its names stand for, names it in records. Nothing here is a float.

Each field error and each conflict between fields is found in one go; memvirt.settings.diagnose words them.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PlainSerializer, Tag, model_validator

from memvirt import policies
from memvirt.errors import ConfigError
from memvirt.settings import costs as cost_models
from memvirt.settings import replacement_options
from memvirt.settings.diagnose import Conflicts, Problem, report
from memvirt.settings.scanner_options import SCANNER_OPTIONS, problem_of
from memvirt.units import PAGE_SIZE, format_pages, format_time, parse_pages, parse_percent, parse_time

Pages = Annotated[int, BeforeValidator(parse_pages), PlainSerializer(format_pages, return_type=str)]
PagesOrZero = Annotated[
    int,
    BeforeValidator(lambda value: parse_pages(value, allow_zero=True)),
    PlainSerializer(format_pages, return_type=str),
]
Nanoseconds = Annotated[int, BeforeValidator(parse_time), PlainSerializer(format_time, return_type=str)]
Percent = Annotated[int, BeforeValidator(parse_percent)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Shares = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
Name = Annotated[str, Field(pattern=NAME.pattern)]


def _none_from_text(value: object) -> object:
    """TOML has no null: "none" stands for it."""
    return None if value == "none" else value


Replacement = Literal["random", "fifo", "clock", "lru", "twolist", "mglru", "sieve", "s3fifo", "2q", "arc", "lfu"]
Scanner = Annotated[Literal["hash", "ksm", "esx", "zero-only", "inline"] | None, BeforeValidator(_none_from_text)]

LEAST_PAGES = 4  # of a host with Linux's watermarks: its high one is never below two frames, nor above half of all
MOST_SLOTS = 1 << 29  # that a backing record can name
# Levels a codec takes: default, lowest, highest. For lz4 it is the acceleration; of zstd 0 would be its default, 3.
CODEC_LEVELS = {"lz4": (1, 1, 65537), "lz4hc": (9, 3, 12), "zstd": (1, -1, 3)}
ZSTD_LEVELS = (-1, 1, 3)
COMPRESS_LIMIT = 2990  # bytes: 73 % of a page, as Google's far memory (ASPLOS 2019)


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SwapDevice(Model):
    """A device of one's own: `channels` servers, each request takes latency + pages * time per page."""

    read_latency_ns: Nanoseconds = Field(description="of every read request")
    write_latency_ns: Nanoseconds = Field(description="of every write request")
    read_page_ns: Nanoseconds = Field(description="to read a page, on one channel")
    write_page_ns: Nanoseconds = Field(description="to write a page, on one channel")
    channels: int = Field(default=1, strict=True, ge=1, le=64, description="requests served at a time")


def _part_of(size: object, memory: Any) -> object:
    """A size in per cent of the host's memory as text; any other as it is, the field's own check judges it."""
    if not (isinstance(size, str) and size.strip().endswith("%")):
        return size
    try:
        return format_pages(parse_pages(memory) * parse_percent(size, maximum=10_000) // 100)
    except ConfigError:
        return size


def _form(value: object) -> str:
    """Which member of a union a value is meant for: a table or one word."""
    return "table" if isinstance(value, (Mapping, BaseModel)) else "word"


Device = Annotated[
    Annotated[Literal["nvme", "sata-ssd", "hdd"], Tag("word")] | Annotated[SwapDevice, Tag("table")],
    Discriminator(_form),
]


class SwapArea(Model):
    """One more swap area, on a disk of its own."""

    size: Pages = Field(description="size of the area; 200% = twice the host's memory")
    priority: int = Field(
        default=-1,
        strict=True,
        ge=-32768,
        le=32767,
        description="areas of higher priority fill first, equal ones take turns; that of `swap` is 0",
    )
    device: Device = Field(default="nvme", description="what it lies on: a named device, or its constants")


class Watermarks(Model):
    """Free frames, in pages: background reclaim wakes below low and works up to high; below min accesses reclaim."""

    min: Count
    low: Count
    high: Count


class HostConfig(Model):
    """The keyword arguments of memvirt.Host, but in pages and nanoseconds."""

    memory: Pages = Field(default=16384, description="memory of the host")
    swap: PagesOrZero = Field(default=0, description="swap area; 0 = none; 200% = twice the host's memory")
    swap_device: Device = Field(
        default="nvme", description="what swap and guests' disks lie on: a named device, or its constants"
    )
    swap_areas: list[SwapArea] = Field(
        default=[], max_length=31, description="more areas, each a table of size, priority and device"
    )
    swap_discard: bool = Field(
        default=False, strict=True, description="give clusters of slots back to the file system when they are free"
    )
    zpool_percent: Percent = Field(default=0, description="most of memory the compressed cache may take; 0 = off")
    zpool_accept_percent: Percent = Field(
        default=90, description="a cache that was full accepts again when it is down to so much of its limit"
    )
    zpool_reject_above: int = Field(
        default=COMPRESS_LIMIT,
        strict=True,
        ge=32,
        le=PAGE_SIZE,
        description="longest compressed page that is kept, in bytes",
    )
    zpool_chain: int = Field(
        default=8, strict=True, ge=1, le=16, description="most frames of a zspage, as CONFIG_ZSMALLOC_CHAIN_SIZE"
    )
    zpool_chain_rule: Literal["waste", "used"] = Field(
        default="waste",
        description="how a size class chooses its chain: least waste (Linux now), most used per cent (older kernels)",
    )
    zpool_shrinker: bool = Field(
        default=False, strict=True, description="write old compressed pages back to swap before the cache is full"
    )
    readahead: int = Field(
        default=3, strict=True, ge=0, le=5, description="swap readahead: windows of up to 2^n pages; 0 = off"
    )
    codec: Literal["lz4", "lz4hc", "zstd"] = Field(default="lz4", description="codec of the compressed cache")
    codec_level: int | None = Field(
        default=None, strict=True, description="level of the codec, for lz4 its acceleration; none = its default"
    )
    replacement: Replacement = Field(default="clock", description="order in which pages go")
    replacement_options: dict[str, str] = Field(default={}, description="options of that order")
    sharing: Scanner = Field(default=None, description="page-sharing scanner; none = off")
    sharing_options: dict[str, int | str | bool] = Field(default={}, description="options of the scanner")
    on_exhausted: Literal["stop", "wait", "kill"] = Field(default="stop", description="when no frame can be found")
    provisioning: Literal["thin", "thick", "thin-huge"] = Field(default="thin", description="when frames are given")
    compact_threshold: Annotated[
        Annotated[int, Field(strict=True, ge=0, le=1000)] | None, BeforeValidator(_none_from_text)
    ] = Field(
        default=None,
        description="unusable index at order 9, per mille, from which missed huge blocks start compaction; none = never",
    )
    collapse_interval: Annotated[Nanoseconds | None, BeforeValidator(_none_from_text)] = Field(
        default=None, description="simulated time between two looks of the collapser at 8 leaf tables; none = off"
    )
    content: Literal["bytes", "fingerprint"] = Field(default="bytes", description="real pages, or 64-bit ids")
    commit: Literal["heuristic", "always", "strict"] = Field(
        default="always", description="admission: strict refuses beyond memory and swap, always never refuses"
    )
    balloon: Annotated[str | None, BeforeValidator(_none_from_text)] = Field(
        default=None, description="decider by name, or file.py:ClassName; none = balloons move by hand only"
    )
    decider_options: dict[str, int | str | bool] = Field(default={}, description="options of the decider")
    watermarks: Annotated[Watermarks | None, BeforeValidator(_none_from_text)] = Field(
        default=None, description="min, low, high in free frames; none = Linux's formula"
    )
    harvest_interval: Nanoseconds = Field(
        default=100_000_000, description="simulated time between two collections of accessed marks"
    )
    quantum: Nanoseconds = Field(
        default=50_000, description="simulated time for which a VM runs before those that are behind it have their turn"
    )
    costs: str = Field(default="default", description="cost model by name")
    seed: Count = Field(default=0, description="seed of every pseudo-random choice")

    @model_validator(mode="before")
    @classmethod
    def _swap_from_percent(cls, data: Any) -> Any:
        """swap = "200%": twice the host's memory; sizes of swap areas alike."""
        if not isinstance(data, Mapping):
            return data
        memory = data.get("memory", format_pages(cls.model_fields["memory"].default))
        found = {**data}
        if "swap" in data:
            found["swap"] = _part_of(data["swap"], memory)
        if isinstance(data.get("swap_areas"), list):
            found["swap_areas"] = [
                {**area, "size": _part_of(area["size"], memory)}
                if isinstance(area, Mapping) and "size" in area
                else area
                for area in data["swap_areas"]
            ]
        return found

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = [*self._codec_problems(), *self._sharing_problems(), *self._decider_problems()]
        problems += _order_problems(self.replacement, self.replacement_options)
        marks = self.watermarks
        if marks is not None and not marks.min <= marks.low <= marks.high:
            text = f"min {marks.min} <= low {marks.low} <= high {marks.high} must hold"
            problems.append(Problem(("watermarks",), text))
        if marks is None and self.memory < LEAST_PAGES:
            text = (
                f"{format_pages(self.memory)} leaves no room for watermarks; the least is {format_pages(LEAST_PAGES)}"
            )
            problems.append(Problem(("memory",), text))
        if marks is not None and marks.high > self.memory // 2:
            text = f"high {marks.high} is more than half of the host's {self.memory} frames"
            problems.append(Problem(("watermarks", "high"), text, ("memory",)))
        if self.swap_total > MOST_SLOTS:
            text = f"{format_pages(self.swap_total)} with all areas; the most is {format_pages(MOST_SLOTS)}"
            problems.append(Problem(("swap",), text, ("swap_areas", "memory")))
        for name, usual in (("harvest_interval", "100ms"), ("quantum", "50us")):
            if not getattr(self, name):
                problems.append(Problem((name,), f"is zero; did you mean {usual}?"))
        if self.quantum > 10**12:
            problems.append(Problem(("quantum",), f"{format_time(self.quantum)}; the most is 1000s"))
        try:
            cost_models.load(self.costs)
        except ConfigError as error:
            problems.append(Problem(("costs",), str(error)))
        if problems:
            raise Conflicts(problems)
        return self

    @property
    def swap_total(self) -> int:
        """Slots of all swap areas together."""
        return self.swap + sum(area.size for area in self.swap_areas)

    @property
    def codec_level_used(self) -> int:
        return CODEC_LEVELS[self.codec][0] if self.codec_level is None else self.codec_level

    def order_options(self) -> dict[str, str]:
        """Every option of the replacement order in use, defaults included."""
        return replacement_options.resolved(self.replacement, self.replacement_options)

    def scanner_options(self) -> dict[str, int | str | bool]:
        """Every option of the scanner in use, defaults included."""
        return {**SCANNER_OPTIONS[self.sharing], **self.sharing_options} if self.sharing else {}

    def decider(self) -> policies.Decider | None:
        """An instance of the decider in use."""
        return policies.build(self.balloon, self.decider_options) if self.balloon else None

    def resolved(self) -> dict[str, Any]:
        """Every setting with all that its names stand for: options, codec level and costs. Part of every record."""
        data = self.model_dump(mode="json")
        decider = self.decider()
        options = {**data["decider_options"]}
        options |= {key: getattr(decider, key) for key in getattr(decider, "__dataclass_fields__", {})}
        return data | {
            "codec_level": self.codec_level_used,
            "replacement_options": self.order_options(),
            "sharing_options": self.scanner_options(),
            "decider_options": options,
            "costs": {"name": self.costs, **cost_models.load(self.costs).model_dump()},
        }

    def _codec_problems(self) -> list[Problem]:
        _, lowest, highest = CODEC_LEVELS[self.codec]
        text = f"{self.codec_level} is outside {lowest}..{highest} of codec '{self.codec}'"
        if lowest <= self.codec_level_used <= highest:
            if self.codec != "zstd" or self.codec_level_used in ZSTD_LEVELS:
                return []
            text = f"{self.codec_level} is none of the levels of codec 'zstd': -1, 1 and 3"
        return [Problem(("codec_level",), text, ("codec",))]

    def _sharing_problems(self) -> list[Problem]:
        if self.sharing is None:
            text = "given, but sharing is off; set sharing, for instance to 'hash'"
            return [Problem(("sharing_options",), text, ("sharing",))] if self.sharing_options else []
        known = SCANNER_OPTIONS[self.sharing]
        problems = []
        for key, value in self.sharing_options.items():
            wrong = problem_of(key, value, known, f"scanner '{self.sharing}'")
            if wrong:
                problems.append(Problem(("sharing_options", key), wrong, ("sharing",)))
        return problems

    def _decider_problems(self) -> list[Problem]:
        if self.balloon is None:
            text = "given, but no decider is; set balloon, for instance to 'proportional'"
            return [Problem(("decider_options",), text, ("balloon",))] if self.decider_options else []
        try:
            policies.load(self.balloon)
        except ConfigError as error:
            return [Problem(("balloon",), str(error))]
        try:
            policies.build(self.balloon, self.decider_options)
        except ConfigError as error:
            return [Problem(("decider_options",), str(error), ("balloon",))]
        return []


class GuestOptions(Model):
    """How a VM's own memory manager is set up."""

    cache_percent: Percent = Field(default=25, description="of the guest's virtual pages, the part that is page cache")
    swap: PagesOrZero = Field(default=0, description="the guest's own swap, on a disk of its own; 0 = none")
    kernel: PagesOrZero = Field(default=0, description="what its kernel keeps for itself")
    low_pages: Count = Field(default=0, description="free pages below which it reclaims")
    high_pages: Count = Field(default=0, description="free pages up to which it reclaims")
    balloon_floor: PagesOrZero = Field(default=0, description="what the balloon leaves the guest")
    oom_deflate_pages: Count = Field(default=256, description="pages the balloon gives back to a guest that has none")
    report_order: Annotated[int, Field(strict=True, ge=0, le=10)] | None = Field(
        default=None,
        description="free page reporting: order of the blocks named (no host asks for it so far); none = off",
    )
    replacement: Replacement = Field(default="clock", description="order in which its pages go")
    replacement_options: dict[str, str] = Field(default={}, description="options of that order")
    swappiness: int = Field(
        default=60,
        strict=True,
        ge=0,
        le=200,
        description="0: page cache goes first, 100: both alike, 200: anonymous pages go",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = _order_problems(self.replacement, self.replacement_options)
        if problems:
            raise Conflicts(problems)
        return self


Guest = Annotated[
    Annotated[bool, Field(strict=True), Tag("word")] | Annotated[GuestOptions, Tag("table")], Discriminator(_form)
]


class VmConfig(Model):
    """The keyword arguments of Host.create_vm, but in pages."""

    name: Name
    memory: Pages
    shares: Shares = 1000
    reservation: PagesOrZero = 0
    limit: Annotated[Pages | None, BeforeValidator(_none_from_text)] = None  # above memory it has no effect
    guest: Guest = False
    domain: Annotated[int, Field(strict=True, ge=0, lt=1 << 31)] = 0  # the tenant; see the sharing option salting
    clone_of: Annotated[Name | None, BeforeValidator(_none_from_text)] = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        if self.reservation > self.memory:
            text = f"{format_pages(self.reservation)} is more than the VM's memory, {format_pages(self.memory)}"
            problems.append(Problem(("reservation",), text, ("memory",)))
        if self.limit is not None and self.reservation > self.limit:
            text = f"{format_pages(self.reservation)} is above the limit, {format_pages(self.limit)}"
            problems.append(Problem(("reservation",), text, ("limit",)))
        if isinstance(self.guest, GuestOptions):
            problems += [Problem(("guest", *found.place), found.message) for found in self._guest_problems(self.guest)]
        if problems:
            raise Conflicts(problems)
        return self

    def _guest_problems(self, guest: GuestOptions) -> list[Problem]:
        problems = []
        if guest.kernel >= self.memory:
            problems.append(Problem(("kernel",), f"takes all of the VM's memory, {format_pages(self.memory)}"))
        if not guest.low_pages <= guest.high_pages < self.memory:
            text = f"low {guest.low_pages} <= high {guest.high_pages} < {self.memory} pages of memory must hold"
            problems.append(Problem(("low_pages",), text))
        if guest.balloon_floor > self.memory:
            problems.append(Problem(("balloon_floor",), f"is more than the VM's memory, {format_pages(self.memory)}"))
        return problems


class CloneConfig(Model):
    """What is new about a clone; all else it has from its parent."""

    name: Name


def check_fleet(host: HostConfig, vms: Sequence[VmConfig]) -> None:
    """ConfigError naming all that cannot be of these VMs on this host. Too little memory is not an error: admission
    answers for it."""
    problems = []
    seen: dict[str, VmConfig] = {}
    for index, vm in enumerate(vms):
        if vm.name in seen:
            problems.append(Problem(("vms", index, "name"), f"'{vm.name}' is taken by an earlier VM"))
        if vm.clone_of is not None and vm.clone_of not in seen:
            problems.append(Problem(("vms", index, "clone_of"), f"no earlier VM is called '{vm.clone_of}'"))
        elif vm.clone_of is not None and seen[vm.clone_of].memory != vm.memory:
            text = f"{format_pages(vm.memory)} differs from its parent's {format_pages(seen[vm.clone_of].memory)}"
            problems.append(Problem(("vms", index, "memory"), text))
        if vm.reservation > host.memory:
            text = f"{format_pages(vm.reservation)} is above the host's memory, {format_pages(host.memory)}"
            problems.append(Problem(("vms", index, "reservation"), text))
        seen.setdefault(vm.name, vm)
    reserved = sum(vm.reservation for vm in vms)
    if reserved > host.memory and not any(vm.reservation > host.memory for vm in vms):
        text = f"reservations sum to {format_pages(reserved)}, above the host's memory, {format_pages(host.memory)}"
        problems.append(Problem(("vms",), text))
    if problems:
        raise report(problems)


def warnings(host: HostConfig, vms: Sequence[VmConfig]) -> list[str]:
    """What is allowed but probably not meant."""
    found = [f"vm '{vm.name}': limit above its memory has no effect" for vm in vms if (vm.limit or 0) > vm.memory]
    if host.balloon and vms and not any(vm.guest for vm in vms):
        found.append(f"decider '{host.balloon}' has no balloon to move: no VM has a guest")
    return found


def canonical_json(config: HostConfig) -> str:
    """The one JSON text of a resolved config: keys sorted, no spaces."""
    return json.dumps(config.resolved(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def config_hash(config: HostConfig) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()


def _order_problems(order: str, options: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the options of a replacement order."""
    found = replacement_options.problems(order, options)
    return [Problem(("replacement_options", key), text, ("replacement",)) for key, text in found]
