"""Find people in the frames of any camera with torchvision's Mask R-CNN and the weights that the user gives."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from model.checkpoints.loading import load_tensors
from model.common.errors import UserError, first_line
from model.silhouettes.background import MIN_AREA
from model.silhouettes.detection import Detection

PERSON = 1  # class of COCO
CLASSES = 91
MIN_SCORE, MIN_MASK = 0.7, 0.5  # least probability that a box shows a person, and that a pixel belongs to the person


class MaskRCNNSegmenter:
    """Detect people with `maskrcnn_resnet50_fpn`.

    Args:
        weights: file with the state dict of a network of 91 classes, such as torchvision's
            maskrcnn_resnet50_fpn_coco-*.pth.

    Raises:
        UserError: if the file does not contain weights of this network.
    """

    def __init__(self, weights: Path, device: torch.device):
        self.network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES)
        try:
            self.network.load_state_dict(load_tensors(weights))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise UserError(f"{weights}: does not fit torchvision's maskrcnn_resnet50_fpn of {CLASSES} classes "
                            f"({first_line(error)}); give a state dict of this network") from None  # fmt: skip
        self.network.eval().to(device)
        self.device = device

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> list[Detection]:
        rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        image = torch.from_numpy(rgb).to(self.device).permute(2, 0, 1).float() / 255
        found = self.network([image])[0]
        people = (found["labels"] == PERSON) & (found["scores"] >= MIN_SCORE)
        masks = (found["masks"][people, 0] > MIN_MASK).to(torch.uint8).mul(255).cpu().numpy()
        return [Detection.of(0, 0, m, (m.shape[0], m.shape[1])) for m in masks if cv2.countNonZero(m) >= MIN_AREA]
