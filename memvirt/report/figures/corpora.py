"""What is in a corpus, as Vega-Lite specifications: plain dicts, one function each, with the data inside."""

from memvirt.inputs.summary import BUCKETS, ClassSummary, Summary
from memvirt.report.figures.style import SCHEMA, Figure

FIGURES = ("contents", "sizes", "common")
CONTENTS = ("zero", "one value", "copies", "near another", "other")


def contents(summary: Summary) -> Figure:
    """What the pages of each class are: bars that add up to all of them."""
    values = [
        {"class": row.name, "part": kind, "order": order, "percent": row.percent(pages)}
        for row in summary.classes
        for order, (kind, pages) in enumerate(zip(CONTENTS, _parts(row), strict=True))
    ]
    return {
        "$schema": SCHEMA,
        "title": "Contents of pages",
        "data": {"values": values},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "class", "type": "nominal", "title": None, "sort": None},
            "x": {"field": "percent", "type": "quantitative", "title": "% of pages", "scale": {"domain": [0, 100]}},
            "color": {"field": "part", "type": "nominal", "title": None, "sort": list(CONTENTS)},
            "order": {"field": "order"},
        },
    }


def _parts(row: ClassSummary) -> tuple[int, int, int, int, int]:
    """Pages of each of CONTENTS. Of each content one page is no copy; same-filled pages are told apart from copies."""
    zero, filled = row.zero, row.same_filled - row.zero
    copies = row.pages - row.same_filled - row.distinct_plain
    return zero, filled, copies, row.near, row.pages - zero - filled - copies - row.near


def sizes(summary: Summary) -> Figure:
    """How large units get under each codec: the share of units up to each size, a panel for each size of unit."""
    values = []
    for row in (*summary.classes, summary.total):
        for codec, distributions in row.sizes.items():
            for each in distributions:
                below = 0
                for bucket, units in enumerate(each.buckets):
                    below += units
                    values.append(
                        {
                            "class": row.name,
                            "codec": codec,
                            "unit": f"{each.unit_bytes // 1024} KiB",
                            "size_percent": 100 * (bucket + 1) / BUCKETS,
                            "units_percent": 100 * below / each.units,
                        }
                    )
    return {
        "$schema": SCHEMA,
        "title": "Compressed sizes",
        "data": {"values": values},
        "facet": {
            "row": {"field": "codec", "type": "nominal", "title": None},
            "column": {"field": "unit", "type": "nominal", "title": None, "sort": ["4 KiB", "16 KiB", "64 KiB"]},
        },
        "spec": {
            "mark": {"type": "line", "interpolate": "step-before"},
            "encoding": {
                "x": {"field": "size_percent", "type": "quantitative", "title": "size, % of the unit"},
                "y": {"field": "units_percent", "type": "quantitative", "title": "% of units up to it"},
                "color": {"field": "class", "type": "nominal", "sort": None},
            },
        },
    }


def common(summary: Summary) -> Figure:
    """Which classes have pages in common: of each row's pages, how many are in the column's class too."""
    pages = {row.name: row.pages for row in summary.classes}
    pairs = [(pair.one, pair.other, pair.pages_of_one) for pair in summary.common]
    pairs += [(pair.other, pair.one, pair.pages_of_other) for pair in summary.common]
    values = [
        {"class": one, "has pages of": other, "pages": count, "percent": 100 * count / pages[one]}
        for one, other, count in pairs
    ]
    return {
        "$schema": SCHEMA,
        "title": "Pages in common",
        "data": {"values": values},
        "mark": {"type": "rect"},
        "encoding": {
            "y": {"field": "class", "type": "nominal", "sort": list(pages), "scale": {"domain": list(pages)}},
            "x": {"field": "has pages of", "type": "nominal", "sort": list(pages), "scale": {"domain": list(pages)}},
            "color": {"field": "percent", "type": "quantitative", "title": "% of the row's pages"},
            "tooltip": [{"field": "pages", "type": "quantitative"}],
        },
    }


def of_corpus(summary: Summary) -> dict[str, Figure]:
    """Every figure of a corpus by name; none on common pages where there are none."""
    found = {"contents": contents(summary), "sizes": sizes(summary)}
    return found | ({"common": common(summary)} if summary.common else {})
