"""Make animated silhouettes: a PNG with frames side by side, which the style sheet of the page moves."""

import base64
import io

import numpy as np
from PIL import Image

MAX_FRAMES = 24  # about one gait cycle
GREY_LEVELS = 4  # enough for silhouettes, and few enough for a small file


def film_strip(frames: np.ndarray) -> tuple[int, str]:
    """Return the number of frames shown, at most `MAX_FRAMES`, and a PNG in base64 with these frames side by side.

    Args:
        frames: silhouettes, uint8 [n, h, w].
    """
    shown = frames[:MAX_FRAMES]
    side_by_side = np.concatenate(list(shown), axis=1)
    levels = np.rint(side_by_side.astype(np.float32) * (GREY_LEVELS - 1) / 255).astype(np.uint8)
    image = Image.fromarray(levels, mode="P")
    image.putpalette([grey for level in range(GREY_LEVELS) for grey in [level * 255 // (GREY_LEVELS - 1)] * 3])
    file = io.BytesIO()
    image.save(file, format="PNG", bits=2, optimize=True)
    return len(shown), base64.b64encode(file.getvalue()).decode()
