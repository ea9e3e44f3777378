"""A detection: the mask of one person or moving region in a frame."""

from typing import NamedTuple

import cv2
import numpy as np

from model.data.raw.silhouette import fill_small_holes

BORDER = 2  # pixels; a person who is closer to the edge of the picture may be cut off


class Detection(NamedTuple):
    """The mask of one person or moving region, cropped to its bounding box.

    Attributes:
        x, y: first column and first row of the box in the picture.
        mask: uint8 [h, w], 255 for the person.
        area: number of white pixels.
        at_border: whether the box is closer than BORDER pixels to the edge of the picture.
    """

    x: int
    y: int
    mask: np.ndarray
    area: int
    at_border: bool

    @classmethod
    def of(cls, x: int, y: int, mask: np.ndarray, size: tuple[int, int]) -> "Detection":
        """Return the detection of a mask whose first pixel is at (`x`, `y`) in a picture of `size` (height, width)."""
        left, top, width, height = cv2.boundingRect(mask)
        mask, x, y = fill_small_holes(mask[top : top + height, left : left + width]), x + left, y + top
        at_border = min(x, y, size[0] - y - height, size[1] - x - width) < BORDER
        return cls(x, y, mask, cv2.countNonZero(mask), at_border)

    @property
    def box(self) -> np.ndarray:
        """First column, first row, column after the last column and row after the last row, float [4]."""
        height, width = self.mask.shape
        return np.array([self.x, self.y, self.x + width, self.y + height], float)

    def in_picture(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask in a black picture of `size` (height, width), uint8 [height, width]."""
        picture = np.zeros(size, np.uint8)
        height, width = self.mask.shape
        picture[self.y : self.y + height, self.x : self.x + width] = self.mask
        return picture
