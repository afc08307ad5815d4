"""What a decider sees and what it answers: sense -> decide -> act, with only the middle step in Python.

A decider is any class with one pure method, `decide(snapshot) -> Targets`. The host senses (builds the snapshot
between two quanta) and acts (moves balloons towards their targets, best effort). Pure means: equal snapshots give
equal targets. A rule that needs the past (an average, a grace period) returns it in `Targets.memo` and finds it in the
next `Snapshot.memo`; so a decision can be replayed from its snapshot alone.

All quantities are integers: pages of 4 KiB, nanoseconds of simulated time.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

OLDEST = 127  # harvests of accessed marks that a page's age is counted to

Memo = Mapping[str, Any]  # tuples of integers, or bytes, as its rule has it; nothing else


class Bounds(NamedTuple):
    """Which numbers an option takes, as part of its type."""

    low: int
    high: int | None = None

    def problem(self, value: int) -> str | None:
        """What is wrong with a value, if anything."""
        if value < self.low:
            return f"{value} must be at least {self.low}"
        if self.high is not None and value > self.high:
            return f"{value} is above {self.high}"
        return None


# Types of a decider's options, whose names end in their unit. An int takes any number from 0 on.
Positive = Annotated[int, Bounds(1)]
Pages = Annotated[int, Bounds(0, 1 << 40)]  # rules reckon in 64 bits
Percent = Annotated[int, Bounds(0, 100)]
Ppm = Annotated[int, Bounds(0, 1_000_000)]
PositivePercent = Annotated[int, Bounds(1, 100)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdAge:
    """One bucket of a VM's cold-age histogram; buckets are ordered by age."""

    age_ns: int
    cold_pages: int  # held pages not accessed for at least age_ns
    promoted_pages: int  # pages accessed in the last interval after at least age_ns of idleness


class Unseen(ABC):
    """What a tuple of views, or of cold ages, is made of when somebody looks; see memvirt.policies.columns and ages."""

    __slots__ = ()

    @abstractmethod
    def made(self) -> tuple[Any, ...]:
        """The tuple."""


class _HasColumns:
    """What a host's snapshot has in place of its views, and a view of its cold_ages, until they are looked at: of 1,000 VMs
    it has 100,000 ages, and memvirt's own rules go by columns. What is made by hand has none of it."""

    __slots__ = ("columns",)
    columns: Unseen


class _MadeWhenSeen:
    """The field of views, or of cold ages: given as columns, it is made of them at the first look. A __getattr__ would make
    all other fields slow."""

    def __init__(self, slot: Any) -> None:
        self._get, self._set = slot.__get__, slot.__set__

    def __get__(self, owner: Any, kind: type) -> Any:
        if owner is None:
            return self
        try:
            return self._get(owner)
        except AttributeError:
            self._set(owner, owner.columns.made())
            return self._get(owner)

    def __set__(self, owner: Any, value: Any) -> None:
        if isinstance(value, Unseen):
            object.__setattr__(owner, "columns", value)
        else:
            self._set(owner, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmView(_HasColumns):
    """One VM as the host and its guest report it."""

    name: str
    configured_pages: int  # what the guest was promised
    held_pages: int  # host frames charged to it
    balloon_pages: int = 0  # what its balloon holds now
    active_pages: int = 0  # estimate of the pages it uses
    shares: int = 1000
    reservation_pages: int = 0
    limit_pages: int | None = None
    guest_free_pages: int = 0  # free inside the guest, by its own account
    guest_cache_pages: int = 0
    stall_some_ns: int = 0  # during the last interval
    stall_full_ns: int = 0
    stall_avg10: int = 0  # as PSI's, of 10 and of 60 s, in 1/100 % of time
    stall_avg60: int = 0
    balloonable: bool = True  # False: no guest, so only the host can reclaim from it
    cold_ages: tuple[ColdAge, ...] = ()

    @property
    def size_pages(self) -> int:
        """What the guest may use now: its configured size less its balloon."""
        return self.configured_pages - self.balloon_pages

    def balloon_bounds(self, cap_percent: int = 100) -> tuple[int, int]:
        """The smallest and largest balloon that keep the guest between its reservation and its limit.

        cap_percent bounds the balloon to that part of the configured size; where it conflicts with the limit it wins,
        and the host reclaims the rest itself.
        """
        configured, limit = self.configured_pages, self.limit_pages
        largest, most = configured - self.reservation_pages, configured * cap_percent // 100
        largest = most if most < largest else max(0, largest)
        return (0 if limit is None or limit >= configured else min(configured - limit, largest)), largest


type.__setattr__(VmView, "cold_ages", _MadeWhenSeen(VmView.__dict__["cold_ages"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(_HasColumns):
    """The host between two quanta."""

    now_ns: int
    interval_ns: int  # since the previous decision
    total_pages: int
    free_pages: int
    low_pages: int  # watermarks, in free frames
    high_pages: int
    stall_some_ns: int = 0  # time in which some VM stalled for memory, since the previous decision
    swap_pages: int = 0  # slots of all swap areas
    swap_used_pages: int = 0
    swapped_out_pages: int = 0  # written to swap since the host was made
    reclaimed_pages: int = 0  # taken because a decider asked, since the host was made
    reclaim_ns: int = 0  # processor time that this took
    wanted_pages: int = 0  # frames that VMs wait for before they are admitted
    vms: tuple[VmView, ...] = ()
    memo: Memo = field(default_factory=dict)


type.__setattr__(Snapshot, "vms", _MadeWhenSeen(Snapshot.__dict__["vms"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What should change; a VM that is not named keeps what it has."""

    balloon_pages: Mapping[str, int] = field(default_factory=dict)  # size the balloon should have
    reclaim_pages: Mapping[str, int] = field(default_factory=dict)  # frames the host should take itself, coldest first
    scan_pages: int | None = None  # pages per wake-up of the sharing scanner; 0 stops it; None leaves it alone
    scan_sleep_ns: int | None = None
    # frames above which a VM does not run; one that is not named runs
    block_above_pages: Mapping[str, int] = field(default_factory=dict)
    wake_below_pages: int = 0  # free frames below which to ask again at once; 0: at the next interval
    state: str | None = (
        None  # what the decider calls the host's state, of names.HOST_STATES: recorded, and nothing more
    )
    memo: Memo = field(default_factory=dict)


@runtime_checkable
class Decider(Protocol):
    """The interface of a decider; `interval_ns` says how often the host asks it.

    It may also say what it needs before it can change anything, so that a fleet's life too short for that is refused:
    `weighs_marks`, that it goes by accessed marks; `warmup_ns`, for how long it only watches at first; `min_age_ns`, how long
    a page must have been cold before it takes it.
    """

    @property
    def interval_ns(self) -> int: ...

    def decide(self, snapshot: Snapshot) -> Targets: ...


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
