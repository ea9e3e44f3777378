"""Find the weights of GaitSet in the content of a checkpoint file, whichever program wrote it.

Programs store a state dict alone or under a key, and wrappers of the network add prefixes to its keys.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.checkpoints.opengait import KEY_HINTS, convert_state
from model.common.geometry import SET_CHANNELS, STRIPS
from model.network.gaitset import GaitSet

# Keys of a dict that holds a state dict: OpenGait and most training scripts, Lightning, and others.
CONTAINERS = ("model", "state_dict", "model_state_dict", "network", "encoder")
MAX_DEPTH = 3  # of containers; a pickle can contain itself
MAX_NAMES = 8  # of parts of another network that one message lists
# DataParallel and DistributedDataParallel, torch.compile, and modules that hold the network as an attribute.
_PREFIX = re.compile(r"^(?:(?:module|_orig_mod|model|network|encoder)\.)+")


class Sizes(NamedTuple):
    """Sizes of a GaitSet that its weights determine, and whether it scales the strips of embeddings to length 1."""

    hidden_dim: int
    channels: tuple[int, ...]
    unit_strips: bool = False


def find_state(content: Any) -> dict[str, Any]:
    """Return the state dict in the content of a file, under the keys of this project. Values are not checked.

    Raises:
        ValueError: with the reason, if there is no state dict or if it belongs to another network.
    """
    state = content
    for _ in range(MAX_DEPTH):
        inner = (state.get(key) for key in CONTAINERS) if isinstance(state, Mapping) else ()
        state = next((value for value in inner if isinstance(value, Mapping)), state)
    if isinstance(content, Mapping) and "param_groups" in content:
        raise ValueError("is the state of an optimizer; give the file of the network, whose name ends in -encoder.ptm")
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ValueError("is not the state dict of a network")
    stripped: dict[str, Any] = {}
    for key, value in state.items():
        name = _PREFIX.sub("", key)
        if name in stripped:
            prefix = next(other for other in state if _PREFIX.sub("", other) == name != other).removesuffix(name)
            raise ValueError(f"some weights occur twice, with and without the prefix {prefix}")
        stripped[name] = value
    converted = convert_state(stripped)
    if not any(key.startswith("set_layer") for key in converted):
        raise ValueError(_describe_other(content, stripped))
    return converted


def _describe_other(content: Mapping, state: Mapping[str, Any]) -> str:
    """Describe a state dict without any set layer."""
    if not any(isinstance(value, Tensor) for value in state.values()):
        return "is not the state dict of a network"
    parts = list(dict.fromkeys(key.split(".")[0] for key in state))
    shown = ", ".join(parts[:MAX_NAMES]) + (", ..." if len(parts) > MAX_NAMES else "")
    is_opengait = {"model", "iteration"} <= content.keys() or not KEY_HINTS.isdisjoint(parts)
    kind = "is an OpenGait checkpoint, but not of GaitSet" if is_opengait else "is the state dict of another network"
    return f"{kind}: it contains {shown}; only the weights of GaitSet can be loaded"


def sizes_of(state: Mapping[str, Tensor]) -> Sizes:
    """Return the sizes of the network whose weights are in `state`; the default for each weight that is missing."""
    matrices = state.get("fc_bin.0")
    hidden_dim = matrices.shape[-1] if matrices is not None and matrices.ndim else 0
    channels = []
    for layer, default in zip((1, 3, 5), SET_CHANNELS, strict=True):
        weight = state.get(f"set_layer{layer}.forward_block.conv.weight")
        channels.append((weight.shape[0] if weight is not None and weight.ndim else 0) or default)
    return Sizes(hidden_dim or 256, tuple(channels), "unit_strips" in state)


def differences(sizes: Sizes, state: Mapping[str, Tensor]) -> list[str]:
    """Describe each key of `state` that a network of `sizes` lacks, and each of its weights that is missing or has
    another shape, in the order of the network."""
    # A damaged file can state sizes whose network would not fit the memory, so that its weights are not allocated.
    with torch.device("meta"):
        expected = GaitSet(sizes.hidden_dim, channels=sizes.channels, unit_strips=sizes.unit_strips).state_dict()
    found = []
    for key, weight in expected.items():
        if key not in state:
            found.append(f"lacks {key}")
        elif key == "fc_bin.0" and state[key].ndim == 3 and len(state[key]) != STRIPS:
            found.append(f"{key} has {len(state[key])} strips, the network expects {STRIPS}")
        elif state[key].shape != weight.shape:
            found.append(f"{key} is {tuple(state[key].shape)}, the network expects {tuple(weight.shape)}")
    return found + [f"has the unknown key {key}" for key in sorted(state.keys() - expected.keys())]
