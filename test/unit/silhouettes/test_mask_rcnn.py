"""Tests of Mask R-CNN with random weights: the masks, the record, and files with other weights."""

import sys
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from model.common.errors import UserError
from model.silhouettes import mask_rcnn
from model.silhouettes.__main__ import _segmenter, build_parser, main

pytestmark = pytest.mark.slow


def test_masks_have_the_size_of_the_frame(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    with torch.no_grad():  # every region is a person, with all of its pixels
        network.roi_heads.box_predictor.cls_score.bias[mask_rcnn.PERSON] = 20.0
        network.roi_heads.mask_predictor.mask_fcn_logits.bias[mask_rcnn.PERSON] = 20.0
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    segmenter = mask_rcnn.MaskRCNNSegmenter(tmp_path / "weights.pth", torch.device("cpu"))
    segmenter.network.transform.min_size, segmenter.network.transform.max_size = (96,), 128
    segmenter.network.rpn._post_nms_top_n["testing"] = 30  # instead of 1000 regions, for speed
    frame = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    found = segmenter(frame)
    assert found
    for detection in found:
        height, width = detection.mask.shape
        assert detection.mask.dtype == np.uint8 and set(np.unique(detection.mask)) <= {0, 255}
        assert 0 <= detection.x <= 128 - width and 0 <= detection.y <= 96 - height
        assert detection.in_picture((96, 128)).sum() == 255 * detection.area
    # With the same weights and a higher limit, nobody is found.
    monkeypatch.setattr(mask_rcnn, "MIN_SCORE", 1.1)
    assert segmenter(frame) == []


def test_the_record_of_a_video_names_the_weights(tmp_path, monkeypatch):
    """A video that was segmented with other weights does not count as complete."""
    monkeypatch.setattr(mask_rcnn, "MaskRCNNSegmenter", Mock())
    weights, names = tmp_path / "weights.pth", []
    arguments = ["--video=x", "--output=x", "--segmenter=maskrcnn", "--device=cpu", f"--weights={weights}"]
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        names.append(_segmenter(build_parser().parse_args(arguments))[1])
    assert all(name.startswith("maskrcnn ") for name in names) and names[0] != names[1]


def test_weights_of_another_network_are_rejected(tmp_path, monkeypatch):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames/1.png"), np.zeros((48, 64, 3), np.uint8))
    monkeypatch.setattr(
        sys, "argv", ["silhouettes", "--video", str(tmp_path / "frames"), "--output", str(tmp_path / "tree"),
                      "--segmenter", "maskrcnn", "--weights", str(tmp_path / "other.pth"), "--device", "cpu"],
    )  # fmt: skip
    with pytest.raises(UserError, match=r"other\.pth: does not fit torchvision's maskrcnn_resnet50_fpn"):
        main()
