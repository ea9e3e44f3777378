"""Animated silhouettes: a PNG with frames side by side, which the style sheet moves without any script."""

from __future__ import annotations

import base64
import io

import numpy as np

MAX_FRAMES = 24  # about one gait cycle
GREY_LEVELS = 4  # enough for silhouettes, and small


def film_strip(frames: np.ndarray) -> tuple[int, str]:
    """Return the number of frames shown, at most `MAX_FRAMES`, and their PNG in base64.

    Args:
        frames: silhouettes, uint8 [n, 64, 44].
    """
    frames = frames[:MAX_FRAMES]
    return len(frames), base64.b64encode(encode_png(frames)).decode()


def encode_png(frames: np.ndarray) -> bytes:
    """Return uint8 `frames` [n, h, w] side by side as a PNG with `GREY_LEVELS` grey levels."""
    from PIL import Image  # only reports with figures need Pillow

    side_by_side = np.concatenate(list(frames), axis=1)
    levels = np.rint(side_by_side.astype(np.float32) * (GREY_LEVELS - 1) / 255).astype(np.uint8)
    image = Image.fromarray(levels, mode="P")
    image.putpalette([grey for level in range(GREY_LEVELS) for grey in [level * 255 // (GREY_LEVELS - 1)] * 3])
    file = io.BytesIO()
    image.save(file, format="PNG", bits=2, optimize=True)
    return file.getvalue()
