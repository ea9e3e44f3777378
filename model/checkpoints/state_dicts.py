"""Find the weights of GaitSet in the content of a checkpoint file that any program has written.

Some programs save the state dict itself, other programs save a dict that holds the state dict under a key. Wrappers of
the network add prefixes to the keys of the state dict.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.checkpoints.opengait import KEY_HINTS, convert_state
from model.common.geometry import SET_CHANNELS, STRIPS
from model.network.gaitset import GaitSet

# Keys under which programs save a state dict: `model` in OpenGait, `state_dict` in Lightning, and others.
CONTAINERS = ("model", "state_dict", "model_state_dict", "network", "encoder")
MAX_DEPTH = 3  # largest number of nested containers; a pickle can contain itself
MAX_NAMES = 8  # largest number of modules of a different network that a message lists
# Prefixes of DataParallel and DistributedDataParallel (module), of torch.compile (_orig_mod), and of modules that hold
# the network as an attribute.
_PREFIX = re.compile(r"^(?:(?:module|_orig_mod|model|network|encoder)\.)+")


class Sizes(NamedTuple):
    """Sizes of a GaitSet, and whether it scales the vector of each strip to length 1, as found in its weights."""

    hidden_dim: int
    channels: tuple[int, ...]
    unit_strips: bool = False


def find_state(content: Any) -> dict[str, Any]:
    """Return the state dict in the content of a file, with the keys of this project. Values are not checked.

    Raises:
        ValueError: if there is no state dict, or if it belongs to a different network. The message gives the reason.
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
            raise ValueError(f"the weight {name} occurs twice, with and without the prefix {prefix}")
        stripped[name] = value
    converted = convert_state(stripped)
    if not any(key.startswith("set_layer") for key in converted):
        raise ValueError(_describe_other(content, stripped))
    return converted


def _describe_other(content: Mapping, state: Mapping[str, Any]) -> str:
    """Return an error message about a state dict that contains no set layer."""
    if not any(isinstance(value, Tensor) for value in state.values()):
        return "is not the state dict of a network"
    parts = list(dict.fromkeys(key.split(".")[0] for key in state))
    shown = ", ".join(parts[:MAX_NAMES]) + (", ..." if len(parts) > MAX_NAMES else "")
    is_opengait = {"model", "iteration"} <= content.keys() or not KEY_HINTS.isdisjoint(parts)
    kind = "is an OpenGait checkpoint, but not of GaitSet" if is_opengait else "is the state dict of another network"
    return f"{kind}: it contains {shown}; only the weights of GaitSet can be loaded"


def sizes_of(state: Mapping[str, Tensor]) -> Sizes:
    """Return the sizes of the network whose weights are in `state`. A missing weight gives the default size."""
    matrices = state.get("fc_bin.0")
    hidden_dim = matrices.shape[-1] if matrices is not None and matrices.ndim else 0
    channels = []
    for layer, default in zip((1, 3, 5), SET_CHANNELS, strict=True):
        weight = state.get(f"set_layer{layer}.forward_block.conv.weight")
        channels.append((weight.shape[0] if weight is not None and weight.ndim else 0) or default)
    return Sizes(hidden_dim or 256, tuple(channels), "unit_strips" in state)


def differences(sizes: Sizes, state: Mapping[str, Tensor]) -> list[str]:
    """Compare `state` with a network of the given sizes, and return a description of each difference.

    Weights that are missing or have a different shape come first, in the order of the network. Unknown keys follow.
    """
    # Do not allocate the weights: the sizes in a damaged file can describe a network that is larger than the memory.
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
