"""Conversion of OpenGait's GaitSet checkpoints: the same network with other key names and another strip order.

OpenGait's set_block<i> holds two of our set layers, at positions 0 and 2 of a sequence; gl_block2 and gl_block3 hold
the global branch. Its fully connected matrices start with those of the set branch, 16 strips first; those of the
global branch follow.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model.common.geometry import PYRAMID, STRIPS
from model.network.pooling import strip_labels

# Names of modules in OpenGait's networks: `Head` in GaitSet and GaitPart, the others in GaitBase and its successors.
KEY_HINTS = frozenset({"Backbone", "BNNecks", "FCs", "Head", "Head0", "HPP", "TP"})
_KEY = re.compile(r"(set|gl)_block(\d)\.(?:forward_block\.)?([02])\.conv\.weight")
_MATRICES = "Head.fc_bin"


def convert_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with OpenGait's keys under our keys. All other keys stay, so that loading can report them."""
    converted = {_our_key(key) or key: value for key, value in state.items()}
    matrices = state.get(_MATRICES)
    if isinstance(matrices, Tensor) and matrices.ndim == 3 and len(matrices) == STRIPS:
        converted["fc_bin.0"] = matrices[_strip_order()]
    return converted


def _our_key(key: str) -> str | None:
    """Return our name of one of OpenGait's weights; None if GaitSet has no such weight."""
    if key == _MATRICES:
        return "fc_bin.0"
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    branch, block, position = match[1], int(match[2]), int(match[3]) // 2
    # set_block1 to 3 are our layers 1 to 6. gl_block2 and 3, which follow the first pooling, are gl_layer1 to 4.
    layer = 2 * (block - (1 if branch == "set" else 2)) + position + 1
    return f"set_layer{layer}.forward_block.conv.weight" if branch == "set" else f"gl_layer{layer}.conv.weight"


def _strip_order() -> Tensor:
    """Return the position of each of our strips in OpenGait's order: [62]."""
    theirs = [
        (branch, strips, strip)
        for branch in ("set", "global")
        for strips in reversed(PYRAMID)
        for strip in range(strips)
    ]
    return torch.tensor([theirs.index(tuple(label)) for label in strip_labels()])
