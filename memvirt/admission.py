"""Which VMs a host admits: the commit rule, after Linux's overcommit_memory, and reservations.

    always       every VM
    heuristic    no single VM that is larger than memory and swap together
    strict       VMs only as long as all of them together fit into memory and swap

Reservations must fit into memory under every rule: what is left of it beside fixed metadata and the high watermark.
"""

from memvirt.engine.host.engine import Engine
from memvirt.errors import AdmissionError
from memvirt.settings.config import HostConfig


class Admission:
    """The rule of one host."""

    def __init__(self, config: HostConfig, engine: Engine) -> None:
        self._rule, self._memory, self._metadata = config.commit, config.memory, engine.nr_fixed
        self._capacity = config.memory + config.swap_total
        self._reservable = config.memory - engine.nr_fixed - config.watermarks.high

    def require(self, engine: Engine, name: str, pages: int, reservation: int) -> None:
        """AdmissionError where a VM cannot be promised `pages`, `reservation` of them guaranteed, beside those there are."""
        reserved, promised = engine.promised()
        reserved += reservation
        promised += pages
        if reserved > self._reservable:
            raise AdmissionError(
                f"VM '{name}': reservations would sum to {reserved} pages; the host has {self._memory} frames, "
                f"{self._metadata} of them metadata"
            )
        if self._rule == "strict" and promised > self._capacity:
            raise AdmissionError(
                f"VM '{name}': {promised} pages would be promised; memory and swap have {self._capacity} "
                f"(commit='strict')"
            )
        if self._rule == "heuristic" and pages > self._capacity:
            raise AdmissionError(
                f"VM '{name}': {pages} pages are more than memory and swap together, {self._capacity} "
                f"(commit='heuristic')"
            )
