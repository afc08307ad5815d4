"""The same on real bytes and on fingerprints: whatever content does not decide must be equal, number for number."""

import numpy as np

from fuzz.draws import PAGE
from fuzz.world import World


class Pair:
    """Two worlds that are told the same; the one on bytes has the shadow."""

    def __init__(self, settings, faults=False):
        self.worlds = [World(settings, faults, content) for content in ("bytes", "fingerprint")]

    def do(self, name, arguments):
        for world in self.worlds:
            world.do(name, arguments)

    def check(self):
        for world in self.worlds:
            world.check()
        numbers = [self.numbers(world.host) for world in self.worlds]
        for name, value in numbers[0].items():
            assert value == numbers[1][name], f"{name}: {differing(value, numbers[1][name])}"

    def numbers(self, host):
        return {
            "counters": host.counters(),
            "usage": host.usage(),
            "cpu": host.cpu_ns(),
            "stall": host.stall(),
            "sharing": host.sharing(),
            "stores": host.stores(),
            "clocks": {vm.name: (vm.sim_ns, vm.stall_ns, vm.engine_vm.charged, vm.writes_done) for vm in host.vms},
            "latencies": host.histograms(),
        }

    def verify(self):
        """Bytes are right, and two pages have one id exactly when they have the same bytes."""
        for world in self.worlds:
            world.calm()
            world.host.check()
        ids_of, bytes_of = {}, {}
        for one, other in zip(*(world.vms for world in self.worlds), strict=True):
            pages = np.array(sorted({*one.pages, 0, one.vm.address_pages - 1}), np.uint32)
            for page, data, fingerprint in zip(
                pages.tolist(), one.vm.read_pages(pages), other.vm.read_pages(pages), strict=True
            ):
                held, id_ = data.tobytes(), fingerprint[:8].tobytes()
                assert one.matches(page, held), f"{one.vm} page {page}"
                assert bytes_of.setdefault(id_, held) == held, f"{one.vm} page {page}: two contents have one id"
                assert ids_of.setdefault(held, id_) == id_, f"{one.vm} page {page}: one content has two ids"
        self.check()

    def end(self):
        for world in self.worlds:
            world.end()

    @property
    def host(self):
        return self.worlds[0].host

    @property
    def frames(self):
        return self.worlds[0].host.config.memory * PAGE


def differing(one, other):
    if not isinstance(one, dict):
        return one, other
    return {key: (one.get(key), other.get(key)) for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
