"""A host beside the plain record of what every page of its VMs must hold."""

from dataclasses import dataclass, field
from typing import Any

import memvirt

PAGE = 4096
MIB = 1 << 20


@dataclass
class World:
    """A host and what each of its VMs must hold."""

    host: memvirt.Host
    contents: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def vm(self, name: str) -> memvirt.Vm:
        return next(vm for vm in self.host.vms if vm.name == name)

    def create(self, name: str, memory: int, **settings: Any) -> memvirt.Vm:
        self.contents.setdefault(name, {})
        return self.host.create_vm(name, memory, **settings)

    def write(self, name: str, page: int, word: int) -> bool:
        data = word.to_bytes(8, "little") * (PAGE // 8)
        if self.vm(name).write(page * PAGE, data) != PAGE:
            return False
        self.contents[name][page] = data
        return True

    def remember(self, name: str, pages: Any) -> None:
        """What the VM reads now in these pages is what it must read from now on."""
        found = self.vm(name).read_pages(pages) if len(pages) else []
        self.contents[name].update({int(page): bytes(data) for page, data in zip(pages, found, strict=True)})

    def check(self) -> None:
        self.host.check()
        zero = bytes(PAGE)
        for vm in self.host.vms:
            expected = self.contents[vm.name]
            pages = sorted(expected)
            found = vm.read_pages(pages) if pages else []
            for page, bytes_found in zip(pages, found, strict=True):
                assert bytes_found.tobytes() == expected.get(page, zero), (vm.name, page)
        self.host.check()
