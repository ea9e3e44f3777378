"""Preview: the video with a box, a number and a tinted silhouette for each sequence of the tree."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from model.common.files import atomic_file
from model.common.mp4 import write_mp4
from model.silhouettes.video import Video

COLOURS = ((60, 180, 75), (48, 130, 245), (216, 99, 67), (180, 30, 145), (25, 225, 255), (240, 240, 70))  # blue first
GIF_WIDTH, GIF_FPS = 480, 10  # GIF files of a full video would be very large


def write_preview(path: Path, video: Video, sequences: dict[str, Path]) -> None:
    """Write an MP4 or GIF file. Raises UserError if OpenCV cannot encode it.

    Args:
        sequences: folder of the silhouettes by the name of the track.
    """
    gif = path.suffix.lower() == ".gif"
    step = max(1, round(video.fps / GIF_FPS)) if gif else 1
    silhouettes: dict[int, list[tuple[int, Path]]] = {}
    for track, folder in enumerate(sequences.values(), 1):
        for file in sorted(folder.glob("*.png")):
            silhouettes.setdefault(int(file.stem.rpartition("-")[2]), []).append((track, file))
    drawn = (
        draw(frame, [(track, cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)) for track, file in silhouettes.get(n, [])])
        for n, frame in zip(range(1, 1 << 62, step), video.frames(step), strict=False)
    )
    if gif:
        _write_gif(path, drawn, 1000 * step / video.fps)
    else:
        write_mp4(path, drawn, video.fps)


def draw(frame: np.ndarray, people: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Return a copy of a frame with the silhouettes of people, given by number and mask."""
    frame = frame.copy()
    for number, mask in people:
        colour = COLOURS[number % len(COLOURS)]
        x, y, width, height = cv2.boundingRect(mask)
        inside = mask > 127
        frame[inside] = frame[inside] // 2 + np.array(colour, np.uint8) // 2
        cv2.rectangle(frame, (x - 3, y - 3), (x + width + 2, y + height + 2), colour, 2)
        cv2.putText(frame, str(number), (x - 3, y - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 2, cv2.LINE_AA)
    return frame


def _write_gif(path: Path, drawn: Iterable[np.ndarray], milliseconds: float) -> None:
    from PIL import Image

    images = []
    for frame in drawn:
        scale = min(1.0, GIF_WIDTH / frame.shape[1])
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        images.append(
            Image.fromarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB)).quantize(
                64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
            )
        )
    with atomic_file(path) as part:
        images[0].save(part, "GIF", save_all=True, append_images=images[1:], duration=round(milliseconds), loop=0)
