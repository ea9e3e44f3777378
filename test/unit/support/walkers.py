"""Write small trees of aligned frames. Each subject is a rectangle, whose size depends on the subject."""

from pathlib import Path

import cv2
import numpy as np

SEQ_TYPES = ("nm-01", "nm-02", "nm-03", "nm-04", "nm-05", "nm-06", "bg-01", "bg-02", "cl-01", "cl-02")


def rectangle_walker(subject: int, take: int, view: int, frames: int) -> np.ndarray:
    """Return uint8 [frames, 64, 64]. The width depends on the subject, and the lower part swings with the frame."""
    rng = np.random.default_rng((subject, take, view))
    sils = np.zeros((frames, 64, 64), np.uint8)
    half = 4 + 2 * subject
    for number, sil in enumerate(sils):
        swing = int(3 * np.sin(number + take + view))
        sil[2:40, 32 - half : 32 + half] = 255
        sil[40:62, 32 - half // 2 + swing : 32 + half // 2 + swing] = 255
        sil[rng.integers(64, size=12), rng.integers(10, 54, size=12)] ^= 255
    return sils


def write_aligned_tree(
    root: Path, subjects: int = 4, seq_types=SEQ_TYPES, views=("000", "090"), frames: int = 6, margin: int = 0
) -> Path:
    """Write a tree of aligned frames, or of raw frames if `margin` is not 0. Return `root`.

    Args:
        frames: number of frames per sequence. Half of the sequences have one more frame.
        margin: black pixels to add on each side of a frame.
    """
    for subject in range(subjects):
        for take, seq_type in enumerate(seq_types):
            for number, view in enumerate(views):
                folder = root / f"{subject + 1:03d}" / seq_type / view
                folder.mkdir(parents=True)
                length = frames + (subject + take + number) % 2
                for frame, sil in enumerate(rectangle_walker(subject, take, number, length), 1):
                    name = f"{subject + 1:03d}-{seq_type}-{view}-{frame:03d}.png"
                    cv2.imwrite(str(folder / name), np.pad(sil, margin))
    return root
