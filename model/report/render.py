"""Render the Jinja2 templates in `templates/`, and format the values that they show."""

import json
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from model.common.errors import counted
from model.evaluation.result import without_nan
from model.report.palette import DARK, LIGHT, cell_colours

_FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> Markup:
    """Render `templates/<template>.html`. Values of a type other than `Markup` are escaped."""
    return Markup(_ENVIRONMENT.get_template(f"{template}.html").render(values))


def render_page(title: str, head: Markup, sections: Sequence[tuple[str, str, Markup]]) -> str:
    """Render a self-contained page without scripts: title, `head`, table of contents and `sections`.

    Args:
        sections: anchor, entry in the table of contents and rendered body of each section.
    """
    return str(render("page", title=title, style=Markup(style_sheet()), head=head, sections=sections))


def style_sheet() -> str:
    """Return style.css with the colours of both themes filled in."""
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        variables = " ".join(f"--{role}: {colour};" for role, colour in theme.items())
        style = style.replace(f"--{name}: theme;", variables)
    return style


def shown(value: str | float | None, digits: int = 3) -> str:
    """Format the value of a table cell.

    Text is unchanged. Integers get thousands separators, other numbers get `digits` decimals. None and NaN become a
    dash.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return f"{value:,}"
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


_LOADER = FileSystemLoader(_FOLDER / "templates")
_ENVIRONMENT = Environment(
    loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters |= {"shown": shown, "counted": counted}
_ENVIRONMENT.filters["json"] = lambda value: json.dumps(without_nan(value), indent=1, ensure_ascii=False)
_ENVIRONMENT.tests["nan"] = np.isnan
_ENVIRONMENT.globals["cell_colours"] = cell_colours
