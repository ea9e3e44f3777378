"""Film three synthetic walkers with shadows in front of a textured background, in slightly flickering light.

The correct mask of each walker is known, so the video can test the segmentation of videos.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from model.common.errors import UsageError
from model.common.moving_pictures import write_mp4
from model.synthetic.camera import FPS
from model.synthetic.settings import WalkerSettings
from model.synthetic.walkers import Takes, pose_figures, render_views

WALKERS, MAX_FRAMES = 3, 48  # in longer videos, fast walkers jump from the end of the walking line to its beginning
HEIGHT, WIDTH = 480, 640  # pixels
OFFSETS = ((30, -30), (160, 130), (330, 290))  # column and row of each walker's image; the second walker is mirrored
VIEW = "090"
SHADOW = 0.65  # factor of the brightness within a shadow
SHADOW_SLOPE = np.array([0.55, 0.12], np.float32)  # columns to the right and rows up per row of height above the feet
FLICKER, PIXEL_NOISE = 0.015, 2.5  # standard deviations of the brightness of a frame, and of the noise in grey levels
HEAD, WAIST = 0.14, 0.5  # places from the top, in heights of the walker, where the colour of the walker changes


class Scene(NamedTuple):
    """A frame of the video, uint8 [480, 640, 3] with blue first, and the mask of each walker, bool [3, 480, 640]."""

    frame: np.ndarray
    masks: np.ndarray


def film(settings: WalkerSettings) -> Iterator[Scene]:
    """Yield the frames of a video of the first three subjects in the first selected take, at most 48 frames.

    Raises:
        UsageError: for fewer than three subjects.
    """
    if settings.subjects < WALKERS:
        raise UsageError(f"--video: needs {WALKERS} subjects, but --subjects is {settings.subjects}; increase it")
    takes = Takes.of(settings.subject_numbers[:WALKERS], settings.takes[:1])
    clean = replace(settings, noise=0.0, frames=min(settings.frames, MAX_FRAMES))
    sils = render_views(clean, takes, pose_figures(clean, takes), [VIEW]).frames().numpy() > 0
    sils = sils.reshape(WALKERS, clean.frames, *sils.shape[1:])
    sils[1] = sils[1, :, :, ::-1]
    rng = np.random.default_rng((settings.seed, settings.first_subject))
    background = _texture(rng)
    colours = _clothes(rng)
    for number in range(clean.frames):
        masks = np.stack([_place(sil[number], offset) for sil, offset in zip(sils, OFFSETS, strict=True)])
        frame = background.copy()
        for mask in masks:
            shade = cv2.GaussianBlur(_shadow(mask), (0, 0), 1.5)[..., None]
            frame *= 1 - (1 - SHADOW) * shade
        for mask, colour in zip(masks, colours, strict=True):
            _paint(frame, mask, colour)
        frame *= 1 + FLICKER * rng.standard_normal()
        frame += PIXEL_NOISE * rng.standard_normal(frame.shape, np.float32)
        yield Scene(frame.clip(0, 255).astype(np.uint8), masks)


def write_video(path: Path | str, settings: WalkerSettings) -> int:
    """Write the video of `film` as an MP4 file. Return the number of its frames."""
    frames = [scene.frame for scene in film(settings)]
    write_mp4(path, frames, FPS)
    return len(frames)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Return a background with coarse and fine patterns, float32 [480, 640, 3]."""
    picture = np.full((HEIGHT, WIDTH, 3), 125, np.float32)
    for cell, contrast in ((80, 18), (20, 10), (5, 8)):
        grid = rng.standard_normal((HEIGHT // cell + 2, WIDTH // cell + 2, 3), np.float32)
        picture += contrast * cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return picture


def _clothes(rng: np.random.Generator) -> np.ndarray:
    """Return the colours of head, top and trousers of each walker, dark in at least two channels, [3, 3, 3]."""
    colours = rng.uniform(15, 50, (WALKERS, 3, 3))
    bright = rng.integers(3, size=(WALKERS, 3))
    np.put_along_axis(colours, bright[..., None], rng.uniform(20, 200, (WALKERS, 3, 1)), 2)
    colours[:, 0] = (70, 90, 190)  # skin, blue first
    return colours.astype(np.float32)


def _place(sil: np.ndarray, offset: tuple[int, int]) -> np.ndarray:
    """Return a silhouette at its place in the picture, bool [480, 640]."""
    shift = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float32)
    return cv2.warpAffine(sil.astype(np.uint8), shift, (WIDTH, HEIGHT), flags=cv2.INTER_NEAREST) > 0


def _shadow(mask: np.ndarray) -> np.ndarray:
    """Return the shadow of a walker on the ground, float32 [480, 640] from 0 (no shadow) to 1."""
    feet = float(mask.any(1).nonzero()[0][-1])
    right, up = SHADOW_SLOPE
    # A point `h` rows above the feet goes to (column + right * h, feet - up * h).
    transform = np.array([[1, -right, right * feet], [0, up, feet - up * feet]], np.float32)
    return cv2.warpAffine(mask.astype(np.float32), transform, (WIDTH, HEIGHT))


def _paint(frame: np.ndarray, mask: np.ndarray, colours: np.ndarray) -> None:
    rows, columns = mask.nonzero()
    if not len(rows):
        return
    height = (rows - rows[0]) / max(1, rows[-1] - rows[0])
    part = (height > HEAD).astype(int) + (height > WAIST)
    folds = 1 + 0.12 * np.sin(rows / 5 + (columns - columns.mean()) / 7)
    frame[rows, columns] = colours[part] * folds[:, None].astype(np.float32)
