"""Where memvirt's own defaults are from: what `explain` says of a value that no preset sets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from memvirt.names import DEVICE_SOURCES
from memvirt.settings import costs
from memvirt.settings.config import HostConfig
from memvirt.settings.fields import Model

Tag = Literal["verified", "verified-2", "unverified", "chosen"]


class SourceNote(Model):
    """Where a constant is from: read at its origin, only second-hand, nowhere found, or chosen by memvirt."""

    text: str = Field(description="where the value was read")
    tag: Tag = Field(description="verified, verified-2, unverified or chosen: memvirt describe tags")


def default_source(key: str, config: HostConfig) -> SourceNote | None:
    """The source of a default, by the setting's dotted name; None for what needs none, such as a switch that is off."""
    first, _, rest = key.partition(".")
    if first == "costs" and rest != "giving":  # which is not split by default
        return SourceNote(text=costs.source("default", rest), tag="chosen")
    if first == "swap_device":
        return SourceNote(text=DEVICE_SOURCES[config.swap_device.name], tag="chosen")
    return _SOURCES.get(first)


_SOURCES = {
    "watermarks": SourceNote(text="Linux's formula for this memory (mm/page_alloc.c)", tag="verified-2"),
    "zpool_accept_percent": SourceNote(text="zswap's accept_threshold_percent (mm/zswap.c)", tag="verified-2"),
    "zpool_reject_above": SourceNote(
        text="73 % of a page: far memory, Lagar-Cavilla et al., ASPLOS 2019", tag="verified-2"
    ),
    "zpool_incompressible": SourceNote(
        text="zswap_compress before Linux 6.18, whose commit dca4437a5861 keeps them (mm/zswap.c)", tag="verified-2"
    ),
    "zpool_chain": SourceNote(text="CONFIG_ZSMALLOC_CHAIN_SIZE (mm/Kconfig)", tag="verified-2"),
    "readahead": SourceNote(text="page_cluster on machines above 16 MiB (mm/swap.c)", tag="verified-2"),
}
