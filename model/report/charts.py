"""Draw charts with matplotlib, as inline SVG that follows the page's colour theme and as PNG files."""

import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from model.common.errors import UserError
from model.common.files import atomic_file
from model.report.palette import LIGHT, SERIES, cell_colours

# Sizes in inches. Figures are scaled to the width of the screen, so the text of a small figure is readable on a phone.
SIZE = (4.8, 3.3)
WIDE = (5.6, 5.0)
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
# SVG charts are drawn in these colours, which no chart uses otherwise. `Chart.svg` then replaces each of them by a
# variable of the style sheet.
_PLACEHOLDERS = {role: f"#fe01{number:02x}" for number, role in enumerate(LIGHT)}


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        name: stem of the PNG file and prefix of the ids in the SVG.
        title: caption.
        description: text that screen readers read instead of the drawing.
        draw: `draw(axes, colours)` draws the chart with matplotlib; `colours` maps the roles of `palette` to colours.
        size: width and height in inches.
    """

    name: str
    title: str
    description: str
    draw: Callable[[Any, Mapping[str, str]], None]
    size: tuple[float, float] = SIZE

    @property
    def wide(self) -> bool:
        return self.size[0] > SIZE[0]

    def svg(self) -> tuple[str, Markup]:
        """Draw the chart as SVG in the colours of the page's theme, with ids that are unique on the page.

        Returns:
            The view box, and the elements inside the `<svg>` element.
        """
        text = self._drawn(_PLACEHOLDERS, "svg").decode()
        opening = re.search(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', text)
        svg = text[opening.end() : text.rindex("</svg>")]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
        # matplotlib uses the same ids in every drawing, and a page holds several drawings.
        svg = re.sub(r'\bid="|href="#|url\(#', lambda found: f"{found[0]}{self.name}-", svg)
        svg = svg.replace("xlink:href", "href")
        svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
        for role, colour in _PLACEHOLDERS.items():
            svg = svg.replace(colour, f"var(--{role})")
        return opening[1], Markup(re.sub(r"\n\s*", "\n", svg))

    def write_png(self, path: Path) -> None:
        """Write the chart to `path` as PNG in the colours of the light theme."""
        with atomic_file(path) as part:
            part.write_bytes(self._drawn(LIGHT, "png"))

    def _drawn(self, colours: Mapping[str, str], file_format: str) -> bytes:
        """Draw the chart with matplotlib and return the file's content."""
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        settings = {
            "svg.fonttype": "none", "svg.hashsalt": self.name, "font.size": 11, "text.color": colours["text"],
            "axes.edgecolor": colours["soft"], "axes.labelcolor": colours["text"], "axes.grid": True,
            "grid.color": colours["line"], "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
            "axes.facecolor": "none", "xtick.color": colours["soft"], "ytick.color": colours["soft"],
            "xtick.labelcolor": colours["text"], "ytick.labelcolor": colours["text"], "legend.frameon": False,
            "legend.fontsize": 10.5, "axes.titlesize": 11, "legend.handlelength": 2.6,
        }  # fmt: skip
        file = io.BytesIO()
        with rc_context(settings):
            # The SVG is transparent, so that the page's background is visible in both themes.
            background = "none" if file_format == "svg" else colours["page"]
            figure = Figure(figsize=self.size, layout="constrained", facecolor=background)
            self.draw(figure.add_subplot(), colours)
            if file_format == "svg":
                figure.savefig(file, format="svg", metadata={"Date": None})
            else:
                figure.suptitle(self.title if not figure.axes[0].get_title() else "", fontsize=11.5)
                figure.savefig(file, format="png", dpi=150)
        return file.getvalue()


class Line(NamedTuple):
    """A line of a chart through the points `x`, `y` [n].

    `style` is a number from 0 that selects the colour, dashes and marker. A `reference` line is drawn in a soft colour.
    """

    label: str
    x: Sequence[Any]
    y: Sequence[float]
    style: int = 0
    reference: bool = False


