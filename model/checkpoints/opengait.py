"""Convert GaitSet checkpoints of OpenGait, which have different names of weights and a different order of strips.

In OpenGait, set_block1 to set_block3 hold two set layers each, at the positions 0 and 2 of a Sequential. gl_block2 and
gl_block3 hold the four layers of the global branch. The matrices of the set branch come before the matrices of the
global branch. In each branch, the level with 16 strips comes first.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model.common.geometry import PYRAMID, STRIPS
from model.network.pooling import strip_labels

# Names of modules in OpenGait's networks: `Head` in GaitSet and GaitPart, the other names in GaitBase and later ones.
KEY_HINTS = frozenset({"Backbone", "BNNecks", "FCs", "Head", "Head0", "HPP", "TP"})
_KEY = re.compile(r"(set|gl)_block(\d)\.(?:forward_block\.)?([02])\.conv\.weight")
_MATRICES = "Head.fc_bin"


def convert_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with OpenGait's keys renamed to our keys. Other keys stay, so that loading reports them."""
    converted = {_our_key(key) or key: value for key, value in state.items()}
    matrices = state.get(_MATRICES)
    if isinstance(matrices, Tensor) and matrices.ndim == 3 and len(matrices) == STRIPS:
        converted["fc_bin.0"] = matrices[_strip_order()]
    return converted


def _our_key(key: str) -> str | None:
    """Return our name of one of OpenGait's weights, or None if OpenGait's GaitSet has no weight of this name."""
    if key == _MATRICES:
        return "fc_bin.0"
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    branch, block, position = match[1], int(match[2]), int(match[3]) // 2
    # set_block1 to set_block3 are set_layer1 to set_layer6. gl_block2 and gl_block3 are gl_layer1 to gl_layer4.
    layer = 2 * (block - (1 if branch == "set" else 2)) + position + 1
    return f"set_layer{layer}.forward_block.conv.weight" if branch == "set" else f"gl_layer{layer}.conv.weight"


def _strip_order() -> Tensor:
    """Return the position in OpenGait's order of each of our 62 strips: [62]."""
    theirs = [
        (branch, strips, strip)
        for branch in ("set", "global")
        for strips in reversed(PYRAMID)
        for strip in range(strips)
    ]
    return torch.tensor([theirs.index(tuple(label)) for label in strip_labels()])
