"""Heads of columns: whoever reads one knows what is counted, and in which unit."""

import re

import pytest

from memvirt.experiment import suite
from memvirt.metrics.registry import REGISTRY
from memvirt.report import columns, markup
from memvirt.report.document import Document, Head, Sheet, TableCell

SHOWN = sorted({name for each in suite.names() for name in suite.load(each).shown().columns})
ABBREVIATED = re.compile(r"_|\b(mib|gib|ns|us|ms|percent|per s)\b")


@pytest.mark.parametrize("name", [*SHOWN, *(each.name for each in columns.COLUMNS)])
def test_a_head_says_its_unit_beside_its_words(name):
    column, unit = columns.column(name), REGISTRY[name].unit
    assert not ABBREVIATED.search(column.title) and not ABBREVIATED.search(column.head), column
    said = {unit, unit.removesuffix("s")} & {*column.title.split()}
    assert column.unit == unit or said or unit in columns.SILENT, (column, unit)


def test_no_head_of_any_metric_has_a_unit_or_an_underscore_among_its_words():
    heads = {name: columns.column(name) for name in REGISTRY}
    assert not [each for each in heads.values() if "_" in each.title or "_" in each.head]
    assert (
        heads["stays_mib"].unit == "MiB" and heads["give_gib_per_s"].unit == heads["return_gib_per_s"].unit == "GiB/s"
    )
    assert (
        heads["guest.cache_dropped"].title == "cache dropped, in guests"
        and heads["guest.cache_dropped"].unit == "pages"
    )
    assert heads["slowdown_worst.gold"].head == "worst slowdown\ngold"


@pytest.mark.parametrize("name", suite.names())
def test_columns_of_a_suite_have_different_heads(name):
    shown = columns.columns_of(suite.load(name).shown())
    assert len({column.title for column in shown}) == len({column.head for column in shown}) == len(shown)


def test_units_stand_in_every_format():
    head = Head("giving speed", ("giving", "speed"), "GiB/s", "↑")
    made = Document("suite a", (Sheet("a", "a", (head,), ((TableCell("1"),),)),), (), "", "", ())
    assert "giving speed (GiB/s) ↑" in markup.markdown_of(made) and "giving speed (GiB/s) ↑" in markup.html_of(made)
    assert "GiB/s" in markup.latex_of(made, 1)


def test_a_unit_takes_room_in_a_column_of_latex():
    """A column is as wide as its longest line, and that may be its unit's."""
    name = Head("preset", ("preset",), right=False, kept=True)
    narrow, wide = (Head("n", ("n",), unit) for unit in ("%", "leaf tables for each gibibyte that was saved by it"))
    sheets = [Sheet("a", "a", (name, head), ((TableCell("swap"), TableCell("1")),)) for head in (narrow, wide)]
    assert [markup._fitting(sheet, 1)[1] for sheet in sheets] == [[], ["n"]]
