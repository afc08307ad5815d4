"""One result: what a cell was asked, what the engine counted, and what follows from that.

A record is a value: frozen, validated when made and when read, written once and whole. Two parts of it belong to this
machine and this moment, `environment` and `measured`; everything else follows from scenario, preset, seed, inputs and
versions, digit for digit. So nothing outside these two parts may be a float, a time stamp or a host name: numbers are
integers, and ratios are decimal strings divided exactly from integers (`ratio_text`).

The file is JSON with sorted keys, one line per part, so that two records can be compared with `diff`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from memvirt.errors import RecordError
from memvirt.results.shapes import is_file_name, shaped
from memvirt.results.timeline import Timeline, Whole
from memvirt.untrusted import Excess, file_bytes, json_value

SCHEMA: Final = 3
INDICES = ("external", "unusable")  # of fragmentation, each a list by order
OLDER = (2,)  # schemas that are read as well
# 3 - a time line; records of schema 2 are read, and have none.
# 2 - resolved configuration by value, what was asked for beside it, role and kind; presentation lies in run.json.
# 1 - first version: costs and defaults by name only.

FORMAT = "memvirt-record"
SEPARATE = ("environment", "measured")  # the parts in which equal runs may differ
ABSENT: Final = "not recorded"  # in place of the value of what one of two configurations does not have

# done; refused by admission; exhausted: a VM could not go on for want of memory (an outcome, not an error); failed
Status = Literal["done", "refused", "exhausted", "failed"]
Tier = Literal["smoke", "quick", "full"]
Role = Literal["column", "baseline"]  # baseline: what columns are held against, no column itself
Kind = Literal[
    "fleet", "life", "trace"
]  # VMs on a host, the same over real time, or page numbers through an order alone
DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?\Z")  # no longer than a quotient of two numbers of 64 bits
Histogram = list[tuple[Whole, Whole]]


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(extra="forbid", strict=True))
class Record:
    """What one scenario x preset x seed came to, over its measured phase unless a field says otherwise."""

    format: Literal["memvirt-record"] = FORMAT  # type: ignore[assignment]
    schema: Literal[2, 3] = SCHEMA
    suite: str
    scenario: str
    preset: str
    role: Role
    kind: Kind
    seed: Whole
    tier: Tier
    status: Status
    reason: str = ""  # why it is not done; empty when it is
    ratio: str  # overcommit: configured pages / host frames, an exact decimal; of a trace: capacity / its pages
    config: dict[str, Any]  # the whole resolved configuration: every default, option and cost by value, files by hash
    config_sha256: str  # of `config` in canonical form
    asked: dict[str, Any] = field(default_factory=dict)  # what was asked for: preset, settings changed, options by name
    origins: dict[str, str] = field(default_factory=dict)  # host setting -> where from; all others: memvirt's defaults
    inputs: dict[str, str]  # name -> content hash of the corpus
    versions: dict[str, str]  # memvirt, numpy, lz4 and the route to it
    commit: str = ""  # of the source tree, "" outside one, "+" appended when it was edited
    accesses: Whole = 0  # done in the measured phase, all VMs together
    sim_ns: Whole = 0  # sum over VMs of the simulated time of the measured phase
    counters: dict[str, Whole] = field(default_factory=dict)  # events of the measured phase; guest.NAME: of all guests
    histograms: dict[str, Histogram] = field(default_factory=dict)  # fault kind -> (sim_ns, count), ascending
    usage: dict[str, Whole] = field(default_factory=dict)  # frames by use at the end, summing to host memory
    fragmentation: dict[str, Any] = field(default_factory=dict)  # the engine's indices at the end
    samples: list[dict[str, Whole]] = field(
        default_factory=list
    )  # aging: what the host's memory looked like after each cycle
    timeline: Timeline = field(default_factory=Timeline)  # of all phases; empty: a trace, or a record of schema 2
    sharing: dict[str, Whole] = field(default_factory=dict)  # the scanner's counters at the end
    stores: dict[str, Whole] = field(default_factory=dict)  # pages as values, compressed, swapped, ballooned
    cpu_ns: dict[str, Whole] = field(default_factory=dict)  # simulated CPU time by mechanism
    # VM -> accesses, sim_ns, stall_ns; timed: work_ns, too, and driver_ns if there was some; of a fleet that lives:
    # slowdown_p50_milli, _p99_milli and _worst_milli of its windows, behind_ns of requests, and admission_ns where it waited
    vms: dict[str, dict[str, Whole]] = field(default_factory=dict)
    derived: dict[str, Whole | str] = field(default_factory=dict)  # what follows; ratios as decimals
    verified: bool = False  # every VM read back what it wrote, checked after the numbers were taken
    verified_pages: Whole = 0  # how many pages that were
    environment: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    @field_validator("config", "derived", "fragmentation")
    @classmethod
    def _without_floats(cls, part: dict[str, Any]) -> dict[str, Any]:
        place = _first_float(part)
        if place is not None:
            raise ValueError(f"a float at {place}: only environment and measured may hold one")
        return part

    @field_validator("asked", "config", "fragmentation", "measured")
    @classmethod
    def _shaped(cls, part: dict[str, Any]) -> dict[str, Any]:
        return shaped(part)

    @field_validator("config")
    @classmethod
    def _with_a_scenario(cls, config: dict[str, Any]) -> dict[str, Any]:
        if "scenario" not in config:
            raise ValueError("config.scenario.name is missing")
        return config

    @field_validator("ratio")
    @classmethod
    def _a_decimal(cls, ratio: str) -> str:
        if not _is_decimal(ratio) or float(ratio) <= 0:
            raise ValueError(f"no positive decimal number: {ratio!r}")
        return ratio

    @field_validator("derived")
    @classmethod
    def _decimals(cls, derived: dict[str, int | str]) -> dict[str, int | str]:
        wrong = [name for name, value in derived.items() if isinstance(value, str) and value and not _is_decimal(value)]
        if wrong:
            raise ValueError(f"no decimal number: {', '.join(wrong)}")
        return derived

    @field_validator("vms")
    @classmethod
    def _timed(cls, vms: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        if wrong := [name for name, times in vms.items() if not {"sim_ns", "stall_ns"} <= set(times)]:
            raise ValueError(f"no times of {', '.join(wrong)}")
        return vms

    @field_validator("counters")
    @classmethod
    def _counted(cls, counters: dict[str, int]) -> dict[str, int]:
        backwards = [name for name, count in counters.items() if count < 0]
        if backwards:
            raise ValueError(f"counters only grow, these did not: {', '.join(backwards)}")
        return counters

    @field_validator("histograms")
    @classmethod
    def _ascending(cls, histograms: dict[str, Histogram]) -> dict[str, Histogram]:
        for kind, pairs in histograms.items():
            values = [value for value, _ in pairs]
            if values != sorted(set(values)) or any(count <= 0 for _, count in pairs):
                raise ValueError(f"{kind}: values must ascend and counts be positive")
        return histograms

    @model_validator(mode="after")
    def _consistent(self) -> Record:
        if self.status != "done" and not self.reason:
            raise ValueError(f"status {self.status} needs a reason")
        if self.config_sha256 != sha256_of(self.config):
            raise ValueError("config_sha256 is not the hash of config")
        return self

    @property
    def cell(self) -> str:
        """The name of the cell and of its file."""
        return cell_name(self.scenario, self.preset, self.seed, self.role)

    @property
    def base_scenario(self) -> str:
        """The scenario's name without the ratio that is appended to it."""
        return str(self.config["scenario"]["name"])

    @property
    def swept(self) -> dict[str, str]:
        """Of a sweep: the settings that were swept, sorted, with their values here."""
        point = self.asked.get("sweep")
        return {str(key): str(value) for key, value in sorted(point.items())} if isinstance(point, dict) else {}

    @property
    def column(self) -> str:
        """The preset without its point of a sweep, which its name ends in."""
        return self.preset.rpartition("@")[0] if self.swept and "@" in self.preset else self.preset

    @property
    def description(self) -> str:
        """What the scenario does, in a sentence."""
        return str(self.config["scenario"].get("description", ""))

    def number(self, name: str) -> float | None:
        """The number that a metric's name stands for in this record; None when it has none."""
        parts: tuple[Mapping[str, int | str], ...] = (self.derived, self.counters, self.sharing)
        family, _, member = name.partition(".")
        families: dict[str, Mapping[str, int]] = {"usage": self.usage, "stores": self.stores, "cpu_ns": self.cpu_ns}
        if name == "sim_ns":
            return float(self.sim_ns)
        found = next((part[name] for part in parts if name in part), families.get(family, {}).get(member, ""))
        return None if found == "" else float(found)


