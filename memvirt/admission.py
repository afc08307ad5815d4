"""Which VMs a host admits: the commit rule, after Linux's overcommit_memory, and reservations.

    always       every VM
    heuristic    no single VM that is larger than memory and swap together
    nominal      VMs only as long as all of them together are no larger than memory and swap, as they are configured
    strict       VMs only as long as all of them can be filled: what that costs beside their pages is counted

Linux compares in the same way (mm/util.c, __vm_enough_memory): heuristic with all of memory and swap, nominal with
vm_commit_limit at an overcommit_ratio of 100. It counts none of its own tables, so what these two have admitted may find
no memory. What strict counts is in memvirt.engine.host.promises. What was promised stays so: under strict no limit and no pin
may be such that others, or the VM itself, could not be filled any more.

A clone and a snapshot are promised as much as their VM. Reservations must fit into memory under every rule: what is left
of it beside metadata of fixed size, tables for what is reserved, and the high watermark.
"""

from collections.abc import Mapping
from typing import Any

from memvirt import border
from memvirt.engine.host import promises
from memvirt.engine.host.engine import Engine
from memvirt.engine.host.vm import Vm
from memvirt.engine.stores.swapspace import SwapSpace
from memvirt.errors import AdmissionError
from memvirt.settings.config import HostConfig
from memvirt.settings.vm_config import VmConfig

# Frames that pages on swap take turns in: as many as reclaim frees at a time (include/linux/swap.h, SWAP_CLUSTER_MAX).
LEAST_TO_TURN_OVER = 32


class Admission:
    """The rule of one host."""

    def __init__(self, config: HostConfig, engine: Engine) -> None:
        self._rule, self._memory, self._high = config.commit, config.memory, config.watermarks.high
        self._capacity = config.memory + config.swap_total
        if self._rule == "strict":
            promises.bound_records(engine)

    def require_new(
        self, engine: Engine, config: VmConfig, guest: dict[str, Any] | None, disk: SwapSpace | None
    ) -> None:
        """AdmissionError where such a VM cannot be promised what it is configured with. guest, disk: as the engine is given
        them."""
        fixed = 0
        if self._rule == "strict":
            vpns = config.memory + config.files
            fixed = promises.fixed_frames(engine, config.memory, guest=guest, nr_vpns=vpns, disk=disk)
        self._require(engine, config.name, config.memory, config.reservation, config.limit, fixed)

    def needs(self, engine: Engine, config: VmConfig) -> int:
        """Frames that such a VM takes or has set aside when it is admitted; those of its guest's disk are left out."""
        vpns = config.memory + config.files
        guest = None if config.guest is None else border.guest_arguments(config.guest, config.memory)
        return config.reservation + promises.fixed_frames(engine, config.memory, guest=guest, nr_vpns=vpns)

    def require_copy(self, engine: Engine, name: str, vm: Vm, runs: bool) -> None:
        """The same for a clone of the VM, or (runs=False) a snapshot, which reserves nothing and has no limit."""
        fixed, limit = 0, None
        if self._rule == "strict":
            fixed, limit = promises.fixed_frames_of_copy(engine, vm, runs), vm.account()["limit"] if runs else None
        self._require(engine, name, vm.nr_pages, vm.reservation if runs else 0, limit, fixed)

    def require_limit(self, engine: Engine, vm: Vm) -> None:
        """The same for a VM whose limit has changed."""
        if self._rule != "strict":
            return
        limit, pinned = vm.account()["limit"], promises.pinned(engine, vm)
        problem = _not_kept(promises.promised(engine))
        if limit is not None and pinned >= limit < vm.nr_pages:
            problem = f"{pinned} of its pages are pinned, and leave none of the limit's frames to the others"
        if problem:
            raise AdmissionError(
                f"VM '{vm.name}': with this limit not all that was promised could be filled; {problem}"
            )

    def pinnable(self, engine: Engine, vm: Vm, pages: int) -> int:
        """How many of so many pages of the VM may be pinned now: under strict as many as leave frames for all others to
        take turns in."""
        if self._rule != "strict":
            return pages
        of_all, pinned, limit = promises.promised(engine), promises.pinned(engine, vm), vm.account()["limit"]
        if limit is not None and limit < vm.nr_pages:
            pages = min(pages, max(0, limit - pinned - 1))
        if of_all["pages"] <= of_all["frames"]:
            return pages
        own = max(0, vm.reservation - pinned)
        return min(pages, max(0, of_all["frames"] - of_all["kept"] - LEAST_TO_TURN_OVER + own))

    def _require(self, engine: Engine, name: str, pages: int, reservation: int, limit: int | None, fixed: int) -> None:
        if self._rule == "heuristic" and pages > self._capacity:
            raise AdmissionError(
                f"VM '{name}': {pages} pages are more than memory and swap together, {self._capacity} "
                f"(commit='heuristic')"
            )
        if not reservation and self._rule not in ("nominal", "strict"):
            return
        of_all = promises.promised(engine, pages, reservation, limit, fixed)
        if reservation and of_all["reserved"] > self._memory - of_all["fixed"] - of_all["margin"] - self._high:
            raise AdmissionError(
                f"VM '{name}': reservations would sum to {of_all['reserved']} pages; the host has {self._memory} frames, "
                f"{of_all['fixed']} of them metadata, and {of_all['margin']} for tables of what is reserved"
            )
        if self._rule == "strict" and (problem := _not_kept(of_all)):
            raise AdmissionError(f"VM '{name}': {of_all['pages']} pages would be promised; {problem} (commit='strict')")
        if self._rule == "nominal" and of_all["pages"] > self._capacity:
            raise AdmissionError(
                f"VM '{name}': {of_all['pages']} pages would be promised; memory and swap have {self._capacity} "
                f"(commit='nominal')"
            )


def _not_kept(of_all: Mapping[str, int]) -> str | None:
    """Why not all that is promised can be filled; None: it can."""
    frames, slots = max(0, of_all["frames"]), of_all["slots"]
    if of_all["pages"] > frames + slots:
        return f"beside what that costs, memory has {frames} frames for them, and swap {slots} slots"
    if of_all["beyond"] and of_all["pages"] > slots:
        return (
            f"limits keep {of_all['beyond']} of them out of memory, whoever else is on swap by then: that takes a slot for "
            f"each page, and swap has {slots}"
        )
    if of_all["pages"] > frames and frames < of_all["kept"] + LEAST_TO_TURN_OVER:
        return (
            f"beside what that costs, and {of_all['kept']} pages that are reserved or pinned, memory has too few of {frames} "
            f"frames for the others to take turns in"
        )
    return None
