"""Hits: without bytes (fingerprints, loads: a look-up and a permission test), and with an 8-byte load or store."""

from collections.abc import Iterator

from harness import Reference, Row, compare
from limits.build import load

from rows.common import half_writes, host, reads, touch, touched, zipf

ACCESSES = 4_000_000
WITHOUT_BYTES = (256, 4096, 65536)  # MiB of the guest
WITH_BYTES = (256, 4096)


def rows(repeats: int) -> Iterator[Row]:
    limit = load("hit_limit")
    for mib in WITHOUT_BYTES:
        yield from _without_bytes(limit, mib, repeats)
    for mib in WITH_BYTES:
        yield from _with_bytes(limit, mib, repeats)


def _without_bytes(limit, mib: int, repeats: int) -> Iterator[Row]:
    owner = host(mib, content="fingerprint")
    vm = touched(owner, "guest", mib)
    pages, ops = zipf(vm.pages, ACCESSES, seed=1), reads(ACCESSES)
    translations = limit.Translations(vm.engine_vm)
    references = [
        Reference(name="flat table, prefetched", measure=lambda: translations.flat(pages, ops), target=0.4),
        Reference(name="4-level radix, pipelined", measure=lambda: translations.radix(pages, ops), target=0.8),
    ]
    what = f"hit, no bytes, zipf 1.0, {mib} MiB guest"
    yield from compare(what, lambda: touch(vm, pages, ops), references, unit="ns/access", repeats=repeats)


def _with_bytes(limit, mib: int, repeats: int) -> Iterator[Row]:
    owner = host(mib)
    vm = touched(owner, "guest", mib)
    pages, ops = zipf(vm.pages, ACCESSES, seed=1), half_writes(ACCESSES)
    translations = limit.Translations(vm.engine_vm)
    note = "" if owner.engine.content.huge_pages else "the arena is not on huge pages"
    references = [
        Reference(name="prefetching loop", measure=lambda: translations.words(pages, ops), target=0.75, note=note),
        Reference(name="plain loop", measure=lambda: translations.words(pages, ops, False), target=None, note=note),
    ]
    what = f"hit with 8-byte load or store, zipf 1.0, {mib} MiB guest"
    yield from compare(what, lambda: touch(vm, pages, ops), references, unit="ns/access", repeats=repeats)
