"""Settings of hosts and VMs: validated, complete, hashable.

Sizes are held as pages and times as nanoseconds, and both are written back as text ("64MiB", "50us"), so what a config
dumps reads like what a user types and gives the same config when read again. The SHA-256 of the resolved config, with
all options and costs that its names stand for, names it in records. Nothing here is a float.

Each field error and each conflict between fields is found in one go; memvirt.diagnose words them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PlainSerializer, Tag, model_validator

from memvirt import costs as cost_models
from memvirt import policies
from memvirt.diagnose import Conflicts, Problem, report
from memvirt.errors import ConfigError
from memvirt.units import format_pages, format_time, parse_pages, parse_percent, parse_time, suggest

Pages = Annotated[int, BeforeValidator(parse_pages), PlainSerializer(format_pages, return_type=str)]
PagesOrZero = Annotated[
    int,
    BeforeValidator(lambda value: parse_pages(value, allow_zero=True)),
    PlainSerializer(format_pages, return_type=str),
]
Nanoseconds = Annotated[int, BeforeValidator(parse_time), PlainSerializer(format_time, return_type=str)]
Percent = Annotated[int, BeforeValidator(parse_percent)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _none_from_text(value: object) -> object:
    """TOML has no null: "none" stands for it."""
    return None if value == "none" else value


Replacement = Literal["random", "fifo", "clock", "lru", "twolist", "mglru", "sieve", "s3fifo", "2q", "arc", "lfu"]
Scanner = Annotated[Literal["hash", "ksm", "esx", "zero-only", "inline"] | None, BeforeValidator(_none_from_text)]

LEAST_PAGES = 4  # of a host with Linux's watermarks: its high one is never below two frames, nor above half of all
# Levels a codec takes: default, lowest, highest. For lz4 it is the acceleration.
CODEC_LEVELS = {"lz4": (1, 1, 65537), "lz4hc": (9, 3, 12), "zstd": (1, -1, 3)}

# What a scanner can be told, with its default. KSM's are Linux's, ESX's those of ESX 4 (scanning) and 6 (salting).
SCANNER_OPTIONS: Mapping[str, Mapping[str, int | str | bool]] = {
    "hash": {"pages_to_scan": 4096, "sleep_ns": 20_000_000, "hints": False, "salting": "tenant"},
    "ksm": {
        "pages_to_scan": 100,
        "sleep_ns": 20_000_000,
        "max_page_sharing": 256,
        "use_zero_pages": False,
        "smart_scan": True,
        "advisor": False,
        "advisor_target_ns": 200_000_000_000,
        "advisor_max_cpu": 70,
        "advisor_min_pages": 500,
        "advisor_max_pages": 30_000,
        "salting": "global",
    },
    # Shortest time for a pass over a VM, most pages per simulated second for the host and for one VM.
    "esx": {"scan_time_ns": 3_600_000_000_000, "pages_per_s": 1024, "vm_pages_per_s": 1024, "salting": "vm"},
    "zero-only": {"pages_to_scan": 4096, "sleep_ns": 20_000_000},
    "inline": {"salting": "tenant"},
}
_SALTING = ("global", "tenant", "vm")  # who may share with whom: everyone, VMs of one domain, each VM with itself


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SwapDevice(Model):
    """A device of one's own: `channels` servers, each request takes latency + pages * time per page."""

    read_latency_ns: Nanoseconds
    write_latency_ns: Nanoseconds
    read_page_ns: Nanoseconds
    write_page_ns: Nanoseconds
    channels: int = Field(default=1, strict=True, ge=1, le=64)


def _form(value: object) -> str:
    """Which member of a union a value is meant for: a table or one word."""
    return "table" if isinstance(value, (Mapping, BaseModel)) else "word"


class Watermarks(Model):
    """Free frames, in pages: background reclaim wakes below low and works up to high; below min accesses reclaim."""

    min: Count
    low: Count
    high: Count


