"""Tables for others: what they hold, what of it may be chosen, and that nothing in a name executes."""

import csv
import io
import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.made_records import folder, made
from memvirt.errors import ConfigError, FolderError
from memvirt.report import escape, export, markup, terminal
from memvirt.report.choice import Choice
from memvirt.report.comparison_text import compare_command
from memvirt.results.manifest import USUAL, Shown

EVIL = {
    "html": '<script>alert(1)</script><img src=x onerror="alert(1)">&amp;',
    "latex": r"\input{/etc/passwd} 50% of $x_1^2$ #1 {~} \end{table}",
    "markdown": "a|b **c** [d](javascript:x) `e` _f_ <b>",
    "formula": '=HYPERLINK("http://x","y")',
    "control": "\x1b[31mred\x1b]0;t\x07\r\x00\x9b2J\n",
    "right-to-left": "abc \u202e\u05d0\u05d1 12 \u0627",
    "long": "n" * 300,
    "quotes": 'it\'s "so"',
    "wide": "\u6f22\u5b57 \U0001f600",
}


def named(text):
    """A run whose every text says it."""
    config = {"scenario": {"name": text, "description": text}}
    cells = [made(preset=text, config=config), made(preset="b", config=config, status="refused", reason=text)]
    return [replace(cell, asked={"settings": [text]}) for cell in cells]


TAGS = set("html head meta title style body main h1 p ul li div table caption thead tr th tbody td strong".split())
LATEX = (
    r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|textquotedbl|textmu|textdagger|dots)\{\}",
    r"\\[&%$#_{}]",
    r"\$(\\[a-z]+|-)\$",
    r"\\texttt\{U\+[0-9A-F]+\}",
)


