"""Figures, drawn by matplotlib: as SVG for the page, in colours that follow its theme, and as PNG for all else."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model.common.errors import UserError
from model.common.files import whole_file
from model.report.palette import LIGHT, SERIES, cell_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Small, so that on a phone, where it fills the width, letters are as large as on a desktop.
SIZE = (4.8, 3.3)
WIDE = (5.6, 5.0)
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
# Colours that nothing else has: in the SVG they become the style sheet's variables.
_STAND_INS = {role: f"#fe01{number:02x}" for number, role in enumerate(LIGHT)}


@dataclass(frozen=True)
class Chart:
    """`draw(axes, ink)` draws it; `ink` gives a colour for a role. `says` is read aloud instead of the picture."""

    name: str
    title: str
    says: str
    draw: Callable[[Axes, Mapping[str, str]], None]
    size: tuple[float, float] = SIZE

    def figure(self) -> str:
        """HTML: the drawing as inline SVG with its title."""
        wide = ' class="wide"' if self.size[0] > SIZE[0] else ""
        return f"<figure{wide}><figcaption>{escape(self.title)}</figcaption>\n{_inline(self)}</figure>"

    def write_png(self, path: Path) -> None:
        with whole_file(path) as part:
            part.write_bytes(_drawn(self, LIGHT, "png"))


class Line(NamedTuple):
    """`x` and `y` [n]; `place` chooses colour, dashes and marker; `faint` is for what is only compared with."""

    label: str
    x: Sequence[Any]
    y: Sequence[float]
    place: int = 0
    faint: bool = False
    marked: bool = True


def check_matplotlib() -> None:
    """Raises UserError with what to install where it is not there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(f"the report needs matplotlib: pip install -r requirements.txt ({error})") from error


def line_chart(
    name: str, title: str, says: str, lines: Sequence[Line], x_label: str, y_label: str, *,
    y_range: tuple[float, float] | None = None, x_scale: str = "linear", x_range: tuple[float, float] | None = None,
    x_ticks: Sequence[float] | None = None, at: str = "best",
) -> Chart:  # fmt: skip
    named = isinstance(lines[0].x[0], str)  # views are names, evenly apart

    def draw(axes: Axes, ink: Mapping[str, str]) -> None:
        for line in lines:
            role = "soft" if line.faint else SERIES[line.place % len(SERIES)]
            axes.plot(
                range(len(line.x)) if named else line.x, line.y, label=line.label, color=ink[role],
                linestyle="--" if line.faint else DASHES[line.place % len(DASHES)] if not line.marked else "-",
                marker=(MARKERS[line.place % len(MARKERS)] if line.marked and not line.faint else None),
                markersize=4.5, linewidth=1.3 if line.faint else 1.8,
            )  # fmt: skip
        axes.set_xscale(x_scale)
        if x_ticks:
            axes.set_xticks(x_ticks)
        if x_range:
            axes.set_xlim(*x_range)
        if y_range:
            axes.set_ylim(*y_range)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if named:
            axes.set_xticks(range(len(lines[0].x)), lines[0].x)
            if len(lines[0].x) > 8:
                axes.tick_params(axis="x", labelsize=9.5)
        if len(lines) > 1:
            axes.legend(loc=at)

    return Chart(name, title, says, draw)


def heat_map(name: str, title: str, says: str, cells: np.ndarray, views: Sequence[str], low: float) -> Chart:
    """`cells` [v, v] in percent, probe views down, gallery views across; only for the PNG, the page has a table."""

    def draw(axes: Axes, ink: Mapping[str, str]) -> None:
        n = len(views)
        image = np.ones((n, n, 3))
        for i, j in np.ndindex(n, n):
            if np.isnan(cells[i, j]):
                axes.text(j, i, "–", ha="center", va="center")
                continue
            background, text = cell_colours((cells[i, j] - low) / (100 - low))
            image[i, j] = [int(background[k : k + 2], 16) / 255 for k in (1, 3, 5)]
            shown = "100" if cells[i, j] == 100 else f"{cells[i, j]:.1f}"
            axes.text(j, i, shown, ha="center", va="center", color=text, fontsize=8)
        axes.imshow(image, aspect="auto")
        axes.grid(False)
        axes.set_xticks(range(n), views)
        axes.set_yticks(range(n), views)
        axes.set_xlabel("view of the gallery")
        axes.set_ylabel("view of the probe")
        axes.set_title(title)

    return Chart(name, title, says, draw, (max(3.2, 0.5 * len(views) + 1.2), max(2.6, 0.42 * len(views) + 1.2)))


def _inline(chart: Chart) -> str:
    svg = _drawn(chart, _STAND_INS, "svg").decode()
    svg = svg[svg.index("<svg") :]
    size = re.search(r'viewBox="[^"]*"', svg)[0]
    svg = re.sub(r"^<svg[^>]*>", f'<svg {size} role="img" aria-label="{escape(chart.says)}">', svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    # Several drawings share the page, and matplotlib gives the same names in each.
    svg = re.sub(r'\bid="|href="#|url\(#', lambda found: f"{found[0]}{chart.name}-", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    for role, colour in _STAND_INS.items():
        svg = svg.replace(colour, f"var(--{role})")
    return re.sub(r"\n\s*", "\n", svg)


def _drawn(chart: Chart, ink: Mapping[str, str], kind: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none", "svg.hashsalt": chart.name, "font.size": 11, "text.color": ink["text"],
        "axes.edgecolor": ink["soft"], "axes.labelcolor": ink["text"], "axes.grid": True, "grid.color": ink["line"],
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.facecolor": "none",
        "xtick.color": ink["soft"], "ytick.color": ink["soft"], "xtick.labelcolor": ink["text"],
        "ytick.labelcolor": ink["text"], "legend.frameon": False, "legend.fontsize": 10.5, "axes.titlesize": 11,
        "legend.handlelength": 2.6,
    }  # fmt: skip
    file = io.BytesIO()
    with rc_context(settings):
        figure = Figure(figsize=chart.size, layout="constrained", facecolor="none" if kind == "svg" else ink["page"])
        chart.draw(figure.add_subplot(), ink)
        if kind == "svg":
            figure.savefig(file, format="svg", metadata={"Date": None})
        else:
            figure.suptitle(chart.title if not figure.axes[0].get_title() else "", fontsize=11.5)
            figure.savefig(file, format="png", dpi=150)
    return file.getvalue()
