"""Everything that has a name, by kind: what `memvirt list` and `memvirt describe` print.

A list is made of tables and of the first lines of files (memvirt.names, memvirt.settings.orders, memvirt.shipped), so
that it answers at once. What a name stands for is imported when it is described.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memvirt.cli import topics
from memvirt.cli.catalog_entry import SINGULAR, Detail, Entry
from memvirt.errors import ConfigError, CorpusError
from memvirt.units import PAGE_SIZE, format_pages, suggest

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from memvirt.experiment.scenario import TierName
    from memvirt.experiment.suite import Suite
    from memvirt.inputs.model import ContentModel

HAVE_OPTIONS = ("formats", "deciders", "scanners", "replacements")


def kind_called(text: str) -> str:
    """The kind a user means, in the plural or the singular; ConfigError for none."""
    for plural, singular in SINGULAR.items():
        if text in (plural, singular, singular.rpartition(" ")[2]):
            return plural
    raise ConfigError(f"nothing is listed as '{text}'{suggest(text, list(SINGULAR))} (kinds: {', '.join(SINGULAR)})")


def entries(kind: str) -> list[Entry]:
    """All of a kind, in order."""
    return _READERS[kind]()


def find(name: str) -> list[tuple[str, Entry]]:
    """(kind, entry) of everything with this name: a preset and a suite may share one; failing that, what has an option of
    this name. ConfigError for nothing."""
    known = [(kind, entry) for kind in SINGULAR for entry in entries(kind)]
    found = [(kind, entry) for kind, entry in known if entry.name == name]
    found = found or [(kind, entry) for kind, entry in known if kind in HAVE_OPTIONS and name in _options(entry)]
    if not found:
        if name.endswith(".toml"):
            raise ConfigError(
                f"{name}: describe explains names; 'memvirt explain {name}' explains a preset's file, "
                f"'memvirt run {name} --dry-run' a suite's"
            )
        hint = suggest(name, [entry.name for _, entry in known])
        raise ConfigError(f"nothing is called '{name}'{hint} ('memvirt list' prints all names)")
    return found


def _options(entry: Entry) -> list[str]:
    return [row[0] for row in entry.rows]


def _suites() -> list[Entry]:
    from memvirt.shipped import SUITES

    return [Entry(name, line, partial(_suite, name)) for name, line in SUITES.lines().items()]


def _suite(name: str) -> Detail:
    from memvirt.experiment import suite

    read = suite.load(name)
    rows = [
        (scenario.name, ", ".join(f"{percent / 100:g}" for percent in scenario.points), scenario.description)
        for scenario in read.scenarios
    ]
    told: dict[str, list[str]] = {}  # columns and host -> scenarios
    for each in read.scenarios:
        columns = ", ".join(variant.name for variant in read.variants_of(each))
        told.setdefault(f"{columns}. Host: {_host(read, each.name)}.", []).append(each.name)
    lines = [
        f"Columns{f' of {names[0]}' if len(names) == 1 < len(told) else ''}: {text}" for text, names in told.items()
    ]
    text = "\n".join([read.description, *lines])
    return Detail(text, ("scenario", "ratios", "what it does"), rows)


def _host(suite: "Suite", scenario: str) -> str:
    """The memory of a scenario's host: one size, or that of tier quick and that of tier full."""
    tiers: tuple[TierName, ...] = ("quick", "full")
    sizes = []
    for sized in map(suite.at, tiers):
        own = next(each for each in sized.scenarios if each.name == scenario)
        sizes.append(format_pages(sized.host_of(own).memory))
    return sizes[0] if sizes[0] == sizes[1] else f"{sizes[0]}, in tier full {sizes[1]}"


def _presets() -> list[Entry]:
    from memvirt.shipped import PRESETS

    return [Entry(name, line, partial(_preset, name)) for name, line in PRESETS.lines().items()]


def _preset(name: str) -> Detail:
    from memvirt.settings import presets

    rows = [(row.key, str(row.value)) for row in presets.explain(name) if not row.default]
    text = f"Its own settings; all of them, with every source: 'memvirt explain {name}'."
    return Detail(text, ("setting", "value"), rows)


def _workloads() -> list[Entry]:
    from memvirt.names import WORKLOADS

    return [Entry(name, written.summary, partial(_workload, name)) for name, written in sorted(WORKLOADS.items())]


def _workload(name: str) -> Detail:
    from memvirt import workloads

    rows = [
        (row.name, row.kind, "required" if row.default is None else str(row.default), row.bounds, row.meaning)
        for row in workloads.parameters(name)
    ]
    return Detail("", ("parameter", "kind", "default", "bounds", "meaning"), rows)


def _formats() -> list[Entry]:
    """Formats of traces that can be imported, with their options."""
    from memvirt.names import TRACE_FORMATS

    return [Entry(name, written.summary, partial(_format, name)) for name, written in sorted(TRACE_FORMATS.items())]


