"""Read the frames of a video file or of a folder of pictures. Large frames are scaled down."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from model.common.errors import UserError
from model.data.raw.folders import IMAGE_SUFFIXES, Folder

# FFmpeg prints messages about damaged files to stderr. The errors below replace these messages. OpenCV reads the
# variable only once.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MAX_SIDE = 1024  # pixels: larger frames are scaled down, because aligned silhouettes have 64 rows
DEFAULT_FPS = 25.0  # frames per second of folders, and of videos that do not state a frame rate


@dataclass(frozen=True)
class Video:
    """A video that can be read several times.

    Attributes:
        path: a file, or a folder of pictures.
        size: height and width of the frames after scaling, in pixels.
        fps: frames per second.
        frame_count: number of frames that the file states, which can be wrong; 0 if the file states none.
    """

    path: Path
    size: tuple[int, int]
    fps: float
    frame_count: int

    @property
    def name(self) -> str:
        return self.path.stem if self.path.is_file() else self.path.resolve().name

    @classmethod
    def open(cls, path: Path) -> "Video":
        """Open a video. Raises UserError if OpenCV cannot read its first frame."""
        if path.is_dir():
            fps, count = DEFAULT_FPS, len(Folder(path).frames)
            problem = f"the folder contains no pictures ({', '.join(IMAGE_SUFFIXES)})"
            advice = "give --video a video file or a folder of frames"
        elif path.is_file():
            capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
            fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            capture.release()
            problem = "no frame can be decoded: the file is not a video, is damaged, or OpenCV lacks its decoder"
            command = f"ffmpeg -i {shlex.quote(str(path))} -c:v libx264 converted.mp4"
            advice = f"convert it first: {command}, or give a folder of frames"
        else:
            raise UserError(f"{path}: no such video; give --video a file or a folder of frames")
        frame = next(_decoded(path), None)
        if frame is None:
            raise UserError(f"{path}: {problem}; {advice}")
        return cls(path, _scaled(frame.shape[:2]), fps if 1 <= fps <= 1000 else DEFAULT_FPS, int(max(0.0, count)))

    def frames(self, step: int = 1) -> Iterator[np.ndarray]:
        """Yield every `step`-th frame, uint8 [height, width, 3] in OpenCV's order of colours (blue first)."""
        for frame in _decoded(self.path, step):
            size = _scaled(frame.shape[:2])
            if size != self.size:
                raise UserError(f"{self.path}: the frames have different sizes ({size[1]}×{size[0]} after "
                                f"{self.size[1]}×{self.size[0]}, scaled to at most {MAX_SIDE} pixels per side); give "
                                "one folder per camera")  # fmt: skip
            if frame.shape[:2] != self.size:
                frame = cv2.resize(frame, self.size[::-1], interpolation=cv2.INTER_AREA)
            yield frame


def _decoded(path: Path, step: int = 1) -> Iterator[np.ndarray]:
    if path.is_dir():
        for name in [name for name in Folder(path).frames if name.lower().endswith(IMAGE_SUFFIXES)][::step]:
            frame = cv2.imread(str(path / name), cv2.IMREAD_COLOR)
            if frame is None:
                raise UserError(f"{path / name}: cannot be read as a picture; delete the file or replace it")
            yield frame
        return
    capture, number = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), 0
    try:
        while capture.grab():
            if number % step == 0:
                done, frame = capture.retrieve()
                if not done:
                    return
                yield frame
            number += 1
    finally:
        capture.release()


def _scaled(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
