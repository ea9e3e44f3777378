"""Test animated silhouettes."""

import base64
import io

import numpy as np
from people import made_frames
from PIL import Image

from model.report.animation import film_strip


def test_a_film_strip_shows_the_first_frames_side_by_side():
    frames = made_frames(3, frames=30)
    count, png = film_strip(frames)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"))
    assert count == 24
    np.testing.assert_array_equal(image, np.concatenate(list(frames[:24]), axis=1))