def check_matplotlib() -> None:
    """Raise UserError if matplotlib cannot be imported. Hide matplotlib's messages about its font cache."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib  # noqa: F401  # slow to import, and only reports with figures need it
    except ImportError as error:
        raise UserError(
            f"cannot draw figures: matplotlib cannot be imported ({error}); run pip install -r requirements.txt"
        ) from error


def percent_limits(values: Any) -> tuple[float, float]:
    """Return limits of a y axis for `values` in percent: from just below the lowest value to just above 100."""
    return max(0.0, np.floor(np.nanmin(values) / 10) * 10 - 5), 101.5


def line_chart(
    name: str, title: str, description: str, lines: Sequence[Line], settings: Mapping[str, Any], legend: str = "best"
) -> Chart:
    """Return a chart of `lines`.

    Args:
        settings: properties for matplotlib's `Axes.set`, which applies them in the given order.
        legend: position of the legend. A chart with a single line has no legend.
    """
    categories = lines[0].x if isinstance(lines[0].x[0], str) else None  # view names, evenly spaced

    def draw(axes, colours: Mapping[str, str]) -> None:
        for line in lines:
            # Lines over views have markers. Other lines differ by their dashes.
            dashed = line.reference or categories is None
            axes.plot(
                line.x if categories is None else range(len(line.x)),
                line.y,
                label=line.label,
                color=colours["soft" if line.reference else SERIES[line.style % len(SERIES)]],
                linestyle=DASHES[1 if line.reference else line.style % len(DASHES)] if dashed else "-",
                marker=None if dashed else MARKERS[line.style % len(MARKERS)],
                markersize=4.5,
                linewidth=1.3 if line.reference else 1.8,
            )
        axes.set(**settings)
        if categories is not None:
            axes.set_xticks(range(len(categories)), categories)
            if len(categories) > 8:
                axes.tick_params(axis="x", labelsize=9.5)
        if len(lines) > 1:
            axes.legend(loc=legend)

    return Chart(name, title, description, draw)


def view_chart(
    condition: str, description: str, lines: Sequence[Line], limits: tuple[float, float], legend: str = "best"
) -> Chart:
    """Return a chart of the rank-1 per probe view for one condition; `limits` bound the y axis."""
    settings = {"ylim": limits, "xlabel": "probe view", "ylabel": "rank-1 (%)"}
    return line_chart(f"views-{condition}", condition, description, lines, settings, legend)


def heat_map(condition: str, cells: np.ndarray, views: Sequence[str], low: float) -> Chart:
    """Return a heat map of rank-1 `cells` [v, v] in percent, with a row per probe view and a column per gallery view.

    The colour scale starts at `low`. This chart is only written as PNG, because the page shows the cells in a table.
    """
    title = f"{condition}: rank-1 (%) per probe view and gallery view"

    def draw(axes, colours: Mapping[str, str]) -> None:
        n = len(views)
        image = np.ones((n, n, 3))
        for i, j in np.ndindex(n, n):
            if np.isnan(cells[i, j]):
                axes.text(j, i, "–", ha="center", va="center")
                continue
            background, text = cell_colours((cells[i, j] - low) / (100 - low))
            image[i, j] = [int(background[k : k + 2], 16) / 255 for k in (1, 3, 5)]
            label = "100" if cells[i, j] == 100 else f"{cells[i, j]:.1f}"
            axes.text(j, i, label, ha="center", va="center", color=text, fontsize=8)
        axes.imshow(image, aspect="auto")
        axes.grid(False)
        axes.set_xticks(range(n), views)
        axes.set_yticks(range(n), views)
        axes.set(xlabel="gallery view", ylabel="probe view", title=title)

    size = (max(3.2, 0.5 * len(views) + 1.2), max(2.6, 0.42 * len(views) + 1.2))
    return Chart(f"cells-{condition}", title, title, draw, size)
