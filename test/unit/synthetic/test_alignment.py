"""Tests of the alignment of many frames at once: its result equals pretreatment of each frame."""

import numpy as np
import pytest
import torch

from model.data.raw.silhouette import align, cut_sides
from model.synthetic.alignment import align_crops
from model.synthetic.render import Crops

pytest.importorskip("cv2")


def crops_of(boxes: list[tuple[int, int, int, int]], height: int, width: int, seed: int = 0) -> Crops:
    """Return one crop per box (height, width, row of the crop, column of the crop), with random pixels in the box."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    top, left = torch.zeros(len(boxes), dtype=torch.int64), torch.zeros(len(boxes), dtype=torch.int64)
    for i, (rows, columns, y, x) in enumerate(boxes):
        coarse = torch.rand(-(-rows // 4), -(-columns // 4), generator=generator) < 0.8
        fine = coarse.repeat_interleave(4, 0).repeat_interleave(4, 1)
        masks[i, 3 : 3 + rows, 5 : 5 + columns] = fine[:rows, :columns]
        top[i], left[i] = y, x
    return Crops(masks, top, left, torch.zeros(len(boxes), 4, dtype=torch.int64)).within_frame(masks)


@pytest.mark.parametrize(
    "boxes",
    [
        [(120, 50, 40, 100), (64, 30, 100, 10), (190, 90, 20, 60), (150, 60, 30, 200)],
        # Partly outside the image at the left, right, upper and lower side.
        [(120, 50, 40, -20), (120, 50, 40, 290), (160, 70, -30, 120), (150, 90, 100, 225)],
        # Small remnants of a person, which are enlarged; one of them is wider than high. Then a frame with too few
        # pixels for a person, and an empty frame.
        [(20, 60, 40, 100), (30, 12, 0, 300), (12, 90, 200, 20), (8, 4, 100, 100), (0, 0, 50, 50)],
    ],
    ids=["inside", "edges", "remnants"],
)
def test_alignment_equals_pretreatment(boxes):
    crops = crops_of(boxes, 200, 100)
    frames = crops.frames().numpy()
    expected = [align(frame) for frame in frames]
    aligned, usable = align_crops(crops)
    assert usable.tolist() == [one is not None for one in expected]
    expected = cut_sides(np.stack([one for one in expected if one is not None])).astype(int)
    differing = np.abs(aligned.numpy() - expected)
    assert aligned.dtype == torch.uint8 and differing.max() <= 1 and (differing > 0).mean() < 1e-3


def test_empty_masks_are_not_usable():
    aligned, usable = align_crops(crops_of([(0, 0, 0, 0)] * 2, 20, 20))
    assert aligned.shape == (0, 64, 44) and not usable.any()