def _format(name: str) -> Detail:
    from memvirt.inputs.traces import lookup

    cls = lookup(name)
    text = (inspect.getdoc(inspect.getmodule(cls)) or "").strip()
    rows = [(key, str(field.default), field.description or "") for key, field in cls.model_fields.items()]
    return Detail(text, ("option", "default", "meaning"), rows)


def _corpora() -> list[Entry]:
    from memvirt.inputs import store
    from memvirt.inputs.model import mixes

    synthetic = "seeded synthetic pages: the same bytes on every machine"
    found = [Entry("synthetic", synthetic, lambda: Detail("Use it with 'memvirt run --corpus synthetic'."))]
    found += [Entry(name, _made_of(model), partial(Detail, model.source)) for name, model in mixes().items()]
    default = _default_corpus(store.cache_folder())
    files = [*store.cache_folder().glob(f"*{store.SUFFIX}"), *store.cache_folder().glob(f"*{store.PRINTS_SUFFIX}")]
    for path in sorted(files):
        bytes_only = path.suffix == store.SUFFIX
        pages = format_pages(path.stat().st_size // PAGE_SIZE) if bytes_only else "fingerprints without bytes"
        mark = ", the default" if path.name == default else ""
        text = f"{path}\nWhat is in it: 'memvirt corpus info {path}'."
        found.append(Entry(path.stem, f"in the cache folder, {pages}{mark}", partial(Detail, text)))
    return found


def _made_of(model: "ContentModel") -> str:
    return f"a mix made from a content model, {', '.join(entry.name for entry in model.classes)}"


def _default_corpus(folder: Path) -> str:
    from memvirt.inputs import store

    try:
        return (folder / store.POINTER).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{folder / store.POINTER} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _metrics() -> list[Entry]:
    from memvirt.metrics import registry

    heads = ("unit", "kind", "better", "derivation")
    return [
        Entry(
            metric.name,
            metric.meaning,
            partial(
                Detail,
                metric.reading,
                heads,
                [(metric.unit, metric.kind.value, metric.better.value, metric.derivation)],
            ),
        )
        for metric in registry.REGISTRY.values()
    ]


def _deciders() -> list[Entry]:
    from memvirt.names import DECIDERS

    return [Entry(name, written.summary, partial(_decider, name)) for name, written in DECIDERS.items()]


def _decider(name: str) -> Detail:
    from memvirt import policies

    cls = policies.load(name)
    takes = policies.ranges_of(name)
    rows = [(key, str(default), takes.get(key, "")) for key, default in policies.options_of(name, {}).items()]
    essay = inspect.getdoc(sys.modules[cls.__module__])  # it says what the options are to the rule
    return Detail(essay or "", ("option", "default", "takes"), rows)


def _scanners() -> list[Entry]:
    from memvirt.names import SCANNERS

    heads = ("option", "default", "meaning", "source of the default")
    return [
        Entry(
            name,
            scanner.summary,
            partial(
                Detail,
                "",
                heads,
                [(key, str(each.default), each.meaning, each.source) for key, each in scanner.options.items()],
            ),
        )
        for name, scanner in SCANNERS.items()
    ]


def _replacements() -> list[Entry]:
    from memvirt.settings.orders import ORDERS

    return [Entry(name, order.summary, partial(_replacement, name)) for name, order in ORDERS.items()]


def _replacement(name: str) -> Detail:
    """The essay of an order's module, and its options."""
    from memvirt.settings.orders import ORDERS

    order = ORDERS[name]
    essay = inspect.cleandoc(importlib.import_module(f"memvirt.engine.replacement.{order.module}").__doc__ or "")
    rows = [(key, str(each.default), each.meaning, each.source) for key, each in order.options.items()]
    heads = ("option", "default", "meaning", "source of the default") if rows else ()
    return Detail(essay.partition("\n")[2].strip(), heads, rows)


def _codecs() -> list[Entry]:
    from memvirt.names import CODECS

    found = []
    for name, codec in CODECS.items():
        levels = ", ".join(map(str, codec.few)) or f"{codec.lowest} to {codec.highest}"
        found.append(Entry(name, f"{codec.meaning} {levels}, by default {codec.default}", partial(_codec, name)))
    return found


def _codec(name: str) -> Detail:
    from memvirt.engine.content.codec import open_codec
    from memvirt.names import CODECS

    try:
        route = str(open_codec(name).route)
    except ConfigError as error:
        route = str(error)
    text = (
        f"Use it with 'codec', and 'codec_level' for its {CODECS[name].meaning}. Its processor time is a cost of the cost "
        "model."
    )
    return Detail(text, ("route here",), [(route,)])


def _devices() -> list[Entry]:
    from memvirt.names import DEVICE_CONSTANTS, DEVICE_SOURCES, DEVICES

    text = "Constants of a model, not of anyone's hardware. Name it in 'swap_device', or give a table with your own."
    found = []
    for name, values in DEVICES.items():
        constants = dict(zip(DEVICE_CONSTANTS, values, strict=True))
        read_us = (constants["read_latency_ns"] + constants["read_page_ns"]) / 1000
        rows = [(key, str(value)) for key, value in constants.items()]
        detail = partial(Detail, f"{text}\nFrom: {DEVICE_SOURCES[name]}.", ("constant", "value"), rows)
        found.append(Entry(name, f"a 4 KiB read takes {read_us:g} us, {constants['channels']} at a time", detail))
    return found


def _costs() -> list[Entry]:
    from memvirt.shipped import COSTS

    return [Entry(name, line, partial(_cost_model, name)) for name, line in COSTS.lines().items()]


def _cost_model(name: str) -> Detail:
    from memvirt.settings import costs

    found = costs.file(name)
    models = [found.costs] if found.costs.giving is None else [found.costs, found.costs.giving]
    rows = [
        (key, f"{getattr(model, key)}", field.description or "", found.source[key])
        for model in models
        for key, field in type(model).model_fields.items()
        if key != "giving" and getattr(model, key) is not None
    ]
    text = "Name it in 'costs', or a file of your own; 'memvirt calibrate -o FILE.toml' measures this machine's."
    return Detail(text, ("operation", "ns", "what is paid for", "source"), rows)


def _settings() -> list[Entry]:
    from memvirt.experiment.fleet_spec import AgingSpec, FleetSpec
    from memvirt.experiment.pace import Pace
    from memvirt.settings.config import HostConfig
    from memvirt.settings.vm_config import GuestOptions

    host = "A host's: memvirt.Host(NAME=...), [host] in a preset, or --set NAME=VALUE."
    guest = "A guest's: create_vm(guest={...}), or [vm.guest] in a preset."
    fleet = "A fleet's: [scenarios.fleet] in a suite. Percentages are of a VM's configured memory; lists go by the VM."
    pace = "How time passes in a scenario's phases: [scenarios.pace] in a suite."
    aging = "Of VMs that come and go: [scenarios.aging] in a suite."
    return [
        *_fields(HostConfig, "", host, {}),
        *_fields(GuestOptions, "guest.", guest, {}),
        *_fields(FleetSpec, "fleet.", fleet, {"vms": 1, "memory": "1MiB"}),
        *_fields(Pace, "pace.", pace, {}),
        *_fields(AgingSpec, "aging.", aging, {"cycles": 1}),
    ]


def _fields(model: "type[BaseModel]", prefix: str, text: str, least: Mapping[str, Any]) -> list[Entry]:
    """A setting per field of a model, with its default and what it may be. `least`: the fields that must be given."""
    return [
        Entry(f"{prefix}{key}", field.description or "", partial(_field, model, key, field, text, least))
        for key, field in model.model_fields.items()
    ]


def _field(model: "type[BaseModel]", key: str, field: "FieldInfo", text: str, least: Mapping[str, Any]) -> Detail:
    defaults = model.model_validate(least).model_dump(mode="json")
    schema = model.model_json_schema()
    rows = [
        ("default", "required" if field.is_required() else _shown(defaults.get(key, field.default)))
    ]  # left out: its default
    rows += [(name, value) for name, value in _bounds(schema["properties"][key], schema.get("$defs", {}))]
    return Detail(text, ("property", "value"), rows)


def _shown(value: Any) -> str:
    return "none" if value is None or value in ([], {}) else str(value)


def _bounds(schema: Mapping[str, Any], tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """("values", …), ("range", …) and the keys of tables that a JSON schema allows."""
    if "enum" in schema:
        yield "values", ", ".join(map(str, schema["enum"]))
    if "minimum" in schema and "maximum" in schema:
        yield "range", f"{schema['minimum']} to {schema['maximum']}"
    items = [schema["items"]] if "items" in schema else []
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *items):
        yield from _bounds(inner, tables)
    if "$ref" in schema:
        for key, part in tables[schema["$ref"].rsplit("/", 1)[1]]["properties"].items():
            yield f"key {key}", part.get("description", "")


def _figures() -> list[Entry]:
    from memvirt.report.figures.catalog import KINDS

    text = "Of a results folder: memvirt plot DIR --figure NAME. A report has them all."
    return [Entry(kind.name, kind.summary, partial(Detail, text)) for kind in KINDS.values()]


_READERS: dict[str, Callable[[], list[Entry]]] = {
    "suites": _suites,
    "presets": _presets,
    "workloads": _workloads,
    "corpora": _corpora,
    "formats": _formats,
    "metrics": _metrics,
    "deciders": _deciders,
    "scanners": _scanners,
    "replacements": _replacements,
    "codecs": _codecs,
    "devices": _devices,
    "costs": _costs,
    "settings": _settings,
    "figures": _figures,
    "topics": topics.entries,
}
