"""Whether pages stay for an epoch: VMs are given the first use of a page in it and no other (memvirt.workloads.load).

    used        pages that VMs use in an epoch, each counted once
    room        pages of the host; for one VM, its limit

A page goes when, since its last use, as many others have been used as there is room for. So where `used` is within the room a
page that was used in an epoch is there until its end, and the uses that are left out would have been hits. Beyond that some
would have been faults, and nobody would see them. (Denning, "The working set model for program behavior", CACM 11(5), 1968:
memory that holds the working set of a window holds what is used again within it.)

Refused is what is sure. Requests, files and growth use pages beside, and are not counted; nor are VMs whose lifetime is
drawn, those of a group whose load changes, and, where a host shares, pages that may be merged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from memvirt.experiment.life_spec import Event, Group, Time
from memvirt.units import format_pages, format_time
from memvirt.workloads.load import HUNDRED, Load, level_percent

LOOKS = 16  # times at which it is looked who is there, and how busy


class Fleet(Protocol):
    """What of a scenario says who uses what."""

    @property
    def time(self) -> Time: ...
    @property
    def loads(self) -> Mapping[str, Load]: ...
    @property
    def groups(self) -> Sequence[Group]: ...
    @property
    def events(self) -> Sequence[Event]: ...


def problem(scenario: Fleet, percent: int, room: int, shares: bool) -> str:
    """What is wrong at a ratio on a host with so many pages, or ""."""
    for group in scenario.groups:
        limit = _lowest_limit(scenario, group)
        told = _told(
            f"each VM of group {group.name} uses",
            scenario.time,
            partial(scenario.loads[group.load].used, _filled(group)),
            limit,
            f"its limit is {format_pages(limit)}",
        )
        if told:
            return told
    return _told(
        "its VMs use",
        scenario.time,
        lambda epoch_ns: most_used(scenario, percent, epoch_ns, shares),
        room,
        f"the host has {format_pages(room)}",
    )


def most_used(scenario: Fleet, percent: int, epoch_ns: int, shares: bool) -> int:
    """Pages that all its VMs use in an epoch when they are busiest."""
    lasts_ns = scenario.time.lasts
    return max(
        sum(_used_by(scenario, group, percent, lasts_ns * look // LOOKS, epoch_ns, shares) for group in scenario.groups)
        for look in range(LOOKS)
    )


def _used_by(scenario: Fleet, group: Group, percent: int, now_ns: int, epoch_ns: int, shares: bool) -> int:
    """Those of the VMs of a group that are there at that time for sure."""
    changes = any(event.group == group.name and event.load is not None for event in scenario.events)
    if group.lifetime is not None or changes:
        return 0
    load, pages = scenario.loads[group.load], _filled(group)
    if shares:
        content = group.content
        pages -= pages * (content.image_percent + content.zero_percent + content.within_percent) // HUNDRED
    there = [number for number in range(group.count(percent)) if _is_there(group, number, now_ns)]
    if load.day is None and load.bursts is None:
        return len(there) * load.used(pages, epoch_ns)
    return sum(load.used(pages, epoch_ns * level_percent(load, now_ns, number) // HUNDRED) for number in there)


def _is_there(group: Group, number: int, now_ns: int) -> bool:
    comes_ns = group.comes_ns(number)
    return comes_ns <= now_ns and (group.stay is None or now_ns < comes_ns + group.stay)


def _lowest_limit(scenario: Fleet, group: Group) -> int:
    """Pages that the group's VMs may hold when that is least."""
    changed = (event.limit_percent for event in scenario.events if event.group == group.name)
    limits = [group.limit(percent) for percent in (group.limit_percent, *changed) if percent is not None]
    return min((limit for limit in limits if limit is not None), default=group.memory)


def _filled(group: Group) -> int:
    return group.memory * group.touched_percent // HUNDRED


def _told(who: str, time: Time, used: Callable[[int], int], room: int, has: str) -> str:
    if used(time.epoch) <= room:
        return ""
    shorter_ns = time.epoch // 2
    while shorter_ns >= time.window and used(shorter_ns) > room:
        shorter_ns //= 2
    remedy = "let them use parts less often, or give more memory"
    if shorter_ns >= time.window:
        remedy = f"give an epoch of {format_time(shorter_ns)}, or more memory"
    return (
        f"{who} {format_pages(used(time.epoch))} in an epoch of {format_time(time.epoch)}, and {has}: pages would go and be "
        f"asked for again within it, unseen; {remedy}"
    )
