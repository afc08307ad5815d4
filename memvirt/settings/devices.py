"""What swap lies on: a named device or constants of one's own, held by value either way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from memvirt.errors import ConfigError
from memvirt.names import DEVICE_CONSTANTS, DEVICES
from memvirt.settings.diagnose import read_toml
from memvirt.settings.fields import Model, Nanoseconds, Pages
from memvirt.units import format_pages, parse_pages, parse_percent, suggest


class SwapDevice(Model):
    """`channels` servers; each request takes latency + pages * time per page."""

    read_latency_ns: Nanoseconds = Field(description="of every read request")
    write_latency_ns: Nanoseconds = Field(description="of every write request")
    read_page_ns: Nanoseconds = Field(description="to read a page, on one channel")
    write_page_ns: Nanoseconds = Field(description="to write a page, on one channel")
    channels: int = Field(default=1, strict=True, ge=1, le=64, description="requests served at a time")

    def constants(self) -> dict[str, int]:
        """As the engine takes them, by name."""
        return {key: getattr(self, key) for key in DEVICE_CONSTANTS}

    @property
    def name(self) -> str:
        """The name of these constants; "custom" for one's own."""
        own = tuple(self.constants().values())
        return next((name for name, constants in DEVICES.items() if constants == own), "custom")


def _by_value(value: object) -> object:
    """A device's name as its constants; so for that of a file of costs that has a device (memvirt calibrate)."""
    if isinstance(value, (Mapping, BaseModel)):
        return value
    if isinstance(value, str) and value.endswith(".toml"):
        data, _ = read_toml(Path(value))
        if "swap_device" not in data:
            raise ConfigError(f"{value} has no [swap_device]: that is in a file which 'memvirt calibrate' has written")
        return data["swap_device"]
    if not isinstance(value, str) or value not in DEVICES:
        known = list(DEVICES)
        known_words = f"(known: {', '.join(known)}; or file.toml)"
        raise ConfigError(f"unknown value {value!r}{suggest(str(value), known)} {known_words}")
    return dict(zip(DEVICE_CONSTANTS, DEVICES[value], strict=True))


Device = Annotated[SwapDevice, BeforeValidator(_by_value)]
DEVICE_WORDS = f"a named device ({', '.join(DEVICES)}), a file of 'memvirt calibrate', or its constants"


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
    device: Device = Field(default="nvme", validate_default=True, description=f"what it lies on: {DEVICE_WORDS}")


def part_of(size: object, memory: Any) -> object:
    """A size in per cent of the host's memory as text; any other as it is, the field's own check judges it."""
    if not (isinstance(size, str) and size.strip().endswith("%")):
        return size
    try:
        return format_pages(parse_pages(memory) * parse_percent(size, maximum=10_000) // 100)
    except ConfigError:
        return size
