"""Test the contrast of the colours of the page and of the heat maps."""

from itertools import pairwise

from model.report.palette import DARK, LIGHT, SERIES, cell_colours, luminance
from model.report.render import style_sheet


def contrast(one: str, other: str) -> float:
    light = sorted(luminance([int(c[i : i + 2], 16) for i in (1, 3, 5)]) + 0.05 for c in (one, other))
    return light[1] / light[0]


def test_heat_map_text_is_readable_on_every_colour():
    steps = [cell_colours(i / 500) for i in range(501)]
    assert min(contrast(background, text) for background, text in steps) >= 4.5
    # No step is lighter than the step before it, so the order is visible without colour vision and in print.
    shades = [luminance([int(b[i : i + 2], 16) for i in (1, 3, 5)]) for b, _ in steps]
    assert all(later <= earlier for earlier, later in pairwise(shades))
    assert cell_colours(-3) == steps[0] and cell_colours(7) == steps[-1]


def test_page_text_is_readable_in_both_themes():
    for theme in (LIGHT, DARK):
        for paper in ("page", "panel"):
            assert min(contrast(theme[paper], theme[ink]) for ink in ("text", "soft")) >= 4.5
            assert min(contrast(theme[paper], theme[ink]) for ink in SERIES) >= 3, "lines and marks"
        assert contrast(theme["page"], theme["c0"]) >= 4.5, "links"
        assert all(f"--{role}: {colour};" in style_sheet() for role, colour in theme.items())
