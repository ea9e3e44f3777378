"""Define the colours of the page and its figures for the light and the dark theme, and compute luminances."""

from collections.abc import Sequence

import numpy as np

# Every colour has a role. Figures and the style sheet only use roles. The contrast to `page` and `panel` is at least
# 4.5 for text, and at least 3 for lines and markers (WCAG 2). The colours of the series follow Okabe and Ito's palette
# for all kinds of colour vision. They are darkened or lightened to reach the contrast. No figure distinguishes series
# by colour alone.
LIGHT = {
    "page": "#ffffff", "panel": "#f5f7f9", "text": "#1b1f24", "soft": "#57606a", "line": "#d5dae0",
    "c0": "#0072b2", "c1": "#c24e00", "c2": "#007f5c", "c3": "#a2508a", "c4": "#7a6a00",
    "c5": "#2b8cc4", "c6": "#6a4c93", "c7": "#b3261e", "c8": "#4d5964", "c9": "#3f7d20",
}  # fmt: skip
DARK = {
    "page": "#14171b", "panel": "#1d2127", "text": "#e8eaed", "soft": "#a5adb7", "line": "#3a424c",
    "c0": "#56b4e9", "c1": "#ff9148", "c2": "#2fd0a0", "c3": "#e39ac9", "c4": "#e6d44a",
    "c5": "#8ecdf2", "c6": "#b79ae6", "c7": "#ff7b72", "c8": "#b5bec8", "c9": "#8fd14f",
}  # fmt: skip
SERIES = [role for role in LIGHT if role.startswith("c")]

# Colours of the heat maps, at equal steps. A scale of one hue from light to dark is readable without colour vision.
_SCALE = ((240, 246, 252), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))


def cell_colours(fraction: float) -> tuple[str, str]:
    """Return background and text colour (#rrggbb) of a heat map cell at `fraction` of the scale, clipped to 0..1.

    The contrast between the two colours is at least 4.5 (WCAG 2).
    """
    steps = np.linspace(0, 1, len(_SCALE))
    rgb = [round(float(np.interp(fraction, steps, channel))) for channel in zip(*_SCALE, strict=True)]
    # The contrasts of black and of white with any colour multiply to 21, so the larger one is at least 4.58.
    black_is_clearer = (luminance(rgb) + 0.05) ** 2 >= 1.05 * 0.05
    return "#{:02x}{:02x}{:02x}".format(*rgb), "#000000" if black_is_clearer else "#ffffff"


def luminance(rgb: Sequence[int]) -> float:
    """Return the relative luminance of an sRGB colour, 0 to 1 (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
