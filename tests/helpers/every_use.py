"""A load's full stream: every use of every page, each at its time (memvirt.workloads.load says what is left out of it).

What the load gives once an epoch is among it: in the round of a page in which the epoch's use falls, that is its use. The
uses of all other rounds are drawn beside. So two equal fleets, one with each, differ by what is left out and by nothing else:

    rounds of 200 ms     |  a    |    a  | a     |     a |  a    |
    of an epoch of 1 s                     A                            A is among both, the four others in the full stream
"""

import itertools

import numpy as np

from memvirt.workloads import Stream
from memvirt.workloads.touches import Touches


class EveryUse(Touches):
    """In the place of Touches."""

    def __init__(self, load, space, stream, epoch_ns):
        super().__init__(load, space, stream, epoch_ns)
        beside = Stream(stream.seed, stream.vm, f"{stream.phase}, every use")
        self._beside = Touches(load, space, beside, 1)  # the same parts, in orders of their own
        self._epochs = {}  # of each part: the cycle it is in, and its uses

    def windows(self, times):
        """The uses of all parts, in the order of time."""
        return [self._in_order(*window) for window in itertools.pairwise(times)]

    def _in_order(self, began_ns, until_ns):
        found = [use for number in range(len(self._parts)) for use in self._of_part(number, began_ns, until_ns)]
        times, pages, ops = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(times, kind="stable")
        return pages[order], ops[order]

    def _of_part(self, number, began_ns, until_ns):
        lasts_ns = self._parts[number].every_ns
        for cycle in range(began_ns // lasts_ns, -(-until_ns // lasts_ns)):
            known, uses = self._epochs.get(number, (None, None))
            if known != cycle:
                uses = self._of_cycle(number, cycle)
                self._epochs[number] = cycle, uses
            first, end = np.searchsorted(uses[0], [began_ns, until_ns])
            yield tuple(column[first:end] for column in uses)

    def _of_cycle(self, number, cycle):
        """All uses in one cycle of a part: times, pages, and whether each writes."""
        part, beside = self._parts[number], self._beside._parts[number]
        given = self._uses(part, cycle)
        rounds, rest = divmod(part.every_ns, beside.every_ns)
        assert not rest, "an epoch is a number of rounds"
        if rounds == 1:
            return given
        its_round = np.full(self._space.pages, -1)
        its_round[given[1]] = given[0] // beside.every_ns
        found = [given]
        for number in range(cycle * rounds, (cycle + 1) * rounds):
            uses = self._uses(beside, number)
            others = its_round[uses[1]] != number
            found.append(tuple(column[others] for column in uses))
        times, pages, ops = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(times, kind="stable")
        return times[order], pages[order], ops[order]

    def _uses(self, part, cycle):
        """Those of a part in one of its cycles, at even distances."""
        began_ns = cycle * part.every_ns
        [[(pages, whose)]] = part.windows([began_ns, began_ns + part.every_ns])
        pages = pages[pages < self._space.pages]
        times = began_ns + np.arange(len(pages)) * part.every_ns // len(pages)
        return times, pages, self._writes(pages, [(pages, whose)])
