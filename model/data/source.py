"""Read aligned sequences from folders of 64×64 images or from OpenGait's pickles of height 64 or 128.

This module does not import torch because worker processes import it.
"""

from pathlib import Path

import numpy as np

from model.common.errors import UserError
from model.common.geometry import ALIGNED_WIDTH, FRAME_HEIGHT, FRAME_WIDTH
from model.data.array_pickle import read_array
from model.data.raw.content import choose_reading, sample_frames
from model.data.raw.silhouette import BadImage, Pixels, cut_sides, read_pixels, read_regular_file
from model.data.raw.tree import SequenceFolder

MAX_PICKLE_BYTES = 1 << 29  # silhouettes of more than an hour
HALVED = "frames of height 128 are reduced to 64 (mean of 2×2 pixels)"


def read_pickle(path: Path) -> np.ndarray:
    """Read the silhouettes of an OpenGait pickle without unpickling (see `array_pickle`).

    Returns uint8 [frames, h, w]: h = 64 and w = 44 to 64, or h = 128 and w = 44 to 128. Raises BadImage if the file is
    not a pickle of silhouettes, and UserError if the frames have a different size.
    """
    data = read_regular_file(path, MAX_PICKLE_BYTES)
    try:
        array = read_array(data)
    except ValueError as error:
        raise BadImage(f"{path}: not a pickle of a NumPy array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3:
        found = f"shape {list(array.shape)}" if isinstance(array, np.ndarray) else "objects"
        raise BadImage(f"{path}: contains an array of {found}, expected [frames, height, width]")
    height, width = array.shape[1:]
    if height not in (FRAME_HEIGHT, 2 * FRAME_HEIGHT) or not FRAME_WIDTH <= width <= height:
        raise UserError(
            f"{path}: frames of {height}×{width}, expected aligned frames of 64×44 to 64×64 or 128×44 to 128×128; to "
            "align the frames, replace the pickle by images of the frames and run pretreatment.py on the tree"
        )
    return array


def to_frame_size(array: np.ndarray) -> np.ndarray:
    """Return the frames of a pickle as uint8 [frames, 64, 44].

    Frames of height 64 are cropped at both sides. Frames of height 128 are cropped to 88 columns, or padded with black
    columns, which keeps the proportions of the person. Then each block of 2×2 pixels becomes one pixel, the mean
    rounded half up as in OpenCV's INTER_AREA.
    """
    if array.shape[1] == FRAME_HEIGHT:
        return cut_sides(array)
    wide = 2 * FRAME_WIDTH
    missing = max(0, wide - array.shape[2])
    array = np.pad(array, ((0, 0), (0, 0), (missing // 2, missing - missing // 2)))
    left = (array.shape[2] - wide) // 2
    blocks = array[:, :, left : left + wide].reshape(-1, FRAME_HEIGHT, 2, FRAME_WIDTH, 2)
    return ((blocks.sum((2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def read_sequence(sequence: SequenceFolder) -> tuple[np.ndarray, list[str], list[str]]:
    """Read a sequence.

    Returns:
        The readable frames, uint8 [frames, 64, 44]; a message for each unreadable file; and messages that describe how
        the frames were changed.

    Raises:
        UserError: if the frames do not have the aligned size, as in a tree of raw silhouettes, or if they are not white
            silhouettes on black.
    """
    frames, unreadable = [], []
    if sequence.is_pickle:
        try:
            frames = [Pixels(frame) for frame in read_pickle(sequence.path / sequence.files[0])]
        except BadImage as error:
            unreadable.append(str(error))
    else:
        for file in sequence.files:
            try:
                pixels = read_pixels(sequence.path / file)
            except BadImage as error:
                unreadable.append(str(error))
                continue
            height, width = pixels.grey.shape
            if height != FRAME_HEIGHT or not FRAME_WIDTH <= width <= ALIGNED_WIDTH:  # probably the whole tree is raw
                raise UserError(
                    f"{sequence.path / file}: {height}×{width}, expected aligned frames of {FRAME_HEIGHT}×"
                    f"{ALIGNED_WIDTH}: run pretreatment.py on this tree and use its output"
                )
            alpha = None if pixels.alpha is None else cut_sides(pixels.alpha)
            frames.append(Pixels(cut_sides(pixels.grey), alpha))
    if not frames:
        return np.empty((0, FRAME_HEIGHT, FRAME_WIDTH), np.uint8), unreadable, []
    samples = sample_frames(range(len(frames)), frames.__getitem__)
    reading = choose_reading(str(sequence.path), list(samples.values()), aligned=True)
    array = reading.apply(np.stack([reading.channel(frame) for frame in frames]))
    notes = reading.notes() + [HALVED] * (array.shape[1] > FRAME_HEIGHT)
    return to_frame_size(array), unreadable, notes