_ADAPTER: TypeAdapter[Record] = TypeAdapter(Record)


def cell_name(scenario: str, preset: str, seed: int, role: Role = "column") -> str:
    """`<scenario>--<preset>--s<seed>`: the file name of a cell, without its ending. A baseline's ends in `--baseline`,
    so that no name of a preset can be taken for one."""
    return f"{scenario}--{preset}--s{seed}" + ("" if role == "column" else f"--{role}")


def canonical(value: Any) -> str:
    """The one JSON spelling of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def ratio_text(numerator: int, denominator: int, digits: int = 4) -> str:
    """numerator / denominator as a decimal of `digits` places, rounded half to even, without a float on the way.

    A denominator of zero has no ratio: the answer is "".
    """
    if denominator == 0:
        return ""
    negative = (numerator < 0) != (denominator < 0)
    quotient, rest = divmod(abs(numerator) * 10**digits, abs(denominator))
    double = 2 * rest
    if double > abs(denominator) or (double == abs(denominator) and quotient % 2):
        quotient += 1
    whole, fraction = divmod(quotient, 10**digits)
    sign = "-" if negative and quotient else ""
    return f"{sign}{whole}.{fraction:0{digits}d}" if digits else f"{sign}{whole}"


def percentile(histogram: Histogram, per_mille: int) -> int | None:
    """The smallest recorded value with at least per_mille / 1000 of all counts at or below it; None when empty."""
    total = sum(count for _, count in histogram)
    if total == 0:
        return None
    wanted, seen = -(-total * per_mille // 1000), 0
    for value, count in histogram:
        seen += count
        if seen >= wanted:
            return value
    raise AssertionError("unreachable: the counts sum to the total")


def histogram_difference(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Histogram]:
    """What complete histograms gained between two looks, by kind; kinds without a gain are left out."""
    gained: dict[str, Histogram] = {}
    for kind, pairs in sorted(after.items()):
        earlier = {int(value): int(count) for value, count in before.get(kind, ())}
        rest = [(int(value), int(count) - earlier.get(int(value), 0)) for value, count in sorted(pairs)]
        rest = [(value, count) for value, count in rest if count]
        if rest:
            gained[kind] = rest
    return gained


def counter_difference(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """What counters gained between two looks."""
    return {name: int(count) - int(before.get(name, 0)) for name, count in sorted(after.items())}


def as_dict(record: Record) -> dict[str, Any]:
    """The record as JSON values."""
    plain: dict[str, Any] = _ADAPTER.dump_python(record, mode="json")
    return plain


def indices(record: Record) -> Iterator[tuple[str, int]]:
    """(metric, thousandths) of every index of fragmentation, order by order."""
    for index in INDICES:
        for order, value in enumerate(record.fragmentation.get(index, ())):
            yield f"fragmentation.{index}.order{order}", int(value)


def comparable(record: Record) -> dict[str, Any]:
    """The record without the parts in which equal runs may differ."""
    return {name: value for name, value in as_dict(record).items() if name not in SEPARATE}


def dumps(record: Record) -> str:
    """The text of a record's file: one line per part, keys sorted."""
    return spelled(as_dict(record))


