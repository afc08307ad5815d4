"""Records as OpenMetrics text, the form that Prometheus reads.

Every number is named after its metric, `memvirt_` in front and `_` for what the form does not allow; members of a family
share a name and differ in a label. The cell a sample is of stands in its labels.

    counters            memvirt_fault_swap_total{suite=…,scenario=…,ratio=…,preset=…,role=…,seed=…}
    states, ratios      memvirt_slowdown, memvirt_usage{use="guest"}, memvirt_stores{place="swap"}
    times by mechanism  memvirt_cpu_seconds_total{mechanism="swap"}
    fault latencies     memvirt_fault_latency_seconds: a histogram whose bounds are powers of two, exact

Simulated time is written in seconds, the unit of the form, as decimals without a float on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from memvirt.metrics.metric import Kind
from memvirt.metrics.registry import REGISTRY
from memvirt.report.escape import plain
from memvirt.results.record import Histogram, Record

NS_DIGITS = 9
Labels = dict[str, str]

# Family in a record -> name, label of its members, and what it is.
_FAMILIES = {
    "usage.": ("memvirt_usage", "use", "gauge", "frames of the host by use, at the end of the phase"),
    "stores.": ("memvirt_stores", "place", "gauge", "pages out of memory, by where they are"),
    "cpu_ns.": ("memvirt_cpu_seconds", "mechanism", "counter", "simulated processor time of the phase"),
}
LATENCY = "memvirt_fault_latency_seconds"


@dataclass(slots=True)
class _Family:
    kind: str
    help: str
    samples: list[str] = field(default_factory=list)


def dumps(records: Sequence[Record]) -> str:
    """The text of the records that are done; each family once, with a sample of each."""
    families: dict[str, _Family] = {}
    for record in records:
        if record.status == "done":
            _add(families, record)
    lines: list[str] = []
    for name, family in families.items():
        lines += [f"# TYPE {name} {family.kind}"]
        lines += [f"# UNIT {name} seconds"] if name.endswith("_seconds") else []
        lines += [f"# HELP {name} {_escaped(family.help)}", *family.samples]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _add(families: dict[str, _Family], record: Record) -> None:
    of_cell = {
        "suite": record.suite,
        "scenario": record.base_scenario,
        "ratio": record.ratio,
        "preset": record.preset,
        "role": record.role,
        "seed": str(record.seed),
    }
    for name, value in _numbers(record):
        prefix = next((each for each in _FAMILIES if name.startswith(each)), "")
        if prefix:
            family, label, kind, text = _FAMILIES[prefix]
            labels = {**of_cell, label: name.removeprefix(prefix)}
            value = seconds(int(value)) if prefix == "cpu_ns." else value
        else:
            metric = REGISTRY.get(name)
            counts = metric is not None and metric.kind is Kind.COUNTER and name not in record.derived
            family, labels, kind = "memvirt_" + re.sub(r"\W", "_", name), of_cell, "counter" if counts else "gauge"
            text = f"{metric.meaning}; {metric.unit}" if metric else name
        ending = "_total" if kind == "counter" else ""
        _family(families, family, kind, text).samples.append(f"{family}{ending}{_text(labels)} {value}")
    for fault, histogram in record.histograms.items():
        text = "modelled time of every fault of the phase"
        kept = _family(families, LATENCY, "histogram", text)
        kept.samples += _buckets({**of_cell, "fault": fault}, histogram)


def _numbers(record: Record) -> Iterator[tuple[str, int | str]]:
    yield "accesses", record.accesses
    yield "sim_ns", record.sim_ns
    yield from ((name, value) for name, value in record.derived.items() if value != "" and name not in record.counters)
    yield from record.counters.items()
    yield from ((name, value) for name, value in record.sharing.items() if name not in record.counters)
    yield from ((f"usage.{use}", frames) for use, frames in record.usage.items())
    yield from ((f"stores.{place}", pages) for place, pages in record.stores.items())
    yield from ((f"cpu_ns.{mechanism}", ns) for mechanism, ns in record.cpu_ns.items())


def _family(families: dict[str, _Family], name: str, kind: str, text: str) -> _Family:
    return families.setdefault(name, _Family(kind, text))


def _buckets(labels: Labels, histogram: Histogram) -> Iterator[str]:
    """Cumulative counts below powers of two of a nanosecond. Buckets of a record never straddle one, so they are exact.
    There is no sum, which buckets do not hold; and without one the form allows no count beside the last bucket's."""
    total = sum(count for _, count in histogram)
    seen, place = 0, 0
    for power in range(histogram[0][0].bit_length(), histogram[-1][0].bit_length() + 1) if histogram else ():
        while place < len(histogram) and histogram[place][0] < 1 << power:
            seen += histogram[place][1]
            place += 1
        yield f"{LATENCY}_bucket{_text({**labels, 'le': seconds((1 << power) - 1)})} {seen}"
    yield f"{LATENCY}_bucket{_text({**labels, 'le': '+Inf'})} {total}"


def seconds(ns: int) -> str:
    """Nanoseconds as seconds, every digit."""
    whole, rest = divmod(ns, 10**NS_DIGITS)
    return f"{whole}.{rest:0{NS_DIGITS}d}"


def _text(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return "\n".join(map(plain, text.split("\n"))).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
