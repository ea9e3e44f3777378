"""Tests of videos that are too large, that cannot be read, or that cannot be segmented."""

import cv2
import numpy as np
import pytest
from videos import segmented, write_pictures

from model.common.errors import UserError
from model.data.raw.video import Video

pytestmark = pytest.mark.slow


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    grid = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def panning(rng):
    wide = texture(rng, 120, 600)
    return [wide[:, 5 * n : 5 * n + 160] for n in range(60)]


def cuts(rng):
    scenes = [texture(rng, 120, 160) for _ in range(5)]
    return [scenes[n // 6] for n in range(30)]


def shaking(rng):
    wide = texture(rng, 160, 200)
    return [wide[y : y + 120, x : x + 160] for y, x in rng.integers(0, 40, (60, 2))]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (panning, "the camera seems to move, .*--segmenter maskrcnn"),
        (cuts, "the camera seems to move, or the video has cuts"),
        (shaking, "the camera seems to move, .*--segmenter maskrcnn"),
        (lambda rng: [texture(rng, 120, 160)] * 40, "nothing moves in its 40 frames"),
        (lambda rng: [texture(rng, 120, 160), texture(rng, 120, 80)], "the frames have different sizes .80×120 after"),
        (lambda rng: [texture(rng, 120, 160), texture(rng, 2048, 512)], "256×1024 after 160×120, scaled to at most"),
    ],
    ids=["panning", "cuts", "shaking", "still", "sizes", "a size that is scaled"],
)
def test_unsuitable_videos_are_explained(tmp_path, frames, message):
    folder = write_pictures(tmp_path / "frames", frames(np.random.default_rng(0)))
    with pytest.raises(UserError, match=message):
        segmented(folder, tmp_path / "tree")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.mp4", b"not a video", "notes.mp4: no frame can be decoded: the file is not a video, .* ffmpeg"),
        ("my walk.avi", b"", r"my walk\.avi: no frame can be decoded: .*; .*ffmpeg -i '/[^']*/my walk\.avi' -c:v"),
        ("missing.mp4", None, "missing.mp4: no such video"),
        ("", None, "the folder contains no pictures"),
        ("1.png", b"\x89PNG", r"1\.png: cannot be read as a picture"),
    ],
)
def test_files_and_folders_that_are_not_videos(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        Video.open(tmp_path if name == "1.png" else tmp_path / name)


def test_large_frames_are_scaled_down(tmp_path):
    folder = write_pictures(tmp_path / "frames", [np.zeros((1080, 1920, 3), np.uint8)] * 2)
    assert Video.open(folder).size == (576, 1024)
    assert [frame.shape for frame in Video.open(folder).frames()] == [(576, 1024, 3)] * 2
