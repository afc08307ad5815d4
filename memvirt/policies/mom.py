"""oVirt's Memory Overcommitment Manager: shrink every guest while the host is pressed, let them grow slowly otherwise.

The rule (doc/balloon.rules, read 2026): the host is pressed below 20 % free memory. Then a guest should keep
20 % * host_free / 20 % of its size free, and at or below 5 % host_free it should have host_free - 5 % free, which is
negative and makes the guest swap. It shrinks by at most 5 % of its size a round. Without pressure a ballooned guest
grows by 5 %, or at once to 20 % free. A change of at most 0.25 % is not worth it. Inputs are averages of 10 samples.

The rule is published in three forms. The first (aglitke/mom) reckons with a guest's maximum in place of its size:
`of_maximum`. What its balloon holds counts as used there, so a guest that needs little gives half of what it does not need,
and one that was shrunk further grows while the host is pressed. An older one of oVirt's takes the smaller of the guest's
minimum and its demand, which shrinks busy guests whatever they use, and reads a name that its growth does not define; it is
left out. The last one takes the larger, and is what memvirt does otherwise: the demand is the floor, and the reservation,
which every decider keeps, is the minimum. Samples here are one per decision, every 10 s, not 5 s.

The rule oscillates around its threshold by design: what it takes at 19.9 % it gives back at 20 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memvirt.policies.ages import Numbers
from memvirt.policies.base import Memo, Percent, Positive, PositivePercent, Ppm, Snapshot, Targets
from memvirt.policies.columns import columns_of
from memvirt.policies.ksmtuned import KsmTuned

_PPM = 1_000_000
_SAMPLE = 16  # bytes: of a VM what its use is counted from, and what is free in it
# Of ksm.rules: no constant part, no shortest pause, and the kernel's own pages_to_scan to begin with (mm/ksm.c: 100).
_KSM = KsmTuned(threshold_pages=0, least_sleep_ns=1, first_pages=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mom:
    """Uniform pressure on all guests from the host's free memory."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 10_000_000_000
    pressure_percent: PositivePercent = 20
    critical_percent: Percent = 5
    guest_free_percent: Percent = 20
    max_step_percent: Percent = 5
    min_step_ppm: Ppm = 2500  # 0.25 %
    samples: Positive = 10
    of_maximum: bool = False  # the first form: shares of a guest's maximum, not of its size
    tune_ksm: bool = True  # MOM's ksm.rules beside its balloon.rules

    def decide(self, snapshot: Snapshot) -> Targets:
        vms, past = columns_of(snapshot), snapshot.memo
        of_host = (*past.get("host", ()), snapshot.free_pages)[-self.samples :]
        goal = self._goal(sum(of_host) // len(of_host) * _PPM // snapshot.total_pages)
        size = vms.size_pages
        whole = vms.configured_pages if self.of_maximum else size  # shares are of it, and use is counted from it
        samples, guests = np.stack((whole, vms.guest_free_pages), axis=1), np.flatnonzero(vms.balloonable)
        memo = self._remembered(past, [vms.names[at] for at in guests.tolist()], samples[guests].tobytes())
        used = np.zeros_like(size)
        used[guests] = _means(list(memo.values())) @ np.array((1, -1))
        if goal is None:
            grown = np.maximum(
                used + whole * self.guest_free_percent // 100, size * (100 + self.max_step_percent) // 100
            )
            aim = np.minimum(vms.configured_pages, grown)
        else:
            shrunk = np.maximum(used + whole * goal // _PPM, size * (100 - self.max_step_percent) // 100)
            aim = np.where(shrunk <= whole, shrunk, size)
        moves = abs(aim - size) * _PPM > self.min_step_ppm * size
        ksm = _KSM.decide(snapshot) if self.tune_ksm else Targets()
        return Targets(
            balloon_pages=vms.changed_balloons(np.where(moves, vms.configured_pages - aim, vms.balloon_pages)),
            scan_pages=ksm.scan_pages,
            scan_sleep_ns=ksm.scan_sleep_ns,
            memo={"host": of_host, **memo, **ksm.memo},
        )

    def _goal(self, host_free: int) -> int | None:
        """What every guest should have free, ppm of it, where so much of the host is; None: there is no pressure."""
        if host_free >= self.pressure_percent * 10_000:
            return None
        if host_free <= self.critical_percent * 10_000:
            return host_free - self.critical_percent * 10_000
        return self.guest_free_percent * host_free // self.pressure_percent

    def _remembered(self, past: Memo, names: Sequence[str], new: bytes) -> dict[str, bytes]:
        """Of each VM its last samples, the oldest first."""
        most, keys = self.samples * _SAMPLE, [f"vm:{name}" for name in names]
        samples = (new[at : at + _SAMPLE] for at in range(0, len(new), _SAMPLE))
        return {key: (past.get(key, b"") + sample)[-most:] for key, sample in zip(keys, samples, strict=True)}


def _means(samples: Sequence[bytes]) -> Numbers:
    """Of each VM the means of what its samples say, rounded down."""
    sizes = np.array([len(each) for each in samples], np.int64)
    most = int(sizes.max(initial=_SAMPLE))
    packed = b"".join([each.ljust(most, b"\0") for each in samples])
    sums = np.frombuffer(packed, np.int64).reshape(len(samples), most // _SAMPLE, 2).sum(axis=1)
    means: Numbers = sums // (sizes // _SAMPLE)[:, np.newaxis]
    return means
