"""Layouts of trees of silhouettes: the levels of folders above the frames, and the labels in the folder names."""

import re
from collections.abc import Callable
from dataclasses import dataclass

Labels = tuple[str, str, str]  # subject, seq_type, view


@dataclass(frozen=True)
class Layout:
    """A layout with two or three levels of folders.

    Attributes:
        path: the layout and an example, for messages.
        labels_of: for two levels, a function that converts the names of the two folders to labels, or returns None if
            the names do not fit. For three levels, None, because the names are the labels.
        recognizable: names that fit this layout hardly occur in trees of other layouts.
    """

    path: str
    labels_of: Callable[[str, str], Labels | None] | None = None
    recognizable: bool = False

    @property
    def levels(self) -> int:
        return 2 if self.labels_of else 3


def _oumvlp(first: str, second: str) -> Labels | None:
    match = re.fullmatch(r"(?:Silhouette_)?([0-9]{3})[-_]([0-9]{2})", first)
    return (second, match[2], match[1]) if match else None


def _casia_a(first: str, second: str) -> Labels | None:
    match = re.fullmatch(r"([0-9]{2,3})_([0-9])", second)
    return (first, f"nm-{int(match[2]):02d}", f"{int(match[1]):03d}") if match else None


DEFAULT = "casia-b"
LAYOUTS = {
    DEFAULT: Layout(
        "ROOT/<subject>/<condition-take>/<view>/*.png, for example CASIA-B/001/nm-01/000/001-nm-01-000-001.png"
    ),
    "oumvlp": Layout(
        "ROOT/Silhouette_<view>-<take>/<subject>/*.png, for example OUMVLP/Silhouette_000-00/00001/0001.png",
        _oumvlp, recognizable=True,
    ),
    "casia-a": Layout("ROOT/<subject>/<view>_<take>/*.png, for example CASIA-A/fyc/45_1/fyc-45_1-001.png",
                      _casia_a, recognizable=True),
    "hid": Layout("ROOT/<subject>/<sequence>/*.png, for example HID/0001/003/0001.png (view 000)",
                  lambda subject, sequence: (subject, sequence, "000")),
}  # fmt: skip


def recognized(first: str, second: str) -> str | None:
    """Return the name of the recognizable layout that the names of two folders fit, or None."""
    fitting = (name for name, layout in LAYOUTS.items() if layout.recognizable and layout.labels_of(first, second))
    return next(fitting, None)
