"""Write animations as GIF and MP4 files, atomically."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from PIL.Image import Image

from model.common.errors import UserError
from model.common.files import atomic_file


def write_gif(path: Path | str, pictures: Iterable[Image], milliseconds: float) -> None:
    """Write a GIF that repeats forever and shows each picture for `milliseconds`."""
    first, *others = pictures
    with atomic_file(path) as part:
        first.save(part, "GIF", save_all=True, append_images=others, duration=round(milliseconds), loop=0)


def write_mp4(path: Path | str, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write an MP4 from one or more frames, uint8 [height, width, 3] in OpenCV's order of colours (blue first).

    Raises UserError if OpenCV cannot encode the file.
    """
    frames = iter(frames)
    first = next(frames)
    with atomic_file(path) as part:
        # OpenCV chooses the format by the suffix of the file, and the temporary file `part` does not end in .mp4.
        scratch = part.with_name(f"{part.name}.mp4")
        try:
            writer = cv2.VideoWriter(str(scratch), cv2.VideoWriter_fourcc(*"mp4v"), fps, first.shape[1::-1])
            opened = writer.isOpened()
            for frame in chain([first], frames if opened else ()):
                writer.write(frame)
            writer.release()
            if not opened or not scratch.stat().st_size:
                raise UserError(f"{path}: OpenCV cannot write this MP4 file; check the free space of the disk")
            scratch.replace(part)
        finally:
            scratch.unlink(missing_ok=True)