class HostConfig(Model):
    """The keyword arguments of memvirt.Host, but in pages and nanoseconds."""

    memory: Pages = Field(default=16384, description="memory of the host")
    swap: PagesOrZero = Field(default=0, description="swap area; 0 = none; 200% = twice the host's memory")
    swap_device: Annotated[
        Annotated[Literal["nvme", "sata-ssd", "hdd"], Tag("word")] | Annotated[SwapDevice, Tag("table")],
        Discriminator(_form),
    ] = Field(default="nvme", description="what swap lies on: a named device, or its constants")
    zpool_percent: Percent = Field(default=0, description="most of memory the compressed cache may take; 0 = off")
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
    costs: str = Field(default="default", description="cost model by name")
    seed: Count = Field(default=0, description="seed of every pseudo-random choice")

    @model_validator(mode="before")
    @classmethod
    def _swap_from_percent(cls, data: Any) -> Any:
        """swap = "200%": twice the host's memory."""
        swap = data.get("swap") if isinstance(data, Mapping) else None
        if not (isinstance(swap, str) and swap.strip().endswith("%")):
            return data
        try:
            memory = parse_pages(data.get("memory", format_pages(cls.model_fields["memory"].default)))
            return {**data, "swap": format_pages(memory * parse_percent(swap, maximum=10_000) // 100)}
        except ConfigError:
            return data  # the field's own check says what is wrong

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = [*self._codec_problems(), *self._sharing_problems(), *self._decider_problems()]
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
        if self.harvest_interval == 0:
            problems.append(Problem(("harvest_interval",), "is zero; did you mean 100ms?"))
        try:
            cost_models.load(self.costs)
        except ConfigError as error:
            problems.append(Problem(("costs",), str(error)))
        if problems:
            raise Conflicts(problems)
        return self

    @property
    def codec_level_used(self) -> int:
        return CODEC_LEVELS[self.codec][0] if self.codec_level is None else self.codec_level

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
            "sharing_options": self.scanner_options(),
            "decider_options": options,
            "costs": {"name": self.costs, **cost_models.load(self.costs).model_dump()},
        }

    def _codec_problems(self) -> list[Problem]:
        _, lowest, highest = CODEC_LEVELS[self.codec]
        if lowest <= self.codec_level_used <= highest:
            return []
        text = f"{self.codec_level} is outside {lowest}..{highest} of codec '{self.codec}'"
        return [Problem(("codec_level",), text, ("codec",))]

    def _sharing_problems(self) -> list[Problem]:
        if self.sharing is None:
            text = "given, but sharing is off; set sharing, for instance to 'hash'"
            return [Problem(("sharing_options",), text, ("sharing",))] if self.sharing_options else []
        known = SCANNER_OPTIONS[self.sharing]
        problems = []
        for key, value in self.sharing_options.items():
            wrong = _option_problem(key, value, known, f"scanner '{self.sharing}'")
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

    cache_percent: Percent = 25  # of the guest's virtual pages, the part that is page cache
    swap: PagesOrZero = 0  # the guest's own swap
    kernel: PagesOrZero = 0  # what its kernel keeps for itself
    low_pages: Count = 0
    high_pages: Count = 0
    balloon_floor: PagesOrZero = 0  # the balloon leaves the guest this much
    oom_deflate_pages: Count = 256
    report_order: Annotated[int, Field(strict=True, ge=0, le=10)] | None = None  # free page reporting; None = off
    replacement: Replacement = "clock"
    swappiness: int = Field(default=60, strict=True, ge=0, le=200)  # anonymous pages against page cache, as Linux's


Guest = Annotated[
    Annotated[bool, Field(strict=True), Tag("word")] | Annotated[GuestOptions, Tag("table")], Discriminator(_form)
]


class VmConfig(Model):
    """The keyword arguments of Host.create_vm, but in pages."""

    name: Name
    memory: Pages
    shares: int = Field(default=1000, strict=True, ge=0, le=1_000_000)
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


def _option_problem(key: str, value: object, known: Mapping[str, object], owner: str) -> str | None:
    """What is wrong with one option of a table of defaults, if anything."""
    if key not in known:
        return f"{owner} has no option '{key}'{suggest(key, list(known))} (known: {', '.join(known) or 'none'})"
    default = known[key]
    if type(value) is not type(default):
        return f"{value!r} is not of the kind of its default, {default!r}"
    if isinstance(value, int) and not isinstance(value, bool) and value < 1:
        return f"{value} must be at least 1; the default is {default}"
    if key == "max_page_sharing" and value == 1:
        return f"{value} must be at least 2; the default is {default}"
    if key == "salting" and value not in _SALTING:
        return f"unknown value {value!r} (known: {', '.join(_SALTING)})"
    return None