class Seen(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.attributes = set(), [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("what", EVIL)
@pytest.mark.parametrize("form", terminal.FORMATS)
def test_no_name_moves_a_cursor_or_turns_numbers_around(form, what):
    records = named(EVIL[what])
    said = terminal.text(records, 80) if form == "text" else terminal.WRITERS[form](records, USUAL)
    told = json.dumps(json.loads(said)) if form == "json" else said
    assert all(character.isprintable() or character == "\n" for character in told)
    assert not re.search("[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069]", told)
    if form == "text":
        assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("what", EVIL)
def test_html_holds_names_as_text(what):
    page = Seen(markup.to_html(named(EVIL[what])))
    assert page.tags <= set(
        "html head meta title style body main h1 p ul li div table caption thead tr th tbody td strong".split()
    )
    assert not any(name.startswith("on") or name in ("src", "href") for name in page.attributes)
    assert any(escape.plain(EVIL[what])[:20].strip() in word for word in page.words)


@pytest.mark.parametrize("what", EVIL)
def test_markdown_keeps_its_columns(what):
    lines = [line for line in markup.to_markdown(named(EVIL[what])).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "<" not in re.sub(r"\\<", "", "".join(lines))


def test_csv_computes_nothing_and_comes_back():
    rows = list(csv.DictReader(io.StringIO(export.to_csv(named(EVIL["formula"])))))
    assert all(row["preset"] in ("'" + EVIL["formula"], "b") for row in rows)
    saved = list(csv.DictReader(io.StringIO(export.to_csv([made(saved=(("swap", -3),))]))))
    assert next(row for row in saved if row["metric"] == "saved_swap_frames")["value"] == "-3", "a number is no formula"


@given(st.text(max_size=60))
def test_what_is_escaped_can_be_told_from_markup(text):
    assert not set(escape.html(text)) & set("<>\"'")
    bare = re.sub("|".join(LATEX), "", escape.latex(text))
    assert not set(bare) & set("\\&%$#_{}~^"), bare
    assert escape.plain(escape.plain(text)) == escape.plain(text)
    assert len(escape.short(text, 20)) <= 20


def wide_run():
    names = ("none", "swap", "zcache", "sharing", "balloon", "all")
    return [
        made(scenario, ratio, preset, seed, slowdown=f"{100 + 7 * seed + len(preset)}.123", faults=123_456 + seed)
        for scenario in ("zipf", "scan")
        for ratio in ("1.00", "1.50", "2.00")
        for preset in names
        for seed in range(1, 6)
    ]


@pytest.mark.parametrize("span", [1, 2])
def test_latex_compiles_and_fits_its_page(span, tmp_path):
    """Also with names that are LaTeX. An overfull box would stick out into the margin."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: install texlive-latex-base and texlive-latex-recommended")
    shown = Shown(
        columns=["effective_overcommit", "slowdown", "faults", "fault_p99_us", "saved_net_frames", "swap_pages_in"]
    )
    tables = [markup.to_latex(wide_run(), USUAL, span=span), markup.to_latex(wide_run(), shown, span=span)]
    tables += [markup.to_latex(named(text), USUAL, span=span) for text in EVIL.values()]
    (tmp_path / "t.tex").write_text(
        "\\documentclass[10pt,twocolumn]{article}\\usepackage[utf8]{inputenc}\\usepackage[T1]{fontenc}\n"
        "\\usepackage{booktabs,textcomp}\\extrafloats{100}\\begin{document}\\sloppy\n"
        + "\\clearpage\n".join(tables)
        + "\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    log = (tmp_path / "t.log").read_text(errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(wide, default=0) < 2, re.findall(r"Overfull.*\n.*", log)


def test_latex_says_what_it_left_out_and_has_a_label():
    narrow, wide = (markup.to_latex(wide_run(), USUAL, span=span) for span in (1, 2))
    assert r"\begin{table}" in narrow and "Left out for want of width: " in narrow
    assert r"\begin{table*}" in wide and r"\label{tab:tiny-zipf}" in wide and r"\label{tab:tiny-scan}" in wide
    assert "Learned: " in wide and "±" not in wide and r"\toprule" in wide


def test_rows_and_columns_can_be_chosen(tmp_path):
    place = folder(tmp_path / "run", wide_run())
    choice = Choice(("faults", "saved"), ("swap", "all"), ("scan",), ("1.5",))
    text = terminal.table_command(place, choice=choice)
    assert (
        "faults" in text and "slowdown" not in text.split("Learned")[0] and "zipf" not in text and " 2.00 " not in text
    )
    rows = list(csv.DictReader(io.StringIO(terminal.table_command(place, "csv", choice=choice))))
    assert {(row["scenario"], row["ratio"], row["metric"]) for row in rows} == {
        ("scan", "1.50", "status"), ("scan", "1.50", "faults")
    }  # fmt: skip
    data = json.loads(terminal.table_command(place, "json", choice=choice))
    assert [row["preset"] for row in data["table"]] == ["swap", "all"]
    assert data["table"][0]["numbers"]["faults"]["n"] == 5 and data["table"][0]["numbers"]["faults"]["interval"]
    for form in ("md", "latex", "html"):
        assert "zipf" not in terminal.table_command(place, form, choice=choice)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(columns=("slowdwn",)), "no metric is called 'slowdwn'; did you mean 'slowdown'"),
        (Choice(presets=("swp",)), "the run has no preset 'swp'; did you mean 'swap'"),
        (Choice(scenarios=("zip",)), "the run has no scenario 'zip'"),
        (Choice(ratios=("1.7", "x")), "the run has no ratio '1.7'"),
    ],
)
def test_a_choice_of_what_is_not_there_is_refused(choice, said, tmp_path):
    for form in terminal.FORMATS:
        with pytest.raises(ConfigError, match=re.escape(said)):
            terminal.table_command(folder(tmp_path / form, wide_run()[:60]), form, choice=choice)


def test_a_folder_of_baselines_has_no_table_yet(tmp_path):
    place = folder(tmp_path / "run", [made(preset="baseline", role="baseline")])
    for form in terminal.FORMATS:
        with pytest.raises((ConfigError, FolderError), match="no cell is finished; go on with 'memvirt run tiny"):
            terminal.table_command(place, form)


def test_what_is_not_run_yet_is_said_in_every_format(tmp_path):
    place = folder(tmp_path / "run", [made(), made(preset="all")])
    (place / "cells" / "zipf-150--all--s1.json").unlink()
    for form in ("text", "md", "latex", "json", "html"):
        assert "1 of 2 cells are not run yet" in terminal.table_command(place, form)


def test_a_thousand_cells_take_less_than_five_seconds(tmp_path):
    names = ("none", "swap", "zcache", "sharing", "balloon", "all", "a", "b", "c", "d")
    cells = [
        made(scenario, f"{1 + step / 10:.2f}", preset, seed, slowdown=f"{2 + seed + step}.0")
        for scenario in ("zipf", "scan")
        for step in range(10)
        for preset in names
        for seed in range(1, 6)
    ]
    one, two = folder(tmp_path / "one", cells), shutil.copytree(tmp_path / "one", tmp_path / "two")
    for make in (lambda: terminal.table_command(one), lambda: compare_command([one, two])):
        began = time.process_time()
        assert make()
        assert time.process_time() - began < 5
