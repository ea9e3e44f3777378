"""Functions that read, align, clean, write and crop a single silhouette.

Worker processes import this module, so it does not import torch.
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from model.common.errors import UserError
from model.common.files import write_file
from model.common.geometry import ALIGNED_WIDTH, FRAME_HEIGHT, FRAME_WIDTH
from model.data.raw.image_header import JPEG_START, image_error

MIN_PIXEL_SUM = 10000  # a silhouette with at most this sum is noise, not a person
MAX_HOLE = 0.03  # share of the pixels of a mask: smaller holes are filled, larger holes are gaps between legs or arms
MIN_COMPONENT = 0.05  # share of the area of the largest connected component: smaller components are specks
MIN_FRAMES = 5  # a sequence with fewer usable frames causes a warning

MAX_BYTES = 1 << 28  # maximum size of an image file: enough for MAX_PIXELS in uncompressed colour


# Reasons that `drop_reason` returns, with their meaning.
DROP_REASONS = {
    "empty": "all pixels are equal",
    "too dark": "no pixel has at least half of the brightness of white (255)",
    "too small": f"the sum of all pixels is at most {MIN_PIXEL_SUM}, which is {MIN_PIXEL_SUM // 255} white pixels",
    "too thin": "no pixel is left after scaling the person to 64 rows",
}


class Pixels(NamedTuple):
    """The decoded pixels of an image: grey uint8 [h, w], alpha uint8 [h, w] or None. `lossy` is True for JPEG files."""

    grey: np.ndarray
    alpha: np.ndarray | None = None
    lossy: bool = False


class BadImage(UserError):  # noqa: N818, the name says more than ImageError
    """A file is missing, empty, damaged or does not contain silhouettes. The message starts with the path."""


def read_image(path: Path | str) -> np.ndarray:
    """Read an image as grey uint8 [h, w]. Colours are converted to grey. Raises BadImage."""
    return read_pixels(path).grey


def read_pixels(path: Path | str) -> Pixels:
    """Read an image with its alpha channel. Raises BadImage.

    Python reads the bytes and OpenCV decodes them from memory, because on Windows OpenCV cannot open paths with
    characters outside the code page.
    """
    return decode_pixels(read_regular_file(path, MAX_BYTES), path)


def read_regular_file(path: Path | str, max_bytes: int) -> bytes:
    """Return the content of a file of at most `max_bytes`. Raises BadImage.

    Pipes and devices are rejected, because reading them could block forever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadImage(f"{path}: cannot be read: it is not a regular file")
            if status.st_size > max_bytes:
                raise BadImage(f"{path}: too large: {status.st_size:,} bytes; the supported maximum is {max_bytes:,}")
            return os.read(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise BadImage(f"{path}: no such file") from None
    except OSError as error:
        raise BadImage(f"{path}: cannot be read ({error.strerror})") from error


def decode_pixels(data: bytes, path: Path | str) -> Pixels:
    """Decode the bytes of a PNG, BMP or JPEG file. Raises BadImage, whose message names `path`.

    Other formats are rejected even if OpenCV can decode them, because `image_error` does not check them.
    """
    error = image_error(data)
    if error:
        raise BadImage(f"{path}: {error}")
    lossy = data.startswith(JPEG_START)
    # JPEG files have no alpha channel. They are read as grey, because OpenCV then applies the rotation in their header.
    mode = cv2.IMREAD_GRAYSCALE if lossy else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error:  # OpenCV raises it for a few kinds of damage and returns None for the others
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise BadImage(f"{path}: damaged, or not an image")
    if image.ndim == 2:
        return Pixels(_in_8_bits(image), None, lossy)
    alpha = _in_8_bits(image[:, :, 3]) if image.shape[2] == 4 else None
    return Pixels(cv2.cvtColor(_in_8_bits(image[:, :, :3]), cv2.COLOR_BGR2GRAY), alpha, lossy)


def _in_8_bits(channels: np.ndarray) -> np.ndarray:
    """Return the high 8 bits of 16-bit channels, or the values if all are below 256, as in masks of 0 and 1."""
    if channels.dtype == np.uint16 and channels.max() >= 256:
        channels = channels >> 8
    return np.ascontiguousarray(channels, np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 [h, w] as an 8-bit grey PNG.

    Row filters are turned off if this version of OpenCV has the option. The rows of silhouettes consist of a few runs
    of equal values, which compress best without a filter. OpenCV's defaults for the other options (compression level 1,
    run-length strategy) are the fastest values. They are not passed explicitly, because OpenCV would then try all
    filters for each row, which is slow.
    """
    flags = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    done, data = cv2.imencode(".png", image, flags)
    assert done, f"OpenCV cannot encode {image.shape} {image.dtype} as PNG"
    return data.tobytes()


def write_png(path: Path | str, image: np.ndarray) -> None:
    """Write uint8 [h, w] as an 8-bit grey PNG. The file is replaced atomically."""
    write_file(path, encode_png(image))


def align(sil: np.ndarray) -> np.ndarray | None:
    """Align a silhouette: scale the person to the full height and centre the person. uint8 [h, w] -> uint8 [64, 64].

    The result is equal, bit by bit, to the result of `pretreatment.py` in the original code (AbnerHqC/GaitSet), which
    follows the literature on gait energy images:

    1. Remove the black rows above and below the person.
    2. Resize to 64 rows, bicubic, with the aspect ratio kept.
    3. Find the x-centre: the first column at which the running sum of the columns exceeds half of the total. Specks
       and swinging arms have little effect on the x-centre.
    4. Crop 64 columns around the x-centre. Columns outside the image are black.

    Returns:
        The aligned silhouette, or None if there is no usable person: the pixel sum is at most 10000; the image is so
        narrow that no column is left after resizing (more than 64·w rows after step 1; the original code fails);
        or the person is so thin that the resizing, which samples pixels, misses the person.
    """
    # Too few white pixels are noise.
    row_sums = cv2.reduce(sil, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
    if row_sums.sum() <= MIN_PIXEL_SUM:
        return None
    # Cut out the rows of the person and resize them to 64 rows.
    filled = row_sums.nonzero()[0]
    top, rows = int(filled[0]), int(filled[-1] - filled[0]) + 1
    width = FRAME_HEIGHT * sil.shape[1] // rows
    if width == 0:
        return None
    resized = cv2.resize(sil[top : top + rows], (width, FRAME_HEIGHT), interpolation=cv2.INTER_CUBIC)
    # The x-centre becomes column 32 of the result.
    running = cv2.reduce(resized, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0].cumsum()
    if running[-1] == 0:
        return None
    left = int((2 * running).searchsorted(running[-1], side="right")) - ALIGNED_WIDTH // 2
    # The original code pads 32 columns on both sides if `left <= 0 or right >= width`. Filling only the missing columns
    # gives the same pixels.
    first, last = max(left, 0), min(left + ALIGNED_WIDTH, width)
    aligned = np.zeros((FRAME_HEIGHT, ALIGNED_WIDTH), np.uint8)
    aligned[:, first - left : last - left] = resized[:, first:last]
    return aligned


def remove_specks(sil: np.ndarray) -> np.ndarray:
    """Clear the specks of a silhouette, uint8 [h, w]. A speck above the head makes the aligned person smaller.

    Specks are connected components of pixels that are not 0 (diagonal neighbours are connected) with less than 5 % of
    the area of the largest component. A head or a lower leg that is separated from the body is larger than a speck.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(sil, connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    specks = area < MIN_COMPONENT * area[1:].max(initial=0)
    specks[0] = False  # the background
    return np.where(specks[labels], np.uint8(0), sil) if specks.any() else sil


def drop_reason(sil: np.ndarray, channel: np.ndarray) -> str:
    """Return why `align` drops a silhouette, a key of DROP_REASONS.

    Args:
        sil: the silhouette, for which `align` returned None.
        channel: the pixels before thresholding.
    """
    if int(sil.sum(dtype=np.int64)) > MIN_PIXEL_SUM:
        return "too thin"
    if sil.max() > 127:
        return "too small"
    return "empty" if channel.min() == channel.max() else "too dark"


def cut_sides(frames: np.ndarray) -> np.ndarray:
    """Crop frames to the width that the network reads, without a copy. uint8 [..., 64, 44 to 64] -> [..., 64, 44]

    Both sides lose the same number of columns, ten for width 64. If the width is odd, the right side loses one more
    column.
    Raises ValueError for other shapes.
    """
    if frames.ndim < 2 or frames.shape[-2] != FRAME_HEIGHT or not FRAME_WIDTH <= frames.shape[-1] <= ALIGNED_WIDTH:
        expected = f"[..., {FRAME_HEIGHT}, {FRAME_WIDTH} to {ALIGNED_WIDTH}]"
        raise ValueError(f"frames of shape {tuple(frames.shape)}: expected {expected}")
    left = (frames.shape[-1] - FRAME_WIDTH) // 2
    return frames[..., left : left + FRAME_WIDTH]


def fill_small_holes(mask: np.ndarray) -> np.ndarray:
    """Return a copy of a mask in which small holes (black regions enclosed by white) are white. uint8 [h, w]"""
    outside = cv2.copyMakeBorder(255 - mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=255)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= MAX_HOLE * mask.size
    small[[0, labels[0, 0]]] = False
    return np.where(small[labels[1:-1, 1:-1]], np.uint8(255), mask) if small.any() and count > 2 else mask.copy()
