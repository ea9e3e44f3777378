"""Write previews: the video with a box, a number and a tinted silhouette for each person."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from model.common.moving_pictures import write_gif, write_mp4
from model.data.raw.video import Video

COLOURS = ((60, 180, 75), (48, 130, 245), (216, 99, 67), (180, 30, 145), (25, 225, 255), (240, 240, 70))  # blue first
GIF_WIDTH, GIF_FPS = 480, 10  # pixels and frames/s; a GIF file of the full video would be very large


def write_preview(path: Path, video: Video, folders: Sequence[Path]) -> None:
    """Write the preview of a video as an MP4 or GIF file.

    Args:
        folders: folders of the silhouettes of the tracks, in the order of their numbers.

    Raises:
        UserError: if OpenCV cannot encode the file.
    """
    gif = path.suffix.lower() == ".gif"
    step = max(1, round(video.fps / GIF_FPS)) if gif else 1
    files: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for track, folder in enumerate(folders, 1):
        for file in sorted(folder.glob("*.png")):
            files[int(file.stem.rpartition("-")[2]) - 1].append((track, file))
    drawn = (
        draw(frame, [(track, cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)) for track, file in files[step * place]])
        for place, frame in enumerate(video.frames(step))
    )
    if gif:
        write_gif(path, map(_small_picture, drawn), 1000 * step / video.fps)
    else:
        write_mp4(path, drawn, video.fps)


def draw(frame: np.ndarray, people: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Return a copy of a frame with a box, a number and a tinted silhouette for each (number, mask) in `people`."""
    frame = frame.copy()
    for number, mask in people:
        colour = COLOURS[number % len(COLOURS)]
        x, y, width, height = cv2.boundingRect(mask)
        inside = mask > 127
        frame[inside] = frame[inside] // 2 + np.array(colour, np.uint8) // 2
        cv2.rectangle(frame, (x - 3, y - 3), (x + width + 2, y + height + 2), colour, 2)
        cv2.putText(frame, str(number), (x - 3, y - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 2, cv2.LINE_AA)
    return frame


def _small_picture(frame: np.ndarray) -> Image.Image:
    scale = min(1.0, GIF_WIDTH / frame.shape[1])
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return Image.fromarray(small[..., ::-1]).quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
