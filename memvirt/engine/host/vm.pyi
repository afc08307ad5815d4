from typing import Any, TypedDict

from memvirt.engine.guests.guest import Guest

OUTCOMES: tuple[str, ...]

class Account(TypedDict):
    charged: int
    limit: int | None
    reservation: int
    shares: int
    domain: int
    active: int

class Vm:
    id: int
    name: str
    nr_pages: int
    nr_vpns: int
    alive: bool
    block_above: int
    frozen: bool
    now_ns: int
    driver_ns: int
    guest: Guest | None
    tag_base: int
    sequence: int
    outcome_name: str
    charged: int
    reservation: int
    busy_ns: int
    waited_ns: int
    def require(self) -> int: ...
    def stall(self) -> dict[str, int]: ...
    def requests(self) -> dict[str, Any] | None: ...
    def account(self) -> Account: ...
    def set_account(
        self,
        *,
        limit: int | None = -1,
        reservation: int | None = None,
        shares: int | None = None,
        domain: int | None = None,
    ) -> None: ...
    def freeze(self) -> None: ...
    def sleep_until(self, ns: int) -> None: ...
