"""A walking silhouette for the page: a strip of frames that the style sheet moves, without any script."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np

MOST_FRAMES = 24  # about one gait cycle
GREYS = 4


def walker(frames: np.ndarray, says: str) -> str:
    """HTML of uint8 `frames` [n, 64, 44]: the first `MOST_FRAMES` of them, one after another for ever."""
    frames = frames[:MOST_FRAMES]
    data = base64.b64encode(strip(frames)).decode()
    style = f"--n:{len(frames)};background-image:url(data:image/png;base64,{data})"
    return f'<div class="walker" role="img" aria-label="{escape(says)}" style="{style}"></div>'


def strip(frames: np.ndarray) -> bytes:
    """The frames side by side as a PNG of few greys: silhouettes need no more."""
    from PIL import Image

    side_by_side = np.concatenate(list(frames), axis=1)
    levels = np.rint(side_by_side.astype(np.float32) * (GREYS - 1) / 255).astype(np.uint8)
    image = Image.fromarray(levels, mode="P")
    image.putpalette([grey for level in range(GREYS) for grey in [level * 255 // (GREYS - 1)] * 3])
    file = io.BytesIO()
    image.save(file, format="PNG", bits=2, optimize=True)
    return file.getvalue()
