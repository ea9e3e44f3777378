"""A detection: the mask of one connected region in a frame."""

from typing import NamedTuple

import cv2
import numpy as np

from model.data.raw.silhouette import fill_small_holes

BORDER = 2  # pixels: a person closer to the edge of the picture can be cut off


class Detection(NamedTuple):
    """Attributes:
    x, y: first column and row of the box.
    mask: uint8 [h, w], 255 for the person.
    area: number of white pixels.
    at_border: the box touches the edge of the picture.
    """

    x: int
    y: int
    mask: np.ndarray
    area: int
    at_border: bool

    @classmethod
    def of(cls, x: int, y: int, mask: np.ndarray, size: tuple[int, int]) -> "Detection":
        """Return the detection of a mask at column `x` and row `y` of a picture of `size` (height, width)."""
        left, top, width, height = cv2.boundingRect(mask)
        mask, x, y = fill_small_holes(mask[top : top + height, left : left + width]), x + left, y + top
        at_border = min(x, y, size[0] - y - height, size[1] - x - width) < BORDER
        return cls(x, y, mask, cv2.countNonZero(mask), at_border)

    @property
    def box(self) -> np.ndarray:
        """First column, first row, column and row after the last, float [4]."""
        height, width = self.mask.shape
        return np.array([self.x, self.y, self.x + width, self.y + height], float)

    def in_picture(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask in a black picture of `size`, uint8 [height, width]."""
        picture = np.zeros(size, np.uint8)
        height, width = self.mask.shape
        picture[self.y : self.y + height, self.x : self.x + width] = self.mask
        return picture
