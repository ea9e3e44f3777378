"""Decide from a few frames of a sequence how to convert all its frames to white silhouettes on black, or reject them.

Silhouettes come as masks of 0 and 255, as masks of 0 and 1, with grey edges, as JPEG files with compression noise, or
as an alpha channel. This module rejects inverted silhouettes and pictures of a camera, because no later step would
detect them. Worker processes import this module, so it does not import torch.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from model.common.errors import UserError
from model.common.schema import check
from model.data.raw.silhouette import BadImage, Pixels, remove_specks

SAMPLES = 3  # number of frames with content to find in a sequence
MAX_TRIES = 8  # maximum number of frames to read in this search
# Levels that are neither black nor white. JPEG files of masks have them in up to 2 % of the pixels, at any quality.
GREY_LEVELS = slice(32, 224)
# Maximum shares of pixels with GREY_LEVELS, and measured shares.
MAX_GREY = 0.2  # of a raw frame; strongly blurred masks have up to 0.11, pictures of a camera 0.9, dark pictures 0.4
MAX_GREY_FIGURE = 0.9  # of the pixels that are not black; masks of 16 rows have up to 0.83, people cut out 0.96
MAX_GREY_ALIGNED = 0.5  # of an aligned frame; figures enlarged from 16 rows have up to 0.30
FULL_RANGE = (0, 255)

T = TypeVar("T")


class BadContent(UserError):  # noqa: N818, named like BadImage
    """The images of a sequence are readable but are not white silhouettes on black."""


class Reading(NamedTuple):
    """How to convert the pixels of a sequence to masks. The default leaves the grey values unchanged.

    Attributes:
        levels: the grey levels of background and figure; frames are thresholded halfway between these levels. None: no
            threshold.
        alpha: the alpha channel is the mask.
        invert: exchange black and white after thresholding.
        specks: remove specks after the inversion.
    """

    levels: tuple[int, int] | None = None
    alpha: bool = False
    invert: bool = False
    specks: bool = False

    @classmethod
    def from_json(cls, value: Any) -> "Reading | None":
        """Convert a JSON list back to a reading. Returns None if `value` is None or damaged."""
        try:
            levels, *flags = check(value, [list | bool | None])
            levels = levels if levels is None else tuple(check(levels, [int]))
        except ValueError:
            return None
        valid = (levels is None or len(levels) == 2) and all(type(flag) is bool for flag in flags)
        return cls(levels, *flags) if valid and len(flags) in (2, 3) else None  # earlier versions wrote two flags

    def channel(self, pixels: Pixels) -> np.ndarray:
        """Return the channel that holds the mask. uint8 [h, w]"""
        return pixels.alpha if self.alpha and pixels.alpha is not None else pixels.grey

    def silhouette(self, pixels: Pixels) -> np.ndarray:
        """Return the silhouette of a raw frame, uint8 [h, w]. Lossy frames are always thresholded."""
        sil = self.apply(self.channel(pixels), FULL_RANGE if pixels.lossy else None)
        return remove_specks(sil) if self.specks else sil

    def apply(self, grey: np.ndarray, default: tuple[int, int] | None = None) -> np.ndarray:
        """Threshold halfway between the two `levels`, and invert if `invert` is set. uint8 [..., w]

        If `levels` is None, `default` is used instead. If both are None, the frames are not thresholded.
        """
        levels = self.levels or default
        if levels:
            rows = np.ascontiguousarray(grey).reshape(-1, grey.shape[-1])
            grey = cv2.threshold(rows, sum(levels) // 2, 255, cv2.THRESH_BINARY)[1].reshape(grey.shape)
        return 255 - grey if self.invert else grey

    def notes(self) -> list[str]:
        """Return messages for the user that describe how the frames are changed."""
        notes = ["the alpha channel is the mask"] if self.alpha else []
        if self.levels == FULL_RANGE:
            notes.append("lossy (JPEG) or grey frames were thresholded at 128 of 255")
        elif self.levels:
            notes.append("masks with two values other than 0 and 255, such as 0 and 1, were scaled to 0 and 255")
        notes += ["black and white were exchanged (--invert)"] * self.invert
        return notes + ["specks were removed (--remove_specks)"] * self.specks


def sample_frames(frames: Sequence[T], read: Callable[[T], Pixels]) -> dict[T, Pixels]:
    """Read evenly spread frames until three of them have content, which means pixels of different values.

    One frame is not enough, because frames are often black before a person enters the picture. Unreadable frames are
    skipped.
    """
    samples, with_content = {}, 0
    chosen = [frames[len(frames) * eighth // MAX_TRIES] for eighth in (4, 2, 6, 1, 3, 5, 7, 0) if len(frames)]
    for frame in dict.fromkeys(chosen):
        with suppress(BadImage):  # the error is reported when the frame is processed
            samples[frame] = read(frame)
            with_content += _varies(samples[frame].grey) or _alpha_varies(samples[frame])
        if with_content == SAMPLES:
            break
    return samples


def choose_reading(where: str, samples: Sequence[Pixels], invert: bool = False, aligned: bool = False) -> Reading:
    """Return how to read the sequence that contains `samples`.

    Args:
        where: the path of the sequence, for the message of an error.
        invert: the user says that the figure is black on white.
        aligned: the frames are aligned. Scaling made their edges grey, so grey values are left unchanged.

    Raises:
        BadContent: if all samples with content are inverted, or if all are pictures of a camera instead of masks.
    """
    alpha = any(map(_alpha_varies, samples))
    reading = Reading(None, alpha, invert)
    images = [image for image in map(reading.channel, samples) if image.any()]
    images = [image for image in images if _varies(image)] or images
    if not images:
        return reading
    # The grey levels show whether the frames are masks of two values, grey masks or pictures.
    histograms = np.stack([cv2.calcHist([image], [0], None, [256], [0, 256]).ravel() for image in images])
    levels = histograms.any(0).nonzero()[0].tolist()
    if len(levels) > 2:
        _reject_pictures(where, histograms, aligned)
    if len(levels) == 2 and tuple(levels) != FULL_RANGE:
        reading = reading._replace(levels=tuple(levels))
    elif not aligned and (levels[0] not in FULL_RANGE or len(levels) > 2 or any(s.lossy for s in samples)):
        reading = reading._replace(levels=FULL_RANGE)
    _reject_inverted(where, [reading.apply(image) for image in images], invert, aligned)
    return reading


def _varies(image: np.ndarray) -> bool:
    low, high, _, _ = cv2.minMaxLoc(image)
    return low < high


def _alpha_varies(pixels: Pixels) -> bool:
    return pixels.alpha is not None and _varies(pixels.alpha)


def _reject_pictures(where: str, histograms: np.ndarray, aligned: bool) -> None:
    grey = histograms[:, GREY_LEVELS].sum(1)
    share = grey / histograms.sum(1)
    of_figure = grey / np.maximum(histograms[:, GREY_LEVELS.start :].sum(1), 1)
    if share.min() > (MAX_GREY_ALIGNED if aligned else MAX_GREY):
        problem = f"{share.mean():.0%} of the pixels are neither black nor white"
    elif not aligned and of_figure.min() > MAX_GREY_FIGURE:
        problem = f"{of_figure.mean():.0%} of the pixels that are not black are grey, not white"
    else:
        return
    raise BadContent(
        f"{where}: {problem}: the frames appear to be pictures, not silhouettes; segment the silhouettes (white on "
        "black) first with python -m model.silhouettes"
    )


def _reject_inverted(where: str, masks: list[np.ndarray], invert: bool, aligned: bool) -> None:
    whites = [mask > 127 for mask in masks]
    borders = [np.concatenate([w[0], w[-1], w[1:-1, 0], w[1:-1, -1]]) for w in whites]
    if not all(white.mean() > 0.5 and border.mean() > 0.5 for white, border in zip(whites, borders, strict=True)):
        return
    if all(white.all() for white in whites):
        raise BadContent(
            f"{where}: the whole picture is white in all frames that were checked; silhouettes must be white on black "
            "(check whether the conversion to images has lost an alpha channel)"
        )
    if invert:
        advice = "the silhouettes are white on black already; run without --invert"
    else:
        on_raw = "run pretreatment.py --invert on the raw silhouettes, or invert the frames"
        advice = f"the silhouettes are inverted; {on_raw if aligned else 'pass --invert to read them'}"
    after = " after the inversion" if invert else ""
    raise BadContent(f"{where}: most of the picture, and its border, is white{after}: {advice}")
