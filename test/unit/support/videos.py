"""Write videos as folders of pictures, and extract the silhouettes of a video."""

from pathlib import Path

import cv2

from model.data.raw.video import Video
from model.silhouettes.background import BackgroundSegmenter
from model.silhouettes.extraction import Settings, extract


def segmented(video: Path, tree: Path, **settings):
    return extract(Video.open(video), tree, Settings(**settings), BackgroundSegmenter)


def write_pictures(folder: Path, frames) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder
