"""GaitSet checkpoints of OpenGait: the same network under other names, its strips in another order.

OpenGait's set_block<i> holds two of our set layers, at places 0 and 2 of a sequence; gl_block2 and gl_block3 hold the
global branch. Its matrices are those of the set branch, 16 strips first, then of the global branch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model.network.pooling import PYRAMID, strip_labels

_KEY = re.compile(r"(set|gl)_block(\d)\.(?:forward_block\.)?([02])\.conv\.weight")
_MATRICES = "Head.fc_bin"


def is_opengait(content: Any) -> bool:
    """Whether a loaded file is a checkpoint of OpenGait: a dict with the network's state under `model`."""
    model = content.get("model") if isinstance(content, Mapping) else None
    return isinstance(model, Mapping) and isinstance(model.get(_MATRICES), Tensor) and model[_MATRICES].ndim == 3


def plain_state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict with our keys; what is no part of GaitSet keeps its name, so that loading can name it."""
    state = {}
    for key, value in content["model"].items():
        found = _KEY.fullmatch(str(key))
        if found:
            branch, block, place = found[1], int(found[2]), int(found[3]) // 2
            # set_block1..3 are layers 1 to 6; gl_block2 and 3, which follow the first pooling, gl_layer1 to 4.
            layer = 2 * (block - (1 if branch == "set" else 2)) + place + 1
            state[
                f"set_layer{layer}.forward_block.conv.weight" if branch == "set" else f"gl_layer{layer}.conv.weight"
            ] = value
        else:
            state["fc_bin.0" if key == _MATRICES else key] = value
    if len(state["fc_bin.0"]) == 2 * sum(PYRAMID):
        state["fc_bin.0"] = state["fc_bin.0"][_places()]
    return state


def _places() -> Tensor:
    """Where in OpenGait's order each of our strips stands: [62]."""
    theirs = [
        (branch, strips, strip)
        for branch in ("set", "global")
        for strips in reversed(PYRAMID)
        for strip in range(strips)
    ]
    return torch.tensor([theirs.index(tuple(label)) for label in strip_labels()])
