"""Rendering of the Jinja2 templates in `templates/`, and the formatting of the values they show."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from model.report.palette import DARK, LIGHT

_FOLDER = Path(__file__).parent


class Section(NamedTuple):
    """Section of a page: its anchor, its entry in the table of contents and its rendered body."""

    anchor: str
    label: str
    body: Markup


def render(template: str, **values: Any) -> Markup:
    """Render `templates/<template>.html`; every value is escaped unless it is `Markup`."""
    return Markup(_ENVIRONMENT.get_template(f"{template}.html").render(values))


def render_page(title: str, head: Markup, sections: Iterable[Section]) -> str:
    """Render a self-contained page without scripts: title, `head`, table of contents and the sections."""
    return str(render("page", title=title, style=style_sheet(), head=head, sections=list(sections)))


def style_sheet() -> Markup:
    """Return style.css with the colours of both themes filled in."""

    def variables(theme: dict[str, str]) -> str:
        return " ".join(f"--{role}: {colour};" for role, colour in theme.items())

    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    return Markup(style.replace("--light: theme;", variables(LIGHT)).replace("--dark: theme;", variables(DARK)))


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with `digits` decimals; None and NaN become a dash."""
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def numbers(values: Iterable[float | None], digits: int = 3) -> list[str]:
    return [number(value, digits) for value in values]


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True, keep_trailing_newline=False,
)  # fmt: skip
_ENVIRONMENT.filters["count"] = "{:,}".format
