"""Where a search for the largest fleet begins: the answer of a model that is worked out by hand.

A size far from the answer is a cell for nothing, and one far above it is a dear cell, for it thrashes. What is known
beforehand: how often each part of every VM's memory is used, what a page costs that has to be read, and how long VMs may
wait.

    full        so many VMs that what all VMs fill is about the host's memory. With fewer nobody can have to wait
    hot, cold   a page that is used at least once between two collections of accessed marks is hot: reclaim sees it, and it
                stays. All other pages are alike to it: the model lets the same share of them be out in every VM
    share       such that no group waits for longer than its objectives leave it: a part has n / every uses a second, and a
                use of a page that is out takes the time of a fault
    image       where equal pages are merged, those of an image count once. Other pages that are equal at first are written
    guess       so many VMs that the rest fits into memory, and all they fill into memory and swap; never fewer than `full`

The model knows nothing of compressed caches, queues, days or bursts. It is a first guess, and the search goes where the
cells say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from memvirt.experiment.life_spec import Group
from memvirt.experiment.living import Living
from memvirt.experiment.objectives import Objective
from memvirt.settings.config import HostConfig
from memvirt.workloads.load import HUNDRED, SECOND_NS, Load, Part


def first_guess(spec: Living, host: HostConfig, group: str, objectives: Sequence[Objective]) -> int:
    """VMs of that group to begin with, beside those of the others at ratio 1.0."""
    filled = {each.name: Fraction(max(1, _touched(each))) for each in spec.groups}
    full = _most(host.memory, filled, spec, group)
    if not host.swap_total:
        return full
    share = share_out(spec, host, objectives)
    kept = {
        each.name: filled[each.name] - share * _cold_pages(each, spec.loads[each.load], host) for each in spec.groups
    }
    memory, slots = host.memory, host.memory + host.swap_total
    if host.sharing:
        memory -= _images(spec)
        kept = {each.name: kept[each.name] * _own(each) for each in spec.groups}
        filled = {each.name: filled[each.name] * _own(each) for each in spec.groups}
    return max(full, min(_most(slots, filled, spec, group), _most(memory, kept, spec, group)))


def share_out(spec: Living, host: HostConfig, objectives: Sequence[Objective]) -> Fraction:
    """The share of cold pages that may be out, 0 to 1."""
    fault_ns = host.costs.fault + host.swap_device.read_latency_ns + host.swap_device.read_page_ns
    shares = [Fraction(1)]
    for group in spec.groups:
        load = spec.loads[group.load]
        limits = [each.at_most for each in objectives if each.level in ("", group.level)]
        waits_ns = sum(
            (_pages(group, part) * Fraction(SECOND_NS, part.every) for part in _cold(load, host)), Fraction()
        )
        if limits and waits_ns:
            shares.append((Fraction(min(limits)) - 1) * load.work_ns / (waits_ns * fault_ns))
    return min(shares)


def _cold(load: Load, host: HostConfig) -> list[Part]:
    return [part for part in load.parts if part.every > host.harvest_interval]


def _cold_pages(group: Group, load: Load, host: HostConfig) -> Fraction:
    """Pages of a VM that are not hot: those of cold parts, and those that are not used at all."""
    hot = sum((_pages(group, part) for part in load.parts if part.every <= host.harvest_interval), Fraction())
    return _touched(group) - hot


def _pages(group: Group, part: Part) -> Fraction:
    return Fraction(_touched(group) * part.percent, HUNDRED)


def _own(group: Group) -> Fraction:
    """The share of what a VM fills that is not of its image."""
    return Fraction(HUNDRED - group.content.image_percent, HUNDRED)


def _images(spec: Living) -> int:
    """Pages of all images, each once: as large as the largest VM's part of it."""
    images: dict[tuple[str, ...], int] = {}
    for group in spec.groups:
        pages = _touched(group) * group.content.image_percent // HUNDRED
        images[group.content.image] = max(pages, images.get(group.content.image, 0))
    return sum(images.values())


def _touched(group: Group) -> int:
    return group.memory * group.touched_percent // HUNDRED


def _most(pages: int, each: Mapping[str, Fraction], spec: Living, group: str) -> int:
    """VMs of the group that fit into so many pages, beside those of the others, where a VM takes `each`."""
    others = sum((each[other.name] * other.count(HUNDRED) for other in spec.groups if other.name != group), Fraction())
    return int((pages - others) // max(each[group], Fraction(1)))
