"""The page of a report, put together: words and tables, figures, their shared data, styles and scripts in one file.

It asks nothing of any network; its own policy forbids that. The policy also forbids every script but the two that the page
was made with, named by their hashes. So even if the name of a preset got past the escaping, nothing in it could run.
`unsafe-eval` is for Vega, which compiles the expressions of figures: those are memvirt's own, and no name is part of one.

The drawing library, the figures, their data and the numbers to download are packed (`memvirt.report.page.packing`).
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import memvirt
from memvirt.backends import comparison
from memvirt.backends.comparison import Comparison
from memvirt.errors import ConfigError
from memvirt.report import beside, export, verdict
from memvirt.report.escape import plain
from memvirt.report.figures import data
from memvirt.report.figures.catalog import KINDS, Made, make
from memvirt.report.figures.data import Scene
from memvirt.report.figures.style import ON_SCREEN
from memvirt.report.page import content, tables
from memvirt.report.page.packing import Shared, deflated, plain_json
from memvirt.report.runs import Run, read_runs
from memvirt.report.summary import ratio_label
from memvirt.results.record import write_atomically

HERE = Path(__file__).parent
BESIDE = ("beside", "Beside a kernel")
SECTIONS = (
    ("learned", "What was learned"),
    ("where", "Where it ran"),
    ("tables", "Tables"),
    ("figures", "Figures"),
    BESIDE,
    ("method", "Method"),
    ("settings", "Settings"),
    ("again", "Commands"),
    ("data", "Data"),
)
SMOKE = "NOT A MEASUREMENT: tier smoke is so short that it shows only that everything works."


def report(folders: Sequence[str | os.PathLike[str]], out: Path) -> int:
    """Write the page of some results folders; its size in bytes.

    Folders that 'memvirt validate' has written get a section of their own; alone, they are a page without figures.
    FolderError and RecordError name what cannot be read; ConfigError without the libraries and for the same folder twice.
    """
    compared = [folder for folder in folders if comparison.is_folder(folder)]
    found = [comparison.read(folder) for folder in compared]
    runs = [folder for folder in folders if folder not in compared]
    text = (html(read_runs(runs), found) if runs else beside.page(found)).encode()
    write_atomically(out, text)
    return len(text)


def html(runs: Sequence[Run], compared: Sequence[Comparison] = ()) -> str:
    """The page of some runs, and of comparisons with a kernel, as text. It does not depend on what its file is called."""
    jinja, library = _library("jinja2"), _library("vl_convert")
    shared = Shared()
    figures: list[Any] = []
    scenarios = [_scenario(i, scenes, shared, figures) for i, scenes in enumerate(data.scenes(runs))]
    frame = _frame(runs)
    heads, rows = tables.table(runs)
    every = [group for run in runs for group in run.groups()]
    bundle = f"(()=>{{{library.javascript_bundle()}}})();"
    script = (HERE / "page.js").read_text(encoding="utf-8")
    environment = jinja.Environment(autoescape=True, trim_blocks=True, undefined=jinja.StrictUndefined)
    template = environment.from_string((HERE / "page.html").read_text(encoding="utf-8"))
    blocks = {"shared": shared.sets, "figures": figures, "config": ON_SCREEN, "frame": frame}
    carried = [("library", bundle), *((f"read-{name}", plain_json(value)) for name, value in blocks.items())]
    return str(
        template.render(
            title=plain(_title(runs)),
            version=memvirt.__version__,
            policy=_policy(bundle, script),
            css=(HERE / "page.css").read_text(encoding="utf-8"),
            sections=[each for each in SECTIONS if compared or each != BESIDE],
            beside=environment.from_string((HERE / "beside.html").read_text(encoding="utf-8")).render(
                compared=[_compared(each) for each in compared]
            ),
            runs=[_run(run) for run in runs],
            warnings=list(_warnings(runs)),
            differing=content.differing(runs) if len(runs) > 1 else [],
            environment=content.environment(runs),
            heads=heads,
            rows=rows,
            over=_over(tables.seeds(runs)),
            ratio=tables.ratio_word(every),
            clocked=any(column.wall for column in tables.shown(runs)),
            caveats=tables.caveats(runs),
            meanings=tables.meanings(runs),
            hosts=not all(group.simulated for group in every),
            traces=any(group.simulated for group in every),
            slowdowns=content.slowdowns(every),
            scenarios=scenarios,
            commands=content.commands(runs),
            inputs=[_inputs(run) for run in runs],
            frame_lines=f"{sum(len(which) for which, _ in frame['cells']):,}",
            carried=[(name, deflated(text)) for name, text in carried],
            script=script,
        )
    )


def _over(seeds: Sequence[int]) -> str:
    return "One seed" if max(seeds) == 1 else f"Means over {verdict.seeds_text(seeds)}"


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(f"a report needs {name.replace('_', '-')}: pip install memvirt[report]") from None


def _policy(*scripts: str) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts
    )
    return f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def _title(runs: Sequence[Run]) -> str:
    titles = list(dict.fromkeys(run.manifest.title or run.manifest.suite for run in runs))
    return " · ".join(titles)


def _run(run: Run) -> dict[str, Any]:
    compared, heads, rows = content.findings(run)
    asked, described = content.question(run)
    answers, facts, line = content.learned(run)
    baselines = sum(record.role == "baseline" for record in run.records)
    seeds = len({record.seed for record in run.records})
    about = run.manifest
    parts = [
        f"suite {about.suite}",
        f"tier {about.tier}",
        f"{len(run.records)} cells",
        *([f"{baselines} of them baselines that the others are held against"] if baselines else []),
        f"{seeds} seed{'s' if seeds > 1 else ''}",
    ]
    parts += [f"{name} {sha256[:12]}" for name, sha256 in about.inputs.items()]
    parts += [f"memvirt {about.versions.get('memvirt', '?')}{f' at {about.commit[:12]}' if about.commit else ''}"]
    return {
        "name": plain(run.name),
        "question": asked,
        "described": described,
        "line": plain(f"{run.name}: {', '.join(parts)}"),
        "answers": answers,
        "facts": facts,
        "ruled": line,
        "compared": compared,
        "heads": heads,
        "findings": rows,
        "ratio": tables.ratio_word(run.groups()),
        "expected": content.expected(run),
        "settings": content.settings(run),
    }


def _compared(found: Comparison) -> dict[str, Any]:
    made, (heads, lines) = beside.document([found]), beside.summary(found)
    return {
        "caption": beside.caption_of(found),
        "learned": made.learned,
        "heads": heads,
        "lines": lines,
        "sheets": made.sheets,
        "notes": made.notes,
    }


def _warnings(runs: Sequence[Run]) -> list[str]:
    smoke = [run.name for run in runs if run.manifest.tier == "smoke"]
    found = [f"{', '.join(smoke)}: {SMOKE}"] if smoke else []
    found += [
        f"{run.name}: {run.missing} cells are not run yet; the page speaks of the others."
        for run in runs
        if run.missing
    ]
    suites = dict.fromkeys(run.manifest.suite for run in runs)
    if len(suites) > 1:
        found.append(
            f"The runs are of different suites ({', '.join(suites)}): their scenarios stand one after another."
        )
    return [plain(text) for text in found]


def _inputs(run: Run) -> str:
    parts = [*run.manifest.inputs.items(), *run.manifest.versions.items()]
    return plain(f"{run.name}: " + ", ".join(f"{name} {value}" for name, value in parts))


def _scenario(number: int, scenes: Sequence[Scene], shared: Shared, figures: list[Any]) -> dict[str, Any]:
    """A scenario's figures at the ratio that tells most, those of its other ratios, and what there is none of."""
    ratio = data.telling_ratio(scenes)
    simulated, searched = scenes[0].simulated, any(scene.searched for scene in scenes)
    at = "capacity" if simulated else "ratio"
    kinds = [kind for kind in KINDS.values() if not (simulated and kind.of_hosts) and searched >= kind.of_searches]
    made = [make(kind, scenes, ratio) for kind in kinds]
    others = []
    for other in (each for each in data.ratios(scenes) if each != ratio):
        some = [make(kind, scenes, other) for kind in kinds if not kind.every_ratio]
        drawn = [each for each in some if each.figure is not None]
        if drawn:
            others.append((ratio_label(other), [_chart(each, at, shared, figures) for each in drawn]))
    return {
        "id": f"scenario-{number}",
        "name": scenes[0].name,
        "description": scenes[0].description,
        "figures": [_chart(each, at, shared, figures) for each in made if each.figure is not None],
        "absent": [{"title": each.kind.title, "reason": each.reason} for each in made if each.figure is None],
        "others": others,
        "ratio": at,
        "wide": len(scenes) > 1,
    }


def _chart(made: Made, word: str, shared: Shared, figures: list[Any]) -> dict[str, Any]:
    assert made.figure is not None
    figures.append(shared.add(made.figure))
    at = f", at {word} {ratio_label(made.ratio)}" if made.ratio else ""
    number = len(figures) - 1
    return {
        "id": f"figure-{number}",
        "title": made.kind.title + at,
        "figure": number,
        "reason": "",
        "told": made.figure["description"],
    }


def _frame(runs: Sequence[Run]) -> dict[str, Any]:
    """The long frame by record: which metrics it has, and their values as the record spells them."""
    metrics: dict[str, int] = {}
    units: list[str] = []
    cells, places = [], []
    for run in runs:
        for record in run.records:
            lines = export.frame([record])
            for *_, metric, unit, _ in lines:
                if metric not in metrics:
                    metrics[metric] = len(metrics)
                    units.append(unit)
            cells.append([[metrics[line[-3]] for line in lines], [line[-1] for line in lines]])
            places.append([run.name, *lines[0][: len(export.FRAME) - 3]])
    return {
        "columns": ["run", *export.FRAME],
        "metrics": list(metrics),
        "units": units,
        "cells": cells,
        "places": places,
    }
