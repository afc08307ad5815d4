"""Everything that has a name, by kind: what `memvirt list` and `memvirt describe` print."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from memvirt.cli import topics
from memvirt.cli.catalog_entry import Entry
from memvirt.errors import ConfigError, CorpusError
from memvirt.units import PAGE_SIZE, format_pages, suggest

SINGULAR = {
    "suites": "suite",
    "presets": "preset",
    "workloads": "workload",
    "corpora": "corpus",
    "formats": "trace format",
    "metrics": "metric",
    "deciders": "decider",
    "scanners": "scanner",
    "replacements": "replacement",
    "codecs": "codec",
    "devices": "device",
    "settings": "setting",
    "figures": "figure",
    "topics": "topic",
}


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
    found = found or [(kind, entry) for kind, entry in known if name in entry.options]
    if not found:
        if name.endswith(".toml"):
            raise ConfigError(
                f"{name}: describe tells of names; 'memvirt explain {name}' tells of a preset's file, "
                f"'memvirt run {name} --dry-run' of a suite's"
            )
        hint = suggest(name, [entry.name for _, entry in known])
        raise ConfigError(f"nothing is called '{name}'{hint} ('memvirt list' prints all names)")
    return found


def _suites() -> list[Entry]:
    from memvirt.experiment import suite

    found = []
    for name in suite.names():
        read = suite.load(name)
        rows = [
            (scenario.name, ", ".join(f"{percent / 100:g}" for percent in scenario.points), scenario.description)
            for scenario in read.scenarios
        ]
        columns = ", ".join(variant.name for variant in read.all_variants())
        text = f"{read.description}\nColumns: {columns}. Host: {format_pages(read.host.memory)}."
        found.append(Entry(name, read.title, text, ("scenario", "ratios", "what it does"), rows))
    return found


def _presets() -> list[Entry]:
    from memvirt.settings import presets

    return [
        Entry(
            name,
            summary,
            "Its own settings; all of them, with every source: 'memvirt explain " + name + "'.",
            ("setting", "value"),
            [(row.key, str(row.value)) for row in presets.explain(name) if not row.default],
        )
        for name, summary in presets.describe()
    ]


def _workloads() -> list[Entry]:
    from memvirt import workloads

    heads = ("parameter", "kind", "default", "bounds", "meaning")
    return [
        Entry(
            name,
            workloads.summary(name),
            "",
            heads,
            [
                (row.name, row.kind, "required" if row.default is None else str(row.default), row.bounds, row.meaning)
                for row in workloads.parameters(name)
            ],
        )
        for name in workloads.names()
    ]


def _formats() -> list[Entry]:
    """Formats of traces that can be imported, with their options."""
    from memvirt.inputs.traces import registry

    found = []
    for name in registry.names():
        cls = registry.lookup(name)
        text = (inspect.getdoc(inspect.getmodule(cls)) or "").strip()
        rows = [(key, str(field.default), field.description or "") for key, field in cls.model_fields.items()]
        found.append(Entry(name, registry.summary(name), text, ("option", "default", "meaning"), rows))
    return found


def _corpora() -> list[Entry]:
    from memvirt.inputs import store
    from memvirt.inputs.model import mixes

    synthetic = "seeded synthetic pages: the same bytes on every machine"
    found = [Entry("synthetic", synthetic, "Use it with 'memvirt run --corpus synthetic'.")]
    found += [
        Entry(
            name, f"a mix made from a content model, {', '.join(entry.name for entry in model.classes)}", model.source
        )
        for name, model in mixes().items()
    ]
    default = _default_corpus(store.cache_folder())
    files = [*store.cache_folder().glob(f"*{store.SUFFIX}"), *store.cache_folder().glob(f"*{store.PRINTS_SUFFIX}")]
    for path in sorted(files):
        bytes_only = path.suffix == store.SUFFIX
        pages = format_pages(path.stat().st_size // PAGE_SIZE) if bytes_only else "fingerprints without bytes"
        mark = ", the default" if path.name == default else ""
        text = f"{path}\nWhat is in it: 'memvirt corpus info {path}'."
        found.append(Entry(path.stem, f"in the cache folder, {pages}{mark}", text))
    return found


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

    return [
        Entry(
            metric.name,
            metric.meaning,
            metric.reading,
            ("unit", "kind", "better", "derivation"),
            [(metric.unit, metric.kind.value, metric.better.value, metric.derivation)],
        )
        for metric in registry.REGISTRY.values()
    ]


def _deciders() -> list[Entry]:
    from memvirt import policies

    found = []
    for name, summary in policies.describe():
        cls = policies.load(name)
        parameters = inspect.signature(cls).parameters.values()
        rows = [(each.name, str(each.default)) for each in parameters]
        found.append(Entry(name, summary, inspect.getdoc(cls) or "", ("option", "default"), rows))
    return found


def _scanners() -> list[Entry]:
    from memvirt.names import SCANNERS

    return [
        Entry(
            name,
            scanner.summary,
            "",
            ("option", "default", "meaning"),
            [(key, str(option.default), option.meaning) for key, option in scanner.options.items()],
        )
        for name, scanner in SCANNERS.items()
    ]


def _replacements() -> list[Entry]:
    from memvirt.engine.replacement.registry import ORDERS
    from memvirt.settings.orders import options_of

    found = []
    for name, cls in ORDERS.items():
        essay = inspect.cleandoc(importlib.import_module(cls.__module__).__doc__ or "")
        summary, _, text = essay.partition("\n")
        rows = [(key, str(each.default), each.meaning, each.source) for key, each in options_of(name).items()]
        heads = ("option", "default", "meaning", "source of the default") if rows else ()
        found.append(Entry(name, summary.partition(": ")[2] or summary, text.strip(), heads, rows))
    return found


def _codecs() -> list[Entry]:
    from memvirt.engine.content.codec import open_codec
    from memvirt.names import CODECS, ZSTD_LEVELS

    found = []
    for name, (meaning, default, lowest, highest) in CODECS.items():
        levels = ", ".join(map(str, ZSTD_LEVELS)) if name == "zstd" else f"{lowest} to {highest}"
        try:
            route = str(open_codec(name).route)
        except ConfigError as error:
            route = str(error)
        text = (
            f"Use it with 'codec', and 'codec_level' for its {meaning}. Its processor time is a cost of the cost model."
        )
        summary = f"{meaning} {levels}, by default {default}"
        found.append(Entry(name, summary, text, ("route here",), [(route,)]))
    return found


def _devices() -> list[Entry]:
    from memvirt.engine.device import Device
    from memvirt.names import DEVICE_CONSTANTS, DEVICE_SOURCES, DEVICES

    text = "Constants of a model, not of anyone's hardware. Name it in 'swap_device', or give a table with your own."
    return [
        Entry(
            name,
            f"a 4 KiB read takes {Device(name).submit('read', 0, 1) / 1000:g} us, {constants[-1]} at a time",
            f"{text}\nFrom: {DEVICE_SOURCES[name]}.",
            ("constant", "value"),
            [(key, str(value)) for key, value in zip(DEVICE_CONSTANTS, constants, strict=True)],
        )
        for name, constants in DEVICES.items()
    ]


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
        *_fields(HostConfig(), "", host),
        *_fields(GuestOptions(), "guest.", guest),
        *_fields(FleetSpec.model_validate({"vms": 1, "memory": "1MiB"}), "fleet.", fleet),
        *_fields(Pace(), "pace.", pace),
        *_fields(AgingSpec.model_validate({"cycles": 1}), "aging.", aging),
    ]


def _fields(example: BaseModel, prefix: str, text: str) -> list[Entry]:
    """A setting per field of a model, with its default and what it may be; the example has nothing but what must be."""
    model, defaults = type(example), example.model_dump(mode="json")
    schema = model.model_json_schema()
    found = []
    for key, field in model.model_fields.items():
        rows = [("default", "required" if field.is_required() else _shown(defaults[key]))]
        rows += [(name, value) for name, value in _bounds(schema["properties"][key], schema.get("$defs", {}))]
        found.append(Entry(f"{prefix}{key}", field.description or "", text, ("of it", "value"), rows))
    return found


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
    return [Entry(kind.name, kind.summary, text) for kind in KINDS.values()]


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
    "settings": _settings,
    "figures": _figures,
    "topics": topics.entries,
}
