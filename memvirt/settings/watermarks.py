"""Watermarks: the numbers of free frames at which a host begins and ends to reclaim."""

from __future__ import annotations

from math import isqrt

from memvirt.settings.fields import Count, Model

LEAST_PAGES = 4  # of a host with Linux's watermarks: its high one is never below two frames, nor above half of all


class Watermarks(Model):
    """Free frames, in pages: background reclaim wakes below low and works up to high; below min accesses reclaim."""

    min: Count
    low: Count
    high: Count


def linux_watermarks(frames: int) -> Watermarks:
    """min, low, high in free frames, as Linux sets them (mm/page_alloc.c: min_free_kbytes and watermark_scale_factor
    10), without the raise for transparent huge pages; never more than an eighth of a small host."""
    min_kib = max(128, min(isqrt(frames * 4 * 16), 262_144))
    low_gap = max(min_kib // 4 // 4, frames * 10 // 10_000)
    min_pages = min(min_kib // 4, frames // 16)
    gap = min(low_gap, max(1, frames // 32))
    return Watermarks(min=min_pages, low=min_pages + gap, high=min_pages + 2 * gap)
