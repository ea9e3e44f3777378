"""Pieces of HTML: sections, tables that scroll by themselves, and the page around them. No network, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.report.palette import DARK, LIGHT

_STYLE = Path(__file__).with_name("style.css")


class Section(NamedTuple):
    """`name` is the anchor, `title` its heading, `short` the word in the list of contents; `body` is HTML already."""

    name: str
    title: str
    body: str
    short: str = ""


def page(title: str, head: str, sections: Iterable[Section]) -> str:
    """The page as text; sections without a body are left out."""
    shown = [section for section in sections if section.body]
    contents = "".join(f'<li><a href="#{s.name}">{escape(s.short or s.title)}</a></li>' for s in shown)
    body = "\n".join(f'<section id="{s.name}">\n<h2>{escape(s.title)}</h2>\n{s.body}\n</section>' for s in shown)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{style_sheet()}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n{head}\n"
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav>\n{body}\n</main>\n</body>\n</html>\n'
    )


def style_sheet() -> str:
    def variables(theme: dict[str, str]) -> str:
        return " ".join(f"--{role}: {colour};" for role, colour in theme.items())

    style = _STYLE.read_text(encoding="utf-8")
    return style.replace("--light: theme;", variables(LIGHT)).replace("--dark: theme;", variables(DARK))


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def row(label: str, values: Iterable[float | None], attributes: str = "", digits: int = 3) -> str:
    cells = "".join(f"<td>{number(value, digits)}</td>" for value in values)
    return f"<tr{attributes}><th>{escape(label)}</th>{cells}</tr>"


def words_row(label: str, cells: Sequence[str]) -> str:
    """A row of text cells; the last one is a sentence that may wrap."""
    inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells[:-1]) + f'<td class="words">{escape(cells[-1])}</td>'
    return f"<tr><th>{escape(label)}</th>{inner}</tr>"


def heads(first: str, names: Iterable[str], last_is_words: bool = False) -> str:
    names = list(names)
    cells = [f"<th>{escape(name)}</th>" for name in (first, *names)]
    if last_is_words:
        cells[-1] = f'<th class="words">{escape(names[-1])}</th>'
    return "".join(cells)


def table(caption: str, head: str, rows: Sequence[str], attributes: str = "") -> str:
    """A table that scrolls sideways by itself; its caption stays."""
    body = "\n".join(rows)
    return (
        (f'<p class="soft">{escape(caption)}</p>\n' if caption else "")
        + f'<div class="scroll"><table{attributes}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def side_by_side(tables: Iterable[str]) -> str:
    return '<div class="tables">' + "\n".join(f"<div>{one}</div>" for one in tables) + "</div>"


def folded(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n{body}</details>"


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{escape(text)}</p>"
