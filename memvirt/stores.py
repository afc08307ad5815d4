"""Where a host's pages go: its swap areas, its disks and its compressed cache, made from settings, and what they report."""

from typing import Any, Literal

from memvirt.engine.device import Device
from memvirt.engine.host.engine import Engine
from memvirt.engine.stores.swap import Swap
from memvirt.engine.stores.swapset import SwapSet
from memvirt.settings.config import HostConfig
from memvirt.settings.devices import SwapDevice
from memvirt.settings.vm_config import VmConfig

# Counter -> what the pool calls it. The other reasons to decline a page are the engine's own events.
POOL_EVENTS = {
    "pool_limit_hits": "pool_limit_hits",
    "reject_pool_limit": "reject_pool_limit",
    "reject_pool_hysteresis": "reject_hysteresis",
    "reject_pool_handle": "reject_no_handle",
    "pool_stored_raw": "stored_raw",
    "pool_rotations": "rotations",
    "pool_compact_moved": "compact_moved_objects",
    "pool_compact_freed": "compact_freed_frames",
}


def swap(config: HostConfig, path: str | None, direct: bool) -> Swap | SwapSet | None:
    """What the host swaps to: nothing, an area, or several. The area `swap` has priority 0 and the host's own device."""
    slot_bytes: Literal[8, 4096] = 4096 if config.has_bytes else 8
    areas: list[Swap] = []
    if config.swap:
        areas.append(Swap(config.swap, path, slot_bytes, direct, discard=config.swap_discard))
    for area in config.swap_areas:
        own = device(area.device)
        areas.append(Swap(area.size, None, slot_bytes, direct, discard=config.swap_discard, device=own))
    if len(areas) < 2:
        return areas[0] if areas else None
    return SwapSet(areas, [0] * bool(config.swap) + [area.priority for area in config.swap_areas])


def zpool(config: HostConfig) -> dict[str, Any] | None:
    """The arguments of the compressed cache."""
    if not config.zpool_percent:
        return None
    return {
        "limit_frames": config.memory * config.zpool_percent // 100,
        "accept_percent": config.zpool_accept_percent,
        "reject_above": config.zpool_reject_above,
        "keep_raw": config.zpool_incompressible == "keep" and config.swap_total > 0,
        "chain": config.zpool_chain,
        "chain_rule": config.zpool_chain_rule,
    }


def guest_disk(vm: VmConfig, slot_bytes: Literal[8, 4096]) -> Swap | None:
    """The disk of a VM's guest: its swap, then a block for each page of its page cache; None without one, or a guest."""
    if vm.guest is None:
        return None
    blocks = vm.guest.swap + vm.memory * vm.guest.cache_percent // 100 + vm.files
    return Swap(blocks, slot_bytes=slot_bytes) if blocks else None


def device(setting: SwapDevice) -> Device:
    """The queue in front of a disk."""
    return Device(setting.name, **setting.constants())


def events(engine: Engine) -> dict[str, int]:
    """What the compressed cache counts, requests to all disks of swap and guests (as iostat has them), discards;
    reads that the zero frame served, where there is one; and lazily freed pages, once there was one."""
    pool = engine.mapping.zpool
    counted = {} if pool is None else pool.stats()
    found = areas(engine)
    disks = {id(disk): disk for disk in (engine.device, *(area.device for area in found))}.values()
    return {
        **{name: int(counted.get(own, 0)) for name, own in POOL_EVENTS.items()},
        "device_read_requests": sum(disk.nr_reads for disk in disks),
        "device_write_requests": sum(disk.nr_writes for disk in disks),
        "device_pages_read": sum(disk.pages_read for disk in disks),
        "device_pages_written": sum(disk.pages_written for disk in disks),
        "device_queued_ns": sum(disk.queued_ns for disk in disks),
        "swap_clusters_discarded": sum(area.discards for area in found),
        **({"fault_zero_read": engine.faults.nr_zero_reads} if engine.maps_zeros else {}),
        **engine.mapping.recency.lazies.events(),
    }


def swap_areas(engine: Engine) -> list[dict[str, Any]]:
    """Every swap area, that of highest priority first."""
    space = engine.mapping.swap
    priorities = space.priorities if isinstance(space, SwapSet) else (0,)
    return [
        {
            "priority": priority,
            "device": area.device.name,
            "slots": area.nr_slots,
            "used_slots": area.nr_used,
            "direct_io": bool(area.direct_io),
            "read_calls": area.read_calls,
            "write_calls": area.write_calls,
            "read_failures": area.read_failures,
            "write_failures": area.write_failures,
            "discards": area.discards,
        }
        for area, priority in zip(areas(engine), priorities, strict=False)
    ]


def areas(engine: Engine) -> tuple[Swap, ...]:
    space = engine.mapping.swap
    if space is None:
        return ()
    return space.areas if isinstance(space, SwapSet) else (space,)
