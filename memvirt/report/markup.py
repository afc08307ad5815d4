"""A table as Markdown, as LaTeX and as HTML: what `memvirt.report.document` says, each in its own spelling.

LaTeX has to fit a page. A sheet goes into `table` for one column of an article of two, or into `table*` for both; its
heads stand in short lines, and columns for which no width is left are left out and named in the caption. How wide a
column is follows from its longest text: at \\footnotesize of a 10 pt article a digit of Computer Modern is 4.25 pt wide,
letters are about as wide on average, bold ones wider; columns stand 6 pt apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memvirt.report.choice import ALL, Choice
from memvirt.report.document import Document, Head, Sheet, TableCell, document
from memvirt.report.escape import html, latex, latex_length, markdown, short
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record

POINTS = {1: 240.0, 2: 504.0}  # wide: one column of a two-column article, and both
CHARACTER, BETWEEN = 4.6, 6.0  # points
LONGEST_WORD = 24  # characters, in captions and notes
LABEL = re.compile(r"[^A-Za-z0-9]+")
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#111;background:#fff}"
    "table{border-collapse:collapse;margin:1em 0}caption{text-align:left;font-weight:bold}"
    "th,td{padding:.2em .6em;text-align:right;border-bottom:1px solid #ccc;vertical-align:bottom}"
    "th[scope=row],.text{text-align:left}tr.section td,tr.section th{border-top:2px solid #888}"
    ".best{font-weight:bold}.ended{font-style:italic}div{overflow-x:auto}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#111}}"
)


def to_markdown(
    records: Sequence[Record], shown: Shown = USUAL, choice: Choice = ALL, remarks: Sequence[str] = ()
) -> str:
    """A table for each scenario, best values bold, endings in italics; notes, what was learned and claims below."""
    return markdown_of(document(records, shown, choice, remarks))


def markdown_of(made: Document) -> str:
    """A document as Markdown."""
    parts = [f"{markdown(made.caption)}\n"]
    parts += [f"**{markdown(made.question)}**\n"] if made.question else []
    parts += ["\n".join(f"- {markdown(line)}" for line in made.brief) + "\n"] if made.brief else []
    for sheet in made.sheets:
        heads = [markdown(head.whole) for head in sheet.heads]
        rows = [[_in_markdown(cell) for cell in row] for row in sheet.rows]
        widths = [max(3, *(len(row[at]) for row in (heads, *rows))) for at in range(len(heads))]
        lines = [_line(heads, sheet.heads, widths)]
        lines.append("|" + "|".join(_rule(head, width) for head, width in zip(sheet.heads, widths, strict=True)) + "|")
        lines += [_line(row, sheet.heads, widths) for row in rows]
        parts.append("\n".join([f"**{markdown(sheet.title)}**\n", *lines]) + "\n")
    parts.append("\n".join(f"- {markdown(note)}" for note in made.lines()) + "\n")
    parts.append(f"{markdown(made.learned)}\n")
    if made.counted:
        parts.append(
            "\n".join([f"{markdown(made.counted)}\n", *(f"- {markdown(line)}" for line in made.claims)]) + "\n"
        )
    return "\n".join(parts)


def _line(cells: Sequence[str], heads: Sequence[Head], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if head.right else cell.ljust(width)
        for cell, head, width in zip(cells, heads, widths, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def _rule(head: Head, width: int) -> str:
    return "-" * (width + 1) + ":" if head.right else ":" + "-" * (width + 1)


def _in_markdown(cell: TableCell) -> str:
    text = markdown(cell.text)
    return f"**{text}**" if cell.best else f"*{text}*" if cell.ended else text


def to_latex(
    records: Sequence[Record],
    shown: Shown = USUAL,
    choice: Choice = ALL,
    remarks: Sequence[str] = (),
    span: int = 2,
) -> str:
    """A booktabs table for each scenario, in an article of two columns: over one of them or, `span` 2, over both."""
    return latex_of(document(records, shown, choice, remarks), span)


def latex_of(made: Document, span: int) -> str:
    """A document as LaTeX."""
    parts = ["% needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs,textcomp}\n"]
    parts += [_in_latex(sheet, made, span) for sheet in made.sheets]
    lines = [
        _words(line)
        for line in (*made.lines(_absent(made, span)), made.learned, *([made.counted] if made.counted else []))
    ]
    lines += [_whole(line) for line in made.claims]
    parts.append("\n".join(f"\\par\\noindent{{\\footnotesize {line}}}" for line in lines) + "\n")
    return "\n".join(parts)


def _absent(made: Document, span: int) -> set[str]:
    """The titles of columns that no sheet has room for."""
    left = [set(_fitting(sheet, span)[1]) for sheet in made.sheets]
    return set.intersection(*left) if left else set()


def _in_latex(sheet: Sheet, made: Document, span: int) -> str:
    cells = [[_set(cell) for cell in row] for row in sheet.rows]
    kept, left = _fitting(sheet, span)
    layout = "".join("r" if sheet.heads[at].right else "l" for at in kept)
    heads = " & ".join(_stacked(sheet.heads[at]) for at in kept)
    body = []
    for at, row in enumerate(cells):
        body += ["\\midrule"] if at in sheet.sections[1:] else []
        body.append(f"{' & '.join(row[column] for column in kept)} \\\\")
    without = f" Left out for want of width: {', '.join(left)}." if left else ""
    star = "*" if span == 2 else ""
    label = LABEL.sub("-", f"{made.caption.split(',')[0].removeprefix('suite ')}-{sheet.name}").strip("-").lower()
    return "\n".join(
        [
            f"\\begin{{table{star}}}",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
            f"\\caption{{{_words(sheet.title)} ({_words(made.caption)}.){latex(without)}}}",
            f"\\label{{tab:{label[:60]}}}",
            f"\\begin{{tabular}}{{@{{}}{layout}@{{}}}}",
            "\\toprule",
            f"{heads} \\\\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            f"\\end{{table{star}}}\n",
        ]
    )


def _words(text: str) -> str:
    """A text for LaTeX, its words short enough for lines to be broken between them."""
    return latex(" ".join(short(word, LONGEST_WORD) for word in text.split(" ")))


def _whole(text: str) -> str:
    """A text for LaTeX of which no word is shortened: longer ones may be broken, so that one finds what they name."""
    pieces = [[word[at : at + LONGEST_WORD] for at in range(0, len(word), LONGEST_WORD)] for word in text.split(" ")]
    return " ".join("\\allowbreak{}".join(map(latex, word)) for word in pieces)


def _set(cell: TableCell) -> str:
    text = latex(short(cell.text))
    return f"\\textbf{{{text}}}" if cell.best else f"\\textit{{{text}}}" if cell.ended else text


def _stacked(head: Head) -> str:
    lines = " \\\\ ".join(map(latex, _lines(head)))
    return f"\\shortstack[{'r' if head.right else 'l'}]{{{lines}}}"


def _lines(head: Head) -> list[str]:
    """A head in narrow lines, its unit in one of its own."""
    unit = f"{head.unit} {head.arrow}".strip()
    return [*head.lines, *([unit] if unit else [])]


def _fitting(sheet: Sheet, span: int) -> tuple[list[int], list[str]]:
    """The columns that fit, by position, and the titles of those that do not."""
    wide = [
        BETWEEN
        + CHARACTER
        * max(*(len(line) for line in _lines(head)), *(latex_length(short(row[at].text)) for row in sheet.rows))
        for at, head in enumerate(sheet.heads)
    ]
    kept = [at for at, head in enumerate(sheet.heads) if head.kept]
    spare = POINTS[span] - sum(wide[at] for at in kept)
    left = []
    for at, head in enumerate(sheet.heads):
        if head.kept:
            continue
        if wide[at] <= spare:
            spare -= wide[at]
            kept.append(at)
        else:
            left.append(head.title)
    return sorted(kept), left


def to_html(records: Sequence[Record], shown: Shown = USUAL, choice: Choice = ALL, remarks: Sequence[str] = ()) -> str:
    """A page that needs nothing else: tables with heads that a screen reader names, no script."""
    return html_of(document(records, shown, choice, remarks))


def html_of(made: Document) -> str:
    """A document as a page."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{html(made.caption)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{html(made.caption.split(',')[0])}</h1><p>{html(made.caption)}</p>",
        *([f"<p><strong>{html(made.question)}</strong></p>"] if made.question else []),
        *([f"<ul>{''.join(f'<li>{html(line)}</li>' for line in made.brief)}</ul>"] if made.brief else []),
        f"<p>{html(made.learned)}</p>",
    ]
    if made.counted:
        lines = "".join(f"<li>{html(line)}</li>" for line in made.claims)
        parts.append(f"<p>{html(made.counted)}</p>{f'<ul>{lines}</ul>' if lines else ''}")
    parts += [_in_html(sheet) for sheet in made.sheets]
    parts.append("<ul>" + "".join(f"<li>{html(note)}</li>" for note in made.lines()) + "</ul></main></body></html>\n")
    return "\n".join(parts)


def _in_html(sheet: Sheet) -> str:
    heads = "".join(f'<th scope="col"{"" if head.right else _TEXT}>{html(head.whole)}</th>' for head in sheet.heads)
    rows = []
    for at, row in enumerate(sheet.rows):
        cells = "".join(_td(cell, head) for cell, head in zip(row, sheet.heads, strict=True))
        rows.append(f"<tr{_SECTION if at in sheet.sections[1:] else ''}>{cells}</tr>")
    body = "\n".join(rows)
    return (
        f'<div tabindex="0" role="region" aria-label="{html(sheet.title)}"><table><caption>{html(sheet.title)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )


_TEXT, _SECTION = ' class="text"', ' class="section"'


def _td(cell: TableCell, head: Head) -> str:
    if head.kept and not head.right:
        return f'<th scope="row">{html(cell.text)}</th>'
    kinds = [name for name, so in (("text", not head.right), ("best", cell.best), ("ended", cell.ended)) if so]
    mark = f' class="{" ".join(kinds)}"' if kinds else ""
    text = html(cell.text)
    return f"<td{mark}>{f'<strong>{text}</strong>' if cell.best else text}</td>"
