"""Text of others in output of ours: names, descriptions and reasons say what they like, and nothing they say executes.

A name in a record is whatever its file holds. Three things could go wrong: the format's own characters (HTML, LaTeX,
Markdown, a spreadsheet's formulas); control characters, which move a cursor or set colours; and right-to-left letters,
which turn the numbers beside them around. The first are escaped by each format's rule. The other two are written as
\\xNN or \\uNNNN everywhere, so that what one reads is what is there.
"""

from __future__ import annotations

import html as html_of_python
import unicodedata

RIGHT_TO_LEFT = ("R", "AL", "RLE", "RLO", "RLI", "LRE", "LRO", "LRI", "FSI", "PDF", "PDI", "AN")
LONGEST = 40  # characters of a name where width is short
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet computes
MARKDOWN = "\\`*_[]<>|#~"
LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "×": r"$\times$",
    "µ": r"\textmu{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",
    "±": r"$\pm$",
    "†": r"\textdagger{}",
    "…": r"\dots{}",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}


def plain(text: str) -> str:
    """The text with everything that is not printed, or is printed from right to left, spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _shown(character) else _spelled(character) for character in text)


def short(text: str, longest: int = LONGEST) -> str:
    """The text, its middle left out where it is longer."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[: longest - 1 - half]}…{text[-half:]}"


def html(text: str) -> str:
    """For HTML, in text and in attributes."""
    return html_of_python.escape(plain(text), quote=True)


def markdown(text: str) -> str:
    """For a cell or a line of Markdown."""
    return "".join(f"\\{character}" if character in MARKDOWN else character for character in plain(text))


def latex(text: str) -> str:
    """For LaTeX with T1 fonts. What these have no letter for is spelled out."""
    return "".join(
        LATEX.get(character, character if ord(character) < 0x180 else _latex_code(character))
        for character in plain(text)
    )


def latex_length(text: str) -> int:
    """Characters that LaTeX sets for a text."""
    return sum(1 if character in LATEX or ord(character) < 0x180 else len("U+0000") for character in plain(text))


def spreadsheet(text: str) -> str:
    """For a text cell of CSV: an apostrophe before what a spreadsheet would compute."""
    said = plain(text)
    return f"'{said}" if said.lstrip().startswith(FORMULA) else said


def _shown(character: str) -> bool:
    return character.isprintable() and unicodedata.bidirectional(character) not in RIGHT_TO_LEFT


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _latex_code(character: str) -> str:
    return f"\\texttt{{U+{ord(character):04X}}}"
