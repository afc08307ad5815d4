from collections.abc import Mapping as Named
from typing import Any

from memvirt.engine.content.content import Content
from memvirt.engine.counters import Meter
from memvirt.engine.device import Device
from memvirt.engine.host.vm import Vm
from memvirt.engine.mapping.mapping import Mapping
from memvirt.engine.memory.frames import Frames
from memvirt.engine.reclaim.fault import Faults
from memvirt.engine.replacement.order import Order
from memvirt.engine.sharing.scanner import Scanner
from memvirt.engine.sharing.shareindex import ShareIndex
from memvirt.engine.stall import Stalls
from memvirt.engine.stores.swapspace import SwapSpace

class Engine:
    blocked_ns: int
    content: Content
    decider_state: int
    device: Device
    frames: Frames
    index: ShareIndex | None
    mapping: Mapping
    meter: Meter
    nr_fixed: int
    maps_zeros: bool
    faults: Faults
    scanner: Scanner | None
    snapshots: list[Vm]
    stalls: Stalls
    vms: dict[str, Vm]
    wake_below: int
    def __init__(
        self,
        content: Content,
        device: Device,
        swap: SwapSpace | None = None,
        *,
        order: str,
        order_options: Named[str, Any],
        min_pages: int,
        low_pages: int,
        high_pages: int,
        zpool: dict[str, Any] | None,
        sharing: str | None,
        sharing_options: dict[str, Any],
        provisioning: int,
        readahead: int,
        readahead_by_address: bool,
        psi_linux: bool,
        zpool_shrinker: bool,
        zeros_only: bool,
        victims_by_shares: bool,
        harvest_interval_ns: int,
        compact_threshold: int | None,
        collapse_interval_ns: int,
        quantum_ns: int,
        costs: dict[str, int],
        giving: dict[str, int],
        seed: int,
    ) -> None: ...
    def look(self) -> int: ...
    def sim_ns(self) -> int: ...
    def scan(self, pages: int | None = None) -> int: ...
    def settle(self, passes: int) -> None: ...
    def set_pace(self, pages: int, sleep_ns: int) -> None: ...
    def reclaim_from(self, vm: Vm, pages: int, for_limit: bool = ...) -> int: ...
    def compact(self, blocks: int | None = None) -> int: ...
    def collapse(self) -> int: ...
    def harvest(self) -> None: ...
    def order_of(self, vm: Vm) -> Order | None: ...
    def request_latencies(self) -> dict[str, Any] | None: ...
    def guest_events(self) -> dict[str, int]: ...
