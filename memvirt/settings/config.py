"""Settings of a host: validated once, complete, and handed through as one frozen value.

What is left open when it is made is filled in: options of scanner, order and decider, the codec's level, watermarks.
Names of a device and of a cost model are replaced by what they stand for. So a HostConfig holds by value all that a host
is made of, and what it dumps (`resolved`) is what a record keeps: two configs that dump alike make equal hosts, and a
changed default changes the dump.

Each field error and each conflict between fields is found in one go; memvirt.settings.diagnose words them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from memvirt import policies
from memvirt.errors import ConfigError
from memvirt.names import CODECS, SCANNERS
from memvirt.settings import costs as cost_models
from memvirt.settings import orders as order_table
from memvirt.settings.costs import CostModel
from memvirt.settings.devices import DEVICE_WORDS, Device, SwapArea, part_of
from memvirt.settings.diagnose import Conflicts, Problem
from memvirt.settings.fields import (
    LEFT_OPEN,
    OPEN,
    Count,
    Interval,
    Model,
    Pages,
    PagesOrZero,
    Percent,
    Replacement,
    none_from_text,
    one_of,
)
from memvirt.settings.scanner_options import defaults, problem_of
from memvirt.settings.watermarks import LEAST_PAGES, Watermarks, linux_watermarks
from memvirt.units import PAGE_SIZE, format_pages, format_time

Scanner = Annotated[str | None, BeforeValidator(none_from_text), *one_of(SCANNERS)]
Codec = Annotated[str, *one_of(CODECS)]

MOST_PAGES = 1 << 28  # of memory, and of swap: an entry has 28 bits for a frame, or for a record of what is out
COMPRESS_LIMIT = 2990  # bytes: 73 % of a page, as Google's far memory (ASPLOS 2019)


class HostConfig(Model):
    """The keyword arguments of memvirt.Host, but in pages and nanoseconds."""

    memory: Pages = Field(default=16384, description="memory of the host")
    swap: PagesOrZero = Field(default=0, description="swap area; 0 = none; 200% = twice the host's memory")
    swap_device: Device = Field(
        default="nvme", validate_default=True, description=f"what swap and guests' disks lie on: {DEVICE_WORDS}"
    )
    swap_areas: list[SwapArea] = Field(
        default=[], max_length=31, description="more areas, each a table of size, priority and device"
    )
    same_filled: Literal["word", "zero"] = Field(
        default="word",
        description="pages that go as a value: of any word over and over (zram; zswap before Linux 6.12), or zeros alone",
    )
    swap_discard: bool = Field(
        default=False, strict=True, description="give clusters of slots back to the file system when they are free"
    )
    zpool_percent: Percent = Field(default=0, description="most of memory the compressed cache may take; 0 = off")
    zpool_accept_percent: Percent = Field(
        default=90, description="a cache that was full accepts pages again when it has shrunk to this part of its limit"
    )
    zpool_reject_above: int = Field(
        default=COMPRESS_LIMIT,
        strict=True,
        ge=32,
        le=PAGE_SIZE,
        description="longest compressed page that is kept, in bytes",
    )
    zpool_incompressible: Literal["reject", "keep"] = Field(
        default="reject",
        description="what does not compress: goes to swap, or is kept as it is where there is swap (Linux since 6.18)",
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
    readahead_kind: Literal["cluster", "vma"] = Field(
        default="cluster",
        description="neighbours that are read: those in the area (Linux where swap rotates), or in memory (where not)",
    )
    psi: Literal["all-waits", "linux"] = Field(
        default="all-waits",
        description="waits that are pressure: all for memory, or reclaim and what comes back of pages that were active",
    )
    codec: Codec = Field(default="lz4", description="codec of the compressed cache")
    codec_level: Annotated[int, LEFT_OPEN] = Field(
        default=OPEN, strict=True, description="level of the codec, for lz4 its acceleration; none = its default"
    )
    replacement: Replacement = Field(default="clock", description="order in which pages go")
    replacement_options: dict[str, int | str] = Field(default={}, description="options of that order")
    victims: Literal["order", "shares"] = Field(
        default="order",
        description="whose pages go where frames are short: as the order names them, or of the VM with fewest shares a page",
    )
    sharing: Scanner = Field(default=None, description="page-sharing scanner; none = off")
    sharing_options: dict[str, int | str | bool] = Field(default={}, description="options of the scanner")
    on_exhausted: Literal["stop", "wait", "kill"] = Field(default="stop", description="when no frame can be found")
    provisioning: Literal["thin", "thick", "thin-huge", "on-write"] = Field(
        default="thin", description="when frames are given"
    )
    compact_threshold: Annotated[
        Annotated[int, Field(strict=True, ge=0, le=1000)] | None, BeforeValidator(none_from_text)
    ] = Field(
        default=None,
        description="unusable index at order 9, per mille, from which missed huge blocks start compaction; none = never",
    )
    collapse_interval: Annotated[Interval | None, BeforeValidator(none_from_text)] = Field(
        default=None, description="simulated time between two looks of the collapser at 8 leaf tables; none = off"
    )
    content: Literal["bytes", "fingerprint"] = Field(default="bytes", description="real pages, or 64-bit ids")
    commit: Literal["heuristic", "always", "nominal", "strict"] = Field(
        default="always",
        description="admission: nominal refuses beyond memory and swap, strict what cannot be filled, always never",
    )
    balloon: Annotated[str | None, BeforeValidator(none_from_text)] = Field(
        default=None, description="decider by name, or file.py:ClassName; none = balloons move by hand only"
    )
    decider_options: dict[str, int | str | bool] = Field(default={}, description="options of the decider")
    admission_wait: Annotated[Interval | None, BeforeValidator(none_from_text)] = Field(
        default=None,
        description="how long a VM of a fleet that lives waits for the decider to free what it needs; none = not at all",
    )
    watermarks: Annotated[Watermarks, LEFT_OPEN] = Field(
        default=OPEN, description="min, low, high in free frames; none = Linux's formula"
    )
    harvest_interval: Interval = Field(
        default=100_000_000, description="simulated time between two collections of accessed marks"
    )
    quantum: Interval = Field(
        default=50_000, description="simulated time for which a VM runs before those that are behind it have their turn"
    )
    costs: Annotated[CostModel, BeforeValidator(cost_models.by_value)] = Field(
        default="default", validate_default=True, description="cost model by name, or file.toml"
    )
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
            found["swap"] = part_of(data["swap"], memory)
        if isinstance(data.get("swap_areas"), list):
            found["swap_areas"] = [
                {**area, "size": part_of(area["size"], memory)}
                if isinstance(area, Mapping) and "size" in area
                else area
                for area in data["swap_areas"]
            ]
        return found

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = [*self._codec_problems(), *self._sharing_problems(), *self._decider_problems()]
        problems += order_problems(self.replacement, self.replacement_options)
        problems += self._watermark_problems()
        if self.psi == "linux" and self.replacement != "twolist":
            text = "'linux' needs replacement 'twolist', which alone knows what pages were active"
            problems.append(Problem(("psi",), text, ("replacement",)))
        most = f"the most is {MOST_PAGES} ({format_pages(MOST_PAGES)})"
        if self.memory > MOST_PAGES:
            problems.append(Problem(("memory",), f"{self.memory} frames; {most}"))
        if self.swap_total > MOST_PAGES:
            text = f"{self.swap_total} slots with all areas; {most}"
            problems.append(Problem(("swap",), text, ("swap_areas", "memory")))
        for name, usual in (("harvest_interval", "100ms"), ("quantum", "50us")):
            if not getattr(self, name):
                problems.append(Problem((name,), f"is zero; did you mean {usual}?"))
        if self.quantum > 10**12:
            problems.append(Problem(("quantum",), f"{format_time(self.quantum)}; the most is 1000s"))
        if problems:
            raise Conflicts(problems)
        self._fill_in()
        return self

    def _fill_in(self) -> None:
        """Give a value to what was left open. The one place where a config changes, before anyone has seen it."""
        options = policies.options_of(self.balloon, self.decider_options) if self.balloon else {}
        found: dict[str, Any] = {
            "codec_level": CODECS[self.codec].default if self.codec_level is None else self.codec_level,
            "watermarks": self.watermarks or linux_watermarks(self.memory),
            "replacement_options": order_table.resolved(self.replacement, self.replacement_options),
            "sharing_options": {**defaults(self.sharing), **self.sharing_options} if self.sharing else {},
            "decider_options": options,
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @property
    def has_bytes(self) -> bool:
        """Whether its pages are bytes, and not only names of contents."""
        return self.content == "bytes"

    @property
    def swap_total(self) -> int:
        """Slots of all swap areas together."""
        return self.swap + sum(area.size for area in self.swap_areas)

    def decider(self) -> policies.Decider | None:
        """An instance of the decider in use."""
        return policies.build(self.balloon, self.decider_options) if self.balloon else None

    def resolved(self) -> dict[str, Any]:
        """Every setting by value, as JSON: what a record keeps. Made a HostConfig again, it gives an equal one."""
        return self.model_dump(mode="json")

    def _watermark_problems(self) -> list[Problem]:
        marks = self.watermarks
        if marks is None:
            least = format_pages(LEAST_PAGES)
            text = f"{format_pages(self.memory)} leaves no room for watermarks; the least is {least}"
            return [Problem(("memory",), text)] if self.memory < LEAST_PAGES else []
        problems = []
        if not marks.min <= marks.low <= marks.high:
            text = f"min {marks.min} <= low {marks.low} <= high {marks.high} must hold"
            problems.append(Problem(("watermarks",), text))
        if marks.high > self.memory // 2:
            text = f"high {marks.high} is more than half of the host's {self.memory} frames"
            problems.append(Problem(("watermarks", "high"), text, ("memory",)))
        return problems

    def _codec_problems(self) -> list[Problem]:
        codec = CODECS[self.codec]
        level = codec.default if self.codec_level is None else self.codec_level
        if not codec.lowest <= level <= codec.highest:
            text = f"{level} is outside {codec.lowest}..{codec.highest} of codec '{self.codec}'"
        elif codec.few and level not in codec.few:
            text = f"{level} is none of the levels of codec '{self.codec}': {', '.join(map(str, codec.few))}"
        else:
            return []
        return [Problem(("codec_level",), text, ("codec",))]

    def _sharing_problems(self) -> list[Problem]:
        if self.sharing is None:
            text = "given, but sharing is off; set sharing, for instance to 'hash'"
            return [Problem(("sharing_options",), text, ("sharing",))] if self.sharing_options else []
        found = [(key, problem_of(self.sharing, key, value)) for key, value in self.sharing_options.items()]
        return [Problem(("sharing_options", key), wrong, ("sharing",)) for key, wrong in found if wrong]

    def _decider_problems(self) -> list[Problem]:
        if self.admission_wait is not None and self.balloon is None:
            text = "there is no decider that could free anything meanwhile; set balloon, for instance to 'proportional'"
            return [Problem(("admission_wait",), text, ("balloon",))]
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


def order_problems(order: str, options: Mapping[str, object]) -> list[Problem]:
    """What is wrong with the options of a replacement order."""
    found = order_table.problems(order, options)
    return [Problem(("replacement_options", key), text, ("replacement",)) for key, text in found]
