"""Aging: VMs that boot, grow, shrink and restart until the host's free memory lies in pieces.

A plan is a matter of the whole fleet, not of one stream: it says, cycle by cycle, what happens to each VM; the fleet
turns that into fills and discards. The VMs act at the same time within a cycle, so that their frames interleave, which
is what makes thin provisioning fragment. The plan never lets the VMs hold more than its budget.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from memvirt.errors import ConfigError
from memvirt.inputs.bits import Bits

Kind = Literal["boot", "grow", "shrink", "stop"]


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to one VM: it boots with, grows by or shrinks by `pages` pages; a stopped VM gives all back."""

    kind: Kind
    vm: int
    pages: int


class AgingPlan:
    """Yields the actions of one cycle after the other. `sizes` are the configured pages of the VMs.

    In the first cycle every VM boots as far as the budget goes. Later each one draws: it stays, grows, shrinks or, one
    in four, restarts: it stops in one cycle and boots in the next.
    """

    def __init__(self, sizes: Sequence[int], budget_pages: int, seed: int) -> None:
        if not sizes or min(sizes) < 16:
            raise ConfigError("aging needs VMs of at least 16 pages each")
        if budget_pages < 16:
            raise ConfigError(f"aging needs a budget of at least 16 pages, not {budget_pages}")
        self._sizes = list(sizes)
        self._held = [0] * len(sizes)
        self._budget = budget_pages
        self._bits = Bits("aging", seed)

    def cycles(self, count: int) -> Iterator[list[Action]]:
        for _ in range(count):
            yield [action for vm in range(len(self._sizes)) if (action := self._act(vm)) is not None]

    def _act(self, vm: int) -> Action | None:
        size, held = self._sizes[vm], self._held[vm]
        spare = min(self._budget - sum(self._held), size - held)
        amount = max(1, size * (10 + self._bits.one_below(31)) // 100)
        if held == 0:
            action = Action("boot", vm, min(spare, 2 * amount))
        else:
            kinds: tuple[Kind | None, ...] = (None, "grow", "shrink", "stop")
            kind = kinds[self._bits.one_below(4)]
            if kind is None:
                return None
            action = Action(kind, vm, {"grow": min(spare, amount), "shrink": min(held - 1, amount)}.get(kind, held))
        if action.pages <= 0:
            return None
        self._held[vm] += action.pages if action.kind in ("boot", "grow") else -action.pages
        return action