def spelled(parts: Mapping[str, Any]) -> str:
    """The text of a record's file from the parts of it."""
    lines = [f" {canonical(name)}: {canonical(value)}" for name, value in sorted(parts.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def dumps_line(record: Record) -> str:
    """The same in one line."""
    return canonical(as_dict(record)) + "\n"


def loads(text: str | bytes, source: str) -> Record:
    """The record in `text`; RecordError names `source` and everything that is wrong with it."""
    try:
        raw = json_value(text)
    except Excess as error:
        raise RecordError(f"{source}: damaged ({error}); --resume runs its cell again") from None
    except ValueError as error:
        raise RecordError(f"{source}: not a whole JSON file ({error}); --resume runs its cell again") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise RecordError(f"{source}: not a memvirt record (no format {FORMAT!r})")
    if raw.get("schema") not in (SCHEMA, *OLDER):
        old = " (which held no defaults, options and costs)" if raw.get("schema") == 1 else ""
        said = (
            f"record schema {raw.get('schema')!r}{old}, this memvirt reads {SCHEMA}; run it again into another folder"
        )
        raise RecordError(f"{source}: {said}")
    try:
        record = _ADAPTER.validate_json(text)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'record'}: {e['msg']}" for e in error.errors())
        raise RecordError(f"{source}: not a valid record: {wrong}") from None
    if not is_file_name(record.cell):
        raise RecordError(f"{source}: not a valid record: {record.cell!r} can be no cell: no file can be called so")
    return record if record.schema == SCHEMA else replace(record, schema=SCHEMA)


def read(path: str | os.PathLike[str]) -> Record:
    """The record in a file, or RecordError naming the file."""
    try:
        data = file_bytes(path)
    except (OSError, Excess) as error:
        raise RecordError(f"{os.fspath(path)}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return loads(data, os.fspath(path))


def write_atomically(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Put `text` into a file whole or not at all: beside it, flushed to the device, then renamed over it."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RecordError(f"{path}: cannot be written: {error.strerror}; nothing was changed") from error
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def differences(one: Any, two: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted place, value, value) wherever two configurations differ; a value that is not there is ABSENT."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted({*one, *two}):
            yield from differences(one.get(key, ABSENT), two.get(key, ABSENT), f"{place}.{key}" if place else key)
    elif one != two:
        yield place, one, two


def require_alike(records: list[Record]) -> None:
    """Refuse to lay unlike runs into one table: suite, tier, versions and inputs must agree.

    Raises RecordError that names the two cells and what differs.
    """
    for other in records[1:]:
        first = records[0]
        for part in ("suite", "tier", "versions", "commit", "inputs"):
            ours, theirs = getattr(first, part), getattr(other, part)
            if ours != theirs:
                raise RecordError(
                    f"{first.cell} and {other.cell} are of unlike runs: {part} {ours!r} and {theirs!r}; "
                    "compare them with 'memvirt compare', or run them again into one folder"
                )


def _is_decimal(text: str) -> bool:
    return DECIMAL.match(text) is not None


def _first_float(value: Any, place: str = "") -> str | None:
    if isinstance(value, float):
        return place or "the top"
    if isinstance(value, dict):
        parts = [(f"{place}.{key}" if place else str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    else:
        return None
    return next((found for name, item in parts if (found := _first_float(item, name)) is not None), None)
