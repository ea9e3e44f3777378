"""One silhouette: reading it whole, aligning it to 64×64, writing it, cutting it to 64×44.

No torch here: worker processes import this module.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from model.common.errors import UserError
from model.common.files import atomic_file
from model.data.raw.image_header import fault_of

HEIGHT = 64
WIDTH = 44  # what the network sees
ALIGNED_WIDTH = 64  # what pretreatment writes; the outer ten columns each side are dropped on load
MINIMUM_PIXEL_SUM = 10000  # a silhouette with no more than this is noise, not a person
MINIMUM_FRAMES = 5  # a sequence with fewer frames left is warned of

MOST_BYTES = 1 << 28  # of an image file: room for MOST_PIXELS in colour, uncompressed


class BadImage(UserError):  # noqa: N818, named for what it is about
    """An image file that is missing, empty, truncated or no image; the message names it and says which."""


def read_image(path: Path | str) -> np.ndarray:
    """Read one image as grey uint8 [h, w]; colour is converted to grey. Raises BadImage.

    The bytes are read by Python and decoded from memory: OpenCV's own file reading fails on paths
    outside the code page on Windows.
    """
    return decode_image(read_plain_file(path, MOST_BYTES), path)


def read_plain_file(path: Path | str, most: int) -> bytes:
    """The bytes of a file of at most `most`. Raises BadImage naming `path`.

    Not of a pipe or device, on which this would wait for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise BadImage(f"{path}: cannot be read, it is no plain file")
            if facts.st_size > most:
                raise BadImage(f"{path}: {facts.st_size:,} bytes, at most {most:,} are read")
            return os.read(descriptor, facts.st_size)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise BadImage(f"{path}: no such file") from None
    except OSError as error:
        raise BadImage(f"{path}: cannot be read ({error.strerror})") from error


def decode_image(data: bytes, path: Path | str) -> np.ndarray:
    """Decode the bytes of one PNG, BMP or JPEG file to grey uint8 [h, w]. Raises BadImage naming `path`.

    What other formats OpenCV knows is refused: their headers are not looked at here.
    """
    import cv2

    fault = fault_of(data)
    if fault:
        raise BadImage(f"{path}: {fault}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:  # what it refuses by itself; all else that is wrong with the bytes gives None
        image = None
    if image is None:
        raise BadImage(f"{path}: damaged, or not an image")
    return image


def encode_png(image: np.ndarray) -> bytes:
    """The bytes of an 8 bit grey PNG of uint8 [h, w].

    Without row filters, where this OpenCV knows the switch: that suits silhouettes, whose rows are a few
    runs of one value. Its other defaults (level 1, run lengths) are the fastest there are, and naming
    them would turn the slow choice among all filters on.
    """
    import cv2

    flags = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    done, data = cv2.imencode(".png", image, flags)
    assert done, f"OpenCV must be able to encode {image.shape} {image.dtype} as PNG"
    return data.tobytes()


def write_png(path: Path | str, image: np.ndarray) -> None:
    """Write uint8 [h, w] as 8 bit PNG; the file appears whole, and its name may hold any characters."""
    data = encode_png(image)
    with atomic_file(path) as part:
        part.write_bytes(data)


def align(sil: np.ndarray) -> np.ndarray | None:
    """Normalise one silhouette, uint8 [h, w], to uint8 [64, 64] with the person in the middle.

    The arithmetic of the original's pretreatment (AbnerHqC/GaitSet, `pretreatment.py`, which takes it from
    the GEI literature), to the bit: rows without a white pixel are cut off above and below, the rest is
    resized bicubically to 64 rows with its proportions kept, and the 64 columns around the x-centre are
    taken. The x-centre is the first column at which the running column sum exceeds half the total, so
    specks and swinging arms move it little. Columns beyond the border of the image are black.

    Returns None when the frame holds no usable person: a pixel sum of 10000 or less; a picture so narrow
    (h > 64·w) that it has no column left after resizing, at which the original stopped with an error;
    a person so thin that resizing, which samples, misses it.
    """
    import cv2

    row_sums = cv2.reduce(sil, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
    if row_sums.sum() <= MINIMUM_PIXEL_SUM:
        return None
    filled = row_sums.nonzero()[0]
    top, rows = int(filled[0]), int(filled[-1] - filled[0]) + 1
    width = HEIGHT * sil.shape[1] // rows
    if width == 0:
        return None
    resized = cv2.resize(sil[top : top + rows], (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    running = cv2.reduce(resized, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0].cumsum()
    if running[-1] == 0:
        return None
    left = int((2 * running).searchsorted(running[-1], side="right")) - ALIGNED_WIDTH // 2
    # The original pads both sides by 32 columns when `left <= 0 or right >= width`; pixel for pixel that
    # is the same as filling in only the columns that are missing.
    first, last = max(left, 0), min(left + ALIGNED_WIDTH, width)
    aligned = np.zeros((HEIGHT, ALIGNED_WIDTH), np.uint8)
    aligned[:, first - left : last - left] = resized[:, first:last]
    return aligned


def cut_sides(frames: np.ndarray) -> np.ndarray:
    """Cut uint8 [..., 64, w] to the [..., 64, 44] that the network takes, as a view.

    Width 64 loses ten columns each side, 44 passes as it is, widths between are cut evenly (an odd one
    loses one column more on the right). Raises ValueError for any other shape.
    """
    if frames.ndim < 2 or frames.shape[-2] != HEIGHT or not WIDTH <= frames.shape[-1] <= ALIGNED_WIDTH:
        raise ValueError(f"frames of shape {tuple(frames.shape)}: expected [..., {HEIGHT}, {WIDTH} to {ALIGNED_WIDTH}]")
    left = (frames.shape[-1] - WIDTH) // 2
    return frames[..., left : left + WIDTH]
