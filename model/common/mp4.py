"""Write frames as an MP4 file, atomically."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from model.common.errors import UserError
from model.common.files import atomic_file


def write_mp4(path: Path | str, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write frames, uint8 [height, width, 3] in OpenCV's order of colours (blue first).

    Raises UserError if OpenCV cannot encode the file.
    """
    writer, codec = None, cv2.VideoWriter_fourcc(*"mp4v")
    with atomic_file(path) as part:
        # OpenCV chooses the format by the suffix, which a temporary file does not have.
        scratch = part.with_name(f"{part.name}.mp4")
        try:
            for frame in frames:
                writer = writer or cv2.VideoWriter(str(scratch), codec, fps, frame.shape[1::-1])
                if not writer.isOpened():
                    break
                writer.write(frame)
            opened = writer is not None and writer.isOpened()
            if writer is not None:
                writer.release()
            if not opened or not scratch.stat().st_size:
                raise UserError(f"{path}: OpenCV cannot write this MP4 file; check the free space of the disk")
            scratch.replace(part)
        finally:
            scratch.unlink(missing_ok=True)
